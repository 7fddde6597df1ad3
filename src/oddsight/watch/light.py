"""Light that is switched on or off: the whole scene brightens or darkens at once."""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID = 8

_BEFORE = 2.0
"""Seconds that the light is compared with."""

_CHANGED = 0.15
"""Change of the logarithm of brightness: by some 15%."""

_UNUSUAL = 6.0
"""How many times the usual change, where scenes differ from frame to frame, as on a conveyor."""

_USUAL, _FORGOTTEN = 0.02, 0.05
"""The usual change at first, and the weight of the newest frame in it."""

_SETTLED = 0.05
_SHARE = 0.75
"""Of the scene that brightens or darkens together; more than what walks through it."""

_CALM = 1.0
"""Seconds without a change after which the light has settled."""

LONGEST = 30.0
"""Seconds after which evidence counts again in any case."""

_DARK = 4.0
"""Grey levels that are noise."""


def brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean brightness of an image ``[H, W, 3]`` on a grid, float32 ``[8, 8]`` in 0..255."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((GRID, GRID), Image.Resampling.BOX), np.float32)


class Light:
    """Follows the light of a scene."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, NDArray[np.float32]]] = deque()
        self.since: float | None = None
        self.shift = 0.0
        self._changed, self._usual, self._begun = 0.0, _USUAL, np.inf

    def update(self, time: float, grid: NDArray[np.float32]) -> Literal["new", "end"] | None:
        """Take in the brightness of a frame; whether a change begins or has ended."""
        levels = np.log(grid + _DARK)
        while len(self._past) > 1 and self._past[0][0] < time - _BEFORE:
            self._past.popleft()
        shift, together = self._shift(levels)
        self._past.append((time, levels))
        self._begun = min(self._begun, time)
        usual, self._usual = self._usual, self._usual + _FORGOTTEN * (abs(shift) - self._usual)
        shift = shift if together >= _SHARE else 0.0
        if self.since is None:
            if time < self._begun + _BEFORE or abs(shift) < max(_CHANGED, _UNUSUAL * usual):
                return None
            self.since = self._changed = time
            self.shift = shift
            self._restart()
            return "new"
        if abs(shift) > max(_SETTLED, 2 * usual):
            self._changed = time
            self._restart()
        if time - self._changed < _CALM and time - self.since < LONGEST:
            return None
        self.since = None
        return "end"

    def _shift(self, levels: NDArray[np.float32]) -> tuple[float, float]:
        """By how much the scene became lighter or darker than it was, and which share of it did."""
        if not self._past:
            return 0.0, 0.0
        change = levels - np.median([past for _, past in self._past], axis=0)
        shift = float(np.median(change))
        return shift, float(np.mean((np.sign(change) == np.sign(shift)) & (np.abs(change) > _SETTLED)))

    def _restart(self) -> None:
        """Compare with this frame from now on."""
        last = self._past[-1]
        self._past.clear()
        self._past.append(last)
