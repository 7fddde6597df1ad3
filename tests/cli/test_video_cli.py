"""The command line with video: what is normal is learned from footage."""

from __future__ import annotations

import pytest

import oddsight
from cli_files import assert_failed, run
from oddsight.sources import VideoFile
from oddsight.watch.zone_files import TEMPLATE, write_zones
from video_files import footage, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "normal.mp4"
    write_video(path, footage(60))
    return path


def fit(clip, *options):
    return run("fit", "--from-video", clip, *options, "--method", "knn", "--size", 32)


@pytest.mark.slow
def test_fit_from_video(clip, tmp_path):
    outcome = fit(clip, "--every", "200ms", "--block", "0.5s", "-o", tmp_path / "m.onnx")
    assert outcome.code == 0, outcome.err
    assert "30 images form 12 groups: calibration counts groups" in outcome.err
    model = oddsight.load(tmp_path / "m.onnx")
    assert model.metadata.calibration.groups == 3  # a quarter, whose frames are all kept for alarms
    assert model.footage.blocks == 3
    assert len(model.footage.times) == 15
    frame = next(iter(VideoFile(clip)))
    assert model.predict(frame).score == model.predict(frame.image).score


def test_few_blocks_are_an_error_that_says_how_many_it_takes(clip, tmp_path):
    outcome = fit(clip, "--every", "0.2", "--block", "500 ms", "--false-alarm-rate", "0.01", "-o", tmp_path / "m.onnx")
    assert_failed(outcome, "needs at least 99 groups of calibration images, and there are 12")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--every", "soon"], "--every takes a time above 0"),
        (["--block", "0s"], "--block takes a time above 0"),
        (["--group-by", "none"], "the groups are blocks of time"),
        (["a-folder"], "give folders of normal images, or normal videos"),
    ],
)
def test_wrong_options_of_fit_from_video(clip, options, words, tmp_path):
    outcome = fit(clip, *options, "-o", tmp_path / "m.onnx")
    assert outcome.code == 2
    assert words in outcome.err
    assert not (tmp_path / "m.onnx").exists()


def test_options_of_video_go_with_a_video(tmp_path):
    assert "--every needs --from-video" in run("fit", tmp_path, "--every", "1s", "-o", tmp_path / "m.onnx").err


def test_a_video_is_never_overwritten(clip):
    before = clip.read_bytes()
    assert_failed(fit(clip, "-o", clip), "would replace an input")
    assert clip.read_bytes() == before


def test_zones_are_never_overwritten_by_the_model(clip, tmp_path):
    zones = tmp_path / "zones.json"
    write_zones(zones, TEMPLATE)
    before = zones.read_bytes()
    assert_failed(fit(clip, "--roi", "motion", "--zones", zones, "-o", zones), "would replace an input, --zones")
    assert zones.read_bytes() == before
