"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from oddsight.errors import OddsightError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends without an error.

    After an error or an interruption the temporary file is gone and whatever ``path`` held before is untouched.

    Raises:
        OddsightError: If the folder is missing or cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        if target.is_dir():
            raise OddsightError(f"cannot write {target}: it is a folder; name a file")
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:64]}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # noqa: PTH101 - the path is a plain string
        os.replace(temporary, target)  # noqa: PTH105
        temporary = None
    except OSError as error:
        raise OddsightError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` all at once or not at all; see :func:`atomic_write`."""
    with atomic_write(path) as file:
        file.write(content)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether ``path`` can be written; what it holds is left alone.

    Raises:
        OddsightError: If not.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise OddsightError(f"cannot write {target}: it is a folder; name a file")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise OddsightError(f"cannot write {target}: {error.strerror or error}") from error
