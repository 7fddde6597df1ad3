"""What there is to score: images by path or URI, and tar files of images, listed in bounded memory."""

from __future__ import annotations

import glob
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.runtime.stores import Folder, check_uri, is_uri, open_object
from oddsight.scale.parquet import import_pyarrow, open_table
from oddsight.sources.encoded import Encoded
from oddsight.sources.frame import Frame
from oddsight.sources.objects import ObjectFrame, find_objects, is_image_name

_COLUMNS = ("uri", "path", "url")
_ROWS = 4096
_LARGEST_MEMBER = 2**30  # Bytes of an image in a tar file, at most: it is read into memory


@dataclass(frozen=True)
class Entry:
    """An image, or a tar file of images."""

    uri: str  # Or path
    size: int  # In bytes; 0 if that is not known

    @property
    def is_tar(self) -> bool:
        """Whether it is a tar file."""
        return self.uri.lower().endswith(".tar")


def list_entries(sources: Iterable[str]) -> Iterator[Entry]:
    """Every image and tar file that sources name, in an order that is always the same.

    A source is a folder or a prefix of an object store, a pattern, a file, a ``.parquet`` file with a column ``uri``,
    ``path`` or ``url``, or a ``.txt`` file with one of these on each line.

    Raises:
        DataError: A source names nothing.
    """
    for source in sources:
        found = False
        for entry in _entries(source):
            found = True
            yield entry
        if not found:
            raise DataError(f"no images in {source}: give a folder, a prefix, a pattern, or a list of them")


def _entries(source: str) -> Iterator[Entry]:
    suffix = PurePosixPath(source).suffix.lower()
    if suffix == ".parquet":
        return _of_table(source)
    if suffix == ".txt":
        return _of_text(source)
    if is_uri(source):
        return _images(find_objects(check_uri(source)))
    return _images(_local(source))


def _images(found: Iterable[tuple[str, int]]) -> Iterator[Entry]:
    return (Entry(name, size) for name, size in found if is_image_name(name) or name.lower().endswith(".tar"))


def _local(source: str) -> Iterator[tuple[str, int]]:
    path = Path(source)
    if path.is_dir():
        return ((os.path.join(source, name), size) for name, size in Folder(path).names())  # noqa: PTH118
    if path.is_file():
        return iter([(source, path.stat().st_size)])
    matches = sorted(glob.glob(source, recursive=True), key=os.fsencode)  # noqa: PTH207 - keeps names as they are
    if not matches:
        raise DataError(f"{source}: no such file or folder")
    return (entry for match in matches for entry in _local(match))


def _of_text(source: str) -> Iterator[Entry]:
    with _opened(source) as file:
        for line in io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape"):
            if name := line.strip():
                yield Entry(_checked(name), 0)


def _of_table(source: str) -> Iterator[Entry]:
    pyarrow = import_pyarrow(f"reading {source}")
    with _opened(source) as file, open_table(file, source) as table:
        column = next((name for name in _COLUMNS if name in table.schema_arrow.names), None)
        if column is None:
            raise DataError(f"{source} has no column of images: call it {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}")
        try:
            for batch in table.iter_batches(_ROWS, columns=[column]):
                yield from (Entry(_checked(str(value)), 0) for value in batch.column(0).to_pylist() if value)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{source} is damaged: {error}") from None


def _checked(name: str) -> str:
    return check_uri(name) if is_uri(name) else name


def _opened(source: str) -> IO[bytes]:
    try:
        return open_object(source)
    except ImageError as error:
        raise DataError(str(error)) from None


def frames(entry: Entry) -> Iterator[Frame | ImageError]:
    """The images of an entry: itself, or what is in a tar file, which is read once from start to end."""
    if not entry.is_tar:
        yield ObjectFrame(entry.uri) if is_uri(entry.uri) else Frame(entry.uri)
        return
    try:
        with open_object(entry.uri) as file, tarfile.open(fileobj=file, mode="r|", bufsize=2**20) as tar:
            for member in tar:
                if member.isfile() and is_image_name(member.name) and PurePosixPath(member.name).name[0] != ".":
                    # A name that is not UTF-8 is written as its bytes.
                    name = f"{entry.uri}/{member.name}".encode("utf-8", "backslashreplace").decode()
                    yield from _member(tar, member, name)
    except ImageError as error:
        yield error
    except (tarfile.TarError, EOFError) as error:
        yield ImageError(entry.uri, f"damaged tar file: {error}")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Iterator[Frame | ImageError]:
    if member.size > _LARGEST_MEMBER:
        yield ImageError(name, f"{member.size:,} bytes are more than the limit of {_LARGEST_MEMBER:,}")
        return
    file = tar.extractfile(member)
    yield from Encoded({name: file.read() if file is not None else b""})


def find_frame(path: str) -> Frame:
    """The image that a row of results is about, to look at it again.

    Raises:
        ImageError: It is not there.
    """
    place = re.match(r"(.*?\.tar)/(.+)", path, re.IGNORECASE | re.DOTALL)
    if place is None or (not is_uri(path) and Path(path).is_file()):
        return ObjectFrame(path) if is_uri(path) else Frame(path)
    for frame in frames(Entry(place[1], 0)):
        if isinstance(frame, Frame) and frame.name == path:
            return frame
    raise ImageError(path, "no such image in the tar file")


def check_sources(sources: Iterable[str]) -> list[str]:
    """The sources, of which there is at least one and none names what cannot be read.

    Raises:
        OddsightError: Otherwise.
    """
    given = [check_uri(source) if is_uri(source) else source for source in sources]
    if not given:
        raise OddsightError("no images are given: name a folder, a prefix, a pattern, or a list of images")
    return given
