"""Cutting a scene into tiles, and blending what they say into one map.

Both work along one axis at a time: tiles stand in rows and columns, so weights of a tile are products of two.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Axis:
    """Tiles along one axis of a scene, in pixels, and where their maps go on the grid of the scene's map, in cells."""

    starts: tuple[int, ...]  # First pixel of each tile, ascending
    tile: int  # Pixels of each tile
    places: tuple[int, ...]  # First cell of each tile's map
    cells: int  # Of the scene's map
    # Of the cells of each tile's map, `[tiles, cells of one]`. At every cell of the scene they sum to one.
    weights: NDArray[np.float64]


def axis(size: int, tile: int, overlap: int, cells: int) -> Axis:
    """Cut ``size`` pixels into tiles of ``tile`` pixels with at least that overlap; the last one is shifted inwards.

    Maps are put on whole cells, so that none has to be resampled, which would blunt its peaks. That moves them by half
    a cell at most.

    Args:
        size: Of the scene in pixels; less than a tile is one tile of its own.
        tile: Pixels of a tile.
        overlap: Of neighbours, in pixels, below ``tile``.
        cells: Of the map of one tile.
    """
    last = max(0, size - tile)
    starts = [*range(0, last, tile - overlap), last]
    tile = size - last
    # Rounded down, so that neighbours never leave a gap.
    whole = size * cells // tile
    places = [int(np.floor(start * (whole - cells) / last + 0.5)) if last else 0 for start in starts]
    inside = np.arange(cells) + 0.5
    weights = np.ones((len(starts), cells))
    for number, (one, other) in enumerate(itertools.pairwise(places)):
        shared = one + cells - other
        if shared > 0:
            weights[number] = np.minimum(weights[number], np.clip((cells - inside) / shared, 0, 1))
            weights[number + 1] = np.minimum(weights[number + 1], np.clip(inside / shared, 0, 1))
    total = np.zeros(whole)
    for place, own in zip(places, weights, strict=True):
        total[place : place + cells] += own
    weights /= np.stack([total[place : place + cells] for place in places])
    return Axis(tuple(starts), tile, tuple(places), whole, weights)


class Canvas:
    """The map of a scene, while the maps of its tiles come in.

    In double precision: rounded at the end, a mean of equal numbers is that number, and none exceeds them all.
    """

    def __init__(self, down: Axis, across: Axis) -> None:
        self.down, self.across = down, across
        self.values = np.zeros((down.cells, across.cells))

    def add(self, row: int, column: int, values: NDArray[np.float32] | float) -> None:
        """Blend in the map ``[h, w]`` of the tile in that row and column of tiles."""
        heights, widths = self.down.weights[row], self.across.weights[column]
        top, left = self.down.places[row], self.across.places[column]
        place = self.values[top : top + len(heights), left : left + len(widths)]
        place += heights[:, None] * widths * values

    def map(self) -> NDArray[np.float32]:
        """Float32 ``[h, w]``."""
        return self.values.astype(np.float32)
