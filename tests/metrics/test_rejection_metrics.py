"""Numbers of rejection, against scikit-learn and against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from oddsight.errors import DataError, OddsightError
from oddsight.metrics.image import auroc, bootstrap_interval
from oddsight.metrics.ood import (
    auroc_interval,
    fpr_interval,
    ood_numbers,
    oscr,
    oscr_curve,
)

tied = st.lists(st.integers(-3, 4), min_size=1, max_size=25).map(lambda v: np.array(v, dtype=np.float64))
untied = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=25).map(np.array)
scores = st.one_of(tied, untied)


@st.composite
def known(draw):
    """ID scores, and whether each image was named correctly."""
    own = draw(scores)
    return own, np.array(draw(st.lists(st.booleans(), min_size=len(own), max_size=len(own))), bool)


def both(id_scores, ood_scores):
    return np.repeat([0, 1], [len(id_scores), len(ood_scores)]), np.concatenate([id_scores, ood_scores])


@pytest.mark.slow
@given(scores, scores)
@settings(max_examples=60)
def test_numbers_agree_with_scikit_learn(id_scores, ood_scores):
    numbers = ood_numbers(id_scores, ood_scores)
    truth, values = both(id_scores, ood_scores)
    assert numbers.auroc == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    assert numbers.aupr_out == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert numbers.aupr_in == pytest.approx(average_precision_score(1 - truth, -values), abs=1e-12)
    false, true, _ = roc_curve(truth, values, drop_intermediate=False)
    assert numbers.fpr95 == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-12)
    false, true, _ = roc_curve(1 - truth, -values, drop_intermediate=False)
    assert numbers.fpr95_id_positive == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-12)
    for value, (low, high) in (
        (numbers.auroc, numbers.auroc_ci),
        (numbers.fpr95, fpr_interval(id_scores, ood_scores)),
        (numbers.fpr95_id_positive, fpr_interval(-ood_scores, -id_scores)),
    ):
        assert 0 <= low <= value + 1e-12
        assert value - 1e-12 <= high <= 1


@pytest.mark.slow
@given(tied, tied)
@settings(max_examples=25)
def test_only_the_ranking_counts(id_scores, ood_scores):
    assert ood_numbers(id_scores, ood_scores) == ood_numbers(np.exp(id_scores) - 7, np.exp(ood_scores) - 7)


def test_two_conventions_of_fpr95():
    """100 ID images at 0..99, and OOD images of which one hides among them."""
    numbers = ood_numbers(np.arange(100.0), [49.5, *np.arange(200.0, 209.0)])
    assert numbers.fpr95 == 0.5  # to find 95% of ten OOD images all must be found
    assert numbers.fpr95_id_positive == 0.1


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "area", "fpr"),
    [
        ([0.0, 1.0], [2.0, 3.0], 1, 0),
        ([2.0, 3.0], [0.0, 1.0], 0, 1),
        ([5.0] * 9, [5.0] * 4, 0.5, 1),
        ([0.0], [1.0], 1, 0),
    ],
)
def test_numbers_at_the_ends(id_scores, ood_scores, area, fpr):
    numbers = ood_numbers(id_scores, ood_scores)
    assert (numbers.auroc, numbers.fpr95, numbers.fpr95_id_positive) == (area, fpr, fpr)
    if area == 1:
        assert numbers.aupr_out == numbers.aupr_in == 1
    assert numbers.auroc_ci[1] - numbers.auroc_ci[0] > 0.5  # so few images say little


@pytest.mark.slow
def test_auroc_interval_is_that_of_the_bootstrap():
    rng = np.random.default_rng(1)
    for shift in (0.3, 1.5, 2.5):
        id_scores, ood_scores = rng.normal(0, 1, 400), rng.normal(shift, 1, 300)
        expected = bootstrap_interval(id_scores, ood_scores, auroc)
        assert auroc_interval(id_scores, ood_scores) == pytest.approx(expected, abs=0.006)
        narrow, wide = (auroc_interval(id_scores, ood_scores, level) for level in (0.5, 0.99))
        assert wide[0] < narrow[0] < auroc(id_scores, ood_scores) < narrow[1] < wide[1]


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """95% intervals of samples of a distribution whose numbers are known hold them in 95% of the samples or more."""
    from scipy.stats import norm

    rng, runs = np.random.default_rng(2), 300
    area, fpr = norm.cdf(1.5 / np.sqrt(2)), norm.sf(1.5 + norm.ppf(0.05))
    covered = np.zeros(2)
    for _ in range(runs):
        id_scores, ood_scores = rng.normal(0, 1, 60), rng.normal(1.5, 1, 80)
        for place, (truth, (low, high)) in enumerate(
            ((area, auroc_interval(id_scores, ood_scores)), (fpr, fpr_interval(id_scores, ood_scores)))
        ):
            covered[place] += low <= truth <= high
    # 0.915 is below the true coverage of 0.95 by three standard errors of 300 runs.
    assert (covered / runs >= 0.915).all()
    assert covered[1] / runs >= 0.95


def test_fpr_interval_narrows_with_images():
    rng = np.random.default_rng(3)
    widths = []
    for count in (30, 300, 3000, 10_000):
        low, high = fpr_interval(rng.normal(0, 1, count), rng.normal(2, 1, count))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.06


def test_fpr_interval_starts_from_the_right_order_statistics():
    """With so many negatives that only the threshold is uncertain, the bounds are order statistics of the positives."""
    from scipy.stats import binom

    count, tail = 100, 0.05 / 4
    negatives, positives = np.linspace(0, 1, 200_001), np.arange(1, count + 1) / (count + 1)
    below = max(k for k in range(1, count) if binom.cdf(k - 1, count, 0.05) <= tail)
    above = min(k for k in range(1, count) if binom.sf(k - 1, count, 0.05) <= tail)
    expected = 1 - positives[above - 1], 1 - positives[below - 1]
    assert fpr_interval(negatives, positives) == pytest.approx(expected, abs=0.002)
    # Of five positives even the lowest may lie above the threshold: nothing bounds it from below.
    assert fpr_interval(negatives, positives[:5])[1] == 1


@given(known(), scores)
def test_oscr_agrees_with_all_pairs_and_with_its_curve(own, ood_scores):
    id_scores, correct = own
    apart = ood_scores[:, None] - id_scores[None]
    pairs = ((apart > 0) + 0.5 * (apart == 0)) * correct
    area = oscr(id_scores, correct, ood_scores)
    assert area == pytest.approx(pairs.mean(), abs=1e-12)
    false, right = oscr_curve(id_scores, correct, ood_scores)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(right) >= 0).all()
    assert (false[0], right[0], false[-1]) == (0, 0, 1)
    assert right[-1] == pytest.approx(correct.mean(), abs=1e-12)
    trapezoids = (np.diff(false) * (right[1:] + right[:-1]) / 2).sum()
    assert area == pytest.approx(trapezoids, abs=1e-12)
    for threshold in (*id_scores, *ood_scores):
        point = (np.mean(ood_scores <= threshold), np.mean((id_scores <= threshold) & correct))
        assert np.isclose(np.abs(np.column_stack([false, right]) - point).sum(axis=1), 0).any()


def test_oscr_is_auroc_where_all_is_right_and_0_where_all_is_wrong():
    id_scores, ood_scores = np.array([0.0, 1.0, 2.0]), np.array([1.0, 5.0])
    assert oscr(id_scores, np.ones(3, bool), ood_scores) == auroc(id_scores, ood_scores)
    assert oscr(id_scores, np.zeros(3, bool), ood_scores) == 0
    assert oscr_curve(id_scores, np.zeros(3, bool), ood_scores)[1].max() == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: ood_numbers([], [1.0]),
        lambda: ood_numbers([1.0], [np.nan]),
        lambda: auroc_interval([[1.0]], [1.0]),
        lambda: fpr_interval([1.0], []),
        lambda: oscr([1.0], [1], [1.0]),
        lambda: oscr([1.0, 2.0], [True], [1.0]),
        lambda: oscr([np.nan], [False], [1.0]),
    ],
)
def test_what_cannot_be_meant_is_refused(call):
    with pytest.raises(DataError):
        call()


def test_settings_out_of_range_are_refused():
    for call in (
        lambda: auroc_interval([0.0, 1.0], [1.0, 2.0], 1.0),
        lambda: fpr_interval([0.0], [1.0], tpr=1.0),
        lambda: fpr_interval([0.0], [1.0], confidence=0.0),
    ):
        with pytest.raises(OddsightError):
            call()
