"""The scenes of a study, each once and in one size, and which of them serve for what: no image serves twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.collection import ImageFile
from oddsight.data.folder import find_images
from oddsight.data.images import content_hash, read_image
from oddsight.errors import DataError, ImageError, OddsightError, plain, without_traceback
from oddsight.fitting.plan import FEWEST
from oddsight.model.metadata import checked_verdicts
from oddsight.model.result import VERDICTS
from oddsight.runtime.files import make_folder, write_bytes
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent, track

CLEAR = "clear"  # The word for all classes but that of clouds, together

_SMALLEST_SIZE = 8  # in pixels
_TEST_SHARE = 0.2  # of the normal images of each class
_CALIBRATION_SHARE = 0.25  # of the normal images that are not tested on
_LEAST = 20  # images of a normal class with which learning, calibrating and testing can be kept apart at all

Size = tuple[int, int]  # Width and height in pixels


@dataclass(frozen=True)
class SceneFacts:
    """The dataset."""

    classes: Mapping[str, int]  # Names, and how many distinct images each has
    size: int  # Side in pixels to which all were brought
    found: Mapping[str, int]  # Images of each class that could be read
    duplicates: Mapping[str, int]  # Those that were there already, in the same class
    shared: int  # Images in several classes, left out of all
    sizes: Mapping[str, Mapping[Size, int]]  # How many images of each class had which size before
    errors: tuple[str, ...]  # What could not be read, a sentence each


@dataclass(frozen=True)
class Scenes:
    """Distinct images of one size, by class."""

    classes: Mapping[str, tuple[ImageFile, ...]]  # The images of each class, ordered by content
    facts: SceneFacts

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
        squares = ordered_map(partial(_square, size, copies), files.images)
        for outcome in track(squares, f"reading {name}", len(files.images), progress):
            if isinstance(outcome, ImageError):
                errors.append(outcome)
            else:
                images.append(outcome)
        if not images:
            reason = f"; the first error is {errors[-1]}" if errors else ""
            raise DataError(f"none of the images in {data / name} can be read{reason}")
    return _distinct(size, read, limit, errors)


def class_names(data: Path) -> list[str]:
    """The names of the class folders, before any image is read."""
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
        return without_traceback(error)
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
    facts = SceneFacts(
        classes={name: len(images) for name, images in classes.items()},
        size=size,
        found={name: len(pairs) for name, pairs in read.items()},
        duplicates={name: len(pairs) - len(own[name]) for name, pairs in read.items()},
        shared=len(shared),
        sizes={name: dict(Counter(before for _, before in pairs)) for name, pairs in read.items()},
        errors=tuple(map(str, errors)),
    )
    return Scenes(classes, facts)


@dataclass(frozen=True)
class Side:
    """What counts as normal."""

    name: str  # `clear`, or the class that is normal
    normal: tuple[str, ...]  # The classes that are normal
    anomalous: tuple[str, ...]  # All others
    verdicts: tuple[str, str]  # Words for a normal and for an anomalous image


@dataclass(frozen=True)
class Split:
    """Which images of a side serve for what, by a seed."""

    side: Side  # What is normal
    seed: int  # Another seed draws other images
    trained: tuple[ImageFile, ...]  # Normal images to train on and to calibrate on; oddsight.fit divides them
    calibration: int  # How many of them to calibrate on
    normal: tuple[ImageFile, ...]  # Test images of the normal classes
    anomalous: Mapping[str, tuple[ImageFile, ...]]  # Test images of each anomalous class, as many as of `normal`

    @property
    def test(self) -> tuple[ImageFile, ...]:
        """All test images: the normal ones, then the classes in order."""
        return (*self.normal, *(image for images in self.anomalous.values() for image in images))

    def parts(self, values: NDArray[Any]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Rows of an array, one for each test image: those of normal images, and those of each anomalous class."""
        ends = np.cumsum([len(self.normal), *(len(images) for images in self.anomalous.values())])
        normal, *anomalous = np.split(values, ends[:-1])
        return normal, dict(zip(self.anomalous, anomalous, strict=True))

    @property
    def calibration_fraction(self) -> float:
        """As :func:`oddsight.fit` takes it."""
        return self.calibration / len(self.trained)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the contents of all images and what they serve for, hex."""
        parts = [[image.content for image in self.trained], [image.content for image in self.normal]]
        parts += [[name, *(image.content for image in images)] for name, images in self.anomalous.items()]
        return hashlib.sha256(repr((parts, self.calibration)).encode()).hexdigest()


def sides(classes: Sequence[str], clouds: str, wanted: Sequence[str]) -> list[Side]:
    """What is to count as normal, each once, in the order asked for."""
    there = ", ".join(map(plain, classes))
    if clouds == CLEAR:
        raise DataError(f"the folder of clouds cannot be called '{CLEAR}', which stands for all others: rename it")
    if clouds not in classes:
        raise DataError(f"no folder {plain(clouds)!r} of clouds: there are {there}; name it with --clouds")
    unknown = [name for name in wanted if name != CLEAR and name not in classes]
    if unknown:
        raise DataError(
            f"--normal {plain(unknown[0])} is not a class: there are {there}, and '{CLEAR}' for all but {plain(clouds)}"
        )
    return [_side(name, classes, clouds) for name in dict.fromkeys(wanted or (clouds, CLEAR))]


def _side(name: str, classes: Sequence[str], clouds: str) -> Side:
    normal = tuple(one for one in classes if one != clouds) if name == CLEAR else (name,)
    words = (name, clouds if name == CLEAR else CLEAR if name == clouds else f"not {name}")
    try:
        verdicts = checked_verdicts(words)
    except DataError:  # names of classes that cannot be verdicts
        verdicts = VERDICTS
    return Side(name, normal, tuple(one for one in classes if one not in normal), verdicts)


def split(side: Side, classes: Mapping[str, Sequence[ImageFile]], seed: int) -> Split:
    """Draw the images of a side: as many of each normal class, and as many test images of each sort.

    Which images are drawn depends on their contents and the seed, not on names or order.
    """
    each = min(len(classes[name]) for name in side.normal)
    if each < _LEAST:
        fewest = min(side.normal, key=lambda name: len(classes[name]))
        raise DataError(f"{plain(fewest)} has {each} distinct images, and a normal class needs at least {_LEAST}")
    rarest = min(side.anomalous, key=lambda name: len(classes[name]))
    tested = min(int(_TEST_SHARE * each), len(classes[rarest]) // len(side.normal))
    if tested * len(side.normal) < 2:
        raise DataError(f"{plain(rarest)} has {len(classes[rarest])} distinct images: too few to test on")
    drawn = {name: _drawn(classes[name], seed) for name in side.normal}
    trained = [image for images in drawn.values() for image in images[tested:each]]
    calibration = max(1, int(_CALIBRATION_SHARE * len(trained)))
    if len(trained) - calibration < FEWEST:
        raise DataError(f"{plain(side.name)} leaves {len(trained) - calibration} images to train on: add images")
    return Split(
        side=side,
        seed=seed,
        trained=_ordered(trained),
        calibration=calibration,
        normal=_ordered([image for images in drawn.values() for image in images[:tested]]),
        anomalous={name: _ordered(_drawn(classes[name], seed)[: tested * len(side.normal)]) for name in side.anomalous},
    )


def _drawn(images: Sequence[ImageFile], seed: int) -> list[ImageFile]:
    # Another lot than that by which a fit divides its images.
    return sorted(images, key=lambda image: hashlib.sha256(f"scenes {seed} {image.content}".encode()).hexdigest())


def _ordered(images: Sequence[ImageFile]) -> tuple[ImageFile, ...]:
    return tuple(sorted(images, key=lambda image: image.content))
