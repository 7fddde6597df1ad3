import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddsight.errors import DataError
from oddsight.model.footage import Footage
from oddsight.watch.evidence import Level, Levels, Surprise, Window, advised_rate

SCORES = np.random.default_rng(0).normal(size=1000).astype(np.float32)


def footage(hours: float = 1.0, interval: float = 0.5, block: float = 60.0, seed: int = 0) -> Footage:
    times = np.arange(0, hours * 3600, interval)
    scores = np.random.default_rng(seed).normal(size=len(times)).astype(np.float32)
    return Footage(times, {"frame": scores}, block)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_a_higher_score_is_never_less_evidence(scores):
    ascending = np.sort(np.array(scores))
    evidence = Surprise(SCORES)(ascending)
    assert (evidence >= 0).all()
    assert (np.diff(evidence) >= -1e-12).all()


def test_evidence_is_minus_the_logarithm_of_the_p_value_and_goes_on_beyond_all_footage():
    surprise = Surprise(SCORES)
    median = float(np.median(SCORES))
    assert surprise(np.array(median)) == pytest.approx(np.log(2), abs=0.01)
    assert surprise(np.array(100.0)) > surprise(np.array(10.0)) > np.log(len(SCORES))
    assert surprise(np.array(np.nan)) == 0


def test_footage_of_one_score_is_no_error():
    surprise = Surprise(np.full(10, 3.0, np.float32))
    assert surprise(np.array(3.0)) < surprise(np.array(3.1))


def test_where_there_never_was_anything_whatever_there_is_is_evidence():
    nothing = np.full(7200, np.nan, np.float32)
    assert Surprise(nothing)(np.array([3.0, np.nan])).tolist() == [1, 0]
    level = Levels(Footage(np.arange(0, 3600, 0.5), {"frame": nothing}, 60.0), "frame", 2.0).of(1)
    assert level.threshold(1.0, "frame") == 0


def test_a_window_forgets():
    window = Window(2.0)
    for time in range(5):
        window.add(float(time), 1.0)
    assert window.mean(4.0, 2) == 1
    assert window.mean(5.5, 2) == 0.5
    assert window.mean(9.0, 2) == 0


def test_the_maxima_are_those_that_a_window_finds():
    measured = footage(0.1)
    levels = Levels(measured, "frame", 5.0)
    level = levels.of(1)
    window, best = Window(5.0), {}
    for time, score in zip(measured.times, measured.scores["frame"], strict=True):
        window.add(time, float(levels.surprise(np.array(score))))
        number = int(time // 60)
        best[number] = max(best.get(number, 0.0), window.mean(time, level.frames))
    assert level.maxima == pytest.approx(sorted(best.values()))


def test_frames_that_come_half_as_often_have_a_level_of_their_own():
    measured = footage()
    levels = Levels(measured, "frame", 4.0)
    steps = [levels.step(interval) for interval in (0.1, 0.5, 1.0, 2.0, 60.0)]
    assert [(step, levels.of(step).frames) for step in steps] == [(1, 8), (1, 8), (2, 4), (4, 2), (8, 1)]
    assert np.median(levels.of(4).maxima) > np.median(levels.of(1).maxima)


def test_a_rate_needs_blocks_and_the_error_says_how_many_hours():
    level = Level(1, np.arange(59.0), 0.0, 60.0)
    assert level.threshold(1.0, "door") == 58
    assert level.threshold(2.0, "door") == 57
    with pytest.raises(DataError, match=r"'door' takes 1.98 hours .*119 blocks of 60 s.* it has 0.98"):
        level.threshold(0.5, "door")


@pytest.mark.parametrize("count", range(1, 200, 3))
def test_a_rate_that_is_advised_is_enough(count):
    """As it is written: rounded down it would be refused."""
    level = Level(1, np.arange(float(count)), 0.0, 60.0)
    advised = advised_rate(60.0, count)
    level.threshold(float(f"{advised:g}"), "door")
    with pytest.raises(DataError, match="times as many") as refused:
        level.threshold(advised / 7, "door")
    times = float(re.search(r"allow ([0-9.,]+) times", str(refused.value))[1].replace(",", ""))
    level.threshold(advised / 7 * times, "door")
    assert times <= 7.1


@pytest.mark.slow
@pytest.mark.parametrize("per_hour", [1.0, 6.0])
def test_the_share_of_new_blocks_above_the_threshold_is_at_most_the_rate(per_hour):
    rates = []
    for seed in range(30):
        level = Levels(footage(seed=2 * seed, interval=2.0), "frame", 6.0)
        measured = level.of(1)
        threshold = measured.threshold(per_hour, "frame")
        new = footage(seed=2 * seed + 1, interval=2.0)
        window, above = Window(6.0), set()
        for time, value in zip(new.times, level.surprise(new.scores["frame"]), strict=True):
            window.add(time, float(value))
            if window.mean(time, measured.frames) > threshold:
                above.add(time // 60)
        rates.append(len(above))
    # Of 30 draws of calibration and test: the mean lies within three standard errors of the rate.
    assert np.mean(rates) < per_hour + 3 * np.std(rates) / np.sqrt(len(rates))


def test_a_window_that_is_too_long_for_the_blocks_is_refused():
    with pytest.raises(DataError, match="at most 15 s"):
        Levels(footage(), "frame", 16.0)


def test_footage_without_a_whole_block_is_refused():
    with pytest.raises(DataError, match="no whole block of 60 s"):
        Levels(footage(0.01), "frame", 2.0).of(1)
