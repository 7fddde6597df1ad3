"""Files of results in a folder of the user's: each knows that it is one, so that a later run can remove it.

A seal is the digest of a file inside that file: as a ``tEXt`` chunk of a PNG, a member of a GeoJSON object, or behind
the end of a TIFF or JPEG, where readers of these formats pass it over. So what an earlier run left is distinguished
from what is the user's own, or was changed since, without a list of files that could be lost or copied along.
"""

from __future__ import annotations

import hashlib
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from oddsight.errors import ImageError, OddsightError
from oddsight.runtime.files import lock_folder, remove_dead_parts, write_bytes

_DIGITS = 64
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_TEXT = (len(b"oddsight\0") + _DIGITS).to_bytes(4, "big") + b"tEXtoddsight\0"
_JSON_MEMBER, _JSON_END = b', "oddsight": "', b'"}\n'
_TAIL = b"\noddsight "
_LONGEST = 256
"""Bytes at the end of a file among which a seal is."""


def write_result(path: Path, content: bytes) -> None:
    """Write a PNG, JPEG, TIFF or GeoJSON object with its seal, all at once or not at all. Links are replaced.

    Raises:
        ImageError: A folder is in its place: the other results can be written.
        OddsightError: It cannot be written.
    """
    if path.is_dir() and not path.is_symlink():
        raise ImageError(str(path), "a folder is where this result is to be written: move it elsewhere")
    write_bytes(path, _sealed(path.suffix, content), follow_links=False)


@contextmanager
def fill_folder(folder: Path, what: str, *, add: bool = False) -> Iterator[int]:
    """Remove what an earlier run left in a folder, and keep other runs out of it for as long as the block lasts.

    Args:
        folder: The folder.
        what: What is written there, in words.
        add: Leave what an earlier run left.

    Yields:
        How many files of an earlier run were removed. Those that were changed since stay.
    """
    with ExitStack() as stack:
        try:
            alone = stack.enter_context(lock_folder(folder))
            if not alone:
                raise OddsightError(f"another run is writing {what} into {folder}: name another folder")
            remove_dead_parts(folder)
            removed = 0 if add else _remove_results(folder)
        except OSError as error:
            raise OddsightError(f"cannot write {what} into {folder}: {error.strerror or error}") from error
        yield removed


def _remove_results(folder: Path) -> int:
    removed = 0
    for path in sorted(folder.iterdir()):
        if path.suffix in _SUFFIXES and is_result(path):
            path.unlink()
            removed += 1
    return removed


def is_result(path: Path) -> bool:
    """Whether :func:`write_result` wrote a file, and nothing has changed it since."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return False
        with path.open("rb") as file:
            file.seek(max(0, status.st_size - _LONGEST))
            if _split(path.suffix, file.read()) is None:
                return False
            file.seek(0)
            content = file.read()
    except OSError:
        return False
    found = _split(path.suffix, content)
    return found is not None and _sealed(path.suffix, found) == content


def _sealed(suffix: str, content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest().encode()
    if suffix == ".png":
        chunk = _PNG_TEXT + digest
        return content.removesuffix(_PNG_END) + chunk + zlib.crc32(chunk[4:]).to_bytes(4, "big") + _PNG_END
    if suffix == ".geojson":
        return content.removesuffix(b"}\n") + _JSON_MEMBER + digest + _JSON_END
    return content + _TAIL + digest


def _split(suffix: str, content: bytes) -> bytes | None:
    """What a file was before it was sealed, judged by its end, or None if it has no seal."""
    seal, after, end = _SUFFIXES[suffix]
    start = len(content) - len(seal) - _DIGITS - len(after) - (4 if suffix == ".png" else 0)
    if start < 0 or not content.startswith(seal, start) or not content.endswith(after):
        return None
    return content[:start] + end


_SUFFIXES = {
    ".png": (_PNG_TEXT, _PNG_END, _PNG_END),
    ".geojson": (_JSON_MEMBER, _JSON_END, b"}\n"),
    ".tif": (_TAIL, b"", b""),
    ".jpg": (_TAIL, b"", b""),
}
"""The start of the seal of each kind of file, what follows it, and how a file without one ends."""
