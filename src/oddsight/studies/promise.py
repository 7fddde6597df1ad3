"""What the promise of a conformal threshold is worth: how many test images it rejects, and how many chance explains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from oddsight.metrics import binomial_interval


@dataclass(frozen=True)
class Promise:
    """The share of images that a threshold was asked to reject at most, and the share seen on the test images.

    Attributes:
        rate: Asked for.
        calibration: Images that the threshold rests upon.
        images: Of the test.
        rejected: Of them.
        low: Interval (Clopper and Pearson) of the rate of this file on images like the test's.
        high: The same.
        least: Where chance alone leaves the share of rejected, over draws of both calibration and test images.
        most: The same.
        more_by_chance: The chance of as many rejections or more.
        fewer_by_chance: The chance of as many or fewer.
        confidence: Of the intervals, and of the verdict.
    """

    rate: float
    calibration: int
    images: int
    rejected: int
    low: float
    high: float
    least: float
    most: float
    more_by_chance: float
    fewer_by_chance: float
    confidence: float

    @property
    def share(self) -> float:
        """Of the test images, rejected."""
        return self.rejected / self.images

    @property
    def broken(self) -> bool:
        """Whether there are more rejections than chance explains."""
        return self.more_by_chance < (1 - self.confidence) / 2

    @property
    def generous(self) -> bool:
        """Whether there are fewer rejections than chance explains."""
        return self.fewer_by_chance < (1 - self.confidence) / 2


def promised(rate: float, calibration: int, images: int, rejected: int, confidence: float) -> Promise:
    """Compare what was rejected with what was asked for.

    The number of test images beyond a quantile of ``calibration`` scores has a beta-binomial distribution if all are
    drawn alike.

    Args:
        rate: Asked for.
        calibration: Images that the threshold rests upon.
        images: Of the test.
        rejected: Of them.
        confidence: Of intervals, between 0 and 1.
    """
    from scipy.stats import betabinom

    low, high = binomial_interval(rejected, images, confidence)
    expected = max(1, min(calibration, math.floor(rate * (calibration + 1) * (1 + 1e-9))))
    drawn = betabinom(images, expected, calibration + 1 - expected)
    least, most = drawn.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    return Promise(
        rate=rate,
        calibration=calibration,
        images=images,
        rejected=rejected,
        low=low,
        high=high,
        least=float(least) / images,
        most=float(most) / images,
        more_by_chance=float(drawn.sf(rejected - 1)),
        fewer_by_chance=float(drawn.cdf(rejected)),
        confidence=confidence,
    )
