import numpy as np
import pytest

from oddsight.errors import DataError
from oddsight.model.events import Look
from oddsight.model.footage import Footage
from oddsight.model.result import Result
from oddsight.watch.alarms import QUIET, Alarms, Watch, checked_rate

TIMES = np.arange(0, 3600, 0.5)
NORMAL = np.random.default_rng(0).normal(size=len(TIMES)).astype(np.float32)
OTHER = np.random.default_rng(1).normal(size=len(TIMES)).astype(np.float32)
FOOTAGE = Footage(TIMES, {"frame": NORMAL, "door": OTHER}, 60.0)


def look(score: float, zone: str = "frame", track: int | None = None) -> Look:
    return Look(zone, Result(None, 4, 4, score, 0.5, 0.0, None, None), track=track)


def run(alarms: Alarms, scores: list[float], zone: str = "frame", start: float = 0.0):
    events = []
    for index, score in enumerate(scores):
        looks, found = alarms.update(start + index / 2, index, [look(score, zone)])
        events += found
    return events, looks


def test_the_life_of_an_event():
    alarms = Alarms(FOOTAGE, {"frame": Watch()})
    events, _ = run(alarms, [0.0] * 20 + [9.0] * 4 + [99.0] * 20 + [0.0] * 40)
    assert [event.state for event in events] == ["new", "update", "update", "end"]
    assert len({event.id for event in events}) == 1
    new, end = events[0], events[-1]
    assert 10 <= new.start <= 12
    assert new.end is None
    assert 22 <= end.end <= 24
    assert end.score > 99
    assert end.p_value == 1 / 61
    assert end.start <= end.peak <= end.end
    assert end.index == end.peak * 2


def test_what_flickers_is_one_event_and_what_comes_later_another():
    flicker = ([9.0] * 8 + [0.0] * int(QUIET)) * 3
    alarms = Alarms(FOOTAGE, {"frame": Watch()})
    events, _ = run(alarms, flicker + [0.0] * 40 + flicker + [0.0] * 40)
    assert [event.state for event in events if event.state != "update"] == ["new", "end"] * 2


def test_a_single_frame_of_noise_is_no_event_but_a_look_knows_of_one():
    alarms = Alarms(FOOTAGE, {"frame": Watch()})
    assert run(alarms, [0.0] * 10 + [2.5] + [0.0] * 10)[0] == []
    _, looks = run(alarms, [9.0] * 10, start=100.0)
    assert looks[0].alarm


def test_dwelling_is_awaited():
    at_once, later = ({"frame": Watch(dwell=dwell)} for dwell in (0.0, 3.0))
    scores = [9.0] * 20 + [0.0] * 40
    first, second = (run(Alarms(FOOTAGE, zones), scores)[0] for zones in (at_once, later))
    assert first[0].peak + 3 == second[0].peak
    assert run(Alarms(FOOTAGE, later), [9.0] * 3 + [0.0] * 40)[0] == []


def test_objects_have_events_of_their_own_and_are_forgotten():
    alarms = Alarms(FOOTAGE, {"frame": Watch()})
    events = []
    for index in range(100):
        looks = [look(9.0, track=1), look(9.0, track=2), look(0.0, track=3)] if index < 20 else []
        events += alarms.update(index / 2, index, looks)[1]
    assert [(event.track, event.state) for event in events if event.state != "update"] == [
        (1, "new"), (2, "new"), (1, "end"), (2, "end"),
    ]  # fmt: skip
    assert not alarms._places


def test_zones_share_the_rate_unless_they_have_their_own():
    both = Alarms(FOOTAGE, {"frame": Watch(), "door": Watch()}, alarms_per_hour=4)
    assert both.threshold("frame") == Alarms(FOOTAGE, {"frame": Watch()}, alarms_per_hour=2).threshold("frame")
    own = Alarms(FOOTAGE, {"frame": Watch(), "door": Watch(alarms_per_hour=10)}, alarms_per_hour=4)
    assert own.threshold("frame") == Alarms(FOOTAGE, {"frame": Watch()}, alarms_per_hour=4).threshold("frame")
    assert own.threshold("door") < both.threshold("door")
    with pytest.raises(DataError, match=r"'frame' takes 1\.98 hours"):
        Alarms(FOOTAGE, {"frame": Watch(), "door": Watch()}, alarms_per_hour=1)


def test_a_zone_without_footage_is_refused():
    with pytest.raises(DataError, match="no normal footage of the zone gate: recalibrate"):
        Alarms(FOOTAGE, {"gate": Watch()})


def test_frames_that_come_more_often_than_in_the_footage_are_thinned():
    often, seldom = (Alarms(FOOTAGE, {"frame": Watch()}) for _ in range(2))
    for index in range(100):
        often.update(index / 8, index, [look(3.0)])
        if index % 4 == 0:
            seldom.update(index / 8, index, [look(3.0)])
            assert often.evidence(index / 8) == seldom.evidence(index / 8) > 0


def test_frames_that_come_less_often_are_compared_with_as_few():
    alarms = Alarms(FOOTAGE, {"frame": Watch()}, window=4.0)
    before = alarms.threshold("frame")
    for index in range(100):
        alarms.update(index * 2.0, index, [look(1.0)])
    assert alarms.threshold("frame") > before
    # And the evidence is not a quarter of what it is.
    assert alarms.evidence(198.0) * alarms.threshold("frame") == pytest.approx(alarms.surprise(look(1.0)))


@pytest.mark.slow
def test_normal_footage_raises_as_many_alarms_as_allowed():
    counts = []
    for seed in range(3):
        scores = np.random.default_rng(seed).normal(size=4800).astype(np.float32)
        footage = Footage(TIMES[:2400], {"frame": scores[:2400]}, 20.0)
        events, _ = run(Alarms(footage, {"frame": Watch()}, alarms_per_hour=18), scores[2400:].tolist())
        counts.append(sum(event.state == "new" for event in events))
    # 3 times a third of an hour: 18 on average, and seldom so many or so few.
    assert 4 < sum(counts) < 36


def test_finishing_ends_what_goes_on_and_forgetting_clears_the_evidence():
    alarms = Alarms(FOOTAGE, {"frame": Watch()})
    run(alarms, [9.0] * 20)
    assert alarms.evidence(9.5) > 1
    alarms.clear()
    assert alarms.evidence(9.5) == 0
    (end,) = alarms.finish()
    assert (end.state, end.end) == ("end", 9.5)
    assert alarms.finish() == []


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "many"])
def test_a_rate_is_above_0(rate):
    with pytest.raises(DataError, match="must be above 0"):
        checked_rate(rate)
