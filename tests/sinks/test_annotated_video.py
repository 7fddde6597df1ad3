"""The annotated video is decoded again, and played in a browser where there is one."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from functools import partial

import numpy as np
import pytest

from oddsight.drawing.frames import draw_frame
from oddsight.errors import OddsightError
from oddsight.model.events import Look, WatchedFrame
from oddsight.sinks.streams.annotated_video import AnnotatedVideo
from oddsight.sources.frame import Frame
from stream_frames import COUNT, stream, write
from tiny_model import tiny_model

av = pytest.importorskip("av")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def decoded(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_frames_have_their_times_and_what_is_drawn_on_them(tmp_path):
    path = tmp_path / "out.mp4"
    assert write(AnnotatedVideo(path), stream(shape=(96, 128))) == []
    watched = [one for one in stream(shape=(96, 128)) if one.frame is not None]
    frames = decoded(path)
    assert [round(float(frame.pts * frame.time_base), 3) for frame in frames] == [one.frame.time for one in watched]
    for frame, one in zip(frames, watched, strict=True):
        expected = draw_frame(one.frame.read(), one).astype(int)
        assert np.abs(frame.to_ndarray(format="rgb24") - expected).mean() < 6
    content = path.read_bytes()
    assert content.find(b"moov") < content.find(b"mdat")  # so that it plays before it is loaded
    assert {(frame.format.name, frame.width, frame.height) for frame in frames} == {("yuv420p", 128, 96)}


def test_odd_sides_colours_and_frames_of_another_size(tmp_path):
    path = tmp_path / "out.mp4"
    colours = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 200]], np.uint8)
    frames = [Frame(np.broadcast_to(colour, (49 + 9 * n, 65, 3)).copy(), index=n) for n, colour in enumerate(colours)]
    write(AnnotatedVideo(path), [WatchedFrame(frame) for frame in frames])
    for frame, colour in zip(decoded(path), colours, strict=True):
        assert (frame.height, frame.width) == (50, 66)
        assert np.abs(frame.to_ndarray(format="rgb24")[:25].mean((0, 1)) - colour).max() < 12


@pytest.mark.slow
def test_an_interruption_finishes_the_file_and_a_failure_leaves_what_was_there(tmp_path):
    def broken_off(error):
        yield from list(stream())[:5]
        raise error

    path = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        write(AnnotatedVideo(path), broken_off(KeyboardInterrupt()))
    assert len(decoded(path)) == 4
    before = path.read_bytes()
    with pytest.raises(OddsightError, match="gone"):
        write(AnnotatedVideo(path), broken_off(OddsightError("gone")))
    assert path.read_bytes() == before
    live = tmp_path / "live.mp4"
    with pytest.raises(OddsightError, match="gone"):
        write(AnnotatedVideo(live), broken_off(OddsightError("gone")), live=True)
    assert len(decoded(live)) == 4
    assert sorted(one.name for one in tmp_path.iterdir()) == ["live.mp4", "out.mp4"]


def test_what_cannot_be_saved_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(OddsightError, match=r"name a file that ends in \.mp4"):
        AnnotatedVideo(tmp_path / "out.avi")
    with pytest.raises(OddsightError, match="cannot write"):
        write(AnnotatedVideo(tmp_path / "nowhere" / "out.mp4"))
    (tmp_path / "out.mp4").touch()
    with pytest.raises(OddsightError, match="a live stream replaces no file"):
        write(AnnotatedVideo(tmp_path / "out.mp4"), live=True)
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(OddsightError, match="none of the encoders libx264"):
        write(AnnotatedVideo(tmp_path / "out.mp4"))


def test_a_stream_without_frames_leaves_no_video(tmp_path):
    write(AnnotatedVideo(tmp_path / "out.mp4"), [])
    assert not list(tmp_path.iterdir())


def test_a_zone_is_coloured_inside_only_and_a_crop_where_it_was_scored():
    pixels = np.full((40, 80, 3), 195, np.uint8)
    result = tiny_model().predict(pixels)
    assert result.map is not None and (result.map > result.threshold).all()
    zone = [(0.0, 0.0), (0.4, 0.0), (0.4, 0.9), (0.0, 0.9)]
    drawn = draw_frame(pixels, WatchedFrame(Frame(pixels), (Look("door", result),)), {"door": zone})
    assert drawn[15, 10, 2] < 150
    assert (drawn[10, 40:] == 195).all()
    crop = tiny_model().predict(pixels[:20, :20])
    drawn = draw_frame(pixels, WatchedFrame(Frame(pixels), (Look("frame", crop, (52, 12, 56, 16), track=3),)))
    assert (drawn[10, :44] == 195).all() and drawn[20, 50, 2] < 150


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_it_plays_in_a_browser(tmp_path):
    write(AnnotatedVideo(tmp_path / "out.mp4"))
    (tmp_path / "page.html").write_text(
        "<video id=v src=out.mp4 muted></video><pre id=said>waiting</pre><script>"
        "v.onerror = () => said.textContent = 'error ' + v.error.message;"
        "v.oncanplaythrough = () => said.textContent = "
        "`plays ${v.videoWidth}x${v.videoHeight} ${v.duration.toFixed(1)}`;"
        "</script>"
    )
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        address = f"http://127.0.0.1:{server.server_port}/page.html"
        page = subprocess.run(
            [BROWSER, *options, "--virtual-time-budget=20000", "--dump-dom", address],
            capture_output=True, text=True, timeout=120, check=True,
        ).stdout  # fmt: skip
        server.shutdown()
    assert f"plays 64x48 {(COUNT - 1) / 10 + 0.04:.1f}" in page
