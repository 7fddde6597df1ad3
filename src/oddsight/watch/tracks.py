"""Giving boxes of one frame after the other an identity, so that one object is one event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oddsight.model.events import Box


@dataclass
class _Track:
    box: Box
    unseen: int = 0


_OVERLAP = 0.2  # The least intersection over union of an object and its next box


class Tracker:
    """Follows boxes by how much they overlap with those of the frame before (Bochinski et al., IoU tracker, AVSS 2017).

    The pairs of all objects and boxes are those with the highest sum of overlaps. An object that is not seen keeps its
    place for some frames, and comes back under its number if it is found there.

    Args:
        patience: Frames without a box after which an object is forgotten. Its number is not given again.
    """

    def __init__(self, *, patience: int = 10) -> None:
        self._patience = patience
        self._tracks: dict[int, _Track] = {}
        self._next = 1

    def update(self, boxes: Sequence[Box]) -> list[int]:
        """The number of the object in each box of the next frame, from 1."""
        from scipy.optimize import linear_sum_assignment

        numbers = list(self._tracks)
        shared = overlaps([track.box for track in self._tracks.values()], boxes)
        shared[shared < _OVERLAP] = 0
        found: dict[int, int] = {}
        for row, column in zip(*linear_sum_assignment(-shared), strict=True):
            if shared[row, column]:
                found[int(column)] = numbers[row]
        for track in self._tracks.values():
            track.unseen += 1
        given = []
        for place, box in enumerate(boxes):
            number = found.get(place)
            if number is None:
                number, self._next = self._next, self._next + 1
            self._tracks[number] = _Track(box)
            given.append(number)
        self._tracks = {number: track for number, track in self._tracks.items() if track.unseen <= self._patience}
        return given


def overlaps(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of each box with each other one, ``[first, second]``, from 0 to 1."""
    a = np.array(first, np.float64).reshape(-1, 1, 4)
    b = np.array(second, np.float64).reshape(1, -1, 4)
    both = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=-1)
    sizes = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (a, b)]
    shares: NDArray[np.float64] = both / np.maximum(sizes[0] + sizes[1] - both, 1e-12)
    return shares
