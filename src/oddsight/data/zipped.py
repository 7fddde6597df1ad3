"""Files that may be compressed with gzip, read without trusting how large they become."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO

from oddsight.errors import DataError


class Unzipped:
    """A file opened for reading ``most`` bytes of it altogether, unpacked if it is a gzip file.

    Its checksum is verified at its end.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most, self._left = path, most, most
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        self._file: IO[bytes] = gzip.open(path) if zipped else path.open("rb")  # type: ignore[assignment] # noqa: SIM115

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer at the end only."""
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(f"{self._path} unpacks to more than {self._most / 1e6:,.0f} MB, which it should not")
        return content

    def __enter__(self) -> Unzipped:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
