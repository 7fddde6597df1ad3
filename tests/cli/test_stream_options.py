"""The options of ``oddsight watch`` about where results go."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from oddsight.cli.stream_options import stream_sinks
from oddsight.errors import OddsightError


def names(**options):
    return [type(sink).__name__ for sink in stream_sinks(**options)]


def test_nothing_is_written_or_sent_unless_asked_for():
    assert names() == ["LiveView", "EventTable"]
    assert names(quiet=True) == ["EventTable"]


def test_each_option_is_a_sink(tmp_path):
    chosen = names(
        events=tmp_path / "events.jsonl",
        frames=tmp_path / "frames.jsonl",
        key_frames=tmp_path / "keys",
        save=tmp_path / "out.mp4",
        webhook="https://host/hook",
        mqtt="mqtt://host",
        metrics=9100,
    )
    assert chosen[2:] == ["EventLines", "FrameLines", "KeyFrames", "AnnotatedVideo", "Webhook", "Mqtt", "Metrics"]
    assert not list(tmp_path.iterdir())


def test_events_on_standard_output_replace_the_table(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    assert names(events=tmp_path / "pipe", quiet=True) == ["EventLines"]


def test_outputs_that_are_inputs_or_each_other_are_refused(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.touch()
    with pytest.raises(OddsightError, match="would replace an input"):
        stream_sinks(save=clip, inputs={"SOURCE": clip})
    with pytest.raises(OddsightError, match="cannot both be written"):
        stream_sinks(events=tmp_path / "x", frames=tmp_path / "x")
    with pytest.raises(OddsightError, match="would be read as images the next time"):
        stream_sinks(key_frames=tmp_path / "keys", inputs={"SOURCE": tmp_path})


def test_the_key_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "key"
    with pytest.raises(OddsightError, match="cannot be read: No such file"):
        stream_sinks(webhook="https://host", webhook_key=file)
    file.write_text("secret\n")
    with pytest.raises(OddsightError, match="has 6 bytes"):
        stream_sinks(webhook="https://host", webhook_key=file)
    file.write_bytes(b"\xff" * 20)
    with pytest.raises(OddsightError, match="it is not text"):
        stream_sinks(webhook="https://host", webhook_key=file)
    monkeypatch.setenv("ODDSIGHT_WEBHOOK_KEY", "short")
    with pytest.raises(OddsightError, match="has 5 bytes"):
        stream_sinks(webhook="https://host")
    with pytest.raises(typer.BadParameter, match="needs --webhook"):
        stream_sinks(webhook_key=file)


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"webhook_rate": 5.0}, "--webhook"),
        ({"webhook_key": Path("key")}, "--webhook"),
        ({"mqtt_ca": Path("ca")}, "--mqtt"),
    ],
)
def test_options_of_a_sink_that_is_not_asked_for_are_refused(options, needed):
    with pytest.raises(typer.BadParameter, match=f"needs {needed}"):
        stream_sinks(**options)
