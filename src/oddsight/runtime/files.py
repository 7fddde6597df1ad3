"""Writing files so that a reader never sees half of one, and that none is lost when the machine stops."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from oddsight.errors import OddsightError

if sys.platform == "win32":  # pragma: no cover
    fcntl = None
else:
    import fcntl

_AT_ONCE = 16
"""Writers of one file at the same time, at most: each has a temporary file of its own."""

_DESCRIPTORS = "/dev/fd"
_NO_HANDLE = -1
"""The handle of a folder where folders cannot be opened."""
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def atomic_write(
    path: str | os.PathLike[str], *, follow_links: bool = True, durable: bool = True
) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends without an error.

    After an error or an interruption the temporary file is gone and whatever ``path`` held before is untouched. What a
    killed process left of an earlier write of the same file is removed. A file that is replaced keeps its permissions
    and, where that is allowed, its owner. Devices, pipes and open descriptors (``/dev/stdout``) cannot be replaced and
    are written to directly.

    A link stays one, and what it points to is replaced; in folders of results files are written without following
    links: then a link is replaced itself. A ``durable`` file has reached the disk at the end, so that it outlives a
    failure of power.
    """
    try:
        stream = _open_stream(path) if follow_links else None
        if stream is not None:
            with stream:
                yield stream
            return
        target = _target(path, follow_links)
        old = _replaceable(target, path)
        with _temporary(target, 0o666 if old is None else 0o600) as (file, temporary):
            yield file
            file.flush()
            if old is not None:
                _take_over(file.fileno(), old)
            if durable:
                os.fsync(file.fileno())
            if fcntl is None:  # pragma: no cover - where open files cannot be renamed
                file.close()
            os.replace(temporary, target)  # noqa: PTH105
        if durable:
            _sync_folder(target.parent)
    except OSError as error:
        raise OddsightError(f"cannot write {Path(path)}: {error.strerror or error}") from error


def write_bytes(path: str | os.PathLike[str], content: bytes, *, follow_links: bool = True) -> None:
    """Write ``content`` to ``path`` all at once or not at all; see :func:`atomic_write`."""
    with atomic_write(path, follow_links=follow_links) as file:
        file.write(content)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder``, which is missing or empty, at the end of the block.

    After an error or an interruption it is gone; what a killed process left of it is removed by the next one.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(folder) as temporary:
            yield temporary
            _sync_tree(temporary)
            if folder.exists():
                folder.rmdir()
            temporary.rename(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        raise OddsightError(f"cannot write {folder}: {error.strerror or error}") from error


def make_folder(folder: Path, *, follow_links: bool = True) -> None:
    """Make a folder where there is none; inside folders of results it must not be a link to one."""
    if not follow_links and os.path.islink(folder):  # noqa: PTH114
        raise OddsightError(f"cannot write into {folder}: it is a link to elsewhere; remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OddsightError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether ``path`` can be written; what it holds is left alone."""
    try:
        number = descriptor(path)
        if number is not None:
            if fcntl is not None and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise PermissionError(errno.EBADF, "it is closed or not open for writing")
        elif is_stream(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            target = _target(path, follow_links=True)
            _replaceable(target, path)
            with _temporary(target, 0o600):
                pass
    except OSError as error:
        raise OddsightError(f"cannot write {Path(path)}: {error.strerror or error}") from error


def descriptor(path: str | os.PathLike[str]) -> int | None:
    """The number of the open file that ``/dev/stdout`` or ``/dev/fd/63`` stands for; None for any other path.

    What such a path leads to must not be opened anew: that would replace a file that the shell appends to.
    """
    name = os.path.abspath(path)  # noqa: PTH100 - never raises and follows no links
    for _ in range(40):  # as many links as the system follows
        parent, last = os.path.split(name)
        if last.isdecimal() and os.path.realpath(parent) == os.path.realpath(_DESCRIPTORS):
            return int(last)
        if not os.path.islink(name):  # noqa: PTH114
            return None
        name = os.path.join(parent, os.readlink(name))  # noqa: PTH115, PTH118
    return None


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is a device, a pipe or an open descriptor, which is written to and not replaced."""
    if descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def lock_folder(folder: Path) -> Iterator[bool]:
    """Keep a folder to this process for as long as the block lasts; False if another one has it."""
    if fcntl is None:  # pragma: no cover - where folders cannot be opened
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def remove_dead_parts(folder: Path) -> None:
    """Remove what killed processes left in a folder of half-written files, of whatever file."""
    with suppress(OSError):
        for entry in folder.glob(".oddsight.*.part"):
            _remove_dead(os.fspath(entry))


def _open_stream(path: str | os.PathLike[str]) -> BinaryIO | None:
    number = descriptor(path)
    if number is not None:
        if sys.stdout is not None:
            sys.stdout.flush()
        return os.fdopen(os.dup(number), "wb")
    return Path(path).open("wb") if is_stream(path) else None


def _target(path: str | os.PathLike[str], follow_links: bool) -> Path:
    # A path that is no link stays relative: the folders above the current one may be barred. And os.path's functions
    # never raise, unlike Path's.
    return Path(os.path.realpath(path) if follow_links and os.path.islink(path) else path)  # noqa: PTH114


def _replaceable(target: Path, path: str | os.PathLike[str]) -> os.stat_result | None:
    """What is known of the file that is to be replaced, or None if there is none."""
    try:
        old = target.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(old.st_mode):
        raise OddsightError(f"cannot write {Path(path)}: it is a folder; name a file")
    if not stat.S_ISREG(old.st_mode):
        return None
    # Whoever may do anything, such as root, may write read-only files: so the bits count, too.
    if not old.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise OddsightError(f"cannot write {Path(path)}: it is read-only; name another file")
    return old


def _take_over(handle: int, old: os.stat_result) -> None:
    """Give a new file the owner, as far as that is allowed, and the permissions of the one that it replaces."""
    if not hasattr(os, "fchown"):  # pragma: no cover
        return
    mode = stat.S_IMODE(old.st_mode)
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(handle, old.st_uid, old.st_gid)
        except OSError:
            mode &= 0o777  # nobody is to run it as someone else
    os.fchmod(handle, mode)


@contextmanager
def _temporary(target: Path, mode: int) -> Iterator[tuple[BinaryIO, str]]:
    """A temporary file beside ``target``, removed at the end if it still is where it was."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
    name, handle = _reserve(target, lambda name: os.open(name, flags, mode))
    with os.fdopen(handle, "wb") as file:
        try:
            yield file, name
        finally:
            _remove_own(file, name)


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """As :func:`_temporary`, of a folder."""
    name, handle = _reserve(folder, _make_and_open)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)
        if handle != _NO_HANDLE:
            os.close(handle)


def _make_and_open(folder: str) -> int:
    os.mkdir(folder)  # noqa: PTH102
    return os.open(folder, os.O_RDONLY | _NO_FOLLOW) if fcntl is not None else _NO_HANDLE


def _reserve(target: Path, create: Callable[[str], int]) -> tuple[str, int]:
    """Create something beside ``target`` and lock it: its name and its handle.

    The name depends on that of the target only and what is created is locked while it is written, so that the next
    writer of the same target finds what a killed one left, and never takes what another one still writes.
    """
    names = _temporary_names(target)
    for name in names:
        _remove_dead(name)
    for name in names:
        try:
            handle = create(name)
        except FileExistsError:
            continue
        if handle == _NO_HANDLE or (_lock(handle) and _is_at(handle, name)):
            return name, handle
        os.close(handle)  # another writer thought it dead
    raise OSError(errno.EBUSY, f"{_AT_ONCE} others are writing it")


def _temporary_names(target: Path) -> list[str]:
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return [os.fspath(target.with_name(f".oddsight.{digest}.{number}.part")) for number in range(_AT_ONCE)]


def _remove_own(file: BinaryIO, name: str) -> None:
    """Remove a temporary file, unless it has taken its target's place and the name is free or another's."""
    if fcntl is None:  # pragma: no cover - where open files cannot be removed
        file.close()
    with suppress(OSError):
        if file.closed or _is_at(file.fileno(), name):
            os.unlink(name)  # noqa: PTH108


def _remove_dead(name: str) -> None:
    """Remove a temporary file or folder if no process holds its lock any more."""
    if fcntl is None or not os.path.lexists(name):
        return
    with suppress(OSError):
        handle = os.open(name, os.O_RDONLY | _NO_FOLLOW)
        try:
            mode = os.fstat(handle).st_mode
            if not _lock(handle, unsure=False) or not _is_at(handle, name):
                return
            if stat.S_ISDIR(mode):
                shutil.rmtree(name, ignore_errors=True)
            elif stat.S_ISREG(mode):
                os.unlink(name)  # noqa: PTH108
        finally:
            os.close(handle)


def _lock(handle: int, *, unsure: bool = True) -> bool:
    """Lock an open file until it is closed; False if another process has. ``unsure`` where files cannot be locked."""
    if fcntl is None:  # pragma: no cover
        return unsure
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unsure
    return True


def _is_at(handle: int, name: str) -> bool:
    """Whether an open file still has that name."""
    try:
        there = os.lstat(name)
    except OSError:
        return False
    here = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where that can be done."""
    if fcntl is None:  # pragma: no cover
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync_tree(folder: Path) -> None:
    """Bring all files below a folder to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with (Path(place) / name).open("rb+") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(place))
