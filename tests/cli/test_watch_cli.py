import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli_files import Outcome, assert_failed, json_lines, run
from footage import RATE, clip, watching_model
from oddsight.cli.video_footage import say_footage
from oddsight.model.footage import Footage
from oddsight.model.model import load
from oddsight.sources import VideoFile
from tiny_model import tiny_model
from video_files import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, normal footage, and a clip with a blot."""
    folder = tmp_path_factory.mktemp("watch")
    watching_model().save(folder / "model.onnx")
    tiny_model().save(folder / "bare.onnx")
    for name, blots in (("normal.mp4", ()), ("blot.mp4", ((8, 12),))):
        frames = [np.asarray(frame.image) for frame in clip(16, seed=5, blots=blots)]
        write_video(folder / name, frames, rate=RATE)
    labels = "frame,anomalous\n" + "".join(f"{n},{int(80 <= n < 120)}\n" for n in range(160))
    (folder / "labels.csv").write_text(labels)
    return folder


OPTIONS = ("--alarms-per-hour", "36", "--window", "0.5s", "--quiet")


@pytest.mark.slow
def test_watch_writes_events_and_frames_and_says_that_there_was_an_anomaly(folder, tmp_path):
    events, frames = tmp_path / "events.jsonl", tmp_path / "frames.jsonl"
    command = ("watch", folder / "model.onnx", folder / "blot.mp4", "--events", events, "--frames", frames, *OPTIONS)
    outcome = run(*command, "--fail-on-anomaly")
    assert (outcome.code, outcome.err) == (3, "")
    written = json_lines(events)
    assert [event["state"] for event in written if event["state"] != "update"] == ["new", "end"]
    assert 8 <= written[0]["start"] <= 9
    assert [frame["index"] for frame in json_lines(frames) if frame["index"] is not None] == list(range(160))
    before = events.read_bytes(), frames.read_bytes()
    assert run(*command, "--workers", 1).code == 0
    assert (events.read_bytes(), frames.read_bytes()) == before


@pytest.mark.slow
def test_recalibrate_makes_a_model_that_can_watch(folder, tmp_path):
    made = tmp_path / "new.onnx"
    footage = ("--from-video", folder / "normal.mp4", "--block", "2s")
    outcome = run("recalibrate", folder / "bare.onnx", *footage, "-o", made)
    assert outcome.code == 0
    assert (
        ": 16.0 s of normal footage, 8 blocks of 2 s: enough for --alarms-per-hour 200 or more, with a --window of 0.5s"
        in outcome.err
    )
    info = run("info", made, "--json").json
    assert info["footage"]["blocks"] == 8
    assert info["footage"]["zones"] == ["frame"]
    assert_failed(run("watch", made, folder / "blot.mp4", "--window", "0.5s"), "hours of normal footage", "recalibrate")
    assert run("watch", made, folder / "normal.mp4", "--alarms-per-hour", 300, "--window", "0.5s", "-q").code == 0


@pytest.mark.slow
def test_folders_of_frames_are_footage_and_clips(folder, tmp_path):
    """As many datasets are published, with images numbered from 001."""
    for name, clip_file in (("normal", "normal.mp4"), ("blot", "blot.mp4")):
        (tmp_path / name).mkdir()
        for frame in VideoFile(folder / clip_file):
            Image.fromarray(frame.image).save(tmp_path / name / f"{frame.index + 1:03d}.png")
    fitted, made = tmp_path / "fitted.onnx", tmp_path / "made.onnx"
    pace = ("--rate", RATE, "--every", "0.2s", "--block", "2s")
    options = ("--method", "knn", "--backbone", "pixels", "--size", 16)
    assert run("fit", "--from-video", tmp_path / "normal", *pace, *options, "-o", fitted).code == 0
    assert run("info", fitted, "--json").json["footage"]["interval"] == pytest.approx(1 / RATE)
    bare, footage = folder / "bare.onnx", ("--from-video", tmp_path / "normal", "--rate", RATE)
    assert run("recalibrate", bare, *footage, "--block", "2s", "-o", made).code == 0
    (tmp_path / "labels.csv").write_text("clip,first_frame,last_frame,anomalous\nblot,0,79,0\nblot,80,119,1\n")
    labelled = ("--video", tmp_path, "--labels", tmp_path / "labels.csv", "--rate", RATE)
    outcome = run("evaluate", made, *labelled, "--alarms-per-hour", 300, "--window", "0.5s", "--json", "-")
    assert outcome.code == 0
    assert outcome.json["clips"] == ["blot"]
    assert outcome.json["frame_auroc"] == 1
    assert_failed(run("fit", "--from-video", folder, "-o", fitted), "name videos one by one")


def test_fit_refuses_a_copy_before_it_learns(folder, tmp_path):
    """Blocks of it that are held out would be copies of those that are learned from."""
    copy, made = tmp_path / "copy.mp4", tmp_path / "made.onnx"
    shutil.copy(folder / "normal.mp4", copy)
    for second, said in ((copy, "is a copy of"), (folder / "normal.mp4", "is given twice")):
        videos = ("--from-video", folder / "normal.mp4", "--from-video", second)
        assert_failed(run("fit", *videos, "--block", "2s", "-o", made), said)
        assert not made.exists()


@pytest.mark.slow
def test_footage_without_a_whole_block_is_too_little(folder, tmp_path):
    outcome = run("recalibrate", folder / "bare.onnx", "--from-video", folder / "normal.mp4", "-o", tmp_path / "m.onnx")
    assert outcome.code == 0
    assert "0 blocks of 60 s: too little for alarms" in outcome.err


@pytest.mark.parametrize(
    ("blocks", "block", "zones", "said"),
    [
        (1, 1.0, ["a"], "1.0 s of normal footage, 1 block of 1 s: enough for --alarms-per-hour 1800 or more, with "
         "a --window of 0.25s or less"),
        (24, 60.0, ["a", "b"], "24 min of normal footage, 24 blocks of 60 s: enough for --alarms-per-hour 4.8 or more, "
         "2.4 in each of 2 zones"),
        (180, 60.0, ["a"], "3.0 hours of normal footage, 180 blocks of 60 s: enough for --alarms-per-hour 0.34 or "
         "more"),
    ],
)  # fmt: skip
def test_what_footage_is_enough_for_can_be_typed(folder, capsys, blocks, block, zones, said):
    times = np.arange(0, blocks * block, block / 20)
    measured = Footage(times, {zone: np.zeros(len(times), np.float32) for zone in zones}, block)
    say_footage(load(folder / "model.onnx").with_footage(measured), Path("made.onnx"), quiet=False)
    assert " ".join(capsys.readouterr().err.split()) == f"made.onnx: {said}"


@pytest.mark.slow
def test_evaluate_measures_videos(folder, tmp_path):
    numbers = tmp_path / "numbers.json"
    video = ("--video", folder / "blot.mp4", "--labels", folder / "labels.csv", *OPTIONS)
    outcome = run("evaluate", folder / "model.onnx", *video, "--json", numbers)
    assert outcome.code == 0
    assert "1 video: " in outcome.out and "1 alarm for 1 anomaly; false alarms: 0 in " in outcome.out
    (content,) = json_lines_or_one(numbers)
    assert content["frame_auroc"] == 1


def json_lines_or_one(path):
    import json

    return [json.loads(path.read_text())]


def test_errors_are_one_sentence(folder, tmp_path):
    model, video = folder / "model.onnx", folder / "blot.mp4"
    assert_failed(run("watch", folder / "bare.onnx", video), "no normal footage", "oddsight recalibrate")
    assert_failed(run("watch", model, tmp_path / "none.mp4"), "none.mp4", "no such video file")
    assert_failed(run("watch", model, video), "too long for blocks of 2 s")
    assert_failed(run("watch", model, video, "--zones", tmp_path / "none.json"), "none.json")
    assert_failed(run("watch", model, video, "--events", video), "would replace an input")
    assert_failed(run("recalibrate", model, "--from-video", video, "-o", model), "would replace an input")
    assert_failed(run("evaluate", model, "--video", video, "--labels", tmp_path / "none.csv"), "cannot be read")


def test_wrong_usage_is_said(folder):
    model, video = folder / "model.onnx", folder / "blot.mp4"
    for arguments in (
        ("watch", model, video, "--window", "long"),
        ("evaluate", model, "--video", video),
        ("evaluate", model, "--video", video, "--labels", video, "--masks", folder),
        ("evaluate", model, folder, "--window", "2s"),
    ):
        outcome = run(*arguments)
        assert isinstance(outcome, Outcome)
        assert outcome.code == 2
