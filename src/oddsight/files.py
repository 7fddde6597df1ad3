"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from oddsight.errors import OddsightError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends without an error.

    After an error or an interruption the temporary file is gone and whatever ``path`` held before is untouched. A link
    stays one: what it points to is replaced. Devices and pipes cannot be replaced and are written to directly.

    Raises:
        OddsightError: If the folder is missing or cannot be written, or the disk is full.
    """
    target = _without_links(path)
    temporary: str | None = None
    try:
        if _is_device(target, path):
            with target.open("wb") as file:
                yield file
            return
        handle, temporary = tempfile.mkstemp(prefix=".oddsight.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # noqa: PTH101 - the path is a plain string
        os.replace(temporary, target)  # noqa: PTH105
        temporary = None
    except OSError as error:
        raise OddsightError(f"cannot write {Path(path)}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` all at once or not at all; see :func:`atomic_write`."""
    with atomic_write(path) as file:
        file.write(content)


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        OddsightError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OddsightError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether ``path`` can be written; what it holds is left alone.

    Raises:
        OddsightError: If not.
    """
    target = _without_links(path)
    try:
        if not _is_device(target, path):
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        elif not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OddsightError(f"cannot write {Path(path)}: {error.strerror or error}") from error


def _without_links(path: str | os.PathLike[str]) -> Path:
    # A path that is no link stays relative: the folders above the current one may be barred. And os.path's functions
    # never raise, unlike Path's.
    return Path(os.path.realpath(path) if os.path.islink(path) else path)  # noqa: PTH114


def _is_device(target: Path, path: str | os.PathLike[str]) -> bool:
    """Whether there is a device or a pipe of that name; raises if there is a folder or if it cannot be a name."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise OddsightError(f"cannot write {Path(path)}: it is a folder; name a file")
    return not stat.S_ISREG(mode)
