"""What is seen of a stream in the terminal and as metrics."""

from __future__ import annotations

import io
import re
import socket
import urllib.error
import urllib.request

import pytest
from rich.console import Console

from oddsight.errors import OddsightError
from oddsight.model.events import Look, WatchedFrame
from oddsight.sinks.streams.live_view import EventTable, LiveView
from oddsight.sinks.streams.metrics import Metrics
from oddsight.sinks.streams.sink import StreamRun
from oddsight.sinks.streams.tally import Tally
from oddsight.sources.frame import Frame
from stream_frames import BEGIN, COUNT, event, stream, write
from tiny_model import tiny_model


def test_every_frame_is_counted_once():
    tally = Tally()
    for watched in stream():
        tally.add(watched)
    assert (tally.scored, dict(tally.dropped)) == (COUNT - 1, {"broken": 1, "stale": 2})
    tally.add(WatchedFrame(None, error="the source brings no frames"))
    assert tally.dropped["broken"] == 1
    assert dict(tally.events) == {"anomaly": 1, "source": 1}
    assert list(tally.ongoing) == ["2"]


def test_a_zone_shows_the_look_that_alarms_or_deviates_most():
    model = tiny_model()
    bright, dark = (model.predict(watched.frame) for watched in (_at(BEGIN), _at(0)))
    tally = Tally()
    looks = (Look("a", dark), Look("a", bright), Look("b", bright), Look("b", dark, alarm=True))
    tally.add(WatchedFrame(Frame("x.png"), looks))
    assert tally.zones["a"].result is bright and tally.zones["b"].result is dark


def _at(index):
    return next(one for one in stream() if one.frame is not None and one.frame.index == index)


def test_rows_of_events_go_to_standard_output(capfd):
    write(EventTable())
    header, *rows = capfd.readouterr().out.splitlines()
    assert header.split() == ["state", "kind", "start", "length", "p-value", "zone", "event"]
    assert rows[0].split() == ["new", "anomaly", "00:00.4", "0.01", "door", "1"]
    assert rows[2].split() == ["end", "anomaly", "00:00.4", "0.4", "s", "0.01", "door", "1"]
    assert rows[3].endswith("2: it is away") and len(rows) == 4


def test_a_note_is_told_once_and_other_updates_say_when_it_was_strongest(capfd):
    lasting = event(), event("update", note="it lasts"), event("update", note="it lasts"), event("end")
    write(EventTable(), [WatchedFrame(None, events=(one,)) for one in lasting])
    first, second, third, last = (row.split("door")[1].strip() for row in capfd.readouterr().out.splitlines()[1:])
    assert (first, second, last) == ("1", "1: it lasts", "1")
    assert third.startswith("1: strongest at 00:")


def test_the_live_view_shows_rate_age_drops_zones_and_events():
    file = io.StringIO()
    screen = Console(file=file, force_terminal=True, width=120, color_system=None)
    now = iter(range(10_000))
    view = LiveView(screen, seconds=lambda: next(now) / 10)
    frames = [WatchedFrame(one.frame, one.looks, one.events, one.dropped, one.error, 0.25) for one in stream()]
    write(view, frames, live=True)
    shown = re.split(r"\x1b\[[0-9;?]*[A-Za-z]", file.getvalue())
    last = next(text for text in reversed(shown) if "clip.mp4" in text)
    assert re.search(r"clip.mp4   00:00.9   9 frames   \d+\.\d per second   newest \d+\.\d s old", last)
    assert "dropped: 1 broken, 2 stale" in last
    assert re.search(r"door +20 +\S+ +calm", last)
    assert "00:00.4  anomaly end in door" in file.getvalue()


def test_the_live_view_is_silent_where_nobody_sees_it():
    file = io.StringIO()
    write(LiveView(Console(file=file, force_terminal=False)))
    assert file.getvalue() == ""


def page(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return answer.read().decode()


@pytest.mark.slow
def test_metrics_are_there_while_a_stream_is_watched():
    metrics, notes = Metrics(0), []
    with metrics.open(StreamRun(tiny_model(), "clip.mp4", note=notes.append)) as take:
        address = f"http://127.0.0.1:{metrics.port}/metrics"
        assert notes == [f"metrics are at {address}"]
        assert 'oddsight_frames_total{outcome="scored"} 0\n' in page(address)
        for watched in [*stream()][: BEGIN + 1]:
            take(watched)
        found = page(address)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            page(address.replace("metrics", "elsewhere"))
    values = dict(line.rsplit(" ", 1) for line in found.splitlines() if not line.startswith("#"))
    frames = {
        cause: int(values[f'oddsight_frames_total{{outcome="{cause}"}}']) for cause in ("scored", "stale", "broken")
    }
    assert frames == {"scored": BEGIN, "stale": 2, "broken": 1}
    assert values['oddsight_alarm{zone="door"}'] == values["oddsight_events_ongoing"] == "1"
    assert float(values['oddsight_score{zone="door"}']) == _at(BEGIN).looks[0].result.score
    with pytest.raises(urllib.error.URLError):
        page(address)


def test_names_of_zones_are_escaped_in_metrics():
    metrics = Metrics(0)
    with metrics.open(StreamRun(tiny_model(), "clip.mp4")) as take:
        look = _at(BEGIN).looks[0]
        take(WatchedFrame(_at(BEGIN).frame, (Look('a"b\\c\nd', look.result),), (event(),)))
        assert 'oddsight_alarm{zone="a\\"b\\\\c\\nd"} 0\n' in page(f"http://127.0.0.1:{metrics.port}/metrics")


def test_a_port_that_is_taken_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OddsightError, match=f"cannot show metrics on port {port}: .*; name another port"):
            write(Metrics(port))
