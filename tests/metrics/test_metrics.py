import subprocess
import sys
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support, roc_auc_score

from oddsight.errors import DataError, OddsightError
from oddsight.metrics.image import (
    auroc,
    average_precision,
    binomial_interval,
    bootstrap_interval,
    decision,
    f1_max,
    fpr_at_tpr,
    trivial_baseline_auroc,
)

tied = st.lists(st.integers(-3, 4), min_size=1, max_size=25).map(lambda v: np.array(v, dtype=np.float64))
any_float = st.floats(-1e6, 1e6, allow_subnormal=False)
untied = st.lists(any_float, min_size=1, max_size=25).map(np.array)
scores = st.one_of(tied, untied)
flags = st.lists(st.booleans(), min_size=1, max_size=20).map(lambda v: np.array(v, dtype=bool))
levels = st.sampled_from([0.01, 0.07, 0.1, 0.25, 1 / 3, 0.5, 0.9, 0.95, 1.0])
METRICS = [
    auroc,
    average_precision,
    fpr_at_tpr,
    lambda n, a: fpr_at_tpr(n, a, positive="normal"),
    lambda n, a: f1_max(n, a)[0],
    trivial_baseline_auroc,
]


def both(normal, anomalous):
    return np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous])


@pytest.mark.slow
@given(scores, scores)
def test_ranking_metrics_agree_with_scikit_learn_and_with_all_pairs(normal, anomalous):
    pairs = anomalous[:, None] - normal[None]
    assert auroc(normal, anomalous) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-12)
    assert auroc(normal, anomalous) == pytest.approx(roc_auc_score(*both(normal, anomalous)), abs=1e-12)
    assert average_precision(normal, anomalous) == pytest.approx(
        average_precision_score(*both(normal, anomalous)), abs=1e-12
    )


@pytest.mark.slow
@given(scores, scores, levels)
def test_fpr_at_tpr_is_the_smallest_over_all_thresholds(normal, anomalous, tpr):
    thresholds = [*normal, *anomalous, np.inf, -np.inf]
    flagged = [np.mean(normal >= t) for t in thresholds if np.mean(anomalous >= t) >= tpr]
    assert fpr_at_tpr(normal, anomalous, tpr) == pytest.approx(min(flagged), abs=1e-12)
    passed = [np.mean(anomalous <= t) for t in thresholds if np.mean(normal <= t) >= tpr]
    assert fpr_at_tpr(normal, anomalous, tpr, positive="normal") == pytest.approx(min(passed), abs=1e-12)


def test_fpr_at_tpr_conventions_on_known_numbers():
    normal, anomalous = np.arange(100.0), np.array([50.0, 98.5, 200.0, 201.0])
    assert fpr_at_tpr(normal, anomalous, 0.75) == 0.01
    assert fpr_at_tpr(normal, anomalous, 0.76) == 0.5
    assert fpr_at_tpr(normal, anomalous, 0.95, positive="normal") == 0.25
    assert fpr_at_tpr(normal, anomalous, 1.0, positive="normal") == 0.5


@pytest.mark.slow
@given(scores, scores)
def test_f1_max_is_the_best_of_all_thresholds_and_its_threshold_reaches_it(normal, anomalous):
    def f1(t):
        return Fraction(2 * int(sum(anomalous >= t)), int(sum(anomalous >= t) + sum(normal >= t)) + len(anomalous))

    thresholds = {*normal, *anomalous}
    best = max(f1(t) for t in thresholds)
    value, threshold = f1_max(normal, anomalous)
    assert value == float(best)
    assert threshold == max(t for t in thresholds if f1(t) == best)
    labels, joined = both(normal, anomalous)
    assert value == pytest.approx(f1_score(labels, joined >= threshold), abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@given(normal=tied, anomalous=tied, seed=st.integers(0, 99))
@settings(max_examples=30)
def test_metrics_depend_on_ranks_only_and_not_on_order(metric, normal, anomalous, seed):
    shuffle = np.random.default_rng(seed).permutation
    value = metric(normal, anomalous)
    assert 0 <= value <= 1
    assert metric(shuffle(normal), shuffle(anomalous)) == pytest.approx(value, abs=1e-12)
    assert metric(np.exp(3 * normal) - 7, np.exp(3 * anomalous) - 7) == pytest.approx(value, abs=1e-12)
    assert metric(np.float32(normal), anomalous.astype(int)) == pytest.approx(value, abs=1e-12)


@pytest.mark.slow
@given(scores, scores)
def test_trivial_baseline_takes_the_better_direction(normal, anomalous):
    value = trivial_baseline_auroc(normal, anomalous)
    assert value >= 0.5
    assert value == pytest.approx(max(auroc(normal, anomalous), auroc(-normal, -anomalous)), abs=1e-12)


def test_raw_scores_keep_full_precision():
    assert auroc([1.0], [np.nextafter(1.0, 2)]) == 1.0
    assert auroc([1e300, -1e300], [1.1e300, -0.9e300]) == 0.75
    assert f1_max([1.0], [np.nextafter(1.0, 2)]) == (1.0, np.nextafter(1.0, 2))


@given(flags, flags)
def test_decision_agrees_with_scikit_learn(normal, anomalous):
    result = decision(normal, anomalous)
    labels, joined = both(normal, anomalous)
    expected = precision_recall_fscore_support(labels, joined, average="binary", zero_division=0)
    assert (result.precision, result.recall, result.f1) == pytest.approx(expected[:3], abs=1e-12)
    assert result.false_alarm_rate == normal.mean()
    assert (result.tp + result.fn, result.fp + result.tn) == (anomalous.size, normal.size)
    assert (result.tp, result.fp) == (anomalous.sum(), normal.sum())


def test_decision_that_flags_nothing_has_precision_zero():
    result = decision([False, False], [False])
    assert (result.precision, result.recall, result.f1, result.false_alarm_rate) == (0, 0, 0, 0)


@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_binomial_interval_is_clopper_pearson(n, data, confidence):
    k = data.draw(st.integers(0, n))
    tail = (1 - confidence) / 2
    low, high = binomial_interval(k, n, confidence)
    assert low == pytest.approx(beta.ppf(tail, k, n - k + 1) if k else 0.0, abs=1e-9)
    assert high == pytest.approx(beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0, abs=1e-9)
    assert low <= k / n <= high


@pytest.mark.slow
@given(
    st.lists(st.integers(-3, 4), min_size=2, max_size=12),
    st.lists(st.integers(-3, 4), min_size=2, max_size=12),
    st.integers(0, 5),
)
@settings(max_examples=15)
def test_fast_bootstrap_of_auroc_is_the_plain_one(normal, anomalous, seed):
    fast = bootstrap_interval(normal, anomalous, auroc, resamples=20, seed=seed)
    plain = bootstrap_interval(normal, anomalous, partial(auroc), resamples=20, seed=seed)
    assert fast == pytest.approx(plain, abs=1e-12)


@pytest.mark.slow
def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    generator, truth, covered = np.random.default_rng(5), norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(200):
        normal, anomalous = generator.normal(size=60), generator.normal(1, size=40)
        low, high = bootstrap_interval(normal, anomalous, auroc, confidence=0.9, resamples=200, seed=seed)
        covered += low <= truth <= high
    assert 0.84 <= covered / 200 <= 0.96


@pytest.mark.slow
def test_bootstrap_is_fixed_by_its_seed_and_blind_to_the_order_of_images():
    generator = np.random.default_rng(0)
    normal, anomalous = generator.normal(size=50), generator.normal(1, size=50)
    first = bootstrap_interval(normal, anomalous, auroc)
    assert first == bootstrap_interval(normal[::-1], anomalous[::-1], auroc)
    assert first != bootstrap_interval(normal, anomalous, auroc, seed=1)
    low, high = first
    assert low < auroc(normal, anomalous) < high
    wider = bootstrap_interval(normal, anomalous, auroc, confidence=0.99)
    assert wider[0] < low < high < wider[1]


@pytest.mark.parametrize(("n", "m", "low"), [(20, 20, 0.8), (100, 1000, 0.96), (1000, 5, 0.4), (1, 9, 0.0)])
def test_perfect_separation_is_not_reported_as_certain(n, m, low):
    normal, anomalous = np.arange(n), 5000 + np.arange(m)
    assert bootstrap_interval(normal, anomalous, auroc, resamples=20) == pytest.approx((low, 1.0))
    assert low <= 0.025 ** (1 / min(n, m))
    assert bootstrap_interval(anomalous, normal, auroc, resamples=20) == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize("metric", METRICS)
def test_no_metric_is_certain_on_few_separated_images(metric):
    low, high = bootstrap_interval(np.arange(20), np.arange(30, 50), metric, resamples=20)
    best = metric(np.arange(20), np.arange(30, 50))
    assert 0 <= low <= best <= high <= 1
    assert high - low > 0.05


@pytest.mark.slow
def test_separation_interval_is_honest_when_a_kind_of_anomaly_was_never_seen():
    # 12 % of anomalies look like the most normal image: 20 seen anomalies are often all separated all the same.
    generator, truth, missed = np.random.default_rng(2), 0.88, 0
    for _ in range(300):
        hidden = generator.random(20) < 1 - truth
        anomalous = np.where(hidden, -100.0, 100.0) + generator.normal(size=20)
        if not hidden.any():
            low, _high = bootstrap_interval(generator.normal(size=50), anomalous, auroc, resamples=5)
            missed += low > truth
    assert missed / 300 <= 0.025


def test_constant_scores_and_single_images_give_wide_intervals():
    low, high = bootstrap_interval(np.ones(30), np.ones(30), auroc, resamples=20)
    assert low < 0.46
    assert high > 0.54
    assert bootstrap_interval([1.0], np.arange(30), auroc, resamples=20) == (0.0, 1.0)
    assert bootstrap_interval(np.arange(30), [15.5], auroc, resamples=20) == (0.0, 1.0)


@pytest.mark.parametrize("metric", [*METRICS, lambda n, a: bootstrap_interval(n, a, auroc)])
def test_bad_scores_are_refused_with_their_number(metric):
    with pytest.raises(DataError, match="2 of 3 scores of anomalous images are not finite"):
        metric([1.0], [np.nan, 2.0, np.inf])
    with pytest.raises(DataError, match="1 of 1 scores of normal images"):
        metric([-np.inf], [2.0])
    with pytest.raises(DataError, match="no normal images"):
        metric([], [2.0])
    with pytest.raises(DataError, match="1-d"):
        metric([1.0], [[2.0]])


def test_bad_settings_are_refused():
    for tpr in (0.0, 1.01, np.nan):
        with pytest.raises(OddsightError, match="true-positive rate"):
            fpr_at_tpr([0.0], [1.0], tpr)
    with pytest.raises(OddsightError, match="positive must be"):
        fpr_at_tpr([0.0], [1.0], positive="ood")
    with pytest.raises(OddsightError, match="confidence"):
        bootstrap_interval([0.0], [1.0], auroc, confidence=95)
    with pytest.raises(OddsightError, match="resample"):
        bootstrap_interval([0.0], [1.0], auroc, resamples=0)
    for k, n in ((0, 0), (-1, 3), (4, 3)):
        with pytest.raises(DataError, match="not a rate"):
            binomial_interval(k, n)
    with pytest.raises(DataError, match="boolean"):
        decision([0.2], [True])


@pytest.mark.slow
def test_importing_the_metrics_loads_neither_scipy_nor_scikit_learn():
    code = "import sys, oddsight.metrics.image, oddsight.metrics.pixel; print({'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.slow
def test_the_bootstrap_of_groups_draws_whole_groups():
    """Ten copies of every image, grouped, are the same sample; not grouped, they claim to know more."""
    generator = np.random.default_rng(0)
    normal, anomalous = generator.normal(0, 1, 15), generator.normal(1, 1, 12)
    copies, names = (np.repeat(normal, 10), np.repeat(anomalous, 10)), (np.arange(150) // 10, np.arange(120) // 10)
    expected = bootstrap_interval(normal, anomalous, auroc)
    low, high = bootstrap_interval(*copies, auroc, groups=names)
    assert (low, high) == pytest.approx(expected, abs=0.04)  # of 1,000 draws
    narrow_low, narrow_high = bootstrap_interval(*copies, auroc)
    assert narrow_high - narrow_low < 0.6 * (high - low)
    with pytest.raises(DataError, match="one group each"):
        bootstrap_interval(normal, anomalous, auroc, groups=names)


@pytest.mark.slow
def test_perfect_separation_of_few_groups_is_no_certainty():
    normal, anomalous = np.arange(40.0), np.arange(100.0, 140.0)
    of_images, _ = bootstrap_interval(normal, anomalous, auroc)
    of_groups, high = bootstrap_interval(normal, anomalous, auroc, groups=(normal // 10, anomalous // 10))
    unseen = np.ceil(40 * (1 - 0.025 ** (1 / 4))) / 40  # what may be wrong of all, if none of four groups is
    assert (of_groups, high) == (pytest.approx(1 - unseen), 1)
    assert of_groups < of_images < 1


@pytest.mark.slow
def test_groups_give_intervals_for_any_metric():
    normal, anomalous = np.random.default_rng(0).normal(0, 1, (2, 30))
    names = np.arange(30) // 3
    expected = bootstrap_interval(normal, anomalous, auroc, groups=(names, names))
    other = partial(auroc)  # is another object, so that its ranks are sorted anew
    assert bootstrap_interval(normal, anomalous, other, groups=(names, names)) == pytest.approx(expected)
