"""Whether what passes as normal is still what the model was calibrated on.

A conformal test martingale: each block of the stream that passed as normal gets a p-value for the median of its
evidence, its rank among the blocks of the calibration footage and all blocks of the stream before it, with ties broken
by chance. While blocks are exchangeable these p-values are independent and uniform (Vovk, Gammerman & Shafer 2005).
Someone who bets against that, without ever going into debt, multiplies a stake of 1 by 100 with a chance of at most
1%, however long the stream runs (Ville's inequality). The bets are those of the Simple Jumper (Vovk, Petej,
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
"""Share of the frames of a block that must have passed as normal, and of its time that these must span."""


class Drift:
    """Follows one zone.

    Args:
        calibration: The medians of the blocks of normal footage, ``[n]``.
        block: Length of a block in seconds.
        chance: Of a false event, ever.
        seed: For ties.
    """

    def __init__(self, calibration: NDArray[np.float64], block: float, chance: float = CHANCE, seed: int = 0) -> None:
        self._known = sorted(calibration.tolist())
        self._block = block
        self._enough = 1 / chance if len(self._known) >= _FEWEST else np.inf
        self._random = np.random.default_rng(seed)
        self._stakes = np.full(3, 1 / 3)
        self._number, self._frames, self._passed = -1, 0, list[tuple[float, float]]()
        self.drifted = False

    @property
    def capital(self) -> float:
        """What a stake of 1 has become."""
        return float(self._stakes.sum())

    def update(self, time: float, evidence: float | None) -> bool:
        """Take in the evidence of a frame, or None while an event goes on; True once, when the scene has drifted.

        What is seen during an event did not pass as normal: it says nothing of what does, and is not to be recalibrated
        on. A block that is mostly an event does not count.
        """
        number = int(time / self._block + 1e-6)
        before = self.drifted
        if number != self._number:
            if self._counts() and not self.drifted:
                self.drifted = self.bet(float(np.median([value for _, value in self._passed])))
            self._number, self._frames, self._passed = number, 0, []
        self._frames += 1
        if evidence is not None:
            self._passed.append((time, evidence))
        return self.drifted and not before

    def _counts(self) -> bool:
        """Whether enough of the last block passed as normal, at whatever rate frames came."""
        if len(self._passed) < max(2, _SHOWN * self._frames):
            return False
        return self._passed[-1][0] - self._passed[0][0] >= _SHOWN * self._block

    def bet(self, value: float) -> bool:
        """Take in the value of a block; whether the capital has reached what is enough."""
        low, high = bisect_left(self._known, value), bisect_right(self._known, value)
        above, ties = len(self._known) - high, high - low + 1
        p_value = (above + self._random.random() * ties) / (len(self._known) + 1)
        insort(self._known, value)
        self._stakes = bet_on(self._stakes, p_value)
        return self.capital >= self._enough


def bet_on(stakes: NDArray[np.float64], p_value: float) -> NDArray[np.float64]:
    """What the stakes of the Simple Jumper, ``[3]``, become by one more p-value."""
    mixed = (1 - _JUMP) * stakes + _JUMP * stakes.sum() / 3
    return np.asarray(mixed * (1 + _BETS * (p_value - 0.5)))
