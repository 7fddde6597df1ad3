"""Tables of a study as CSV files: numbers have six digits, what does not apply is an empty field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from oddsight.runtime.csv_tables import csv_table


def csv_files(tables: Any) -> dict[str, bytes]:  # noqa: ANN401 - a dataclass of any study
    """The files of a dataclass whose fields are tables, ``tuple[Row, ...]`` each, by name.

    A row is a named tuple; an underscore behind the name of a field does not appear. A table without rows has its
    heading.
    """
    hints = get_type_hints(type(tables)).items()
    kinds = {name: get_args(hint)[0] for name, hint in hints if get_origin(hint) is tuple}
    return {
        f"{name}.csv": _csv((field.rstrip("_") for field in kind._fields), getattr(tables, name))
        for name, kind in kinds.items()
    }


def csv_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of equal columns by name as a CSV file; nothing of no rows."""
    return _csv(rows[0] if rows else (), (row.values() for row in rows))


def _csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    return csv_table(list(columns), ([_field(value) for value in row] for row in rows))


def _field(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
