"""Where in a frame to look: what a proposer of regions of interest is, a grid of them, and the windows cut out."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, plain
from oddsight.model.events import Box

SIDES = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""Of windows, in pixels: crops of a few sizes only, since ONNX Runtime keeps memory for each shape that it meets."""

_MARGIN = 1.25
"""How much larger than an object its window is at least."""

_MOST_TILES = 64


class Proposer(Protocol):
    """Proposes regions of interest, frame by frame in their order, in one thread.

    Attributes:
        follows: Whether its boxes are around objects, which are cut out in windows of a few sizes; otherwise the boxes
            themselves are.
        light_changed: Whether the light of the whole frame changed suddenly in the last one, which has no boxes then.
    """

    follows: ClassVar[bool]
    light_changed: bool

    def propose(self, pixels: NDArray[np.uint8]) -> list[Box]:
        """Boxes in a frame, uint8 ``[H, W, 3]``."""


class Grid:
    """The tiles of a grid over the whole frame, all of one size; neighbours overlap by less than a pixel a tile.

    Args:
        columns: Number of tiles in a row.
        rows: Number of rows.

    Raises:
        DataError: There are none, or too many.
    """

    follows: ClassVar[bool] = False
    light_changed = False

    def __init__(self, columns: int = 3, rows: int = 2) -> None:
        if columns < 1 or rows < 1 or columns * rows > _MOST_TILES:
            raise DataError(f"a grid has 1 to {_MOST_TILES} tiles, not {columns} x {rows}")
        self.columns, self.rows = columns, rows

    def propose(self, pixels: NDArray[np.uint8]) -> list[Box]:
        """See :class:`Proposer`."""
        height, width, _ = pixels.shape
        return [
            (left, top, right, bottom)
            for top, bottom in _parts(height, self.rows)
            for left, right in _parts(width, self.columns)
        ]


def open_roi(spec: str) -> Proposer:
    """A proposer by what the command line calls it: ``motion``, ``grid``, ``grid:4x3`` or the path of a detector.

    Raises:
        DataError: There is no such proposer, or the detector cannot be read.
    """
    if spec == "motion":
        from oddsight.watch.motion import Motion

        return Motion()
    name, _, size = spec.partition(":")
    if name == "grid":
        sides = (size or "3x2").split("x")
        if len(sides) != 2 or not all(side.isdecimal() and len(side) < 5 for side in sides):
            raise DataError(f"a grid is written as columns x rows, such as grid:4x3, not {plain(spec)!r}")
        return Grid(*map(int, sides))
    if spec.endswith(".onnx"):
        from oddsight.watch.object_detector import ObjectDetector

        return ObjectDetector.read(spec)
    raise DataError(f"no regions of interest {plain(spec)!r}: there are motion, grid, grid:4x3 and DETECTOR.onnx")


def window(box: Box, width: int, height: int) -> Box:
    """A square around a box that has one of a few sizes and lies in the frame; less high or wide only if the frame is.

    Args:
        box: Around an object.
        width: Of the frame, in pixels.
        height: Of the frame.
    """
    left, top, right, bottom = box
    long = _MARGIN * max(right - left, bottom - top)
    side = next((side for side in SIDES if side >= long), SIDES[-1])
    across, down = min(side, width), min(side, height)
    x = min(max((left + right - across) // 2, 0), width - across)
    y = min(max((top + bottom - down) // 2, 0), height - down)
    return x, y, x + across, y + down


def _parts(length: int, count: int) -> list[tuple[int, int]]:
    """An axis in ``count`` parts of equal length that cover it; no more parts than pixels."""
    count = min(count, length)
    part = -(-length // count)
    starts = [number * (length - part) // (count - 1) if count > 1 else 0 for number in range(count)]
    return [(start, start + part) for start in starts]
