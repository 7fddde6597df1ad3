"""Conformal calibration: from scores of held-out normal images to p-values and thresholds.

An image's p-value is the share of normal images expected to score at least as high, counting itself:
``(1 + #{calibration >= score}) / (1 + n)``. If the image is normal and exchangeable with the calibration images, the
chance that its p-value is at most ``r`` is at most ``r``, whatever the distribution (Vovk, Gammerman & Shafer 2005;
Laxhammar & Falkman 2010 for anomaly detection; Bates et al., Annals of Statistics 2023, for batches).

That chance is over draws of the calibration images, too. For one set of ``n`` independent ones, of which ``l`` reach
the threshold, the true rate is a draw from Beta(l, n + 1 - l), or lower where scores are equal (Vovk, Conditional
validity of inductive conformal predictors, ACML 2012; Angelopoulos & Bates 2023). :func:`rate_range` says how far it
may lie from the rate asked for. A *confidence* chooses the threshold so that the true rate is at most the one asked for
in that share of draws (also Bates et al. 2023, calibration-conditional p-values).

Where images come in groups, such as photos of one part, calibration takes one of each, drawn by chance: groups are then
exchangeable, and all of the above holds for an image of a new group, with ``n`` groups (subsampling; Dunn, Wasserman &
Ramdas, Distribution-free prediction sets for two-layer hierarchical models, JASA 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, plain
from oddsight.metrics.image import check_confidence
from oddsight.runtime.bounds import check_number

DEFAULT_RATE = 0.01

_SMALLEST = 1e-9

_SLACK = 1 + 1e-9  # Keeps 0.29 * 100 from becoming 28


@dataclass(frozen=True)
class Decision:
    """When an image counts as anomalous: when its score is above ``threshold``.

    Attributes:
        threshold: A raw score; the rule is strictly greater.
        false_alarm_rate: The rate the threshold was chosen for, or None if it was set by hand.
        confidence: With which the true rate is at most that, if that was asked for; otherwise it holds on average over
            draws of calibration images.
    """

    threshold: float
    false_alarm_rate: float | None
    confidence: float | None = None


def images_needed(rate: float, confidence: float | None = None) -> int:
    """How many calibration images, or groups of them, a false-alarm rate takes.

    The least ``n`` with ``1 / (n + 1) <= rate``; with a confidence, with ``(1 - rate) ** n <= 1 - confidence``.
    """
    if confidence is None:
        return max(1, math.ceil(1 / (rate * _SLACK) - 1))
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-rate) / _SLACK))


def smallest_rate(n: int, confidence: float | None = None) -> float:
    """The smallest false-alarm rate that ``n`` calibration images, or groups of them, can promise."""
    return 1 / (n + 1) if confidence is None else -math.expm1(math.log1p(-confidence) / n)


def advised_rate(n: int, confidence: float | None = None) -> float:
    """The smallest rate of three digits that ``n`` calibration images can promise: to be read and typed."""
    smallest = smallest_rate(n, confidence)
    scale = 10.0 ** (2 - math.floor(math.log10(smallest)))
    return math.ceil(smallest * scale / _SLACK) / scale


def alarms(n: int, rate: float, confidence: float | None = None) -> int:
    """How many of ``n`` calibration images may reach the threshold or lie above it; 0 if the rate cannot be promised.

    The threshold is the score of the ``l``-th highest. Without a confidence ``l`` is the largest with
    ``l / (n + 1) <= rate``; with one, the largest for which Beta(l, n + 1 - l) is at most ``rate`` with that
    probability, which is that of ``l`` or more among ``n`` images when each is flagged with probability ``rate``.
    """
    if confidence is None:
        return min(n, math.floor(rate * (n + 1) * _SLACK))
    from scipy.stats import binom

    at_most = (1 - confidence) * _SLACK
    fewer = int(binom.ppf(1 - confidence, n, rate)) + 1
    while fewer >= 0 and binom.cdf(fewer, n, rate) > at_most:
        fewer -= 1
    return fewer + 1


def chance_of_alarms(
    flagged: int, tested: int, rate: float, calibration: int, confidence: float | None = None
) -> float:
    """The chance of as many false alarms or more among test images that ought to pass.

    It is over draws of both test images and as many calibration scores, whose threshold is for that rate and
    confidence.
    """
    from scipy.stats import betabinom

    reached = max(1, alarms(calibration, rate, confidence))
    return float(betabinom(tested, reached, calibration + 1 - reached).sf(flagged - 1))


def rate_range(n: int, reached: int, share: float = 0.95) -> tuple[float, float]:
    """Between which values the true false-alarm rate lies in a share of all draws of ``n`` calibration images."""
    from scipy.stats import beta

    low, high = beta.ppf([(1 - share) / 2, (1 + share) / 2], reached, n + 1 - reached)
    return float(low), float(high)


def check_rate(rate: float) -> float:
    """The rate as a plain float; refuse what is no share, or what no number of images could promise."""
    rate = check_number(rate, "the false-alarm rate")
    if not _SMALLEST <= rate < 1:
        raise DataError(f"the false-alarm rate must lie between 0 and 1 (from {_SMALLEST:g}), not {rate:g}")
    return rate


def describe_rate(rate: float, confidence: float | None) -> str:
    """A false-alarm rate in words."""
    return f"a false-alarm rate of {rate:g}" + (
        f" with a confidence of {confidence:g}" if confidence is not None else ""
    )


def decide(
    scores: NDArray[np.float32], rate: float, confidence: float | None = None, *, what: str = "calibration images"
) -> Decision:
    """The threshold that flags at most a share ``rate`` of normal images, from calibration scores ``[n]`` in any order.

    With a confidence, the true rate is at most ``rate`` in that share of draws of calibration images; without it, the
    rate holds on average over them. ``what`` names what the scores are of, for the error.
    """
    rate = check_rate(rate)
    confidence = None if confidence is None else check_confidence(confidence)
    n = len(scores)
    reached = alarms(n, rate, confidence)
    if reached < 1:
        raise DataError(
            f"{describe_rate(rate, confidence)} needs at least {images_needed(rate, confidence):,} {what}, "
            f"and there are {n:,}: ask for {advised_rate(n, confidence):.3g} or more, or add normal images"
        )
    return Decision(float(np.sort(scores)[n - reached]), rate, confidence)


def decide_by_class(
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    names: Sequence[str],
    rate: float,
    confidence: float | None = None,
    *,
    what: str = "calibration images",
) -> tuple[float, ...]:
    """A threshold for each class that flags at most a share ``rate`` of the images that are predicted as it.

    Conformal within each class (Vovk's Mondrian taxonomies, Vovk, Gammerman & Shafer 2005). Calibration scores ``[n]``
    come with the predicted classes of their images ``[n]``; the rest is as for :func:`decide`, for each class.
    """
    rate = check_rate(rate)
    confidence = None if confidence is None else check_confidence(confidence)
    counts = np.bincount(classes, minlength=len(names))
    fewest = int(counts.argmin())
    needed = images_needed(rate, confidence)
    if counts[fewest] < needed:
        more = f"ask for {advised_rate(int(counts[fewest]), confidence):.3g} or more, " if counts[fewest] else ""
        sure = f" with a confidence of {confidence:g}" if confidence is not None else ""
        raise DataError(
            f"a rate of {rate:g} for each class{sure} needs at least {needed:,} {what} of each, and "
            f"{counts[fewest]:,} were predicted as {plain(names[fewest])}: {more}add images, or use one threshold for "
            "all classes"
        )
    return tuple(decide(scores[classes == index], rate, confidence).threshold for index in range(len(names)))


def p_values(calibration: NDArray[np.float32], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Conformal p-values of ``scores`` ``[m]`` against calibration scores ``[n]``: float64 ``[m]`` in (0, 1]."""
    below = np.searchsorted(np.sort(calibration), scores, side="left")
    return np.asarray((1 + len(calibration) - below) / (1 + len(calibration)), np.float64)
