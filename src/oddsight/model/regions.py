"""Regions: where an image is anomalous, with the extent of what is there.

An image is flagged exactly when some cell of its map is above its threshold, and every area of such cells has a region.
How far a region reaches is another question: a map rises smoothly from what is around a defect to its peak, and the
threshold may cut it near the top or near the bottom. A region is therefore cut at a fixed part of the way from the
level of normal pixels to its own peak, below the threshold or above it, but never below what nearly all normal pixels
stay under (as hysteresis: Canny, IEEE PAMI 1986). Both levels are those of the calibration images; without them, as in
older models, regions are what is above the threshold. ``docs/explaining.md`` has the numbers.

Outlines and masks read a map as a surface: its cells' values are those at their centres, in between it is interpolated,
and outside of the outermost centres it goes on level.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.model.sections import PixelLevels

Ring = tuple[tuple[float, float], ...]
"""Places in pixels, x to the right and y down from the upper left corner; the last is the first."""

Place = tuple[slice, slice]

REACH = 0.3
"""Where a region is cut: this part of the way from the median of normal pixels to its peak (docs/explaining.md)."""

_CLEARANCE = 1e-3
"""How far cells stay away from a cut at least, of the farthest: outlines that run through the centre of a cell could
touch themselves there."""


@dataclass(frozen=True)
class Region:
    """A connected area of the anomaly map with a peak above the threshold.

    Attributes:
        bbox: ``(left, top, right, bottom)`` in pixels of the image; right and bottom are exclusive.
        area: Its area in pixels of the image.
        peak: The highest value of the map inside.
        threshold: The value above which its cells are; see :mod:`oddsight.model.regions`.
        p_value: Share of normal images expected to have as high a peak anywhere, in (0, 1]; None if the calibration
            is unknown. In a normal image, the chance that any region gets a p-value of at most ``r`` is at most ``r``;
            for the one region alone it is conservative.
        polygons: Its outlines, each an outer ring followed by its holes. Usually one; a region whose cells touch at
            corners only may have several.
    """

    bbox: tuple[int, int, int, int]
    area: int
    peak: float
    threshold: float
    p_value: float | None
    polygons: tuple[tuple[Ring, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As ``predict --json`` writes it; outlines to a hundredth of a pixel."""
        return {
            "bbox": list(self.bbox),
            "area": self.area,
            "peak": self.peak,
            "threshold": self.threshold,
            "p_value": self.p_value,
            "polygons": [
                [[[round(x, 2), round(y, 2)] for x, y in ring] for ring in polygon] for polygon in self.polygons
            ],
        }


@dataclass(frozen=True, eq=False)
class Area:
    """The cells of a region."""

    place: Place  # Rows and columns of the map around them
    inside: NDArray[np.bool_]  # Which of these are among them, `[h, w]`
    cut: float  # The value that all of them are above
    peak: float  # The highest


def pixel_levels(values: NDArray[np.float32]) -> tuple[float, float]:
    """Median and 99th percentile of one map, for :func:`typical_levels`."""
    median, high = np.quantile(values, (0.5, 0.99)).tolist()
    return median, high


def typical_levels(levels: NDArray[np.float32]) -> PixelLevels | None:
    """The levels of the pixels of normal images, from those of the map of each, ``[n, 2]``; None without any."""
    if not levels.size:
        return None
    median, high = np.median(levels, axis=0).tolist()
    return PixelLevels(median=median, high=high)


def find_areas(
    values: NDArray[np.float32], threshold: float, levels: PixelLevels | None = None, reach: float = REACH
) -> list[Area]:
    """Connected areas (8 neighbours) of a map ``[h, w]`` with a cell above ``threshold``, highest peak first."""
    return sorted(_areas(values, np.float64(threshold), levels, reach), key=lambda area: -area.peak)


def _areas(
    values: NDArray[np.float32], threshold: np.float64, levels: PixelLevels | None, reach: float
) -> Iterator[Area]:
    floor = threshold if levels is None else min(threshold, np.float64(levels.high))
    for place, own in _connected(values > floor):
        local = values[place]
        peak = np.float64(local[own].max())
        if peak <= threshold:
            continue
        cut = floor
        if levels is not None and peak > levels.median:
            cut = max(floor, levels.median + reach * (peak - levels.median))
        above = own & (local > cut)
        parts = [(*part, cut) for part in _connected(above)]
        if cut > threshold:  # Lower peaks beside a high one stay regions.
            lower = _connected(own & (local > threshold))
            parts += [(inner, part, threshold) for inner, part in lower if not (part & above[inner]).any()]
        for inner, part, edge in parts:
            highest = float(local[inner][part].max())
            if highest > threshold:
                yield Area(_inside(place, inner), part, float(edge), highest)


def _connected(mask: NDArray[np.bool_]) -> Iterator[tuple[Place, NDArray[np.bool_]]]:
    """Where each connected area is, and which cells there are its own."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), bool))
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        yield place, labels[place] == number


def _inside(outer: Place, inner: Place) -> Place:
    """A place inside of another one, counted from where that one is counted from."""
    rows, columns = (
        slice(whole.start + part.start, whole.start + part.stop) for whole, part in zip(outer, inner, strict=True)
    )
    return rows, columns


def describe(area: Area, values: NDArray[np.float32], width: int, height: int, p_value: float | None) -> Region:
    """The region of an area of a map ``[h, w]``, for an image of that size in pixels."""
    rows, columns = values.shape
    down, across = area.place
    box = (
        across.start * width // columns,
        down.start * height // rows,
        -(-across.stop * width // columns),
        -(-down.stop * height // rows),
    )
    pixels = max(1, round(int(area.inside.sum()) * width * height / (rows * columns)))
    return Region(box, pixels, area.peak, area.cut, p_value, _polygons(area, values, width, height))


def _polygons(area: Area, values: NDArray[np.float32], width: int, height: int) -> tuple[tuple[Ring, ...], ...]:
    from contourpy import FillType, contour_generator

    (down, across), (top, left) = area.place, (area.place[0].start, area.place[1].start)
    # One more row or column of centres on each side, at the image's edge those there again.
    rows = np.clip(np.arange(top - 1, down.stop + 1), 0, values.shape[0] - 1)
    columns = np.clip(np.arange(left - 1, across.stop + 1), 0, values.shape[1] - 1)
    inside = np.pad(area.inside, 1)[np.ix_(rows - top + 1, columns - left + 1)]
    heights = values[np.ix_(rows, columns)].astype(np.float64) - area.cut
    heights /= np.abs(heights).max()
    heights = np.where(inside, np.maximum(heights, _CLEARANCE), np.minimum(heights, -_CLEARANCE))
    y = _centres(values.shape[0], height)[top : down.stop + 2]
    x = _centres(values.shape[1], width)[left : across.stop + 2]
    tracer = contour_generator(x, y, heights, fill_type=FillType.OuterOffset)
    filled: Any = tracer.filled(0.0, 2.0)
    return tuple(
        tuple(tuple(map(tuple, own[start:end].tolist())) for start, end in itertools.pairwise(ends.tolist()))
        for own, ends in zip(*filled, strict=True)
    )


def paint(
    areas: list[Area], values: NDArray[np.float32], width: int, height: int, top: int, bottom: int
) -> NDArray[np.bool_]:
    """Rows of the image: which pixels lie in an area, ``[bottom - top, width]``.

    The pixels at the centres of its cells are always among them, however small the rest.
    """
    found = np.zeros((bottom - top, width), bool)
    for area in areas:
        rows, above, below, share = _between(values.shape[0], height, area.place[0], top, bottom)
        columns, left, right, part = _between(values.shape[1], width, area.place[1], 0, width)
        if not len(rows):
            continue
        cells = slice(above[0], below[-1] + 1), slice(left[0], right[-1] + 1)
        surface = _surface(area, values, cells)
        lines = surface[above - above[0]] + share[:, None] * (surface[below - above[0]] - surface[above - above[0]])
        near, far = lines[:, left - left[0]], lines[:, right - left[0]]
        found[rows[0] - top : rows[-1] + 1 - top, columns[0] : columns[-1] + 1] |= near + part * (far - near) > 0
    for area in areas:
        down, across = (
            _centres(count, size)[1:-1].astype(np.intp)[cells]
            for count, size, cells in zip(values.shape, (height, width), area.place, strict=True)
        )
        row, column = np.nonzero(area.inside)
        there = (down[row] >= top) & (down[row] < bottom)
        found[down[row[there]] - top, across[column[there]]] = True
    return found


def _surface(area: Area, values: NDArray[np.float32], cells: Place) -> NDArray[np.float32]:
    """How far some cells in and around an area are above its cut, ``[h, w]``; others than its own never are."""
    inside = np.zeros(tuple(place.stop - place.start for place in cells), bool)
    start = tuple(place.start - own.start for place, own in zip(cells, area.place, strict=True))
    row, column = np.nonzero(area.inside)
    row, column = row - start[0], column - start[1]
    there = (row >= 0) & (row < inside.shape[0]) & (column >= 0) & (column < inside.shape[1])
    inside[row[there], column[there]] = True
    heights = values[cells] - np.float32(area.cut)
    surface: NDArray[np.float32] = np.where(inside, np.maximum(heights, 0), np.minimum(heights, 0))
    return surface


def _centres(cells: int, size: int) -> NDArray[np.float64]:
    """Where the centres of cells are along an axis of that many pixels, between its ends, ``[cells + 2]``."""
    return np.concatenate([[0], (np.arange(cells) + 0.5) * (size / cells), [size]])


def _between(
    cells: int, size: int, around: slice, start: int, stop: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Pixels from ``start`` to ``stop`` near some cells of an axis, the cells around each, how far to the second."""
    first, last = max(0, around.start - 1), min(cells, around.stop + 1) - 1
    scale = cells / size
    low = max(start, 0 if first == 0 else int((first + 0.5) / scale) - 1)
    high = min(stop, size if last == cells - 1 else int((last + 0.5) / scale) + 2)
    pixels = np.arange(low, max(low, high))
    at = np.clip((pixels + 0.5) * scale - 0.5, 0, cells - 1)
    pixels, at = pixels[(at >= first) & (at <= last)], at[(at >= first) & (at <= last)]
    before = at.astype(np.intp)
    return pixels, before, np.minimum(before + 1, last), (at - before).astype(np.float32)
