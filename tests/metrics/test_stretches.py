from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from oddsight.metrics.image import auroc
from oddsight.metrics.stretches import Matches, block_auroc_interval, match, poisson_interval, stretches


@given(st.lists(st.booleans(), max_size=30))
def test_stretches_are_runs_and_cover_what_is_anomalous(flags):
    found = stretches(range(len(flags)), flags)
    inside = [any(start <= time <= end for start, end in found) for time in range(len(flags))]
    assert inside == flags
    assert all(first[1] < second[0] - 1 for first, second in pairwise(found))


def test_alarms_are_matched_by_time():
    found = match([(3, 4), (6, 6), (9.5, 12), (30, 31)], [(2, 5), (10, 20), (25, 26)], lag=1.0)
    assert found == Matches(4, 3, 3, (1.0, 0.0))
    assert found.precision == 0.75
    assert found.recall == pytest.approx(2 / 3)
    assert (found + found).stretches == 6
    assert Matches(0, 0, 0, ()).precision is None


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_the_poisson_interval_is_exact(count):
    low, high = poisson_interval(count, 4.0)
    assert poisson.cdf(count, 4 * high) == pytest.approx(0.025)
    assert low == 0 if count == 0 else poisson.sf(count - 1, 4 * low) == pytest.approx(0.025)
    assert poisson_interval(count, 0) == (0, np.inf)


def test_frames_that_are_alike_make_a_wider_interval():
    random = np.random.default_rng(0)
    level = np.repeat(random.normal(size=40), 25)
    flags = np.repeat(random.random(40) < 0.5, 25)
    scores = level + flags
    wide = block_auroc_interval(scores, flags, np.repeat(np.arange(40), 25))
    narrow = block_auroc_interval(scores, flags, np.arange(1000))
    assert wide[0] < narrow[0] < auroc(scores[~flags], scores[flags]) < narrow[1] < wide[1]


def test_one_block_of_a_kind_says_nothing():
    assert block_auroc_interval([1, 2, 3], [True, False, False], [0, 1, 2]) is None


@pytest.mark.slow
def test_the_interval_is_that_of_the_areas_of_resamples():
    random = np.random.default_rng(5)
    scores, flags, blocks = np.round(random.normal(size=300), 1), random.random(300) < 0.3, np.arange(300) // 10
    draws, areas = np.random.default_rng(7), []
    for _ in range(50):
        chosen = np.concatenate([np.flatnonzero(blocks == block) for block in draws.integers(30, size=30)])
        areas.append(auroc(scores[chosen][~flags[chosen]], scores[chosen][flags[chosen]]))
    found = block_auroc_interval(scores, flags, blocks, resamples=50, seed=7)
    assert found == pytest.approx(np.quantile(areas, [0.025, 0.975]), abs=1e-12)
