"""Finished work on disk, which carries a digest of its content: what was damaged or edited counts as missing.

A record is JSON, or arrays in an ``.npz`` file, with SHA-256 over its content under the name ``sha256``. The digest is
of what a reader gets, not of the bytes: a file that means the same may be written otherwise. It guards against
accidents and edits, not against someone who means to deceive and can compute digests, too.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError
from oddsight.runtime.files import atomic_write, write_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DIGEST = "sha256"
"""The name of the digest in a record."""

_LARGEST = 2**33  # Bytes of a record, at most
_LARGEST_TABLE = 2**26  # Bytes of a table, at most

Arrays = dict[str, NDArray[Any]]


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write what JSON can hold and its digest, all at once or not at all."""
    sealed = {**content, DIGEST: digest_json(content)}
    write_bytes(path, (json.dumps(sealed, indent=2, allow_nan=False) + "\n").encode(), follow_links=False)


def digest_json(content: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON can hold, without its digest, hex."""
    rest = {name: value for name, value in content.items() if name != DIGEST}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def as_json(record: DataclassInstance) -> dict[str, Any]:
    """The fields of a dataclass by name, with lists for tuples: what comes back from JSON."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(record).items()}


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name, all at once or not at all."""
    sealed = {**arrays, DIGEST: np.array(digest_arrays(arrays))}
    with atomic_write(path, follow_links=False) as file:
        np.savez(file, allow_pickle=False, **sealed)


def read_arrays(path: Path) -> Arrays | None:
    """What :func:`write_arrays` wrote, or None if that is not there, whatever is there instead."""
    try:
        with np.load(io.BytesIO(read_regular(path)), allow_pickle=False) as file:
            arrays: Arrays = {name: file[name] for name in file.files}
        return arrays if str(arrays.pop(DIGEST)) == digest_arrays(arrays) else None
    except Exception:  # zipfile, zlib and NumPy raise what they like on damaged files
        return None


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, types, shapes and values of arrays, hex."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(repr((name, array.dtype.str, np.shape(arrays[name]))).encode("utf-8", "surrogatepass"))
        state.update(array.tobytes() if array.dtype.kind in "US" else array.data.cast("B") if array.size else b"")
    return state.hexdigest()


def read_up_to(path: str | os.PathLike[str], largest: int) -> bytes:
    """The bytes of a file that a user names, of a pipe, too; an :class:`OSError` if there are more than so many."""
    with Path(path).open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"larger than {largest:,} bytes")
    return content


@contextmanager
def read_table(path: str | os.PathLike[str]) -> Iterator[io.StringIO]:
    """The text of a table in UTF-8, for :mod:`csv`, as :func:`read_up_to` reads it.

    Raises:
        DataError: It cannot be read, or what the block reads of it is no table.
    """
    try:
        yield io.StringIO(read_up_to(path, _LARGEST_TABLE).decode("utf-8-sig"), newline="")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file in UTF-8: {error}") from error


def read_regular(path: Path, largest: int = _LARGEST) -> bytes:
    """The bytes of a regular file, or of what a link to one points to. Nothing is waited for, as of a pipe."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        if status.st_size > largest:
            raise OSError(f"{path} is larger than {largest:,} bytes")
        return file.read(status.st_size)
