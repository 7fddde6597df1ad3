"""From scores to curves over the optical depth, and to the depth at which something begins to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from oddsight.metrics.image import auroc, binomial_interval, bootstrap_interval
from oddsight.studies.clouds.severity_scores import Seen

CONFIDENCE = 0.95
RESAMPLES = 1000

_AUROC_RESAMPLES = 300


@dataclass(frozen=True)
class Point:
    """What was seen at one depth; shares and areas from 0 to 1."""

    images: int  # Images
    detected: int  # How many of them gave an alarm
    interval: tuple[float, float]  # Of the share, exact (Clopper and Pearson)
    auroc: float | None = None  # Against the same images clear; None of the clear ones
    auroc_interval: tuple[float, float] | None = None  # Of `auroc`, by bootstrap
    # Of affected pixels against all others; None without a map, or if no pixel is affected
    pixel_auroc: float | None = None
    iou: float | None = None  # Of what is outlined with what is affected

    @property
    def share(self) -> float:
        """Of the images that gave an alarm."""
        return self.detected / self.images


@dataclass(frozen=True)
class Curve:
    """What was seen."""

    clear: Point  # At depth 0, which are false alarms
    points: tuple[Point, ...]  # At every depth


@dataclass(frozen=True)
class Onset:
    """The optical depth from which on something is seen."""

    # At which half of the images give an alarm, on straight lines between the measured depths, from the false
    # alarms at 0 on; None if that is never reached
    half: float | None
    # Of it, by drawing images anew; None for an end beyond the greatest depth
    half_interval: tuple[float | None, float | None]
    # The lowest measured depth from which on the share detected is surely above the false alarms: at it and
    # at every greater depth, its interval lies above the rate that was asked for and above the share of false
    # alarms; None if there is none
    first: float | None
    first_interval: tuple[float | None, float | None]  # Of it, likewise; ends are measured depths


def curve(one: Seen, *, seed: int) -> Curve:
    """Count alarms and measure areas at every depth."""
    points = []
    for place in range(one.veiled.shape[1]):
        scores = one.veiled[:, place]
        points.append(
            _point(
                one,
                scores,
                auroc=auroc(one.clear, scores),
                auroc_interval=bootstrap_interval(
                    one.clear, scores, auroc, confidence=CONFIDENCE, resamples=_AUROC_RESAMPLES, seed=seed
                ),
                pixel_auroc=_known(one.pixel_auroc[place]),
                iou=_known(one.iou[place]),
            )
        )
    return Curve(_point(one, one.clear), tuple(points))


def _point(
    one: Seen,
    scores: NDArray[np.float64],
    *,
    auroc: float | None = None,
    auroc_interval: tuple[float, float] | None = None,
    pixel_auroc: float | None = None,
    iou: float | None = None,
) -> Point:
    detected = int((scores > one.threshold).sum())
    sure = binomial_interval(detected, len(scores), CONFIDENCE)
    return Point(len(scores), detected, sure, auroc, auroc_interval, pixel_auroc, iou)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def onset(one: Seen, depths: Sequence[float], seed: int) -> Onset:
    """From which depth on something is seen, with intervals over the draw of test images.

    An image is drawn with all its depths, as its pattern is the same at each.
    """
    flags = np.column_stack([one.clear, one.veiled]) > one.threshold
    rng = np.random.default_rng(seed)
    halves, firsts = np.empty(RESAMPLES), np.empty(RESAMPLES)
    images = len(flags)
    for number in range(RESAMPLES):
        counts = flags[rng.integers(images, size=images)].sum(axis=0)
        halves[number] = half_depth(counts / images, depths)
        firsts[number] = first_depth(counts, images, depths, one.rate)
    now = flags.sum(axis=0)
    return Onset(
        half=_known(half_depth(now / images, depths)),
        half_interval=_ends(halves),
        first=_known(first_depth(now, images, depths, one.rate)),
        first_interval=_ends(firsts),
    )


def _ends(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    # Of values that may be infinite, between which nothing can be interpolated.
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return _known(float(low)), _known(float(high))


def half_depth(shares: NDArray[np.float64], depths: Sequence[float]) -> float:
    """Where straight lines through shares ``[1 + depths]``, the first at depth 0, first reach a half; else infinity."""
    at = np.array([0.0, *depths])
    reached = np.flatnonzero(shares >= 0.5)
    if not len(reached):
        return float(np.inf)
    first = int(reached[0])
    if first == 0:
        return 0.0
    low, high = shares[first - 1], shares[first]
    return float(at[first - 1] + (at[first] - at[first - 1]) * (0.5 - low) / (high - low))


def first_depth(counts: NDArray[np.int64], images: int, depths: Sequence[float], rate: float) -> float:
    """The lowest depth from which on detection is surely above false alarms, see :class:`Onset`; else infinity."""
    floor = max(rate, counts[0] / images)
    found = float(np.inf)
    for depth, count in reversed(list(zip(depths, counts[1:], strict=True))):
        if _surely(int(count), images) <= floor:
            break
        found = depth
    return found


@cache
def _surely(count: int, images: int) -> float:
    """The lower end of the interval of a share; the same few are asked for in every resample."""
    return binomial_interval(count, images, CONFIDENCE)[0]
