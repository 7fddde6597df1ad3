import numpy as np
import pytest

from oddsight.watch.drift import Drift


def drift(seed: int = 0, blocks: int = 60) -> Drift:
    return Drift(np.random.default_rng(seed).exponential(size=blocks), 60.0, seed=seed)


@pytest.mark.slow
def test_a_stream_like_the_footage_hardly_ever_drifts_however_long_it_runs():
    drifted = 0
    for seed in range(50):
        values, found = np.random.default_rng(1000 + seed).exponential(size=500), drift(seed)
        drifted += any(found.bet(value) for value in values)
    assert drifted <= 4  # of 50, where at most half a one is expected: a chance below 1 in 1,000


@pytest.mark.parametrize(("scale", "within"), [(5.0, 60), (0.2, 60)])
def test_what_becomes_larger_or_smaller_is_noticed(scale, within):
    for seed in range(10):
        values, found = np.random.default_rng(2000 + seed).exponential(scale, size=within), drift(seed)
        assert any(found.bet(value) for value in values)


def test_it_says_so_once():
    found = drift()
    said = [found.update(float(time), 50.0 + time) for time in range(0, 7200, 10)]
    assert sum(said) == 1
    assert found.drifted


def test_ties_are_broken_by_chance_and_always_the_same():
    calibration = np.zeros(60)
    first, second = (Drift(calibration, 60.0, seed=3) for _ in range(2))
    assert not any(first.bet(0.0) for _ in range(500))
    for _ in range(500):
        second.bet(0.0)
    assert first.capital == second.capital


def test_few_blocks_say_nothing():
    found = Drift(np.zeros(5), 60.0)
    assert not any(found.bet(9.0 + number) for number in range(100))


def test_blocks_that_mostly_had_events_do_not_count():
    found = drift()
    before = found.capital
    for time in range(0, 7200, 10):
        found.update(float(time), 50.0 if time % 60 < 20 else None)
    assert found.capital == before


@pytest.mark.parametrize("step", [1, 10, 20])
def test_it_counts_blocks_at_whatever_rate_frames_come(step):
    found = drift()
    assert sum(found.update(float(time), 50.0) for time in range(0, 7200, step)) == 1


def test_a_block_of_which_little_was_seen_does_not_count():
    found = drift()
    before = found.capital
    for time in range(0, 7200, 5):
        if time % 60 < 20:  # the source was away for the rest
            found.update(float(time), 50.0)
    assert found.capital == before


def test_what_passes_between_events_counts():
    found = drift()
    said = [found.update(float(time), None if time % 60 < 20 else 50.0) for time in range(0, 7200, 5)]
    assert sum(said) == 1
