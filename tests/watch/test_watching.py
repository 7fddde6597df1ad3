import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import oddsight
from footage import RATE as FRAMES
from footage import clip, watching_model
from oddsight.errors import DataError, ImageError
from oddsight.sources.arrays import Arrays
from oddsight.sources.frame import Frame
from oddsight.sources.live import Counts, LiveStream
from oddsight.sources.video import VideoFile
from oddsight.watch.recalibrating import recalibrate
from oddsight.watch.watching import watch, watch_frames
from oddsight.watch.zones import Zone, Zones
from tiny_model import tiny_model
from video_files import write_video

RATE, SEED = 36.0, 5
"""Alarms an hour, and noise that happens to raise none at this rate."""


@pytest.fixture(scope="module")
def model():
    return watching_model()


class Ears:
    """A sink that keeps what it hears."""

    def __init__(self):
        self.frames, self.ended = [], None

    @contextmanager
    def open(self, run):
        self.run = run
        try:
            yield self.frames.append
        except BaseException as error:
            self.ended = error
            raise


def test_a_blot_is_an_event_where_and_when_it_is(model):
    events = list(watch(model, clip(40, seed=SEED, blots=((20, 26),)), window=0.5, alarms_per_hour=RATE))
    new, end = events[0], events[-1]
    assert (new.kind, new.state, new.zone) == ("anomaly", "new", "frame")
    assert 20 <= new.start <= 21
    assert 26 <= end.end <= 28.1
    assert 20 <= new.index / 10 <= 28


@pytest.mark.slow
def test_frames_are_scored_as_predict_scores_them_whatever_the_workers(model):
    source = clip(20, seed=SEED, blots=((10, 16),))
    runs = [list(watch_frames(model, source, window=0.5, alarms_per_hour=RATE, workers=workers)) for workers in (1, 2)]
    assert [frame.to_json() for frame in runs[0]] == [frame.to_json() for frame in runs[1]]
    alone = list(model.predict_many(source))
    seen = [frame.looks[0].result for frame in runs[0][:-1]]
    assert [(r.score, r.p_value) for r in seen] == [(r.score, r.p_value) for r in alone]
    assert all((a.map == b.map).all() for a, b in zip(seen, alone, strict=True))
    assert runs[0][-1].frame is None


@pytest.mark.slow
def test_the_light_is_one_event_and_no_anomaly(model):
    dark = clip(10, seed=2, gain=0.4)
    frames = [*clip(10, seed=SEED), *(replace(f, time=f.time + 10, index=f.index + 100) for f in dark)]
    events = list(watch(model, frames, window=0.5, alarms_per_hour=RATE))
    assert [event.kind for event in events if event.state == "new"] == ["light"]
    assert "darker" in events[0].note
    assert [event.state for event in events] == ["new", "end"]


@pytest.mark.slow
def test_a_scene_that_changes_slowly_drifts_once(model):
    events = list(watch(model, clip(120, seed=3, gain=0.75), window=0.5, alarms_per_hour=RATE))
    assert [event.state for event in events if event.kind == "drift"] == ["new", "end"]
    assert "recalibrate" in events[0].note
    assert events[0].p_value < 0.01


def test_broken_frames_are_counted_and_the_rest_is_watched(model):
    frames = [*clip(5, seed=SEED), ImageError("clip#50", "the frame is damaged"), *clip(1, seed=4)]
    watched = list(watch_frames(model, frames, window=0.5, alarms_per_hour=RATE))
    assert len(watched) == 62
    assert watched[50].error == "clip#50: the frame is damaged"
    assert watched[50].dropped == {"broken": 1}


def test_sinks_hear_everything_and_of_the_end_if_it_is_interrupted(model):
    ears = Ears()
    source = clip(30, seed=SEED, blots=((5, 30),))
    frames = watch_frames(model, source, window=0.5, alarms_per_hour=RATE, sinks=[ears])
    for frame in frames:
        if frame.events:
            break
    frames.close()
    assert isinstance(ears.ended, GeneratorExit)
    assert [event.state for event in ears.frames[-1].events] == ["end"]
    assert ears.run.source == "Arrays"
    assert not ears.run.live


def test_a_sink_that_fails_ends_the_run(model):
    class Broken(Ears):
        @contextmanager
        def open(self, run):
            def write(frame):
                raise OSError("full")

            yield write

    ears = Ears()
    with pytest.raises(OSError, match="full"):
        list(watch(model, clip(2), window=0.5, alarms_per_hour=RATE, sinks=[ears, Broken()]))
    assert isinstance(ears.ended, OSError)


@pytest.mark.slow
def test_zones_have_events_of_their_own():
    zones = Zones(
        [
            Zone("left", ((0, 0), (0.2, 0), (0.2, 1), (0, 1))),
            Zone("middle", ((0.25, 0), (0.75, 0), (0.75, 1), (0.25, 1)), dwell=2.0),
        ]
    )
    model = recalibrate(tiny_model(), clip(130), zones=zones, block=2)
    events = list(watch(model, clip(30, seed=SEED, blots=((10, 16),)), zones=zones, window=0.5, alarms_per_hour=80))
    assert {event.zone for event in events if 10 <= event.start <= 17} == {"middle"}
    with pytest.raises(DataError, match="scored in other zones"):
        next(watch(model, clip(1), window=0.5, alarms_per_hour=RATE))


@pytest.mark.slow
def test_regions_of_interest_are_watched():
    model = recalibrate(tiny_model(), clip(60), roi="grid:2x2", block=2)
    events = list(watch(model, clip(16, seed=SEED, blots=((10, 16),)), roi="grid:2x2", window=0.5, alarms_per_hour=60))
    assert events
    assert all(event.box is not None for event in events)


def test_a_model_without_footage_says_what_to_do():
    with pytest.raises(DataError, match="oddsight recalibrate"):
        next(watch(tiny_model(), clip(1)))


def test_too_little_footage_says_how_much_it_takes(model):
    with pytest.raises(DataError, match=r"takes 0.999 hours .*1,799 blocks of 2 s.* it has 0.033"):
        next(watch(model, clip(1), window=0.5, alarms_per_hour=1))


def test_frames_without_times_are_refused(model):
    with pytest.raises(DataError, match="has no time"):
        list(watch(model, Arrays(np.zeros((2, 16, 16, 3), np.uint8)), window=0.5, alarms_per_hour=RATE))


@pytest.mark.slow
def test_recalibrating_keeps_graph_scores_and_threshold(model):
    before = tiny_model()
    assert model.metadata.graph_sha256 == before.metadata.graph_sha256
    assert model.decision == before.decision
    assert model.metadata.schema_version == 8
    assert model.footage.blocks == 60
    scores = [result.score for result in before.predict_many(clip(120))]
    assert model.footage.scores["frame"].tolist() == scores
    assert model.with_footage(None).metadata == before.metadata


@pytest.mark.slow
def test_recalibrating_on_what_was_learned_is_refused():
    frames = list(clip(30))
    model = oddsight.fit(
        [np.asarray(f.image) for f in frames[:50]], method="knn", backbone="pixels", groups="none", size=16
    )
    with pytest.raises(DataError, match=r"frame 0#9 is among the images that the model was made of"):
        recalibrate(model, clip(30), block=1)
    notes = []
    other = [Frame(frames[0].image, "black", 0.0, 0), *(replace(f, time=f.time + 0.1) for f in clip(30, seed=1))]
    found = recalibrate(model, other, block=1, note=notes.append)
    assert len(found.footage.times) == 300
    assert notes == ["frames that the model was made of were left out: 1"]


@pytest.mark.slow
def test_footage_that_cannot_be_scored_is_told():
    frames = list(clip(30))
    frames[7] = ImageError("clip.mp4#7", "the frame is damaged")
    notes = []
    recalibrate(tiny_model(), frames, block=1, note=notes.append)
    assert notes == ["frames that could not be scored were left out: clip.mp4#7: the frame is damaged"]
    broken = tiny_model(sign=float("nan"))
    with pytest.raises(DataError, match=r"no frames to calibrate on: .* not a finite number"):
        recalibrate(broken, clip(2), block=1)


def test_footage_is_given_once(tmp_path):
    write_video(tmp_path / "a.mp4", [np.asarray(frame.image) for frame in clip(3)], rate=FRAMES)
    (tmp_path / "b.mp4").symlink_to(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="given twice"):
        recalibrate(tiny_model(), VideoFile(tmp_path / "a.mp4"), VideoFile(tmp_path / "b.mp4"), block=1)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "c.mp4")
    with pytest.raises(DataError, match=r"c\.mp4: is a copy of .*a\.mp4"):
        recalibrate(tiny_model(), VideoFile(tmp_path / "a.mp4"), VideoFile(tmp_path / "c.mp4"), block=1)


class Camera(LiveStream):
    """A live source whose frames come when they are asked for."""

    def __init__(self, frames):
        self._frames = frames
        self.name, self.away_since, self._seen, self.closed = "camera 7", None, Counts(), threading.Event()

    @property
    def counts(self):
        return self._seen

    def now(self):
        return 60.0

    def close(self):
        self.closed.set()

    def __iter__(self):
        for frame in self._frames:
            if frame is None:
                self.away_since = 12.0
                yield ImageError("camera 7", "brings no frames")
                self.away_since = None
                continue
            received = self._seen.received + 3
            self._seen = replace(self._seen, received=received, handed=received // 3, stale=received - received // 3)
            yield frame


@pytest.mark.slow
def test_a_live_source_has_ages_drops_times_of_day_and_goes_away(model):
    frames = list(clip(30, seed=SEED, blots=((10, 30),)))
    camera = Camera([*frames[:200], None, *frames[200:]])
    ears = Ears()
    watched = list(watch_frames(model, camera, window=0.5, alarms_per_hour=RATE, workers=1, sinks=[ears]))
    assert camera.closed.is_set()
    assert ears.run.live
    assert ears.run.source == "camera 7"
    events = [event for frame in watched for event in frame.events]
    assert {event.kind for event in events} == {"anomaly", "source"}
    assert all(event.clock is not None for event in events if event.kind == "anomaly")
    scored = [frame for frame in watched if frame.frame is not None]
    assert all(frame.age == 60 - frame.frame.time for frame in scored)
    assert sum(frame.dropped.get("stale", 0) for frame in watched) == camera.counts.stale
    assert [frame.frame.index for frame in scored] == list(range(300))


def test_frames_are_not_held_back_by_their_successors(model):
    """A camera that brings one frame and then waits: its result comes at once."""
    go = threading.Event()

    class Slow(Camera):
        def __iter__(self):
            yield Frame(np.full((16, 16, 3), 80, np.uint8), "camera 7#0", 0.0, 0)
            assert go.wait(120)

    watched = watch_frames(model, Slow([]), window=0.5, alarms_per_hour=RATE, workers=2)
    assert next(watched).frame.index == 0
    go.set()
    assert [frame.frame for frame in watched] == [None]


@pytest.mark.slow
def test_an_event_that_does_not_end_says_what_to_do_and_is_no_drift(model):
    source = clip(140, seed=SEED, blots=((20, 120),))
    events = list(watch(model, source, window=0.5, alarms_per_hour=RATE))
    assert {event.kind for event in events} == {"anomaly"}
    lasting = [event for event in events if event.note is not None]
    assert [event.state for event in lasting] == ["update", "end"]
    assert "recalibrate" in lasting[0].note
    assert lasting[0].start < 21
    assert lasting[1].end >= 119


@pytest.mark.slow
def test_what_passes_as_normal_is_followed_between_events(model):
    blots = tuple((start, start + 0.8) for start in np.arange(5.0, 300, 30))
    events = list(watch(model, clip(300, seed=3, gain=0.75, blots=blots), window=0.5, alarms_per_hour=RATE))
    assert [event.state for event in events if event.kind == "drift"] == ["new", "end"]
    assert sum(event.kind == "anomaly" and event.state == "new" for event in events) == len(blots)
