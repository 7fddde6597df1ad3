"""Metrics of what lasts: stretches of time that are anomalous, and alarms; with intervals for frames that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oddsight.metrics.image import check_confidence

Stretch = tuple[float, float]
"""Start and end in seconds."""


def stretches(times: npt.ArrayLike, anomalous: npt.ArrayLike) -> list[Stretch]:
    """From the first to the last frame of each run of anomalous ones; ``times`` ascend, ``[n]``."""
    moments, flags = np.asarray(times, np.float64), np.asarray(anomalous, bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(float(moments[a]), float(moments[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@dataclass(frozen=True)
class Matches:
    """Alarms beside anomalous stretches.

    Attributes:
        alarms: How many there are.
        true: Of the alarms, how many are at the time of an anomalous stretch.
        stretches: How many there are.
        delays: Seconds from the start of each stretch that was found to its first alarm, at least 0.
    """

    alarms: int
    true: int
    stretches: int
    delays: tuple[float, ...]

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.alarms + other.alarms,
            self.true + other.true,
            self.stretches + other.stretches,
            self.delays + other.delays,
        )

    @property
    def precision(self) -> float | None:
        """Share of the alarms that are true; None without alarms."""
        return self.true / self.alarms if self.alarms else None

    @property
    def recall(self) -> float | None:
        """Share of the stretches that were found; None without stretches."""
        return len(self.delays) / self.stretches if self.stretches else None


def match(alarms: Sequence[Stretch], truth: Sequence[Stretch], lag: float = 0.0) -> Matches:
    """Which alarms overlap which anomalous stretches.

    Args:
        alarms: From start to end.
        truth: The anomalous stretches.
        lag: Seconds by which an alarm may follow the end of a stretch, as its evidence is of the time before.
    """

    def overlap(alarm: Stretch, stretch: Stretch) -> bool:
        return alarm[0] - lag <= stretch[1] and stretch[0] <= alarm[1]

    firsts = [min((a[0] for a in alarms if overlap(a, stretch)), default=None) for stretch in truth]
    delays = tuple(max(0.0, a - s[0]) for a, s in zip(firsts, truth, strict=True) if a is not None)
    true = sum(any(overlap(a, stretch) for stretch in truth) for a in alarms)
    return Matches(len(alarms), true, len(truth), delays)


def poisson_interval(count: int, exposure: float, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate, for that many events in that much time (Garwood, Biometrika 1936)."""
    from scipy.stats import chi2

    tail = (1 - check_confidence(confidence)) / 2
    if exposure <= 0:
        return 0.0, float("inf")
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low / exposure, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2 / exposure


def block_auroc_interval(
    scores: npt.ArrayLike,
    anomalous: npt.ArrayLike,
    blocks: npt.ArrayLike,
    confidence: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Interval of the AUROC of frames by a bootstrap of whole blocks (Künsch, Annals of Statistics 1989).

    Args:
        scores: Of the frames, ``[n]``.
        anomalous: Whether each is, ``[n]``.
        blocks: The number of the block that each is in, ``[n]``: frames of one are alike.
        confidence: Share of the resamples inside.
        resamples: How many.
        seed: Of the resampling.

    Returns:
        Low and high; None if there are fewer than two blocks of which each kind is in.
    """
    values, flags, numbers = np.asarray(scores, np.float64), np.asarray(anomalous, bool), np.asarray(blocks)
    _, part = np.unique(numbers, return_inverse=True)
    count = int(part.max(initial=-1)) + 1
    if min(len(np.unique(part[flags])), len(np.unique(part[~flags]))) < 2:
        return None
    # A resample only weights the frames, so they are sorted once. Steps are runs of equal scores.
    order = np.argsort(values, kind="stable")
    ascending, flags, part = values[order], flags[order], part[order]
    steps = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    random, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        weights = np.bincount(random.integers(count, size=count), minlength=count)[part]
        normal, anomalous = (np.add.reduceat(np.where(chosen, weights, 0), steps) for chosen in (~flags, flags))
        if normal.any() and anomalous.any():
            below = np.cumsum(normal) - normal / 2
            found.append(float(anomalous @ below) / (int(normal.sum()) * int(anomalous.sum())))
    tail = (1 - check_confidence(confidence)) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)
