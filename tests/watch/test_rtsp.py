"""A camera that sends more frames than the model can score: over RTSP, from another process."""

from __future__ import annotations

import json
import logging
import threading

import pytest

import rtsp_server
from footage import watching_model
from oddsight.model.model import Model
from oddsight.sinks import EventLines, FrameLines, KeyFrames
from oddsight.sources import LiveStream
from oddsight.watch.watching import watch_frames

pytestmark = [
    pytest.mark.skipif(rtsp_server.MISSING, reason="needs aio-rtsp-toolkit, which serves RTSP"),
    pytest.mark.slow,
]
SECRETS = ("s3cret", "b0b", "play_count")
SCORED = 25


class SlowModel(Model):
    """A model that takes the time of five frames of the camera."""

    def score(self, *args, **options):
        threading.Event().wait(0.2)
        return super().score(*args, **options)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """What came of a camera until so many frames were scored, and the folder of all that was written."""
    folder = tmp_path_factory.mktemp("watched")
    sinks = [EventLines(folder / "events.jsonl"), FrameLines(folder / "frames.jsonl"), KeyFrames(folder / "keys")]
    model = SlowModel.from_bytes(watching_model(30).to_bytes())
    frames = []
    with rtsp_server.serving(tmp_path_factory.mktemp("served")) as place:
        stream = LiveStream(f"rtsp://b0b:s3cret@{place}", timeout=60)
        for frame in watch_frames(model, stream, alarms_per_hour=300, window=0.5, workers=1, sinks=sinks):
            frames.append(frame)
            if sum(frame.frame is not None for frame in frames) == SCORED:
                stream.close()
    return frames, stream, folder


def test_every_frame_is_scored_or_dropped_for_a_cause(watched):
    frames, stream, folder = watched
    counts = stream.counts
    lines = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
    for dropped in ([frame.dropped for frame in frames], [line["dropped"] for line in lines]):
        stale, broken = (sum(part.get(cause, 0) for part in dropped) for cause in ("stale", "broken"))
        assert (stale, broken) == (counts.stale, counts.broken)
    scored = sum(frame.frame is not None for frame in frames)
    assert scored == counts.handed == sum(line["index"] is not None for line in lines) >= SCORED
    assert counts.waiting == 0
    assert counts.received == scored + counts.stale + counts.broken
    assert counts.stale > 0  # so the model was too slow for it
    assert counts.reconnects == 0


def test_frames_come_in_their_order(watched):
    frames, _, _ = watched
    scored = [frame.frame for frame in frames if frame.frame is not None]
    indices, times = [frame.index for frame in scored], [frame.time for frame in scored]
    assert indices == sorted(set(indices))
    assert times == sorted(times)


def test_credentials_are_nowhere(watched, caplog, capfd):
    frames, stream, folder = watched
    caplog.set_level(logging.DEBUG)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) >= 2
    said = [*(file.read_bytes().decode(errors="replace") for file in files), *map(repr, frames)]
    said += [frame.frame.name for frame in frames if frame.frame is not None]
    said += [repr(stream), stream.name, repr(stream.counts), caplog.text, *capfd.readouterr()]
    assert stream.name.startswith("rtsp://127.0.0.1:")
    assert not [secret for secret in SECRETS if secret in "".join(said)]
