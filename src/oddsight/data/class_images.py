"""Labelled images of one split, how they are divided, and which images are in them more than once."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.errors import DataError, ImageError, OddsightError, plain


@dataclass(frozen=True, eq=False)
class ClassImages:
    """Labelled images of one split, in the order of their source. The same image may occur more than once.

    Attributes:
        images: The images, each uint8 ``[H, W, 3]`` when read; sizes may differ.
        labels: Index of each image's class, int64 ``[N]``.
        classes: Distinct names of the classes; a split need not have images of each.
        errors: Images that could not be read, which are not among ``images``.

    Raises:
        DataError: There are not as many labels as images, a label is not the index of a class, or two classes share a
            name.
    """

    images: tuple[ImageFile, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    errors: tuple[ImageError, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64).reshape(-1))
        twice = [plain(name) for name, count in Counter(self.classes).items() if count > 1]
        if twice:
            raise DataError(f"two classes are called {twice[0]!r}")
        if len(self.labels) != len(self.images):
            raise DataError(f"there are {len(self.images):,} images but {len(self.labels):,} labels")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            outside = next(int(label) for label in self.labels if not 0 <= label < len(self.classes))
            raise DataError(f"a label is {outside}, but the {len(self.classes)} classes count from 0")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | NDArray[np.intp]) -> ClassImages:
        """Select images, in the order of ``indices``; errors are left out."""
        at = np.asarray(indices, np.intp).reshape(-1)
        return ClassImages(tuple(self.images[index] for index in at.tolist()), self.labels[at], self.classes)

    def counts(self) -> dict[str, int]:
        """Number of images of each class, by name."""
        counted = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counted, strict=True))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over classes, contents and labels, in hex: the same for the same images in any order or form."""
        rows = sorted(f"{image.content} {label}" for image, label in zip(self.images, self.labels, strict=True))
        state = repr((self.classes, rows))
        return hashlib.sha256(state.encode("utf-8", "backslashreplace")).hexdigest()


def stratified(data: ClassImages, fraction: float, seed: int) -> tuple[ClassImages, ClassImages]:
    """Split images in two, the second part with a share ``fraction`` (rounded up) of each class.

    The part of an image depends only on its content, the seed and the contents of the other images, not on names or
    order. All copies of an image and all images of a group are in the same part, so a part may exceed its share. Both
    parts keep the order of ``data``.

    Args:
        data: The images.
        fraction: Share of the second part, from 0 to below 1.
        seed: Seed of the split.

    Raises:
        OddsightError: The fraction is invalid.
    """
    if not 0 <= fraction < 1:
        raise OddsightError(f"the share to split off must be at least 0 and below 1, not {fraction:g}")
    places: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(data.images):
        places[image.unit].append(index)
    lots = {unit: min(data.images[index].content for index in indices) for unit, indices in places.items()}
    order = sorted(places, key=lambda unit: hashlib.sha256(f"{seed} {lots[unit]}".encode()).digest(), reverse=True)
    # What is in several classes is drawn with the first of them.
    home = {unit: int(data.labels[indices].min()) for unit, indices in places.items()}
    of_class: dict[int, list[str]] = defaultdict(list)
    for unit in order:
        of_class[home[unit]].append(unit)
    held = np.zeros(len(data), np.bool_)
    for label, count in enumerate(data.counts().values()):
        wanted = ceil(fraction * count - 1e-9)
        got = int(held[data.labels == label].sum())
        for unit in of_class[label]:
            if got >= wanted:
                break
            held[places[unit]] = True
            got += int((data.labels[places[unit]] == label).sum())
    return data.subset(np.flatnonzero(~held)), data.subset(np.flatnonzero(held))


@dataclass(frozen=True)
class Place:
    """Where an image is: its split, its index and name there, and the name of its class."""

    split: str
    index: int
    name: str
    label: str


@dataclass(frozen=True)
class Repeat:
    """One image that is there more than once.

    Attributes:
        content: SHA-256 of its pixels, hex.
        places: Two or more, in the order of the splits.
    """

    content: str
    places: tuple[Place, ...]

    @property
    def leaks(self) -> bool:
        """Whether it is in more than one split."""
        return len({place.split for place in self.places}) > 1

    @property
    def contradicts(self) -> bool:
        """Whether it is in more than one class."""
        return len({place.label for place in self.places}) > 1


def repeats(splits: Mapping[str, ClassImages]) -> list[Repeat]:
    """The images that are more than once in these splits, in the order of their first places.

    Only images equal to the last bit count; ``oddsight check`` looks for near duplicates in a folder.
    """
    places: dict[str, list[Place]] = defaultdict(list)
    for split, data in splits.items():
        for index, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
            places[image.content].append(Place(split, index, image.path.as_posix(), data.classes[label]))
    return [Repeat(content, tuple(found)) for content, found in places.items() if len(found) > 1]
