"""Parquet files, which pyarrow reads and writes."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from oddsight.errors import DataError, OddsightError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


def import_pyarrow(what: str) -> ModuleType:
    """pyarrow, or an error that says how to install it."""
    try:
        import pyarrow
    except ImportError as error:
        raise OddsightError(f"{what} needs pyarrow: pip install 'oddsight[scale]'") from error
    return pyarrow  # type: ignore[no-any-return]


def open_table(file: IO[bytes] | io.IOBase, name: str) -> AbstractContextManager[ParquetFile]:
    """A Parquet file that is open for reading.

    Raises:
        DataError: It is none, or damaged.
    """
    pyarrow = import_pyarrow(f"reading {name}")
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)  # type: ignore[no-any-return]
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a Parquet file, or is damaged: {error}") from None


def to_bytes(table: Any) -> bytes:  # noqa: ANN401 - pyarrow is imported late
    """A table as a Parquet file; the same rows give the same bytes."""
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd")
    return file.getvalue()
