"""What moves: pixels of a reduced frame that leave the running mean of the background by more than it varies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.model.events import Box
from oddsight.runtime.bounds import Count, Positive, Real, Share, check_settings

_LEARNING = 25
"""Frames whose median is the first background, at the start and after the light changed."""

_LEAST = 6.0
"""The smallest standard deviation of a pixel, in grey values of 255: below it lies the noise of compression."""

_SLOW = 10
"""How many times more slowly the background takes on what is in front of it."""


@dataclass
class Motion:
    """Boxes around what moves, by running mean and variance of each pixel of a reduced grey frame.

    A pixel is in front if it differs from the mean by more than ``contrast`` standard deviations, after the frame's
    median difference was taken off. The mean takes that on at once, so slow changes of the exposure are no motion. A
    camera that moves needs another proposer. The model of the background is that of Wren et al., Pfinder (IEEE PAMI
    1997): one Gaussian a pixel.

    Attributes:
        side: Of the reduced frame, the longer one, in pixels, at most.
        contrast: In standard deviations.
        memory: Frames over which the mean and the variance run. What stands still is background after ten times as
            many.
        smallest: Area of a box, as a share of the frame, below which it is left out.
        gap: How near boxes are merged, as a share of the longer side of the frame.
        most: Boxes of a frame; of more, the largest are taken.
        flood: The share of pixels in front beyond which it is the light that changed, and no motion.
        light_changed: See :class:`oddsight.watch.interest.Proposer`.
    """

    follows: ClassVar[bool] = True

    side: Count = 320
    contrast: Positive = 4.0
    memory: Count = 200
    smallest: Annotated[float, Real(least=0, below=1)] = 0.0005
    gap: Annotated[float, Real(least=0, below=1)] = 0.02
    most: Count = 16
    flood: Share = 0.5
    light_changed: bool = False

    def __post_init__(self) -> None:
        check_settings(self, owner="motion")
        self._first: list[NDArray[np.float32]] = []
        self._mean = self._variance = np.zeros((0, 0), np.float32)

    def propose(self, pixels: NDArray[np.uint8]) -> list[Box]:
        """See :class:`oddsight.watch.interest.Proposer`; the first frames have no boxes."""
        height, width, _ = pixels.shape
        grey = self._reduced(pixels)
        self.light_changed = False
        if grey.shape != self._mean.shape:
            self._learn(grey)
            return []
        off = grey - self._mean
        shift = np.float32(np.median(off))
        limit = self.contrast * np.sqrt(self._variance)
        front = np.abs(off - shift) > limit
        # With the shift: all of the frame is brighter when the light is switched on.
        if max(front.mean(), (np.abs(off) > limit).mean()) > self.flood:
            self._mean, self.light_changed = np.zeros((0, 0), np.float32), True
            self._learn(grey)
            return []
        self._mean += shift
        self._follow(off - shift, front)
        return self._boxes(front, width, height)

    def _reduced(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        factor = max(1, -(-max(pixels.shape[:2]) // self.side))
        return np.asarray(Image.fromarray(pixels).reduce(factor).convert("L"), np.float32)

    def _learn(self, grey: NDArray[np.float32]) -> None:
        """Take one more of the first frames; once there are enough, what passed in them is no part of their median."""
        if self._first and self._first[0].shape != grey.shape:
            self._first.clear()
        self._first.append(grey)
        if len(self._first) < _LEARNING:
            return
        frames = np.stack(self._first)
        self._first.clear()
        self._mean = np.median(frames, axis=0)
        deviation = 1.4826 * np.median(np.abs(frames - self._mean), axis=0)  # the standard deviation of a Gaussian
        self._variance = np.maximum(deviation**2, _LEAST**2).astype(np.float32)

    def _follow(self, off: NDArray[np.float32], front: NDArray[np.bool_]) -> None:
        """Let the mean and the variance run on, by how far the frame is from the mean."""
        rate = np.where(front, np.float32(1 / (_SLOW * self.memory)), np.float32(1 / self.memory))
        self._mean += rate * off
        # What is in front says nothing of how the background varies.
        self._variance += np.where(front, np.float32(0), rate) * (off * off - self._variance)
        np.maximum(self._variance, np.float32(_LEAST**2), out=self._variance)

    def _boxes(self, front: NDArray[np.bool_], width: int, height: int) -> list[Box]:
        from scipy import ndimage

        rows, columns = front.shape
        # Single pixels are noise; then near ones are joined.
        solid = ndimage.uniform_filter(front.astype(np.float32), 3, mode="constant") > 0.5
        reach = max(1, round(self.gap * max(rows, columns) / 2))
        near = ndimage.maximum_filter(solid, 2 * reach + 1, mode="constant")
        labels, count = ndimage.label(near)
        if not count:
            return []
        found = []
        for part in ndimage.find_objects(np.where(solid, labels, 0), count):
            if part is None:
                continue
            down, across = part
            box = (
                across.start * width // columns,
                down.start * height // rows,
                min(width, -(-across.stop * width // columns)),
                min(height, -(-down.stop * height // rows)),
            )
            if (box[2] - box[0]) * (box[3] - box[1]) >= self.smallest * width * height:
                found.append(box)
        found.sort(key=lambda box: (-(box[2] - box[0]) * (box[3] - box[1]), box))
        return found[: self.most]
