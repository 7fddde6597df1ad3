"""Tables as CSV, safe to open in a spreadsheet whatever the names of files and classes are."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

_FORMULA = tuple("=+-@" + "\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}" + "\uff0d")
"""What makes a cell a formula in a spreadsheet; the last one is the full-width hyphen."""

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTION = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that show the letters of a name in another order than they have."""


def csv_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    r"""A table as CSV in UTF-8, with a heading.

    Text that a spreadsheet would run as a formula (``=``, ``+``, ``-`` or ``@`` first) gets an apostrophe before it, as
    OWASP advises for "CSV injection"; numbers stay numbers. Control characters, and bytes of names that are no text,
    are written as ``\n`` or ``\x07``. None is an empty cell.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows(map(_cell, row) for row in rows)
    return text.getvalue().encode()


def csv_records(columns: Sequence[str], records: Iterable[Mapping[str, object]]) -> bytes:
    """As :func:`csv_table`, of cells by the names of their columns; what a record lacks is empty."""
    return csv_table(columns, ([record.get(column) for column in columns] for record in records))


def csv_files(tables: Any) -> dict[str, bytes]:  # noqa: ANN401 - any dataclass
    """The files of a dataclass whose fields are tables, ``tuple[Row, ...]`` each, by name; numbers have six digits.

    A row is a named tuple; an underscore behind the name of a field does not appear. A table without rows has its
    heading.
    """
    hints = get_type_hints(type(tables)).items()
    kinds = {name: get_args(hint)[0] for name, hint in hints if get_origin(hint) is tuple}
    return {
        f"{name}.csv": csv_table([field.rstrip("_") for field in kind._fields], _rounded(getattr(tables, name)))
        for name, kind in kinds.items()
    }


def csv_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of equal columns by name, numbers with six digits; nothing of no rows."""
    return csv_table(list(rows[0]) if rows else [], _rounded(row.values() for row in rows))


def _rounded(rows: Iterable[Iterable[object]]) -> Iterable[list[object]]:
    return ([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)


def _cell(value: object) -> object:
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    shown = "".join(_escaped(c) if unicodedata.category(c) in _CONTROL or c in _DIRECTION else c for c in value)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
