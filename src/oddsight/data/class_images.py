"""How labelled images are divided, and which are in a dataset more than once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import lot
from oddsight.data.dataset import Dataset
from oddsight.errors import OddsightError

ClassImages = Dataset
"""The name that it had before."""


def stratified(data: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
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
    places, of_class = _units(data, seed)
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


def folds(data: Dataset, count: int, seed: int) -> NDArray[np.int64]:
    """The fold of each image, from 0 to ``count - 1``, so that each fold has a like share of each class ``[n]``.

    It depends on what :func:`stratified` depends on. Images of one group are in the same fold. A class of which there
    is one group only has the fold -1: without it nothing could be learned of that class.
    """
    places, of_class = _units(data, seed)
    result = np.full(len(data), -1)
    for label, units in enumerate(of_class):
        for number, unit in enumerate(units if len(units) > 1 else []):
            # Classes begin at different folds, as small ones may not reach the last.
            result[places[unit]] = (label + number) % count
    return result


def _units(data: Dataset, seed: int) -> tuple[dict[str, list[int]], list[list[str]]]:
    """Where the images of each group are, and the groups of each class in an order by lot.

    A group that has images of several classes is with the first of them.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(data.images):
        places[image.unit].append(index)
    firsts = {unit: min(data.images[index].content for index in indices) for unit, indices in places.items()}
    of_class: list[list[str]] = [[] for _ in data.classes]
    for unit in sorted(places, key=lambda unit: lot(firsts[unit], seed), reverse=True):
        of_class[int(data.labels[places[unit]].min())].append(unit)
    return places, of_class


@dataclass(frozen=True)
class Place:
    """Where an image is: its split, its index and name there, and the name of its class."""

    split: str
    index: int
    name: str
    label: str


@dataclass(frozen=True)
class Repeat:
    """One image that is there more than once."""

    content: str  # SHA-256 of its pixels, hex
    places: tuple[Place, ...]  # Two or more, in the order of the splits

    @property
    def leaks(self) -> bool:
        """Whether it is in more than one split."""
        return len({place.split for place in self.places}) > 1

    @property
    def contradicts(self) -> bool:
        """Whether it is in more than one class."""
        return len({place.label for place in self.places}) > 1


def repeats(splits: Mapping[str, Dataset]) -> list[Repeat]:
    """The images that are more than once in these splits, in the order of their first places.

    Only images equal to the last bit count; ``oddsight check`` looks for near duplicates in a folder.
    """
    places: dict[str, list[Place]] = defaultdict(list)
    for split, data in splits.items():
        for index, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
            places[image.content].append(Place(split, index, image.path.as_posix(), data.classes[label]))
    return [Repeat(content, tuple(found)) for content, found in places.items() if len(found) > 1]
