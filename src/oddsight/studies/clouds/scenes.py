"""The scenes of a study: class folders, every image brought to one size, the same image never twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from oddsight.data.collection import ImageFile
from oddsight.data.folder import find_images
from oddsight.data.images import content_hash, read_image
from oddsight.errors import DataError, ImageError, OddsightError, plain
from oddsight.runtime.files import make_folder, write_bytes
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent

_SMALLEST_SIZE = 8

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
    def class_of(self) -> dict[str, str]:
        """The class of every image, by its content."""
        return {image.content: name for name, images in self.classes.items() for image in images}


def read_scenes(
    data: Path, work: Path, *, size: int = 64, limit: int | None = None, progress: Progress = silent
) -> Scenes:
    """Read ``DATA/CLASS/...`` and keep every image as an 8-bit RGB square without loss.

    A class whose images were larger, or of another colour model, then cannot be told by that. What is the same
    image at this size counts once; in two classes it counts in neither. ``limit`` keeps the
    images of each class whose contents come first.

    Raises:
        DataError: No class folders, or a class of which nothing can be read.
        OddsightError: A size or limit that cannot work.
    """
    if size < _SMALLEST_SIZE:
        raise OddsightError(f"scenes need at least {_SMALLEST_SIZE} pixels a side, not {size}")
    if limit is not None and limit < 1:
        raise OddsightError(f"the limit must be 1 image of a class or more, not {limit}")
    copies = work / f"images-{size}"
    read: dict[str, list[tuple[ImageFile, Size]]] = {name: [] for name in class_names(data)}
    errors: list[ImageError] = []
    make_folder(copies)
    for name, images in read.items():
        files = find_images(data / name)
        errors += files.problems
        for done, outcome in enumerate(ordered_map(partial(_square, size, copies), files.images), 1):
            if isinstance(outcome, ImageError):
                errors.append(outcome)
            else:
                images.append(outcome)
            progress(f"reading {name}", done, len(files.images))
        if not images:
            reason = f"; the first error is {errors[-1]}" if errors else ""
            raise DataError(f"none of the images in {data / name} can be read{reason}")
    return _distinct(size, read, limit, errors)


def class_names(data: Path) -> list[str]:
    """The names of the class folders, before any image is read.

    Raises:
        DataError: Fewer than two folders with images.
    """
    if not data.is_dir():
        raise DataError(f"{data} is not a folder")
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    names = [folder.name for folder in folders if find_images(folder).images]
    if len(names) < 2:
        raise DataError(
            f"{data} holds {len(names)} folders with images: a study takes one for each of two classes or more"
        )
    return names


def _square(size: int, copies: Path, path: Path) -> tuple[ImageFile, Size] | ImageError:
    """An image brought to its size and kept, and the size that it had."""
    try:
        pixels = read_image(path)
    except ImageError as error:
        # Without its traceback, which would hold on to the pixels.
        return ImageError(error.path, error.reason)
    height, width, _ = pixels.shape
    if (width, height) != (size, size):
        # Each pixel the mean of those it stands for, as a coarser sensor would see it.
        way = Image.Resampling.BOX if width >= size and height >= size else Image.Resampling.BILINEAR
        pixels = np.asarray(Image.fromarray(pixels).resize((size, size), way))
    content = content_hash(pixels)
    place = copies / f"{content[:32]}.png"
    if not place.exists():
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        write_bytes(place, file.getvalue(), follow_links=False)
    return ImageFile(place, content, size, size), (width, height)


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
