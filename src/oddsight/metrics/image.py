"""Exact image-level metrics on raw scores, with intervals that say how sure they are.

Everywhere a higher score is more anomalous, and the scores of the normal images ``[n]`` and of the anomalous ones
``[m]`` come as two separate arrays, so that no label can be mixed up. Scores are compared in float64 and never clamped
or rescaled. Every function that takes scores raises `DataError` when either array is empty, not 1-d, or holds a value
that is not finite; every setting out of its range raises `OddsightError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from oddsight.errors import DataError, OddsightError
from oddsight.runtime.bounds import check_number

Scores = npt.NDArray[np.float64]
Metric = Callable[[Scores, Scores], float]


def auroc(normal: npt.ArrayLike, anomalous: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that an anomalous image scores higher than a normal one, ties half.

    Returns:
        From 0 to 1; 0.5 is chance.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled(*_checked_scores(normal, anomalous))))


def average_precision(normal: npt.ArrayLike, anomalous: npt.ArrayLike) -> float:
    """Average precision of finding the anomalous images: precision averaged over the steps of recall.

    Unlike AUROC it depends on the share of anomalous images: compare it on one test set only.
    """
    from sklearn.metrics import average_precision_score

    precision = float(average_precision_score(*_labelled(*_checked_scores(normal, anomalous))))
    return min(precision, 1.0)  # the sum over steps of recall can round to just above 1


def fpr_at_tpr(
    normal: npt.ArrayLike,
    anomalous: npt.ArrayLike,
    tpr: float = 0.95,
    positive: Literal["anomalous", "normal"] = "anomalous",
) -> float:
    """False-positive rate at the strictest threshold that keeps the true-positive rate at `tpr` or more.

    The field uses two conventions, and their numbers differ:

    - `positive="anomalous"` (OpenOOD since v1.5, Zhang et al., 2023): the share of normal images flagged when at least
      `tpr` of the anomalous are found;
    - `positive="normal"` (ODIN, Liang et al., ICLR 2018; OpenOOD's first version, Yang et al., NeurIPS 2022): the share
      of anomalous images that pass when at least `tpr` of the normal pass.

    Nothing is interpolated: images of equal score are flagged together or not at all.

    Returns:
        From 0 (best) to 1.
    """
    from sklearn.metrics import roc_curve

    if not 0 < tpr <= 1:
        raise OddsightError(f"the true-positive rate must be above 0 and at most 1, not {tpr}")
    if positive not in ("anomalous", "normal"):
        raise OddsightError(f'positive must be "anomalous" or "normal", not {positive!r}')
    normal, anomalous = _checked_scores(normal, anomalous)
    negatives, positives = (normal, anomalous) if positive == "anomalous" else (-anomalous, -normal)
    # The default drops collinear points of the curve, and with them the threshold that is looked for.
    false_rates, true_rates, _ = roc_curve(*_labelled(negatives, positives), drop_intermediate=False)
    return float(false_rates[true_rates >= tpr].min())


def f1_max(normal: npt.ArrayLike, anomalous: npt.ArrayLike) -> tuple[float, float]:
    """Highest F1 score that any threshold reaches on these images.

    The threshold is picked by looking at the labels, so the value is an upper bound on what a deployed detector
    reaches, and the threshold is never a setting to use.

    Returns:
        The F1 score (above 0, up to 1), and the threshold that reaches it: an image is anomalous if and only if its
        score is at least the threshold. Of several such thresholds, the highest.
    """
    normal, anomalous = _checked_scores(normal, anomalous)
    # Between two anomalous scores a lower threshold only adds false alarms: the best one is an anomalous score.
    thresholds, counts = np.unique(anomalous, return_counts=True)
    found = counts[::-1].cumsum()[::-1]
    alarms = normal.size - np.searchsorted(np.sort(normal), thresholds, side="left")
    f1 = 2 * found / (found + alarms + anomalous.size)
    best = f1.size - 1 - int(f1[::-1].argmax())
    return float(f1[best]), float(thresholds[best])


def trivial_baseline_auroc(normal: npt.ArrayLike, anomalous: npt.ArrayLike) -> float:
    """AUROC of a trivial score, such as mean brightness or file size, read in whichever direction works better.

    The direction is chosen by the labels, in the baseline's favour: a detector that does not beat this number has shown
    nothing that one line of arithmetic could not.

    Returns:
        From 0.5 to 1.
    """
    area = auroc(normal, anomalous)
    return max(area, 1 - area)


@dataclass(frozen=True)
class Decision:
    """What a threshold, fixed beforehand, did to a labelled test set."""

    precision: float  # Share of the flagged images that are anomalous, 0 to 1; 0 when nothing is flagged
    recall: float  # Share of the anomalous images that are flagged, 0 to 1
    f1: float  # Harmonic mean of precision and recall, 0 to 1; 0 when both are 0
    false_alarm_rate: float  # Share of the normal images that are flagged, 0 to 1
    tp: int  # Anomalous images flagged
    fp: int  # Normal images flagged
    fn: int  # Anomalous images missed
    tn: int  # Normal images passed


def decision(normal_flags: npt.ArrayLike, anomalous_flags: npt.ArrayLike) -> Decision:
    """Count right and wrong decisions, with scikit-learn's `zero_division=0`: no image flagged is a precision of 0."""
    normal, anomalous = _checked_flags(normal_flags, "normal"), _checked_flags(anomalous_flags, "anomalous")
    tp, fp = int(anomalous.sum()), int(normal.sum())
    return Decision(
        precision=tp / (tp + fp) if tp + fp else 0.0,
        recall=tp / anomalous.size,
        f1=2 * tp / (tp + fp + anomalous.size),
        false_alarm_rate=fp / normal.size,
        tp=tp,
        fp=fp,
        fn=anomalous.size - tp,
        tn=normal.size - fp,
    )


def binomial_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact confidence interval of a rate seen as `k` of `n` images (Clopper and Pearson, Biometrika 1934)."""
    from scipy.special import betaincinv

    check_confidence(confidence)
    if n < 1 or not 0 <= k <= n:
        raise DataError(f"{k} of {n} images is not a rate")
    # Quantiles of beta distributions: the same as binomtest's roots, a thousand times as fast.
    tail = (1 - confidence) / 2
    low = betaincinv(k, n - k + 1, tail) if k else 0.0
    high = betaincinv(k + 1, n - k, 1 - tail) if k < n else 1.0
    return float(low), float(high)


def bootstrap_interval(
    normal: npt.ArrayLike,
    anomalous: npt.ArrayLike,
    metric: Metric,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric, normal and anomalous images resampled separately.

    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.) Memory is O(n + m). AUROC takes
    about half a second for 10,000 + 10,000 scores; any other metric takes `resamples` calls of it.

    Two cases hold no information on how much the metric varies: all resamples agree (perfect separation, where the
    plain bootstrap would claim [1, 1]), or there is only one normal or only one anomalous image. Then the interval asks
    what the images that were not seen could do. Of k images of which none went wrong, as many as 1 - t^(1/k) of all may
    still go wrong, with t = (1 - confidence) / 2 (Clopper and Pearson, 1934; the "rule of three" of Hanley and
    Lippman-Hand, JAMA 1983). That share of the normal or of the anomalous images, rounded up to whole images, is moved
    to the far end of the ranking, for worse and for better, and the interval spans the values that the metric takes.
    For AUROC at perfect separation it is valid for any distribution (min(n, m) disjoint pairs are independent trials,
    all won): 20 + 20 images give [0.80, 1], 100 + 100 give [0.96, 1], a single anomalous image [0, 1].

    With fewer than about 20 images on either side the percentile bootstrap is known to be too narrow. The metric must
    depend on the ranks of the scores only, as `auroc` does.
    """
    check_confidence(confidence)
    if resamples < 1:
        raise OddsightError(f"the bootstrap needs at least 1 resample, not {resamples}")
    normal, anomalous = (np.sort(scores) for scores in _checked_scores(normal, anomalous))
    if min(normal.size, anomalous.size) > 1:
        values = _resampled(normal, anomalous, metric, resamples, seed)
        low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
        if high - low > 1e-12:  # below, only the rounding of the metric differs
            return float(low), float(high)
    return _unseen_interval(normal, anomalous, metric, (1 - confidence) / 2)


def _resampled(normal: Scores, anomalous: Scores, metric: Metric, resamples: int, seed: int) -> Scores:
    """The metric on each bootstrap sample of the sorted scores, shape [resamples]."""
    generator = np.random.default_rng(seed)
    n, m = normal.size, anomalous.size
    below, not_above = (np.searchsorted(normal, anomalous, side=side) for side in ("left", "right"))
    values = np.empty(resamples)
    for i in range(resamples):
        drawn_normal, drawn_anomalous = generator.integers(n, size=n), generator.integers(m, size=m)
        if metric is auroc:
            # How often each normal image was drawn gives the rank of every anomalous one, with nothing sorted anew.
            ranks = np.zeros(n + 1, dtype=np.int64)
            np.cumsum(np.bincount(drawn_normal, minlength=n), out=ranks[1:])
            wins = ranks[below] + ranks[not_above]
            values[i] = int(wins[drawn_anomalous].sum()) / (2 * n * m)
        else:
            values[i] = metric(normal[drawn_normal], anomalous[drawn_anomalous])
    return values


def _unseen_interval(normal: Scores, anomalous: Scores, metric: Metric, tail: float) -> tuple[float, float]:
    """Span of the metric when the share of images that the sample cannot rule out lies at either end of the ranking.

    Takes sorted scores; `tail` is the error allowed on each side.
    """
    bottom = np.nextafter(min(normal[0], anomalous[0]), -np.inf)
    top = np.nextafter(max(normal[-1], anomalous[-1]), np.inf)
    values = [metric(normal, anomalous)]
    values += [metric(moved, anomalous) for moved in _moved(normal, tail, bottom, top)]
    values += [metric(normal, moved) for moved in _moved(anomalous, tail, bottom, top)]
    return float(min(values)), float(max(values))


def _moved(scores: Scores, tail: float, bottom: float, top: float) -> tuple[Scores, Scores]:
    """The sorted scores with their highest moved to `bottom`, and with their lowest moved to `top`."""
    count = int(np.ceil((1 - tail ** (1 / scores.size)) * scores.size))
    kept = scores.size - count
    return np.append(scores[:kept], np.full(count, bottom)), np.append(scores[count:], np.full(count, top))


def _checked_scores(normal: npt.ArrayLike, anomalous: npt.ArrayLike) -> tuple[Scores, Scores]:
    """Both arrays as float64, or a `DataError` that names what is wrong."""
    arrays = np.asarray(normal, dtype=np.float64), np.asarray(anomalous, dtype=np.float64)
    for scores, kind in zip(arrays, ("normal", "anomalous"), strict=True):
        _check_shape(scores, kind)
        bad = scores.size - int(np.isfinite(scores).sum())
        if bad:
            raise DataError(f"{bad} of {scores.size} scores of {kind} images are not finite")
    return arrays


def _checked_flags(flags: npt.ArrayLike, kind: str) -> npt.NDArray[np.bool_]:
    array = np.asarray(flags)
    _check_shape(array, kind)
    if array.dtype != np.bool_:
        raise DataError(f"the flags of the {kind} images must be boolean, not {array.dtype}")
    return array


def _check_shape(array: npt.NDArray[np.generic], kind: str) -> None:
    if array.ndim != 1:
        raise DataError(f"the {kind} images need one value each, a 1-d array, not shape {array.shape}")
    if array.size == 0:
        raise DataError(f"there are no {kind} images to measure on")


def check_confidence(confidence: float) -> float:
    """The confidence as a plain float; refuse what is no probability."""
    confidence = check_number(confidence, "the confidence")
    if not 0 < confidence < 1:
        raise DataError(f"the confidence must lie between 0 and 1, such as 0.95, not {confidence:g}")
    return confidence


def _labelled(negatives: Scores, positives: Scores) -> tuple[npt.NDArray[np.bool_], Scores]:
    """Labels and scores as scikit-learn takes them."""
    labels = np.repeat([False, True], [negatives.size, positives.size])
    return labels, np.concatenate([negatives, positives])
