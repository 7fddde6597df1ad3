"""Evidence over time, and how much of it blocks of normal footage have.

A frame's evidence is minus the logarithm of its p-value among the frames of normal footage; beyond the score that one
frame in a hundred exceeds it grows linearly, as with an exponential tail. Evidence at a time is its mean over the
window before; a frame without anything to score counts as none. Frames that follow one another are alike, so no
threshold on them says how often it is passed. Blocks of a minute are taken to be exchangeable instead: the chance that
the maximum of a new block is above the ``l``-th highest of ``n`` blocks is at most ``l / (n + 1)`` (conformal
calibration, Vovk, Gammerman & Shafer 2005, on block maxima, Gumbel, Statistics of Extremes, 1958).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, plain
from oddsight.model.footage import Footage

_TAIL = 0.01
"""Share of frames whose scores are taken to have an exponential tail."""

_USUAL = 0.95

LONGEST_WINDOW = 0.25
"""Of a block: maxima of windows that reach across blocks say little about these."""

_SLACK = 1 + 1e-9


class Surprise:
    """From scores to evidence in nats, by the scores of normal frames ``[n]``; NaN where there was nothing to score.

    If there never was, as where nothing ever moved, whatever there is has an evidence of 1.
    """

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self._scores = np.sort(scores[np.isfinite(scores)].astype(np.float64))
        count = len(self._scores)
        if not count:
            return
        tail = max(1, math.ceil(_TAIL * count))
        self._knee = self._scores[-tail]
        excess = self._scores[-tail:] - self._knee
        spread = float(np.ptp(self._scores)) or 1.0
        self._slope = 1 / max(float(excess.mean()), 0.01 * spread)
        self._at_knee = math.log((count + 1) / (tail + 1))

    def __call__(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Evidence of scores ``[m]``; 0 for NaN."""
        scores = np.asarray(scores, np.float64)
        if not len(self._scores):
            return np.where(np.isnan(scores), 0.0, 1.0)
        above = len(self._scores) - np.searchsorted(self._scores, scores, side="left")
        ranked = np.log((len(self._scores) + 1) / (above + 1))
        tail = self._at_knee + (scores - self._knee) * self._slope
        return np.where(np.isnan(scores), 0.0, np.where(scores > self._knee, tail, np.minimum(ranked, self._at_knee)))


class Window:
    """The mean evidence of the last seconds of one zone or object.

    Args:
        seconds: Its length.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: deque[tuple[float, float]] = deque()

    def add(self, time: float, value: float) -> None:
        """Take in the evidence of a frame."""
        self._values.append((time, value))

    def mean(self, time: float, frames: int) -> float:
        """The sum of the window that ends at a time, divided by how many frames a window holds."""
        while self._values and self._values[0][0] <= time - self._seconds + 1e-6:
            self._values.popleft()
        # Added anew each time: a running sum would drift.
        return sum(value for _, value in self._values) / frames


@dataclass(frozen=True, eq=False)
class Level:
    """How much evidence blocks of normal footage have in one zone.

    Attributes:
        frames: In a full window.
        maxima: The highest evidence of each block, ascending float64 ``[n]``.
        usual: The evidence that a share :data:`_USUAL` of the time is not above.
        block: Length of a block in seconds.
    """

    frames: int
    maxima: NDArray[np.float64]
    usual: float
    block: float

    def release(self, threshold: float) -> float:
        """The evidence below which an event is over: between what is usual and the threshold."""
        return min(threshold, (threshold + self.usual) / 2)

    def p_value(self, evidence: float) -> float:
        """Share of normal blocks expected to have as much evidence, in (0, 1]."""
        above = len(self.maxima) - int(np.searchsorted(self.maxima, evidence, side="left"))
        return (1 + above) / (1 + len(self.maxima))

    def threshold(self, per_hour: float, zone: str) -> float:
        """The evidence above which a share of the blocks lies that makes at most so many alarms an hour.

        Raises:
            DataError: If the blocks are too few for the rate.
        """
        count, rate = len(self.maxima), per_hour * self.block / 3600
        reached = min(count, math.floor(rate * (count + 1) * _SLACK))
        if reached < 1:
            needed = math.ceil(1 / (rate * _SLACK) - 1)
            least = _rounded_up(_least_rate(self.block, count) / per_hour)
            raise DataError(
                f"a limit of {per_hour:.3g} an hour for alarms in the zone {plain(zone)!r} takes "
                f"{needed * self.block / 3600:,.3g} hours of normal footage ({needed:,} blocks of {self.block:g} s) "
                f"that the model did not learn from, and it has {count * self.block / 3600:.2g} ({count:,}): "
                f"recalibrate it on more, or allow {least:,g} times as many alarms"
            )
        return float(self.maxima[count - reached])


def advised_rate(block: float, count: int) -> float:
    """The fewest alarms an hour, in two digits, that ``count`` blocks of ``block`` seconds allow: to be typed."""
    return _rounded_up(_least_rate(block, count))


def _least_rate(block: float, count: int) -> float:
    return 3600 / block / (count + 1)


def _rounded_up(value: float) -> float:
    scale = 10.0 ** (1 - math.floor(math.log10(value)))
    return math.ceil(value * scale / _SLACK) / scale


class Levels:
    """The levels of one zone for frames that come as often as in the footage, half as often, and so on."""

    def __init__(self, footage: Footage, zone: str, window: float) -> None:
        if window > LONGEST_WINDOW * footage.block:
            raise DataError(
                f"a window of {window:g} s is too long for blocks of {footage.block:g} s: choose at most "
                f"{LONGEST_WINDOW * footage.block:g} s (--window), or recalibrate with longer blocks (--block)"
            )
        self.surprise = Surprise(footage.scores[zone])
        self._footage, self._window = footage, window
        self._evidence = self.surprise(footage.scores[zone])
        self._numbers = footage.numbers
        self._known: dict[int, Level] = {}

    def step(self, interval: float) -> int:
        """Which 1, 2, 4, ...-th frames of the footage are as far apart as frames with that many seconds between."""
        step = 1
        while 1.5 * step * self._footage.interval < interval and 2 * step * self._footage.interval <= self._window:
            step *= 2
        return step

    def of(self, step: int) -> Level:
        """The level for one frame of so many."""
        if step not in self._known:
            self._known[step] = self._measure(step)
        return self._known[step]

    def medians(self) -> NDArray[np.float64]:
        """The median evidence of each block, ``[n]``."""
        return np.array([np.median(self._evidence[part]) for part in _parts(self._numbers)])

    def _measure(self, step: int) -> Level:
        times, evidence, numbers = self._footage.times[::step], self._evidence[::step], self._numbers[::step]
        frames = max(1, round(self._window / (step * self._footage.interval)))
        sums = np.concatenate([[0.0], np.cumsum(evidence)])
        first = np.searchsorted(times, times - self._window + 1e-6, side="right")
        means = (sums[1:] - sums[first]) / frames
        parts = _parts(numbers)
        if not parts:
            raise DataError(
                f"the footage has no whole block of {self._footage.block:g} s: recalibrate on more, or with shorter "
                "blocks"
            )
        usual = float(np.quantile(means[np.concatenate(parts)], _USUAL))
        return Level(frames, np.sort([means[part].max() for part in parts]), usual, self._footage.block)


def _parts(numbers: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Where the frames of each whole block are."""
    return [np.flatnonzero(numbers == number) for number in np.unique(numbers[numbers >= 0])]
