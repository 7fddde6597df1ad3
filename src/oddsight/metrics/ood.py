"""Exact numbers on how well a classifier rejects what belongs to none of its classes.

Images of a known class are in-distribution (ID), all others out-of-distribution (OOD). Everywhere a higher score is
more anomalous, ID scores ``[n]`` and OOD scores ``[m]`` come as two separate arrays, and an image is rejected if and
only if its score is above the threshold. Every function raises `DataError` when an array of scores is empty, not 1-d,
or not finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oddsight import metrics
from oddsight.errors import DataError, OddsightError
from oddsight.metrics.significance import placements

Scores = npt.NDArray[np.float64]
Interval = tuple[float, float]

_TPR = 0.95


@dataclass(frozen=True)
class OodNumbers:
    """How well scores tell OOD from ID images, over all thresholds.

    The field has two FPR95, and papers seldom say which they report. OpenOOD changed from one to the other: up to its
    first version (Yang et al., NeurIPS 2022 Datasets and Benchmarks) ID was positive; since v1.5 (Zhang et al., 2023)
    OOD is.
    """

    auroc: float  # The chance that an OOD image scores higher than an ID one, ties half
    auroc_ci: Interval  # Its 95% interval, as of `auroc_interval`
    # Average precision with OOD positive. (OpenOOD joins the points of the curve by straight lines instead: the same to
    # four decimals for thousands of distinct scores, and flattering where many tie.)
    aupr_out: float
    aupr_in: float  # Average precision with ID positive and scores negated
    fpr95: float  # Share of the ID images that are rejected when at least 95% of the OOD images are: OpenOOD v1.5
    # Share of the OOD images that are accepted when at least 95% of the ID images are: OpenOOD v1, ODIN (Liang et al.,
    # ICLR 2018), and what a false-rejection rate of 5% costs
    fpr95_id_positive: float


def ood_numbers(id_scores: npt.ArrayLike, ood_scores: npt.ArrayLike) -> OodNumbers:
    """All that is measured without a threshold; a fraction of a second for 10,000 + 10,000 scores.

    The others have no interval here: of AUPR it takes a bootstrap (:func:`oddsight.metrics.image.bootstrap_interval`),
    of FPR95 see :func:`fpr_interval`.
    """
    known, unknown = np.asarray(id_scores, np.float64), np.asarray(ood_scores, np.float64)
    return OodNumbers(
        auroc=metrics.auroc(known, unknown),
        auroc_ci=auroc_interval(known, unknown),
        aupr_out=metrics.average_precision(known, unknown),
        aupr_in=metrics.average_precision(-unknown, -known),
        fpr95=metrics.fpr_at_tpr(known, unknown, _TPR, positive="anomalous"),
        fpr95_id_positive=metrics.fpr_at_tpr(known, unknown, _TPR, positive="normal"),
    )


def auroc_interval(id_scores: npt.ArrayLike, ood_scores: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of AUROC from DeLong's variance (Biometrics 1988), on the scale of the logit so that it stays in (0, 1).

    It takes milliseconds for thousands of images. Where that variance is 0 or unknown (perfect separation, all scores
    equal, a single image of a sort) it says nothing; :func:`oddsight.metrics.image.bootstrap_interval` answers instead.
    """
    from scipy.special import expit, logit
    from scipy.stats import norm

    metrics.check_confidence(confidence)
    placed = placements(id_scores, ood_scores)
    if min(placed.normal.size, placed.anomalous.size) > 1 and placed.variance > 1e-18:
        area = placed.auroc
        reach = norm.ppf((1 + confidence) / 2) * np.sqrt(placed.variance) / (area * (1 - area))
        return float(expit(logit(area) - reach)), float(expit(logit(area) + reach))
    return metrics.bootstrap_interval(id_scores, ood_scores, metrics.auroc, confidence=confidence)


def fpr_interval(
    negatives: npt.ArrayLike, positives: npt.ArrayLike, tpr: float = _TPR, confidence: float = 0.95
) -> Interval:
    """Interval of the false-positive rate at a true-positive rate; for any distribution, so rather wide.

    The threshold is itself estimated from the positives. Order statistics bound where the true one lies (Conover,
    Practical Nonparametric Statistics, 1999, section 3.2), and Clopper and Pearson's interval the share of negatives
    beyond either bound; each of the four bounds may fail with a quarter of ``1 - confidence``.

    Args:
        negatives: Scores, ``[n]``; with OOD positive those of the ID images, with ID positive the negated OOD ones.
        positives: Scores, ``[m]``.
        tpr: The true-positive rate asked for, above 0, below 1.
        confidence: Between 0 and 1, both excluded.
    """
    from scipy.stats import binom

    if not (0 < tpr < 1 and 0 < confidence < 1):
        raise OddsightError(f"no interval at a true-positive rate of {tpr} and a confidence of {confidence}")
    low, high = _sorted(negatives), _sorted(positives)
    tail = (1 - confidence) / 4
    first = int(binom.ppf(tail, high.size, 1 - tpr))  # so many positives are below the lower bound of the threshold
    last = int(binom.isf(tail, high.size, 1 - tpr))
    beyond = [
        low.size - int(np.searchsorted(low, bound, side="left"))
        for bound in (
            high[first - 1] if first else -np.inf,
            high[last] if last < high.size else np.inf,
        )
    ]
    most, least = (metrics.binomial_interval(count, low.size, 1 - 2 * tail) for count in beyond)
    return least[0], most[1]


def oscr_curve(id_scores: npt.ArrayLike, id_correct: npt.ArrayLike, ood_scores: npt.ArrayLike) -> tuple[Scores, Scores]:
    """Correct classification against false positives at every threshold (Dhamija et al., NeurIPS 2018).

    Returns:
        False-positive rates (the share of OOD images accepted) and correct-classification rates (the share of all ID
        images that are accepted and named correctly), from ``(0, 0)`` to ``(1, accuracy)``, a point a distinct score.
    """
    correct, _, unknown = _correct(id_scores, id_correct, ood_scores)
    total = np.asarray(id_correct).size
    steps = np.unique(np.concatenate([correct, unknown]))
    accepted = np.searchsorted(unknown, steps, side="right") / unknown.size
    right = np.searchsorted(correct, steps, side="right") / total
    return np.append(0.0, accepted), np.append(0.0, right)


def oscr(id_scores: npt.ArrayLike, id_correct: npt.ArrayLike, ood_scores: npt.ArrayLike) -> float:
    """Area under :func:`oscr_curve`: the chance that an ID image is named correctly and scores below an OOD image.

    Ties count half. So it is the accuracy, times the AUROC of the correctly named ID images against the OOD ones.

    Returns:
        From 0 to the accuracy.
    """
    correct, share, unknown = _correct(id_scores, id_correct, ood_scores)
    return share * metrics.auroc(correct, unknown) if correct.size else 0.0


def _sorted(scores: npt.ArrayLike) -> Scores:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise DataError("rejection needs one finite score for each image, and at least one ID and one OOD image")
    return np.sort(values)


def _correct(
    id_scores: npt.ArrayLike, id_correct: npt.ArrayLike, ood_scores: npt.ArrayLike
) -> tuple[Scores, float, Scores]:
    """Sorted scores of the correctly named ID images, their share of all, and sorted scores of the OOD images."""
    right = np.asarray(id_correct)
    if right.dtype != np.bool_ or right.shape != np.shape(id_scores):
        raise DataError("whether an ID image is named correctly must be true or false, one value for each score")
    unknown = _sorted(ood_scores)
    _sorted(id_scores)
    return np.sort(np.asarray(id_scores, np.float64)[right]), float(right.mean()), unknown
