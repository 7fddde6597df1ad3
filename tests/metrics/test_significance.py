"""Tests of differences: against brute force, resampling, SciPy and published tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from oddsight import metrics
from oddsight.errors import DataError, OddsightError
from oddsight.metrics.significance import (
    averaged,
    cliques,
    critical_difference,
    delong,
    friedman,
    holm,
    placements,
    ranks,
)

# Few distinct values, so that there are ties.
VALUES = st.integers(-4, 4).map(float)


@st.composite
def two_methods(draw, least=2):
    """Scores of two methods on the same images: normal and anomalous ones, each [images, 2]."""
    sides = []
    for _ in range(2):
        count = draw(st.integers(least, 12))
        sides.append(np.array(draw(st.lists(st.tuples(VALUES, VALUES), min_size=count, max_size=count))))
    return sides


def kernel(normal, anomalous):
    """[normal, anomalous]: 1 where the anomalous one scores higher, a half where both are equal."""
    return (normal[:, None] < anomalous) + 0.5 * (normal[:, None] == anomalous)


def both(sides):
    normal, anomalous = sides
    return [placements(normal[:, method], anomalous[:, method]) for method in (0, 1)]


def correlated(rng, n, m, shift, correlation=0.6):
    """Two methods with normally distributed scores; anomalous ones are higher by ``shift`` [2]."""
    cover = [[1, correlation], [correlation, 1]]
    return [rng.multivariate_normal([0, 0], cover, n), rng.multivariate_normal(shift, cover, m)]


@pytest.mark.slow
@given(two_methods(least=1))
def test_placements_are_those_of_all_pairs(sides):
    normal, anomalous = sides[0][:, 0], sides[1][:, 0]
    found, pairs = placements(normal, anomalous), kernel(normal, anomalous)
    np.testing.assert_allclose(found.normal, pairs.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.anomalous, pairs.mean(axis=0), atol=1e-12)
    assert found.auroc == pytest.approx(found.normal.mean()) == pytest.approx(metrics.auroc(normal, anomalous))


@given(two_methods())
def test_the_error_is_that_of_delongs_covariances(sides):
    pairs = np.array([kernel(sides[0][:, method], sides[1][:, method]) for method in (0, 1)])
    cover = np.cov(pairs.mean(axis=1)) / pairs.shape[2] + np.cov(pairs.mean(axis=2)) / pairs.shape[1]
    variance = cover[0, 0] + cover[1, 1] - 2 * cover[0, 1]
    first, second = both(sides)
    found = delong(first, second)
    assert first.variance == pytest.approx(cover[0, 0], abs=1e-12)
    assert found.error == pytest.approx(np.sqrt(max(variance, 0)), abs=1e-7)
    assert found.value == pytest.approx(pairs[0].mean() - pairs[1].mean(), abs=1e-12)


@given(two_methods())
def test_the_test_is_symmetric_and_sees_ranks_only(sides):
    first, second = both(sides)
    there, back = delong(first, second), delong(second, first)
    assert (there.value, there.p_value) == (-back.value, back.p_value)
    assert 0 < there.p_value <= 1
    stretched = both([np.exp(side) * 3 for side in sides])
    assert delong(*stretched) == there
    assert delong(first, first).p_value == 1


@pytest.mark.slow
def test_the_error_is_the_spread_over_draws_of_images():
    rng = np.random.default_rng(0)
    found = [delong(*both(correlated(rng, 60, 40, [1.2, 0.8]))) for _ in range(600)]
    spread = np.std([one.value for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.1)


@pytest.mark.slow
def test_equal_methods_are_told_apart_as_rarely_as_stated():
    rng = np.random.default_rng(1)
    p_values = [delong(*both(correlated(rng, 60, 60, [1.0, 1.0]))).p_value for _ in range(800)]
    for level in (0.05, 0.2, 0.5):
        # Three standard deviations of a share of 800, and what the normal approximation may be off.
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=3 * np.sqrt(level / 800) + 0.01)


@pytest.mark.parametrize(("seed", "shift"), [(0, 1.0), (1, 1.3), (2, 1.5), (3, 1.7)])
def test_it_agrees_with_a_permutation_test(seed, shift):
    """Swapping the two methods' placements image by image leaves everything as it is, if they are equal."""
    rng = np.random.default_rng(seed)
    first, second = both(correlated(rng, 80, 80, [1.0, shift]))
    found = delong(first, second)
    normal, anomalous = first.normal - second.normal, first.anomalous - second.anomalous
    signs = rng.choice([-1, 1], (5000, 160))
    # An AUROC's difference is the mean of either side; its chance variation adds up from both.
    drawn = signs[:, :80] @ (normal - normal.mean()) / 80 + signs[:, 80:] @ (anomalous - anomalous.mean()) / 80
    assert found.p_value == pytest.approx(np.mean(np.abs(drawn) >= abs(found.value)), abs=0.03)


def test_few_images_never_give_certainty():
    perfect, reversed_ = placements([0, 1], [2, 3]), placements([2, 3], [0, 1])
    assert delong(perfect, reversed_).p_value == 2 * 0.5**4
    with pytest.raises(DataError, match="1 normal and 3 anomalous images are too few"):
        delong(placements([0], [1, 2, 3]), placements([0], [3, 2, 1]))


def test_seeds_are_averaged():
    rng = np.random.default_rng(5)
    runs = [both(correlated(rng, 30, 20, [1, 1]))[0] for _ in range(3)]
    mean = averaged(runs)
    assert mean.auroc == pytest.approx(np.mean([run.auroc for run in runs]))
    assert mean.variance < max(run.variance for run in runs)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="on the same images"):
        delong(placements([0, 1], [2, 3]), placements([0, 1, 2], [2, 3]))
    for wrong in ([], [[1.0]], [np.nan, 1]):
        with pytest.raises(DataError, match="one finite score for each image"):
            placements(wrong, [1, 2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values):
    found = holm(p_values)
    for level in {*p_values, *found.tolist(), 0.01, 0.05}:
        order = np.argsort(p_values, kind="stable")
        rejected = set()
        for step, index in enumerate(order):
            if p_values[index] * (len(p_values) - step) > level:
                break
            rejected.add(index)
        if level < 1:
            assert rejected == set(np.flatnonzero(found <= level))


@pytest.mark.slow
@settings(max_examples=50)
@given(st.integers(3, 6), st.integers(2, 12), st.integers(0, 10**6))
def test_friedman_is_scipys(methods, count, seed):
    values = np.random.default_rng(seed).integers(0, 5, (count, methods)).astype(float)
    table = ranks(values)
    np.testing.assert_allclose(table, [stats.rankdata(-row) for row in values])
    if (table == table[0, 0]).all():
        assert friedman(table) == (0.0, 1.0)
        return
    expected = stats.friedmanchisquare(*values.T)
    assert friedman(table) == pytest.approx((expected.statistic, expected.pvalue))


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_demsars_table(methods, quantile):
    expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 14))
    assert critical_difference(methods, 14) == pytest.approx(expected, rel=5e-4)


def test_demsars_example():
    """Four classifiers on 14 datasets: mean ranks 3.143, 2.000, 2.893, 1.964 (Demsar, JMLR 2006, section 3.2.2)."""
    assert critical_difference(4, 14, 0.90) == pytest.approx(1.12, abs=0.005)
    assert cliques([1.964, 2.000, 2.893, 3.143], 1.25) == [(0, 3)]
    assert cliques([1.964, 2.000, 2.893, 3.143], 1.118) == [(0, 2), (2, 3)]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=10), st.integers(1, 10))
def test_groups_hold_what_cannot_be_told_apart(numerators, difference):
    own = sorted(value / 2 for value in numerators)
    groups = cliques(own, difference)
    for first in range(len(own)):
        for last in range(first + 1, len(own)):
            close = own[last] - own[first] <= difference
            assert close == any(start <= first and last <= end for start, end in groups)
    assert not any(a != b and a[0] <= b[0] and b[1] <= a[1] for a in groups for b in groups)


def test_ranks_take_a_full_table():
    for wrong in ([1, 2], [[]], [[1, np.nan]]):
        with pytest.raises(DataError):
            ranks(wrong)
    with pytest.raises(DataError):
        friedman([[1, 2]])
    with pytest.raises(OddsightError):
        critical_difference(1, 5)
