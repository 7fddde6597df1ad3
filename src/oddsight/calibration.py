"""Conformal calibration: from scores of held-out normal images to p-values and thresholds.

An image's p-value is the share of normal images expected to score at least as high, counting itself:
``(1 + #{calibration >= score}) / (1 + n)``. If the image is normal and exchangeable with the calibration images, the
chance that its p-value is at most ``r`` is at most ``r``, whatever the distribution (Vovk, Gammerman & Shafer 2005;
Laxhammar & Falkman 2010 for anomaly detection; Bates et al., Annals of Statistics 2023, for batches).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.bounds import check_number
from oddsight.errors import DataError, plain

DEFAULT_RATE = 0.01

_SMALLEST = 1e-9

_SLACK = 1 + 1e-9
"""Keeps 0.29 * 100 from becoming 28."""


@dataclass(frozen=True)
class Decision:
    """When an image counts as anomalous: when its score is above ``threshold``.

    Attributes:
        threshold: A raw score; the rule is strictly greater.
        false_alarm_rate: The rate the threshold was chosen for, or None if it was set by hand.
    """

    threshold: float
    false_alarm_rate: float | None


def images_needed(rate: float) -> int:
    """How many calibration images a false-alarm rate takes: the least ``n`` with ``1 / (n + 1) <= rate``."""
    return max(1, math.ceil(1 / (rate * _SLACK) - 1))


def smallest_rate(n: int) -> float:
    """The smallest false-alarm rate that ``n`` calibration images can promise."""
    return 1 / (n + 1)


def advised_rate(n: int) -> float:
    """The smallest rate of three digits that ``n`` calibration images can promise: to be read and typed."""
    scale = 10.0 ** (2 - math.floor(math.log10(smallest_rate(n))))
    return math.ceil(smallest_rate(n) * scale / _SLACK) / scale


def check_rate(rate: float) -> float:
    """The rate as a plain float; refuse what is no share, or what no number of images could promise.

    Raises:
        DataError: With the rate in question.
    """
    rate = check_number(rate, "the false-alarm rate")
    if not _SMALLEST <= rate < 1:
        raise DataError(f"the false-alarm rate must lie between 0 and 1 (from {_SMALLEST:g}), not {rate:g}")
    return rate


def decide(scores: NDArray[np.float32], rate: float) -> Decision:
    """The threshold that flags at most a share ``rate`` of normal images.

    Args:
        scores: Calibration scores, ``[n]``, any order.
        rate: Between 0 and 1.

    Raises:
        DataError: If ``rate`` is not between 0 and 1, or takes more calibration images than there are.
    """
    rate = check_rate(rate)
    n = len(scores)
    alarms = min(n, math.floor(rate * (n + 1) * _SLACK))
    if alarms < 1:
        raise DataError(
            f"a false-alarm rate of {rate:g} takes at least {images_needed(rate):,} calibration images, "
            f"and there are {n:,}: ask for {advised_rate(n):.3g} or more, or add normal images"
        )
    return Decision(float(np.sort(scores)[n - alarms]), rate)


def decide_by_class(
    scores: NDArray[np.float32], classes: NDArray[np.int64], names: Sequence[str], rate: float
) -> tuple[float, ...]:
    """A threshold for each class that flags at most a share ``rate`` of the images that are taken for it.

    Conformal within each class (Vovk's Mondrian taxonomies, Vovk, Gammerman & Shafer 2005).

    Args:
        scores: Calibration scores, ``[n]``.
        classes: The classes that the calibration images were taken for, ``[n]``.
        names: Of all classes.
        rate: Between 0 and 1.

    Raises:
        DataError: If ``rate`` is not between 0 and 1, or takes more calibration images of a class than there are; it
            names the class with the fewest.
    """
    rate = check_rate(rate)
    counts = np.bincount(classes, minlength=len(names))
    fewest = int(counts.argmin())
    if counts[fewest] < images_needed(rate):
        more = f"ask for {advised_rate(int(counts[fewest])):.3g} or more, " * bool(counts[fewest])
        raise DataError(
            f"a rate of {rate:g} for each class takes at least {images_needed(rate):,} calibration images of each, and "
            f"{counts[fewest]:,} were taken for {plain(names[fewest])}: {more}add images, or use one threshold for all "
            "classes"
        )
    return tuple(decide(scores[classes == index], rate).threshold for index in range(len(names)))


def p_values(calibration: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Conformal p-values of ``scores`` ``[m]`` against calibration scores ``[n]``: float64 ``[m]`` in (0, 1]."""
    below = np.searchsorted(np.sort(calibration), scores, side="left")
    return np.asarray((1 + len(calibration) - below) / (1 + len(calibration)), np.float64)
