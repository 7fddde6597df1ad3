"""What the promise of a conformal threshold is worth: the share of test images it rejects, and what chance explains."""

from __future__ import annotations

from dataclasses import dataclass

from oddsight.metrics.image import binomial_interval
from oddsight.model.calibration import alarms


@dataclass(frozen=True)
class Promise:
    """The rate that a threshold promises at most, and the share of test images that it rejects."""

    rate: float  # asked for
    calibration: int  # images that the threshold rests on
    images: int  # of the test
    rejected: int  # of them
    low: float  # interval (Clopper and Pearson) of the rate on images like those of the test
    high: float
    least: float  # range that chance leaves for the share rejected, over draws of calibration and test images
    most: float
    more_by_chance: float  # probability of as many rejections or more
    fewer_by_chance: float  # probability of as many or fewer
    confidence: float  # of the intervals and of the verdict

    @property
    def share(self) -> float:
        """Share of the test images that is rejected."""
        return self.rejected / self.images

    @property
    def broken(self) -> bool:
        """Whether there are more rejections than chance explains."""
        return self.more_by_chance < (1 - self.confidence) / 2

    @property
    def verdict(self) -> str:
        """What follows, in words."""
        if self.broken:
            return "promise broken: more than chance explains"
        if self.fewer_by_chance < (1 - self.confidence) / 2:
            return "promise kept, with fewer than chance explains"
        return "promise kept" if self.share <= self.rate else "compatible with the promise"


def judge_promise(rate: float, calibration: int, images: int, rejected: int, confidence: float) -> Promise:
    """Compare what is rejected with what was asked for.

    The number of test images beyond a quantile of ``calibration`` scores has a beta-binomial distribution if all are
    drawn alike.
    """
    from scipy.stats import betabinom

    low, high = binomial_interval(rejected, images, confidence)
    expected = max(1, alarms(calibration, rate))
    drawn = betabinom(images, expected, calibration + 1 - expected)
    least, most = (float(end) / images for end in drawn.ppf([(1 - confidence) / 2, (1 + confidence) / 2]))
    by_chance = float(drawn.sf(rejected - 1)), float(drawn.cdf(rejected))
    return Promise(rate, calibration, images, rejected, low, high, least, most, *by_chance, confidence)
