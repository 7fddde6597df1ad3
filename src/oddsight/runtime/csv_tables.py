"""Tables as CSV, safe to open in a spreadsheet whatever the names of files and classes are."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

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


def _cell(value: object) -> object:
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    shown = "".join(_escaped(c) if unicodedata.category(c) in _CONTROL or c in _DIRECTION else c for c in value)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
