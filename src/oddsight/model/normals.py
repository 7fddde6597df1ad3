"""Small copies of the normal images that a model compares with: a ZIP beside the model file, which works without it.

``parts.onnx`` has ``parts.normals.zip``. In it are ``index.json``, from the content of each image to the path at which
it was found, and one JPEG for each, named by its content: ``0123456789abcdef.jpg``. So the images of another model
can lie there without harm: what is not known by its content is not shown.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from PIL import Image

from oddsight.data.collection import ImageFile
from oddsight.data.images import as_image
from oddsight.errors import DataError, ImageError, without_traceback
from oddsight.graphs.neighbours import MOST
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.files import atomic_write, descriptor
from oddsight.runtime.progress import Progress, silent, track

SIDE = 128
"""Pixels on the longer side of a small copy, at most."""

_INDEX, _ENDING = "index.json", ".normals.zip"
_LONGEST_NAME = 255
_DIGITS = 16
_NAME = re.compile(rf"[0-9a-f]{{{_DIGITS}}}\.jpg")
_THEN = (1980, 1, 1, 0, 0, 0)

# What is read, at most: larger files were not written by us, or are damaged.
_MOST_IMAGE = 2**18
_MOST_INDEX = 2**25
_MOST_DIRECTORY = 2**20
# What the ZIP module raises on files that are damaged or ask for what it does not do.
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError, struct.error)
_END, _END_64, _END_BYTES, _LOCATOR_BYTES = b"PK\5\6", b"PK\6\7", 22, 20


def normals_path(model: str | os.PathLike[str]) -> Path | None:
    """The path of the small copies of a model file: beside it, with ``.normals.zip`` instead of ``.onnx``.

    None for a device or a pipe.
    """
    path = Path(model)
    stream = descriptor(path) is not None
    if stream or (os.path.exists(path) and not os.path.isfile(path)):  # noqa: PTH110, PTH113 - which never raise
        return None
    stem = path.name[: -len(".onnx")] if path.name.lower().endswith(".onnx") else path.name
    stem = stem or path.name
    while len(os.fsencode(stem)) > _LONGEST_NAME - len(_ENDING):
        stem = stem[:-1]
    return path.with_name(stem + _ENDING)


def write_normals(
    path: str | os.PathLike[str], images: Sequence[ImageFile], *, progress: Progress = silent
) -> list[ImageError]:
    """Write small copies of normal images, all at once or not at all. The same images and paths give the same bytes.

    Args:
        path: The file to write; see :func:`normals_path`.
        images: The training images of a model, such as ``plan.training`` of :class:`oddsight.fitting.plan.FitPlan`.
            Only the first 2,000 are written, which are those that a model compares with.
        progress: Called with phase, done and total.

    Returns:
        Images that are missing or changed since the training, and therefore have no copy.

    Raises:
        OddsightError: The file cannot be written.
    """
    kept = sorted(images[:MOST], key=lambda image: image.content)
    index = {image.content[:_DIGITS]: str(image.path) for image in kept}
    missing = []
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_entry(_INDEX), json.dumps(index, indent=0, allow_nan=False), zipfile.ZIP_DEFLATED)
        copies = track(map_jobs(_small_copy, kept), "keeping small copies", len(kept), progress)
        for image, copy in zip(kept, copies, strict=True):
            if isinstance(copy, ImageError):
                missing.append(copy)
            else:
                archive.writestr(_entry(f"{image.content[:_DIGITS]}.jpg"), copy)
    return missing


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry that says nothing of when, and the same of where on every system."""
    entry = zipfile.ZipInfo(name, _THEN)
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    return entry


def _small_copy(image: ImageFile) -> bytes | ImageError:
    try:
        copy = Image.fromarray(image.read())
    except ImageError as error:
        return without_traceback(error)
    copy.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2)
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=85)
    return file.getvalue()


class NormalImages:
    """Small copies of normal images, and the paths of the originals. Nothing is unpacked to disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file that :func:`write_normals` wrote.

        Raises:
            DataError: It is damaged, or something else.
        """
        self.source = os.fspath(path)
        try:
            _check_directory(Path(path))
            self._archive = zipfile.ZipFile(path)
            entries = {entry.filename: entry for entry in self._archive.infolist()}
            if _INDEX not in entries or not all(name == _INDEX or _NAME.fullmatch(name) for name in entries):
                raise DataError("its entries are not those of such a file")
            self._paths = _index(self._read(entries.pop(_INDEX), _MOST_INDEX))
        except OSError as error:
            raise DataError(
                f"{path}: small copies of normal images cannot be read: {error.strerror or error}"
            ) from error
        except (DataError, *_DAMAGE) as error:
            raise DataError(f"{path}: damaged, or not a file of small copies of normal images: {error}") from error
        self._images = {name.removesuffix(".jpg"): entry for name, entry in entries.items()}

    @classmethod
    def beside(cls, model: str | os.PathLike[str]) -> Self | None:
        """The small copies beside a model file, or None if there are none.

        Raises:
            DataError: The file beside the model is damaged, or another kind of file.
        """
        path = normals_path(model)
        return cls(path) if path is not None and os.path.lexists(path) else None

    def path(self, content: str) -> str | None:
        """The path of the image when the model was fitted, or None if it is not known.

        Args:
            content: As :attr:`oddsight.Result.nearest` gives it.
        """
        return self._paths.get(content)

    def thumbnail(self, content: str) -> Image.Image | None:
        """The small copy of an image, RGB, at most 128 pixels wide and high, or None if there is none.

        Args:
            content: As :attr:`oddsight.Result.nearest` gives it.

        Raises:
            ImageError: The copy is damaged.
        """
        entry = self._images.get(content)
        if entry is None:
            return None
        name = f"{self.source}/{entry.filename}"
        try:
            copy = Image.open(io.BytesIO(self._read(entry, _MOST_IMAGE)), formats=("JPEG",))
            if max(copy.size) > SIDE:
                raise DataError(f"{copy.width:,} x {copy.height:,} pixels are more than a small copy has")
            return Image.fromarray(as_image(copy))
        except (DataError, ImageError, OSError, Image.DecompressionBombError, *_DAMAGE) as error:
            raise ImageError(name, f"damaged: {getattr(error, 'reason', error)}") from error

    def _read(self, entry: zipfile.ZipInfo, most: int) -> bytes:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others may take much memory
            raise DataError(f"{entry.filename} is compressed in a way that is not read")
        with self._archive.open(entry) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise DataError(f"{entry.filename} is larger than {most:,} bytes")
        return content


def _check_directory(path: Path) -> None:
    """Refuse a directory of entries that is larger than ours can be, before all of it is read into memory."""
    if not path.is_file():  # a pipe might never end
        raise DataError("it is not a regular file")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES))
        tail = file.read()
    end = tail[-_END_BYTES:]
    if len(end) < _END_BYTES or not end.startswith(_END) or tail.startswith(_END_64):
        raise DataError("its end is not that of such a file")
    entries, directory = struct.unpack("<HI", end[10:16])
    if entries > MOST + 1 or directory > _MOST_DIRECTORY:
        raise DataError(f"it has more than {MOST:,} images")


def _index(content: bytes) -> dict[str, str]:
    """The paths by content, checked."""
    found = json.loads(content)
    if not isinstance(found, dict) or not all(isinstance(path, str) for path in found.values()):
        raise DataError("its index is not one of paths")
    return {content: path for content, path in found.items() if _NAME.fullmatch(f"{content}.jpg")}
