"""Conformal p-values and thresholds, against counting by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oddsight.errors import DataError
from oddsight.graphs.calibrating import calibrating, calibration_scores
from oddsight.model.calibration import advised_rate, decide, images_needed, p_values, smallest_rate

FINITE = st.floats(-1e6, 1e6, width=32)
# Few distinct values, so that ties are common.
SCORES = st.lists(FINITE, min_size=1, max_size=60) | st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=60)
RATES = st.floats(0.001, 0.999) | st.builds(lambda k, n: k / (n + k), st.integers(1, 300), st.integers(1, 300))


def counted(calibration, score) -> Fraction:
    """The p-value by its definition."""
    return Fraction(1 + sum(c >= score for c in calibration), 1 + len(calibration))


def reaches(p: Fraction, rate: float) -> bool:
    """Whether ``p <= rate``, with the slack for a rate that was rounded as it became a float."""
    return p <= Fraction(rate) * (1 + Fraction(1, 10**9))


@given(SCORES, SCORES)
def test_p_values_count(calibration, scores):
    found = p_values(np.array(calibration, np.float32), np.array(scores, np.float32))
    assert found.dtype == np.float64
    assert found.tolist() == [float(counted(calibration, score)) for score in scores]


@given(SCORES, SCORES, RATES)
@example([1.0] * 99, [1.0, 1.5], 0.29)
@example(list(map(float, range(99))), [70.0, 71.0], 0.29)
@example([5.0, 5.0, 5.0], [5.0, 6.0], 0.25)
def test_above_the_threshold_is_to_have_a_p_value_up_to_the_rate(calibration, scores, rate):
    array = np.array(calibration, np.float32)
    if not reaches(Fraction(1, len(calibration) + 1), rate):
        with pytest.raises(DataError, match=f"at least {images_needed(rate):,} calibration images"):
            decide(array, rate)
        return
    decision = decide(array, rate)
    assert decision.false_alarm_rate == rate
    assert decision.threshold in calibration
    for score in {*scores, *calibration, decision.threshold, decision.threshold + 1}:
        assert (score > decision.threshold) == reaches(counted(calibration, score), rate)


@given(SCORES, RATES, st.randoms())
def test_the_order_of_calibration_scores_does_not_matter(calibration, rate, random):
    shuffled = random.sample(calibration, len(calibration))
    one, other = np.array(calibration, np.float32), np.array(shuffled, np.float32)
    try:
        expected = decide(one, rate)
    except DataError:
        return
    assert decide(other, rate) == expected
    assert np.array_equal(p_values(one, one), p_values(other, one))


@given(SCORES, RATES, RATES)
def test_a_higher_rate_has_no_higher_threshold(calibration, rate, other):
    array = np.array(calibration, np.float32)
    low, high = sorted((rate, other))
    if len(calibration) >= images_needed(low):
        assert decide(array, high).threshold <= decide(array, low).threshold


@given(st.integers(1, 20_000))
def test_the_smallest_rate_takes_exactly_the_images_there_are(n):
    assert images_needed(smallest_rate(n)) == n
    assert decide(np.arange(n, dtype=np.float32), smallest_rate(n)).threshold == n - 1


@given(RATES)
def test_images_needed_is_the_least_number_that_decides(rate):
    n = images_needed(rate)
    scores = np.zeros(n, np.float32)
    assert decide(scores, rate).threshold == 0
    assert n == max(1, math.ceil(1 / Fraction(rate) - 1 - Fraction(1, 10**6)))
    if n > 1:
        with pytest.raises(DataError):
            decide(scores[1:], rate)


def test_images_needed_agrees_with_decide_on_rounded_rates():
    rate = (1 - 6e-10) / 1000
    assert decide(np.zeros(999, np.float32), rate)
    assert images_needed(rate) == 999


def test_a_rate_next_to_one_flags_all_above_the_lowest():
    assert decide(np.array([1, 2, 3], np.float32), 1 - 1e-10).threshold == 1


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_rates_outside_of_zero_to_one_are_refused(rate):
    with pytest.raises(DataError, match="between 0 and 1"):
        decide(np.arange(10, dtype=np.float32), rate)


@given(st.integers(1, 10**7))
def test_a_rate_that_is_advised_can_be_had(n):
    typed = float(f"{advised_rate(n):.3g}")
    assert images_needed(typed) <= n
    assert smallest_rate(n) * (1 - 1e-9) <= typed <= 1.01 * smallest_rate(n)


def test_an_error_says_what_it_takes():
    with pytest.raises(DataError, match=r"0.001 needs at least 999 .* there are 10: ask for 0.091 or more"):
        decide(np.arange(10, dtype=np.float32), 0.001)
    with pytest.raises(DataError, match="at least 1 calibration images, and there are 0"):
        decide(np.zeros(0, np.float32), 0.5)


@pytest.mark.slow
@given(SCORES, SCORES)
def test_the_graph_counts_as_numpy_does(calibration, scores):
    sorted_scores = np.sort(np.array(calibration, np.float32))
    graph = calibrating(np.array(calibration, np.float32))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    both = np.array([*scores, *calibration], np.float32)
    [found] = session.run(["p_value"], {"score": both})
    assert np.array_equal(found, p_values(sorted_scores, both).astype(np.float32))
    assert calibration_scores(graph) is None  # the name in a model file has the piece's prefix
