"""What is beyond the threshold, as outlines and as a mask in pixels.

Both read a map as a surface: its cells' values are those at their centres, in between it is interpolated, and outside
of the outermost centres it goes on level. Outlines follow it where it crosses the threshold.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.model.result import Region, Result, labelled_regions

Ring = NDArray[np.float64]
"""Places ``[n, 2]`` in pixels, x to the right and y down; the last is the first."""

_CLEARANCE = 1e-3
"""How far cells stay away from the threshold at least, of the farthest: outlines that run through the centre of a cell
could touch themselves there."""


@dataclass(frozen=True, eq=False)
class Outline:
    """A region and where it ends.

    Attributes:
        region: As in :attr:`oddsight.Result.regions`.
        polygons: Each with its outer ring first, followed by its holes. A region whose cells touch at corners only may
            be several.
    """

    region: Region
    polygons: tuple[tuple[Ring, ...], ...]


def outlines(result: Result) -> list[Outline]:
    """Outline the regions of a result, highest peak first; none if it is normal or has no map."""
    if result.map is None or result.threshold is None or not result.anomalous:
        return []
    values, threshold = result.map, result.threshold
    found, labels = labelled_regions(values, threshold, result.width, result.height)
    from scipy import ndimage

    boxes = ndimage.find_objects(labels)
    # The grid of centres has one more on each side, at the image's edge.
    heights = np.pad(values.astype(np.float64) - threshold, 1, mode="edge")
    numbers = np.pad(labels, 1, mode="edge")
    down, across = _centres(values.shape[0], result.height), _centres(values.shape[1], result.width)
    traced = []
    for region, number in found:
        rows, columns = (slice(box.start, box.stop + 2) for box in boxes[number - 1])
        inside = numbers[rows, columns] == number
        traced.append(Outline(region, _polygons(heights[rows, columns], inside, across[columns], down[rows])))
    return traced


def mask(result: Result, top: int, bottom: int) -> NDArray[np.bool_]:
    """Rows of the image: where the map is beyond the threshold, ``[n, width]``.

    The pixels at the centres of cells that are beyond are always among them, however small the rest.
    """
    found = np.zeros((bottom - top, result.width), bool)
    if result.map is None or result.threshold is None or not result.anomalous:
        return found
    values = result.map
    above, below, share = _between(values.shape[0], result.height, np.arange(top, bottom))
    left, right, part = _between(values.shape[1], result.width, np.arange(result.width))
    rows = values[above] + share[:, None] * (values[below] - values[above])
    found[:] = rows[:, left] + part * (rows[:, right] - rows[:, left]) > result.threshold
    down = _centres(values.shape[0], result.height)[1:-1].astype(np.intp)
    across = _centres(values.shape[1], result.width)[1:-1].astype(np.intp)
    near = np.flatnonzero((down >= top) & (down < bottom))
    row, column = np.nonzero(values[near] > result.threshold)
    found[down[near[row]] - top, across[column]] = True
    return found


def _centres(cells: int, size: int) -> NDArray[np.float64]:
    """Where the centres of cells are along an axis of that many pixels, between its ends, ``[cells + 2]``."""
    return np.concatenate([[0], (np.arange(cells) + 0.5) * (size / cells), [size]])


def _between(
    cells: int, size: int, pixels: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """The cells whose centres are around the centres of pixels, and how far towards the second, ``[pixels]`` each."""
    at = np.clip((pixels + 0.5) * (cells / size) - 0.5, 0, cells - 1)
    first = at.astype(np.intp)
    return first, np.minimum(first + 1, cells - 1), (at - first).astype(np.float32)


def _polygons(
    heights: NDArray[np.float64], inside: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[tuple[Ring, ...], ...]:
    from contourpy import FillType, contour_generator

    heights = heights / np.abs(heights).max()
    heights = np.where(inside, np.maximum(heights, _CLEARANCE), np.minimum(heights, -_CLEARANCE))
    tracer = contour_generator(x, y, heights, fill_type=FillType.OuterOffset)
    filled: Any = tracer.filled(0.0, 2.0)
    points, offsets = filled
    return tuple(
        tuple(own[start:end] for start, end in itertools.pairwise(ends.tolist()))
        for own, ends in zip(points, offsets, strict=True)
    )
