"""Whether what passes as normal is still what the model was calibrated on.

A conformal test martingale: each block of the stream that passed as normal gets a p-value for the median of its
evidence, its rank among the blocks of the calibration footage and all blocks of the stream before it, with ties broken
by chance. While blocks are exchangeable these p-values are independent and uniform (Vovk, Gammerman & Shafer 2005).
Someone who bets against that, without ever going into debt, multiplies a stake of 1 by 100 with a chance of at most
1 %, however long the stream runs (Ville's inequality). The bets are those of the Simple Jumper (Vovk, Petej,
Nouretdinov, Ahlberg, Carlsson & Gammerman, Retrain or not retrain: conformal test martingales for change-point
detection, COPA 2021).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import numpy as np
from numpy.typing import NDArray

CHANCE = 0.01
"""Of a drift event in a stream that never drifts."""

_JUMP = 0.01
_BETS = np.array([-1.0, 0.0, 1.0])

_FEWEST = 10
"""Blocks of calibration before which nothing can be said."""

_SHOWN = 0.5
"""Share of the frames of a block that must have passed as normal."""


class Drift:
    """Follows one zone.

    Args:
        calibration: The medians of the blocks of normal footage, ``[n]``.
        frames: In a block.
        block: Its length in seconds.
        chance: Of a false event, ever.
        seed: For ties.
    """

    def __init__(
        self, calibration: NDArray[np.float64], frames: int, block: float, chance: float = CHANCE, seed: int = 0
    ) -> None:
        self._known = sorted(calibration.tolist())
        self._frames, self._block = frames, block
        self._enough = 1 / chance if len(self._known) >= _FEWEST else np.inf
        self._random = np.random.default_rng(seed)
        self._stakes = np.full(3, 1 / 3)
        self._number, self._values = -1, list[float]()
        self.drifted = False

    @property
    def capital(self) -> float:
        """What a stake of 1 has become."""
        return float(self._stakes.sum())

    def update(self, time: float, evidence: float) -> bool:
        """Take in the evidence of a frame that passed as normal; True once, when the scene has drifted."""
        number = int(time / self._block + 1e-6)
        if number != self._number:
            values, self._values, self._number = self._values, [], number
            if len(values) >= _SHOWN * self._frames and not self.drifted:
                self.drifted = self.bet(float(np.median(values)))
                self._values.append(evidence)
                return self.drifted
        self._values.append(evidence)
        return False

    def bet(self, value: float) -> bool:
        """Take in the value of a block; whether the capital has reached what is enough."""
        low, high = bisect_left(self._known, value), bisect_right(self._known, value)
        above, ties = len(self._known) - high, high - low + 1
        p_value = (above + self._random.random() * ties) / (len(self._known) + 1)
        insort(self._known, value)
        mixed = (1 - _JUMP) * self._stakes + _JUMP * self._stakes.sum() / 3
        self._stakes = mixed * (1 + _BETS * (p_value - 0.5))
        return self.capital >= self._enough
