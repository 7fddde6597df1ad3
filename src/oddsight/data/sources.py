"""What images may be given as: paths, arrays, Pillow images, and lists of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.collection import Collection, ImageFile, collect
from oddsight.data.images import as_image
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.stored import PixelFile, stored
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.runtime.progress import Progress, silent

Source = str | os.PathLike[str] | NDArray[np.generic] | Image.Image
"""An image: a path, an array uint8 ``[H, W, 3]`` (or grey, or with alpha), or a Pillow image."""

Sources = Source | Iterable[Source]
"""One image or several: also a list or another iterable of images, or an array ``[N, H, W, C]``. Where a path is taken,
it may name a folder or be a glob pattern, too, if the function says so."""

KINDS = "a path, a NumPy array or a Pillow image"


def is_source(value: object) -> bool:
    """Whether something is one image: a path, an array of at most three axes, or a Pillow image."""
    if isinstance(value, np.ndarray):
        return value.ndim != 4
    return isinstance(value, str | os.PathLike | Image.Image)


def require_source(value: object) -> None:
    """Refuse what is no image.

    Raises:
        ImageError: Saying what it is.
    """
    if not isinstance(value, str | os.PathLike | np.ndarray | Image.Image):
        raise ImageError("an image", f"it is given as {KINDS}, not as a {type(value).__name__}")


def listed(sources: object) -> Iterable[Source]:
    """One image or several as something to iterate over; a sequence stays one.

    Raises:
        OddsightError: If it is neither.
    """
    if is_source(sources):
        return [sources]  # type: ignore[list-item]
    if isinstance(sources, np.ndarray):
        return list(sources)
    if isinstance(sources, bytes | bytearray | memoryview | Mapping) or not isinstance(sources, Iterable):
        raise OddsightError(f"images are given as {KINDS}, or as a list of them, not as a {type(sources).__name__}")
    return sources


def collect_sources(
    *sources: Sources, reading: Reading = AS_DECLARED, progress: Progress = silent
) -> tuple[Collection, list[str]]:
    """Read every image once, as :func:`oddsight.data.collection.collect` does with files.

    Pixels that are given in memory are copied to a nameless temporary file, so that they can change afterwards, may
    come from a generator, and take no more memory however many they are.

    Args:
        *sources: Files, folders and globs; arrays and Pillow images; lists of these.
        reading: Which bands and values of TIFF files to take.
        progress: Called with phase, done and total.

    Returns:
        The collection, and what each source is called in it, in the order in which they were given.

    Raises:
        DataError: If there is nothing that can be read.
        OddsightError: If something is given that is no image, or the temporary file finds no room.
    """
    paths: list[str | os.PathLike[str]] = []
    file, names, errors, order = None, list[str](), list[ImageError](), list[str]()
    for number, source in enumerate(_each(sources), 1):
        if isinstance(source, str | os.PathLike):
            paths.append(source)
            order.append(os.fsdecode(source))
            continue
        name = _name(source, number)
        order.append(name)
        try:
            pixels = as_image(source)
        except ImageError as error:
            errors.append(ImageError(name, error.reason))
            continue
        file = file or PixelFile()
        file.add(pixels)
        names.append(name)
    in_memory: list[ImageFile] = [*stored(file.arrays(), names)] if file is not None else []
    return collect(*paths, more=[*in_memory, *errors], reading=reading, progress=progress), order


def described(sources: Sequence[Sources]) -> str:
    """What was given, in words: the paths, if it was paths alone."""
    paths = [os.fsdecode(source) for source in sources if isinstance(source, str | os.PathLike)]
    return ", ".join(paths) if paths and len(paths) == len(sources) else "what was given"


def as_path(value: object, what: str) -> Path:
    """A path that was given.

    Args:
        value: What was given.
        what: What it is a path of, for the error.

    Raises:
        OddsightError: If it is none.
    """
    if not isinstance(value, str | os.PathLike):
        raise OddsightError(f"{what} is given as a path, not as a {type(value).__name__}")
    return Path(value)


def _each(sources: Iterable[object]) -> Iterator[Source]:
    for given in sources:
        for source in listed(given):
            if not is_source(source):
                kind = type(source).__name__
                raise DataError(f"a list of images holds {KINDS} at each place, and there is a {kind} in one")
            yield source


def _name(source: NDArray[np.generic] | Image.Image, number: int) -> str:
    """What to call an image in memory: its file, if it came from one."""
    filename = getattr(source, "filename", None)
    return os.fsdecode(filename) if isinstance(filename, str | bytes | os.PathLike) and filename else f"image {number}"
