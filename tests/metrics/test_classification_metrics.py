"""Numbers of classification, against scikit-learn and against counting by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss, precision_recall_fscore_support

from oddsight.errors import DataError
from oddsight.metrics.classification import (
    COLDEST,
    HOTTEST,
    accuracy,
    brier,
    calibration_gap,
    confusion,
    expected_calibration_error,
    macro_average,
    negative_log_likelihood,
    per_class,
    reliability,
    temperature,
)

CLASSES = 4
named = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30).map(
    lambda pairs: np.array(pairs).T
)


@st.composite
def judged(draw, most=12):
    """Logits ``[n, K]`` on a coarse grid, so that there are ties, and labels."""
    n, classes = draw(st.integers(1, most)), draw(st.integers(1, 5))
    logits = draw(st.lists(st.integers(-6, 6), min_size=n * classes, max_size=n * classes))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return np.array(logits, np.float64).reshape(n, classes) / 2, np.array(labels)


@pytest.mark.slow
@given(named)
def test_counts_agree_with_scikit_learn(both):
    labels, said = both
    table = confusion(labels, said, CLASSES)
    assert table.dtype == np.int64
    assert (table == confusion_matrix(labels, said, labels=range(CLASSES))).all()
    rows = np.array([(row.precision, row.recall, row.f1, row.support) for row in per_class(table)])
    expected = precision_recall_fscore_support(labels, said, labels=range(CLASSES), zero_division=0)
    assert rows == pytest.approx(np.array(expected).T, abs=1e-12)
    mean = precision_recall_fscore_support(labels, said, labels=range(CLASSES), average="macro", zero_division=0)
    macro = macro_average(table)
    assert (macro.precision, macro.recall, macro.f1) == pytest.approx(mean[:3], abs=1e-12)
    assert macro.support == len(labels)
    share, (low, high) = accuracy(labels, said)
    assert share == np.diag(table).sum() / len(labels)
    assert 0 <= low <= share <= high <= 1


def test_accuracy_and_its_interval_on_known_numbers():
    labels = np.zeros(20, int)
    assert accuracy(labels, labels) == (1.0, (pytest.approx(0.025 ** (1 / 20)), 1.0))
    assert accuracy([0], [1]) == (0.0, (0.0, pytest.approx(0.975)))
    # 81 of 263, Agresti and Coull (The American Statistician 1998) and many a textbook.
    said = (np.arange(263) >= 81).astype(int)
    assert accuracy(np.zeros(263, int), said)[1] == (pytest.approx(0.2527, abs=1e-4), pytest.approx(0.3676, abs=1e-4))


def test_counts_of_one_image_and_of_narrow_types():
    assert confusion([1], [0], 2).tolist() == [[0, 0], [1, 0]]
    many = np.full(300, 199, np.uint8)
    assert confusion(many, many, 200)[199, 199] == 300


@given(judged(), st.integers(1, 20))
def test_calibration_error_agrees_with_exact_arithmetic(data, bins):
    logits, labels = data
    probabilities = softmax(logits, axis=1)
    gaps = {}
    for row, label in zip(probabilities, labels, strict=True):
        confidence = Fraction(float(max(row)))
        place = max(1, min(bins, math.ceil(confidence * bins)))
        # Only where an edge is no double, its nearest stands for it.
        place -= float(confidence) == (place - 1) / bins
        gaps[place] = gaps.get(place, 0) + confidence - (int(np.argmax(row)) == label)
    expected = sum(abs(gap) for gap in gaps.values()) / len(labels)
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(float(expected), abs=1e-12)
    rows = reliability(probabilities, labels, bins)
    assert sum(row.count for row in rows) == len(labels)
    assert all(row.low < row.confidence <= row.high + 1e-12 for row in rows)
    assert [row.low for row in rows] == sorted({row.low for row in rows})


def test_calibration_error_on_known_numbers():
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    always = [right] * 9 + [wrong]
    assert expected_calibration_error(always, [0] * 10) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error([[1.0, 0.0]], [1]) == 1
    assert expected_calibration_error([[1.0, 0.0]], [0]) == 0
    # At an edge, an image belongs to the range below: 0.75 lies in (0.5, 0.75].
    rows = reliability([[0.75, 0.25], [0.5, 0.5], [0.76, 0.24]], [0, 1, 0], bins=4)
    assert [(row.low, row.high, row.count, row.accuracy) for row in rows] == [
        (0.25, 0.5, 1, 0.0),
        (0.5, 0.75, 1, 1.0),
        (0.75, 1.0, 1, 1.0),
    ]
    assert calibration_gap(rows) == pytest.approx((0.5 + 0.25 + 0.24) / 3)
    # Ranges are found by comparing with the nearest doubles: 0.07 * 100 is above 7, and 35 * 0.01 above 0.35.
    for confidence, above in ((0.07, 0.07), (0.35, 0.35), (np.nextafter(0.35, 1), 0.36)):
        table = np.full((1, 100), (1 - confidence) / 99)
        table[0, 0] = confidence
        assert reliability(table, [0], bins=100)[0].high == above


@given(judged())
def test_proper_scores_agree_with_scikit_learn(data):
    logits, labels = data
    probabilities = softmax(logits, axis=1)
    expected = np.square(probabilities - np.eye(logits.shape[1])[labels]).sum(axis=1).mean()
    assert brier(probabilities, labels) == pytest.approx(expected, abs=1e-12)
    if logits.shape[1] > 1:
        own = range(logits.shape[1])
        assert negative_log_likelihood(logits, labels) == pytest.approx(
            log_loss(labels, probabilities, labels=own), abs=1e-9
        )
    if logits.shape[1] == 2:  # there scikit-learn counts one of the two classes
        assert brier(probabilities, labels) == pytest.approx(
            2 * brier_score_loss(labels, probabilities[:, 1], pos_label=1), abs=1e-12
        )


def test_proper_scores_at_the_ends():
    assert negative_log_likelihood([[1e4, -1e4]], [1]) == 2e4
    assert math.copysign(1, negative_log_likelihood([[1e4, -1e4]], [0])) == 1
    assert negative_log_likelihood([[3.0]], [0]) == 0
    assert negative_log_likelihood(np.zeros((5, 10)), [3] * 5) == pytest.approx(math.log(10))
    assert brier([[1.0, 0.0]], [1]) == 2
    assert brier([[1.0, 0.0]], [0]) == 0


def doubtful(logits, labels):
    """The negative log-likelihood of labels of which a share of 1/(n + 2) is left to the other classes."""
    count, classes = np.shape(logits)
    doubt = 1 / (count + 2)
    targets = np.full((count, classes), doubt / max(1, classes - 1))
    targets[np.arange(count), labels] = 1 - doubt if classes > 1 else 1
    return -(targets * log_softmax(logits, axis=1)).sum(1).mean()


@pytest.mark.slow
@given(judged())
def test_no_other_temperature_is_better(data):
    logits, labels = data
    best = temperature(logits, labels)
    assert COLDEST <= best <= HOTTEST
    reached = doubtful(logits / best, labels)
    for other in np.geomspace(COLDEST, HOTTEST, 60):
        assert reached <= doubtful(logits / other, labels) + 1e-9


def test_nothing_is_certain_because_few_images_were_right():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 45)
    logits = rng.normal(0, 1, (45, 4)) + 9 * np.eye(4)[labels]
    assert (logits.argmax(1) == labels).all()
    sure = softmax(logits / temperature(logits, labels), axis=1).max(1)
    assert sure.mean() == pytest.approx(1 - 1 / 47, abs=0.005)


def test_temperature_undoes_a_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    labels = np.array([rng.choice(5, p=row) for row in softmax(logits, axis=1)])
    right = temperature(logits, labels)
    assert right == pytest.approx(1, abs=0.06)
    assert temperature(3 * logits, labels) == pytest.approx(3 * right, rel=1e-9)
    assert temperature(logits + rng.normal(0, 50, (4000, 1)), labels) == pytest.approx(right, rel=1e-9)

    def cost(t):
        return doubtful(logits / t, labels)

    assert right == pytest.approx(minimize_scalar(cost, bounds=(0.05, 20), method="bounded").x, abs=1e-4)
    confident = softmax(logits * 3, axis=1)
    softened = softmax(logits * 3 / temperature(logits * 3, labels), axis=1)
    assert expected_calibration_error(softened, labels) < 0.3 * expected_calibration_error(confident, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[0.01, 0.0], [0.0, 0.01]], [0, 1], COLDEST),
        ([[90.0, 0.0], [0.0, 90.0]], [0, 1], HOTTEST),  # two images prove little
        ([[9e5, 0.0], [0.0, 9e5]], [0, 1], HOTTEST),
        ([[2.0, 0.0], [0.0, 3.0]], [1, 0], HOTTEST),
        ([[1e4, 0.0], [0.0, 1e4]], [1, 0], HOTTEST),
        ([[1.0, 1.0], [4.0, 4.0]], [1, 0], 1.0),
        ([[7.0]], [0], 1.0),
    ],
)
def test_temperature_at_the_ends(logits, labels, expected):
    assert temperature(logits, labels) == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda: confusion([], [], 2),
        lambda: confusion([0, 1], [0], 2),
        lambda: confusion([0, 2], [0, 1], 2),
        lambda: confusion([0, -1], [0, 1], 2),
        lambda: confusion([0.0], [0.0], 2),
        lambda: confusion([[0]], [[0]], 2),
        lambda: accuracy([True], [True]),
        lambda: per_class([[1, 2]]),
        lambda: per_class([[1.5]]),
        lambda: macro_average(np.zeros((0, 0), int)),
        lambda: reliability([[0.5, 0.5]], [0], bins=0),
        lambda: reliability([[0.5, 0.6]], [0]),
        lambda: reliability([[1.5, -0.5]], [0]),
        lambda: brier([[0.5, 0.5]], [2]),
        lambda: brier([0.5, 0.5], [0, 1]),
        lambda: brier(np.zeros((0, 2)), []),
        lambda: negative_log_likelihood([[np.nan, 1.0]], [0]),
        lambda: temperature([[np.inf, 1.0]], [0]),
        lambda: temperature([[2.0, 1.0]], [0, 1]),
    ],
)
def test_what_cannot_be_meant_is_refused(call):
    with pytest.raises(DataError):
        call()
