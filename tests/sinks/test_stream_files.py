"""What a stream leaves in files: lines, key frames, and what stays after an interruption."""

from __future__ import annotations

import io
import json
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from cli_files import json_lines
from oddsight.drawing.frames import draw_frame
from oddsight.errors import OddsightError
from oddsight.sinks.streams.key_frames import KeyFrames
from oddsight.sinks.streams.lines import EventLines, FrameLines
from stream_frames import BEGIN, COUNT, PEAK, event, stream, write


def broken_off(error, after=6):
    """A stream that ends with an error."""
    for number, watched in enumerate(stream()):
        if number == after:
            raise error
        yield watched


def test_events_are_lines_in_the_order_of_their_states(tmp_path):
    path = tmp_path / "events.jsonl"
    assert write(EventLines(path)) == []
    expected = [one.to_json() for watched in stream() for one in watched.events]
    assert json_lines(path) == expected
    assert [(line["id"], line["state"]) for line in expected] == [
        ("1", "new"),
        ("1", "update"),
        ("1", "end"),
        ("2", "new"),
    ]


def test_every_frame_is_a_line_and_every_drop_is_in_one(tmp_path):
    path = tmp_path / "frames.jsonl"
    write(FrameLines(path))
    lines = json_lines(path)
    assert [line["index"] for line in lines] == [0, None, *range(2, COUNT)]
    assert lines[1]["error"] == "clip#1: it is torn"
    dropped = [(cause, number) for line in lines for cause, number in line["dropped"].items()]
    assert dropped == [("broken", 1), ("stale", 2)]
    assert set(lines[5]["looks"][0]) == {"zone", "track", "box", "score", "p_value", "verdict", "alarm"}


def test_an_open_stream_gets_lines_as_they_come():
    stream = io.StringIO()
    write(EventLines(stream))
    assert [json.loads(line)["id"] for line in stream.getvalue().splitlines()] == ["1", "1", "1", "2"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit(), BrokenPipeError()])
def test_an_interruption_finishes_the_file(error, tmp_path):
    path = tmp_path / "frames.jsonl"
    path.write_text("of an earlier run")
    with pytest.raises(type(error)):
        write(FrameLines(path), broken_off(error))
    assert len(json_lines(path)) == 6
    assert [one.name for one in tmp_path.iterdir()] == ["frames.jsonl"]


def test_a_run_over_a_video_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "frames.jsonl"
    path.write_text("of an earlier run")
    with pytest.raises(OddsightError, match="no such zone"):
        write(FrameLines(path), broken_off(OddsightError("no such zone")))
    assert path.read_text() == "of an earlier run"


def test_lines_of_a_live_stream_are_there_at_once_and_added_to_those_of_earlier_runs(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"id": "0"}\n{"id": "torn')
    seen = []

    def watching():
        for watched in stream():
            yield watched
            if watched.events:
                seen.append(path.read_text().count("\n"))

    with suppress(RuntimeError):
        write(EventLines(path), watching(), live=True)
    assert seen == [3, 4, 5, 6]
    assert path.read_text().startswith('{"id": "0"}\n{"id": "torn\n{"id": "1"')


def test_lines_are_not_added_to_another_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(OddsightError, match="holds no lines of JSON"):
        write(EventLines(path), live=True)
    assert path.read_text() == "mine"


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path):
    for live in (False, True):
        with pytest.raises(OddsightError, match=r"cannot write .*frames\.jsonl"):
            write(FrameLines(tmp_path / "nowhere" / "frames.jsonl"), live=live)


def test_the_key_frame_is_that_of_the_peak_with_what_is_drawn_on_it(tmp_path):
    zones = {"door": [(0.1, 0.1), (0.6, 0.1), (0.6, 0.8)]}
    assert write(KeyFrames(tmp_path), zones=zones) == []
    assert [path.name for path in tmp_path.iterdir()] == ["1.jpg"]
    pixels = np.asarray(Image.open(tmp_path / "1.jpg")).astype(float)
    frames = {watched.frame.index: watched for watched in stream() if watched.frame is not None}
    difference = {
        index: np.abs(pixels - draw_frame(frames[index].frame.read(), frames[index], zones)).mean()
        for index in (BEGIN, PEAK)
    }
    assert difference[PEAK] + 2 < difference[BEGIN]
    assert ((pixels[..., 0] - pixels[..., 2]) > 80).any()  # the red outline


def test_key_frames_of_an_earlier_run_make_way_and_other_files_stay(tmp_path):
    write(KeyFrames(tmp_path), [*stream(), *_another("3")])
    (tmp_path / "own.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:-1])
    assert write(KeyFrames(tmp_path)) == [f"removed 2 files of an earlier run from {tmp_path}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.jpg", "own.jpg"]


def test_key_frames_of_a_live_stream_stay(tmp_path):
    write(KeyFrames(tmp_path), live=True)
    (first,) = tmp_path.iterdir()
    assert first.name.endswith("Z-1.jpg")
    renamed = first.rename(tmp_path / f"20010101T000000Z-{first.name.partition('-')[2]}")
    write(KeyFrames(tmp_path), live=True)
    assert renamed.exists() and len(list(tmp_path.iterdir())) == 2


def test_a_peak_that_is_forgotten_keeps_the_frame_of_the_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr("oddsight.sinks.streams.key_frames._REMEMBERED", 1)
    write(KeyFrames(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["1.jpg"]
    assert write(KeyFrames(tmp_path), _another("9", index=0))[-1] == "event 9 has no key frame: frame 0 is gone"


def test_names_of_events_cannot_leave_the_folder(tmp_path):
    write(KeyFrames(tmp_path / "keys"), _another("../../up"))
    assert [path.name for path in tmp_path.rglob("*.jpg")] == [".._.._up.jpg"]


def _another(name, **changes):
    """Frames of which the last has an event."""
    frames = [watched for watched in stream() if watched.frame is not None]
    chosen = next(one for one in frames if one.frame.index == 4)
    return [one for one in frames if one.frame.index < 4] + [
        type(chosen)(chosen.frame, chosen.looks, (event(id=name, **changes),))
    ]
