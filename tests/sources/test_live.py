"""Live streams: the newest frame, exact counts, and a connection that comes back without a trace of what it was."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

from cli_files import run
from oddsight.errors import ImageError, OddsightError
from oddsight.sources import LiveStream
from oddsight.sources.live import Counts
from video_files import stream_server

SECRETS = ("s3cret", "t0ken", "b0b")
PATIENCE = 60.0
"""Seconds that a test waits for what must come, however busy the machine is."""


@pytest.fixture
def server():
    with stream_server() as server:
        yield server


def address(server, secrets=False):
    return f"http://{'b0b:s3cret@' if secrets else ''}127.0.0.1:{server.port}/live{'?token=t0ken' if secrets else ''}"


def until(condition):
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not become so"
        threading.Event().wait(0.005)


def exact(counts: Counts) -> bool:
    return counts.received == counts.handed + counts.stale + counts.broken + counts.waiting


def frames(stream, count):
    """The next frames, and the errors among them."""
    found, errors = [], []
    for frame in stream:
        (errors if isinstance(frame, ImageError) else found).append(frame)
        if len(found) == count:
            break
    return found, errors


@pytest.mark.slow
def test_frames_come_in_order_and_are_counted(server):
    with LiveStream(address(server), max_staleness=PATIENCE) as stream:
        found, errors = frames(stream, 10)
    counts = stream.counts
    assert not errors
    assert exact(counts)
    assert counts.waiting == 0
    assert counts.handed == 10
    indices, times = [frame.index for frame in found], [frame.time for frame in found]
    assert indices == sorted(set(indices))
    assert times == sorted(times)
    assert found[0].image.shape == (48, 48, 3)
    assert found[0].name == f"{address(server)}#{indices[0]}"


@pytest.mark.slow
def test_a_slow_consumer_gets_the_newest_frame(server):
    stream = LiveStream(address(server), max_staleness=PATIENCE)
    source = iter(stream)
    first = next(source)
    until(lambda: stream.counts.stale >= 5)
    second = next(source)
    assert second.index - first.index > 5
    stream.close()
    assert exact(stream.counts)
    assert stream.counts.handed == 2


@pytest.mark.slow
def test_a_frame_that_waited_too_long_is_not_handed_on(server):
    stream = LiveStream(address(server), max_staleness=0.05, timeout=0.5)
    source = iter(stream)
    assert not isinstance(next(source), ImageError)
    server.turn("silent")
    until(lambda: stream.away_since is not None and stream.now() - stream.away_since > 0.1)
    handed = stream.counts.handed
    error = next(source)
    assert isinstance(error, ImageError)
    assert "no frame came within 0.5 s" in str(error)
    assert stream.counts.handed == handed
    assert stream.counts.waiting == 0
    stream.close()
    assert exact(stream.counts)


@pytest.mark.parametrize("mode", ["closed", "silent", "garbage"])
@pytest.mark.slow
def test_a_stream_that_went_away_comes_back(mode, server):
    stream = LiveStream(address(server), max_staleness=PATIENCE, timeout=1.0)
    source = iter(stream)
    next(source)
    server.turn(mode)
    error = next(found for found in source if isinstance(found, ImageError))
    assert "brings no frames: " in str(error)
    assert stream.away_since is not None
    server.turn("play")
    assert not isinstance(next(source), ImageError)
    assert stream.away_since is None
    assert stream.counts.reconnects >= 1
    stream.close()
    assert exact(stream.counts)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_disconnects_leave_nothing_behind(server):
    stream = LiveStream(address(server), max_staleness=PATIENCE, timeout=1.0)
    source = iter(stream)
    next(source)
    before = threading.active_count(), descriptors()
    for number in range(12):
        server.turn(("closed", "silent", "garbage")[number % 3])
        next(found for found in source if isinstance(found, ImageError))
        server.turn("play")
        next(source)
    # Of the server's own threads and connections some may end a little later.
    until(lambda: threading.active_count() <= before[0])
    gc.collect()
    until(lambda: descriptors() <= before[1])
    assert stream.counts.reconnects >= 12
    stream.close()
    assert exact(stream.counts)
    assert not any(thread.name == "live stream" for thread in threading.enumerate())


def test_closing_ends_iterating(server):
    stream = LiveStream(address(server))
    source = iter(stream)
    next(source)
    threading.Thread(target=stream.close).start()
    assert all(not isinstance(frame, ImageError) for frame in source)
    assert list(stream) == []


def everything_said(error, caplog, capfd):
    """All texts that an error and the process left, however one looks at them."""
    texts, errors = [], [error]
    while errors:
        seen = errors.pop()
        texts += [*traceback.format_exception(seen), repr(seen), repr(seen.args), repr(vars(seen))]
        errors += [other for other in (seen.__cause__, seen.__context__) if other is not None]
    out, err = capfd.readouterr()
    return "".join([*texts, caplog.text, out, err])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["closed", "silent", "garbage"])
def test_an_address_that_cannot_be_opened_is_one_sentence_without_credentials(mode, server, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.turn(mode)
    stream = LiveStream(address(server, secrets=True), timeout=0.5)
    with pytest.raises(OddsightError, match=f"127.0.0.1:{server.port}.*: cannot be opened: ") as error:
        next(iter(stream))
    said = everything_said(error.value, caplog, capfd)
    assert not [secret for secret in SECRETS if secret in said]
    assert exact(stream.counts)


@pytest.mark.parametrize(
    "text",
    [
        "http://b0b:s3cret@host.invalid/live?token=t0ken",
        "rtsp://b0b:s3cret@127.0.0.1:1/live?token=t0ken",
        "rtsp://b0b:s3cret@127.0.0.1:99999/live",
        "tcp://b0b:s3cret@127.0.0.1:1",
        "ftp://b0b:s3cret@127.0.0.1/clip.mp4",
        "http://b0b:s3cret @127.0.0.1/",
    ],
)
def test_no_wrong_address_shows_its_credentials(text, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(OddsightError) as error:
        next(iter(LiveStream(text, timeout=1.0)))
    said = everything_said(error.value, caplog, capfd)
    assert not [secret for secret in SECRETS if secret in said]


def test_frames_and_events_of_a_stream_have_no_credentials(server, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    stream = LiveStream(address(server, secrets=True), timeout=1.0)
    source = iter(stream)
    frame = next(source)
    server.turn("closed")
    error = next(found for found in source if isinstance(found, ImageError))
    stream.close()
    said = everything_said(error, caplog, capfd) + f"{frame.name} {stream.name} {stream!r} {stream.counts}"
    assert not [secret for secret in SECRETS if secret in said]
    assert "t0ken" in server.requests[0]  # which the server is to get


@pytest.mark.slow
def test_the_command_line_shows_no_credentials(tmp_path):
    outcome = run("fit", "--from-video", "rtsp://b0b:s3cret@camera/live?token=t0ken", "-o", tmp_path / "m.onnx")
    assert outcome.code == 1
    assert outcome.err.startswith("error: rtsp://camera/live?...: is a stream")
    assert not [secret for secret in SECRETS if secret in outcome.out + outcome.err]


def test_a_camera_that_is_not_there_is_one_sentence():
    with pytest.raises(OddsightError, match="camera 98: cannot be opened: "):
        next(iter(LiveStream(98)))


@pytest.mark.parametrize(
    "options", [{"max_staleness": 0}, {"timeout": -1}, {"timeout": "5"}, {"max_staleness": np.nan}]
)
def test_options_are_checked(options):
    with pytest.raises(OddsightError, match=f"{next(iter(options))} must be above 0"):
        LiveStream("http://127.0.0.1/x", **options)
