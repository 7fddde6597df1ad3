"""Whether differences between methods are more than chance: paired tests on one test set, and ranks over several.

On one test set the AUROCs of two methods are correlated, as both score the same images; the test of DeLong, DeLong and
Clarke-Pearson (Biometrics 1988) takes that into account, here by midranks as in Sun and Xu (IEEE Signal Processing
Letters 2014). Several methods against one are corrected after Holm (Scandinavian Journal of Statistics 1979). Over
several datasets methods are compared by their ranks (Friedman, JASA 1937; Nemenyi 1963; Demsar, JMLR 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oddsight.errors import DataError, OddsightError

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placements:
    """Where each image falls among those of the other sort, in [0, 1]; both means are the AUROC."""

    normal: Values  # For each normal image, the share of anomalous ones that score higher, ties half, `[n]`
    anomalous: Values  # For each anomalous image, the share of normal ones that score lower, ties half, `[m]`

    @property
    def auroc(self) -> float:
        """Area under the ROC curve."""
        return float(self.anomalous.mean())

    @property
    def variance(self) -> float:
        """DeLong's estimate of the variance of the AUROC over draws of test images."""
        if min(self.normal.size, self.anomalous.size) < 2:
            raise DataError(
                f"{self.normal.size} normal and {self.anomalous.size} anomalous images are too few for a test: it "
                "takes two of each"
            )
        return float(self.normal.var(ddof=1) / self.normal.size + self.anomalous.var(ddof=1) / self.anomalous.size)


def placements(normal: npt.ArrayLike, anomalous: npt.ArrayLike) -> Placements:
    """Placements of raw scores, in O((n + m) log (n + m))."""
    from scipy.stats import rankdata

    low, high = np.asarray(normal, np.float64), np.asarray(anomalous, np.float64)
    for scores in (low, high):
        if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
            raise DataError(
                "placements need one finite score for each image, and at least one normal and one anomalous image"
            )
    ranks = rankdata(np.concatenate([low, high]))
    above = 1 - (ranks[: low.size] - rankdata(low)) / high.size
    below = (ranks[low.size :] - rankdata(high)) / low.size
    return Placements(above, below)


def averaged(each: Sequence[Placements]) -> Placements:
    """The placements whose AUROC is the average of several, such as of the seeds of one method, on the same images."""
    return Placements(np.mean([one.normal for one in each], axis=0), np.mean([one.anomalous for one in each], axis=0))


@dataclass(frozen=True)
class Difference:
    """A difference of two correlated AUROCs."""

    value: float  # The first less the second
    error: float  # Its standard error over draws of test images
    p_value: float  # Two-sided, in (0, 1]: how often chance alone makes the difference this large


def delong(first: Placements, second: Placements) -> Difference:
    """Test whether two methods have the same AUROC, from their placements of the same images in the same order.

    The normal approximation is poor for few images. So the p-value is never below ``2 ** (1 - n - m)``, the least that
    swapping the two methods' placements image by image could give.
    """
    from scipy.stats import norm

    if first.normal.shape != second.normal.shape or first.anomalous.shape != second.anomalous.shape:
        raise DataError("two methods can only be compared on the same images")
    apart = Placements(first.normal - second.normal, first.anomalous - second.anomalous)
    value, error = apart.auroc, float(np.sqrt(apart.variance))
    if abs(value) < 1e-12:  # only rounding
        return Difference(0.0, error, 1.0)
    least = 2.0 ** (1 - first.normal.size - first.anomalous.size)
    p_value = 2 * float(norm.sf(abs(value) / error)) if error > 1e-12 else 0.0
    return Difference(value, error, min(1.0, max(p_value, least)))


def holm(p_values: npt.ArrayLike) -> Values:
    """p-values ``[k]`` of several tests, corrected for the chance that any of them is a false finding."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    return np.minimum(corrected, 1.0)


def ranks(values: npt.ArrayLike) -> Values:
    """Ranks of methods on each dataset, 1 for the highest value, ties shared."""
    from scipy.stats import rankdata

    table = np.asarray(values, np.float64)
    if table.ndim != 2 or min(table.shape, default=0) < 1 or not np.isfinite(table).all():
        raise DataError("ranks take a table of finite values, datasets by methods")
    return np.asarray(rankdata(-table, axis=1), np.float64)


def friedman(table: npt.ArrayLike) -> tuple[float, float]:
    """Friedman's test that all methods rank alike, corrected for ties: its statistic and p-value.

    The p-value is of the chi-squared distribution, an approximation that is rough for fewer than about 10 datasets.
    """
    from scipy.stats import chi2

    own = np.asarray(table, np.float64)
    if own.ndim != 2 or min(own.shape) < 2:
        raise DataError("Friedman's test takes two datasets and two methods at least")
    count, methods = own.shape
    middle = (methods + 1) / 2
    spread = float(np.square(own - middle).sum())
    if spread == 0:  # every method ties with every other on all datasets
        return 0.0, 1.0
    between = float(np.square(own.sum(axis=0) - count * middle).sum())
    statistic = (methods - 1) * between / spread
    return statistic, float(chi2.sf(statistic, methods - 1))


def critical_difference(methods: int, count: int, confidence: float = 0.95) -> float:
    """Nemenyi's critical difference: mean ranks that are closer cannot be distinguished."""
    from scipy.stats import studentized_range

    if methods < 2 or count < 1 or not 0 < confidence < 1:
        raise OddsightError(f"no critical difference for {methods} methods on {count} datasets at {confidence:g}")
    quantile = float(studentized_range.ppf(confidence, methods, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * count)))


def cliques(mean_ranks: npt.ArrayLike, difference: float) -> list[tuple[int, int]]:
    """Runs of methods, sorted by ascending mean rank, that lie within a critical difference of each other.

    Returns:
        Index of the first and of the last of each run of two or more; no run lies within another.
    """
    sorted_ranks = np.asarray(mean_ranks, np.float64)
    ends = np.searchsorted(sorted_ranks, sorted_ranks + difference, side="right") - 1
    found: list[tuple[int, int]] = []
    for start, end in enumerate(ends.tolist()):
        if end > start and (not found or end > found[-1][1]):
            found.append((start, end))
    return found
