"""Finding images of one thing among images of many: shots of a burst, exposures of one part, recompressed copies.

How alike two images of one thing are depends on the collection: bottles under a fixed camera are all alike, and
satellite tiles are not. So *near copies* are images that are far closer to each other than to any other image, whatever
the distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # The side of the sketch of an image, in pixels

LEAST_CORRELATION = 0.9
"""The least correlation of near copies, each with its nearest, without what all images have in common."""

SEPARATION = 1.5  # How many times farther than from each other near copies are from any other image

_MARGIN = 2
_INNER = slice(_MARGIN, SIDE - _MARGIN)
_WHOLE = list(product((-2, 0, 2), (-2, 0, 2)))
_HALVES = [shift for shift in product(range(-3, 4), range(-3, 4)) if shift not in _WHOLE]
"""Shifts down and to the right, in half pixels."""

_NEIGHBOURS = 8
_WORTH_A_LOOK, _WORTH_A_CLOSER_LOOK = 0.5, 0.6
"""Correlations; those of less than 0.775 have no part in a group, nor stand in the way of one."""

_ROWS = 1024
_PAIRS = 4096


def sketch(image: NDArray[np.uint8]) -> bytes:
    """A grey copy of 32 x 32 pixels of an image uint8 ``[H, W, 3]`` or grey ``[H, W]``, row by row."""
    small = Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return small.tobytes()


def near_copies(sketches: Sequence[bytes]) -> NDArray[np.intp]:
    """Which images are near copies of one another.

    Sketches are brought to the same brightness and contrast, and their mean over the collection is taken off. Each is
    compared with the eight of highest correlation at half the resolution, shifted by up to one and a half pixels (5%
    of the side), by the highest correlation. Of the tree that merges the closest first (single linkage), a group is a
    branch that holds together at :data:`LEAST_CORRELATION` and whose distance to the next image, the square root of one
    minus the correlation, is :data:`SEPARATION` times the largest inside. A branch with more than half of all images is
    none: it is how images of this collection look.

    The first comparison is of all pairs, as a product of matrices in tiles: its time grows with the square of the
    number (of 256 numbers each), memory with the number.

    Returns:
        For each image the first position in its group, ``[N]``; its own for an image that stands alone.
    """
    alone = np.arange(len(sketches))
    if len(sketches) < 2:
        return alone
    grey = np.frombuffer(b"".join(sketches), np.uint8).reshape(-1, SIDE, SIDE)
    pairs = _pairs_worth_a_look(grey)
    if not len(pairs):
        return alone
    return _branches(len(grey), pairs, np.sqrt(np.maximum(1 - _correlations(grey, pairs), 1e-4)))


def _standard(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Float32 ``[n, 32, 32]`` of mean 0 and, unless nearly constant, deviation 1."""
    values = grey.astype(np.float32)
    values -= values.mean((1, 2), keepdims=True)
    values /= np.maximum(values.std((1, 2), keepdims=True), 1)
    return values


def _mean(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean of all standardised sketches, ``[32, 32]``."""
    total = sum(_standard(grey[top : top + _ROWS]).sum(0, dtype=np.float64) for top in range(0, len(grey), _ROWS))
    return np.asarray(total / len(grey), np.float32)


def _pairs_worth_a_look(grey: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions ``[m, 2]``, the smaller first, of images that correlate at half the resolution."""
    half, mean = SIDE // 2, _mean(grey)
    coarse = np.empty((len(grey), half * half), np.float32)
    for top in range(0, len(grey), _ROWS):
        rest = _standard(grey[top : top + _ROWS]) - mean
        coarse[top : top + _ROWS] = rest.reshape(-1, half, 2, half, 2).mean((2, 4)).reshape(len(rest), -1)
    coarse /= np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)
    most = min(_NEIGHBOURS, len(grey) - 1)
    found = []
    for top in range(0, len(grey), _ROWS):
        alike = coarse[top : top + _ROWS] @ coarse.T
        rows = np.arange(len(alike))
        alike[rows, rows + top] = -1
        nearest = np.argpartition(-alike, most - 1, axis=1)[:, :most]
        row, column = np.nonzero(np.take_along_axis(alike, nearest, 1) >= _WORTH_A_LOOK)
        ends = np.stack([row + top, nearest[row, column]], 1)
        found.append(np.sort(ends, axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _correlations(grey: NDArray[np.uint8], pairs: NDArray[np.intp]) -> NDArray[np.float32]:
    """Correlations of pairs at the best shift of the second, ``[m]``; by half pixels where whole ones come close."""
    mean = _mean(grey)[_INNER, _INNER]
    mean = mean - mean.mean()
    best = np.full(len(pairs), -1, np.float32)
    for start in range(0, len(pairs), _PAIRS):
        some = pairs[start : start + _PAIRS]
        values = _at_best_shift(grey, some, mean, _WHOLE)
        close = np.flatnonzero(values >= _WORTH_A_CLOSER_LOOK)
        values[close] = np.maximum(values[close], _at_best_shift(grey, some[close], mean, _HALVES))
        best[start : start + _PAIRS] = values
    return best


def _at_best_shift(
    grey: NDArray[np.uint8], pairs: NDArray[np.intp], mean: NDArray[np.float32], shifts: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """Correlations ``[m]`` of pairs without the mean of all images ``[28, 28]``; shifts are in half pixels."""
    best = np.full(len(pairs), -1, np.float32)
    first, second = pairs.T
    ones = _standard(grey[first])[:, _INNER, _INNER]
    ones -= ones.mean((1, 2), keepdims=True)
    ones /= np.maximum(ones.std((1, 2), keepdims=True), 1e-6)
    ones -= mean
    ones /= np.maximum(np.sqrt(np.square(ones).sum((1, 2), keepdims=True)), 1e-6)
    share, count = np.einsum("nij,ij->n", ones, mean), mean.size
    fine = _finer(_standard(grey[second]))
    length = 2 * (SIDE - 2 * _MARGIN)
    for down, right in shifts:
        top, left = 2 * _MARGIN + down, 2 * _MARGIN + right
        others = fine[:, top : top + length : 2, left : left + length : 2]
        # The correlation with (others - centre) / deviation - mean, of which only products with ``others`` change.
        centre = others.mean((1, 2))
        power = np.einsum("nij,nij->n", others, others) / count - centre**2
        deviation = np.sqrt(np.maximum(power, 1e-12))
        product = np.einsum("nij,nij->n", ones, others) / deviation - share
        square = count - 2 * np.einsum("nij,ij->n", others, mean) / deviation + np.square(mean).sum()
        np.maximum(best, product / np.sqrt(np.maximum(square, 1e-6)), out=best)
    return best


def _finer(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """With a value between each two neighbours, ``[n, 63, 63]``."""
    fine = np.empty((len(images), 2 * SIDE - 1, 2 * SIDE - 1), np.float32)
    fine[:, ::2, ::2] = images
    fine[:, 1::2, ::2] = (images[:, 1:] + images[:, :-1]) / 2
    fine[:, :, 1::2] = (fine[:, :, 2::2] + fine[:, :, :-2:2]) / 2
    return fine


@dataclass
class _Branch:
    """A part of the tree: its members, its largest inner distance, and the groups inside it."""

    members: list[int]
    inner: float = 0.0
    groups: list[list[int]] = field(default_factory=list)

    def cut(self, distance: float, images: int) -> None:
        """Make one group of it if it is close enough inside, and far enough from what is at this distance."""
        close = self.inner**2 <= 1 - LEAST_CORRELATION and distance >= SEPARATION * self.inner
        if 1 < len(self.members) <= images / 2 and close:
            self.groups = [list(self.members)]


def _branches(images: int, pairs: NDArray[np.intp], distances: NDArray[np.float64]) -> NDArray[np.intp]:
    """Merge the closest first, and return the first position in the group of each image ``[images]``."""
    branch = {index: _Branch([index]) for index in range(images)}
    root = np.arange(images)
    for at in np.argsort(distances, kind="stable").tolist():
        one, other = (int(root[index]) for index in pairs[at])
        if one == other:
            continue
        distance = float(distances[at])
        small, large = sorted((branch[one], branch[other]), key=lambda part: len(part.members))
        for part in (small, large):
            part.cut(distance, images)
        kept, gone = (one, other) if branch[one] is large else (other, one)
        root[small.members] = kept
        del branch[gone]
        large.members += small.members
        large.groups += small.groups
        branch[kept] = _Branch(large.members, distance, large.groups)
    labels = np.arange(images)
    for part in branch.values():
        part.cut(float(np.sqrt(1 - _WORTH_A_LOOK)), images)
        for group in part.groups:
            labels[group] = min(group)
    return labels
