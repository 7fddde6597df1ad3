"""Exact numbers on how well a classifier names classes, and on how far its probabilities can be believed.

Labels and predictions are whole numbers from 0 to ``K - 1``, one an image, ``[n]``; probabilities and logits are tables
``[n, K]``; a confusion matrix is ``[K, K]``. Every function raises `DataError` when there are no images, when arrays do
not fit each other, or when they hold what cannot be meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oddsight.errors import DataError
from oddsight.metrics.image import binomial_interval

Labels = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

COLDEST, HOTTEST = 0.05, 20.0  # The temperatures that `temperature` chooses from


def confusion(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Labels:
    """Count how often each class was predicted as each.

    Returns:
        Int64 ``[K, K]``: rows are the truth, columns what was said.
    """
    truth, said = _pair(labels, predicted, classes)
    return np.bincount(truth * classes + said, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def accuracy(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, confidence: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Share of the images whose class was named, and its exact interval (Clopper and Pearson, Biometrika 1934)."""
    truth, said = _pair(labels, predicted)
    right = int((truth == said).sum())
    return right / truth.size, binomial_interval(right, truth.size, confidence)


@dataclass(frozen=True)
class ClassRow:
    """How well one class is recognised, or the average over classes."""

    precision: float  # Share of the images said to be of the class that are, 0 to 1; 0 if none was said to be
    recall: float  # Share of the images of the class that were said to be, 0 to 1; 0 if there is none
    f1: float  # Harmonic mean of the two, 0 to 1; 0 when both are
    support: int  # Images of the class; in an average, all images


def per_class(table: npt.ArrayLike) -> list[ClassRow]:
    """Precision, recall and F1 of each class, with scikit-learn's ``zero_division=0`` where nothing is to divide by."""
    counts = _square(table)
    right, truth, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return [
        ClassRow(_ratio(tp, by_class), _ratio(tp, of_class), _ratio(2 * tp, by_class + of_class), of_class)
        for tp, of_class, by_class in zip(right.tolist(), truth.tolist(), said.tolist(), strict=True)
    ]


def macro_average(table: npt.ArrayLike) -> ClassRow:
    """Plain averages over all K classes, however many images each has; a class without images counts as 0."""
    rows = per_class(table)
    return ClassRow(
        precision=sum(row.precision for row in rows) / len(rows),
        recall=sum(row.recall for row in rows) / len(rows),
        f1=sum(row.f1 for row in rows) / len(rows),
        support=sum(row.support for row in rows),
    )


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose highest probability lies in one range."""

    low: float  # The range is above this,
    high: float  # up to and including this
    confidence: float  # Mean of their highest probabilities, 0 to 1
    accuracy: float  # Share of them whose class was named, 0 to 1
    count: int  # How many they are, at least 1


def reliability(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 15) -> list[ReliabilityBin]:
    """Confidence against accuracy in ranges of equal width (Guo et al., ICML 2017).

    Returns:
        The ranges that hold images, lowest first.
    """
    table, truth = _probabilities(probabilities, labels)
    return reliability_of(table.max(axis=1), table.argmax(axis=1) == truth, bins)


def reliability_of(confidences: npt.ArrayLike, right: npt.ArrayLike, bins: int = 15) -> list[ReliabilityBin]:
    """As :func:`reliability`, of the highest probabilities and whether these are of the true class, ``[n]`` each."""
    if bins < 1:
        raise DataError(f"reliability takes 1 bin or more, not {bins}")
    highest, hits = np.asarray(confidences, np.float64), np.asarray(right, np.bool_)
    edges = np.arange(bins + 1) / bins  # multiples of a step would not be the nearest doubles
    places = np.clip(np.searchsorted(edges, highest, side="left") - 1, 0, bins - 1)
    return [
        ReliabilityBin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            confidence=float(highest[places == place].mean()),
            accuracy=float(hits[places == place].mean()),
            count=int((places == place).sum()),
        )
        for place in np.unique(places).tolist()
    ]


def calibration_gap(rows: Sequence[ReliabilityBin]) -> float:
    """Mean gap between confidence and accuracy over images, 0 (best) to 1: the expected calibration error."""
    total = sum(row.count for row in rows)
    return sum(row.count * abs(row.accuracy - row.confidence) for row in rows) / total


def expected_calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 15) -> float:
    """How far confidence is off accuracy: top label, bins of equal width (Guo et al., ICML 2017).

    It is biased upwards where bins hold few images, so compare it on equally many images only.
    """
    return calibration_gap(reliability(probabilities, labels, bins))


def brier(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Brier score over all classes (Brier, Monthly Weather Review 1950): 0 (best) to 2."""
    table, truth = _probabilities(probabilities, labels)
    of_truth = table[np.arange(truth.size), truth]
    return float((np.square(table).sum(axis=1) - 2 * of_truth + 1).clip(min=0).mean())


def negative_log_likelihood(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean negative log-likelihood of the true classes in nats, 0 (best) upwards; it is the cross-entropy.

    It takes logits, not probabilities: of a class whose probability rounds to 0 it is still known how unlikely it is.
    """
    from scipy.special import log_softmax

    table, truth = _table("logits", logits, labels)
    return float(-log_softmax(table, axis=1)[np.arange(truth.size), truth].mean()) + 0.0  # never -0


def temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature T at which ``softmax(logits / T)`` has the least negative log-likelihood (Guo et al., ICML 2017).

    Images that are all classified correctly would take T to 0, and each probability to 1. So of every label a share
    ``1 / (n + 2)`` is left to the other classes, as one more image may be of another (Platt, Probabilistic outputs for
    support vector machines, 1999). The likelihood is convex in 1/T, so the zero of its slope is the one minimum; T
    stays within :data:`COLDEST` and :data:`HOTTEST`. It never changes which class is said.
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    table, truth = _table("logits", logits, labels)
    table = table - table.max(axis=1, keepdims=True)
    of_truth = table[np.arange(truth.size), truth].mean()
    of_others = (table.sum(axis=1).mean() - of_truth) / max(1, table.shape[1] - 1)
    expected = of_truth + (of_others - of_truth) / (truth.size + 2)

    def slope(sharpness: float) -> float:
        return float((softmax(sharpness * table, axis=1) * table).sum(axis=1).mean() - expected)

    softest, sharpest = slope(1 / HOTTEST), slope(1 / COLDEST)
    if max(abs(softest), abs(sharpest)) <= 1e-12:
        return 1.0
    if sharpest <= 0:
        return COLDEST
    if softest >= 0:
        return HOTTEST
    return 1 / float(brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12, rtol=1e-12))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _square(table: npt.ArrayLike) -> Labels:
    counts = np.asarray(table)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size or counts.dtype.kind not in "iu":
        raise DataError(f"a confusion matrix is square and of whole numbers, not {counts.dtype} {counts.shape}")
    return counts.astype(np.int64)


def _pair(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int | None = None) -> tuple[Labels, Labels]:
    """Both as int64, or a `DataError` that names what is wrong."""
    truth, said = _checked("true classes", labels, classes), _checked("predicted classes", predicted, classes)
    if truth.size != said.size:
        raise DataError(f"there are {truth.size} true classes for {said.size} predicted ones")
    return truth, said


def _checked(what: str, values: npt.ArrayLike, classes: int | None) -> Labels:
    array = np.asarray(values)
    if array.ndim != 1 or not array.size:
        raise DataError(f"the {what} must be one value for each image, and at least one image, not shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise DataError(f"the {what} must be whole numbers, not {array.dtype}")
    if array.min() < 0 or (classes is not None and array.max() >= classes):
        upper = "0 or more" if classes is None else f"from 0 to {classes - 1}"
        raise DataError(f"the {what} must be {upper}, and run from {array.min()} to {array.max()}")
    return array.astype(np.int64)


def _table(what: str, values: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Values, Labels]:
    """A row an image as float64, and the labels, or a `DataError` that names what is wrong."""
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not table.size:
        raise DataError(f"the {what} must be a table of images by classes, not of shape {table.shape}")
    truth = _checked("true classes", labels, table.shape[1])
    if truth.size != len(table):
        raise DataError(f"there are {truth.size} true classes for {len(table)} rows of {what}")
    if not np.isfinite(table).all():
        raise DataError(f"not all {what} are finite")
    return table, truth


def _probabilities(values: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Values, Labels]:
    table, truth = _table("probabilities", values, labels)
    # Room for what half precision rounds.
    if table.min() < 0 or table.max() > 1 + 1e-3 or np.abs(table.sum(axis=1) - 1).max() > 1e-2:
        raise DataError("the probabilities of an image must lie between 0 and 1, and sum to 1")
    return table, truth
