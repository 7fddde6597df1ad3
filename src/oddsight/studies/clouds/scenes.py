"""The scenes of a study: class folders, every image brought to one size, the same image never twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.collection import ImageFile
from oddsight.data.folder import find_images
from oddsight.data.images import content_hash, read_image
from oddsight.errors import DataError, ImageError, OddsightError, plain
from oddsight.runtime.files import make_folder, write_bytes
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent

DEFAULT_SIZE = 64

SMALLEST_SIZE = 8

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Scenes:
    """Distinct images of one size, by class."""

    size: int  # Side in pixels
    classes: Mapping[str, tuple[ImageFile, ...]]  # The images of each class, ordered by content
    found: Mapping[str, int]  # How many images of each class could be read
    duplicates: Mapping[str, int]  # How many of them were there already, in the same class
    shared: int  # How many images were in several classes, and so left out of all
    sizes: Mapping[str, Mapping[Size, int]]  # How many images of each class had which size before
    errors: tuple[ImageError, ...]  # Files that could not be read

    @property
    def images(self) -> list[ImageFile]:
        """All of them."""
        return [image for images in self.classes.values() for image in images]


def read_scenes(
    data: str | os.PathLike[str],
    work: Path,
    *,
    size: int = DEFAULT_SIZE,
    limit: int | None = None,
    progress: Progress = silent,
) -> Scenes:
    """Read ``DATA/CLASS/...`` and keep every image as an 8-bit RGB square without loss.

    A class whose images were larger, or of another colour model, then cannot be told by that. What is the same
    image at this size counts once; in two classes it counts in neither.

    Args:
        data: Folder of class folders.
        work: Where the images go; those that are there already are not written again.
        size: Their side in pixels.
        limit: The most images of each class, those whose contents come first.
        progress: Called with phase, done and total.

    Raises:
        DataError: No class folders, or a class of which nothing can be read.
        OddsightError: A size or limit that cannot work.
    """
    root = Path(data)
    if size < SMALLEST_SIZE:
        raise OddsightError(f"scenes need at least {SMALLEST_SIZE} pixels a side, not {size}")
    if limit is not None and limit < 1:
        raise OddsightError(f"the limit must be 1 image of a class or more, not {limit}")
    folders = _class_folders(root)
    copies = work / f"images-{size}"
    make_folder(copies)
    read: dict[str, list[tuple[ImageFile, Size]]] = {}
    errors: list[ImageError] = []
    for folder in folders:
        found = find_images(folder)
        errors += found.problems
        read[folder.name] = []
        looks = ordered_map(lambda path: _square(path, size, copies), found.images)
        for done, outcome in enumerate(looks, 1):
            if isinstance(outcome, ImageError):
                errors.append(outcome)
            else:
                read[folder.name].append(outcome)
            progress(f"reading {folder.name}", done, len(found.images))
        if not read[folder.name]:
            reason = f"; the first error is {errors[-1]}" if errors else ""
            raise DataError(f"none of the images in {folder} can be read{reason}")
    return _distinct(size, read, limit, errors)


def class_names(data: str | os.PathLike[str]) -> list[str]:
    """The names of the class folders, before any image is read.

    Raises:
        DataError: Fewer than two folders with images.
    """
    return [folder.name for folder in _class_folders(Path(data))]


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    kept = [folder for folder in folders if find_images(folder).images]
    if len(kept) < 2:
        raise DataError(
            f"{root} holds {len(kept)} folders with images: a study takes one for each of two classes or more"
        )
    return kept


def _square(path: Path, size: int, copies: Path) -> tuple[ImageFile, Size] | ImageError:
    """An image brought to its size and kept, and the size that it had."""
    try:
        pixels = read_image(path)
    except ImageError as error:
        # Without its traceback, which would hold on to the pixels.
        return ImageError(error.path, error.reason)
    height, width, _ = pixels.shape
    if (width, height) != (size, size):
        # Each pixel the mean of those it stands for, as a coarser sensor would see it.
        image = Image.fromarray(pixels)
        shrinks = width >= size and height >= size
        pixels = np.asarray(image.resize((size, size), _BOX if shrinks else _BILINEAR))
    content = content_hash(pixels)
    place = copies / f"{content[:32]}.png"
    if not place.exists():
        write_bytes(place, _png(pixels), follow_links=False)
    return ImageFile(place, content, size, size), (width, height)


_BOX, _BILINEAR = Image.Resampling.BOX, Image.Resampling.BILINEAR


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _distinct(
    size: int, read: Mapping[str, Sequence[tuple[ImageFile, Size]]], limit: int | None, errors: Sequence[ImageError]
) -> Scenes:
    """Every image once, and none that is in two classes."""
    own = {name: {image.content: image for image, _ in pairs} for name, pairs in read.items()}
    times = Counter(content for images in own.values() for content in images)
    shared = {content for content, count in times.items() if count > 1}
    classes = {
        name: tuple(images[content] for content in sorted(images) if content not in shared)[:limit]
        for name, images in own.items()
    }
    for name, images in classes.items():
        if not images:
            raise DataError(f"every image of {plain(name)} is also in another class: there is nothing to distinguish")
    return Scenes(
        size=size,
        classes=classes,
        found={name: len(pairs) for name, pairs in read.items()},
        duplicates={name: len(pairs) - len(own[name]) for name, pairs in read.items()},
        shared=len(shared),
        sizes={name: dict(Counter(before for _, before in pairs)) for name, pairs in read.items()},
        errors=tuple(errors),
    )
