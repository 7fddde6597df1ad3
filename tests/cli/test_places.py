"""The command ``zones``, and ``fit`` on the crops of videos."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import assert_failed, run, strict_json
from oddsight.drawing.grids import draw_grid
from oddsight.sources import VideoFile
from oddsight.watch.looks import Crops
from oddsight.watch.zone_files import read_zones, write_zones
from oddsight.watch.zones import Zone, Zones
from video_files import footage, write_video

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
OPTIONS = ("--method", "knn", "--size", 32, "--every", "0.1s", "--block", "0.3s", "--false-alarm-rate", 0.25, "--quiet")
MAPPED = ("--method", "padim", *OPTIONS[2:])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "normal.mp4"
    write_video(path, footage(36))
    return path


@pytest.mark.slow
def test_a_template_is_written_and_what_is_there_is_drawn(clip, tmp_path):
    path = tmp_path / "zones.json"
    outcome = run("zones", clip, "-o", path)
    assert outcome.code == 0
    assert "a template" in outcome.err
    strict_json(path.read_text())
    assert [zone.name for zone in read_zones(path)] == ["gate", "clock"]
    first = np.asarray(Image.open(tmp_path / "zones.png"))
    path.write_text(path.read_text().replace("0.9", "0.8"))
    before = path.read_bytes()
    outcome = run("zones", clip, "-o", path, "--at", 1, "--image", tmp_path / "other.png", "--grid", 4)
    assert outcome.code == 0
    assert "zones to look at: 1, excluded: 1" in outcome.err
    assert path.read_bytes() == before
    second = np.asarray(Image.open(tmp_path / "other.png"))
    assert first.shape == second.shape
    assert (first != second).any()


@pytest.mark.slow
def test_a_folder_of_frames_has_zones_too(world, tmp_path):
    assert run("zones", world.good, "-o", tmp_path / "zones.json", "--quiet").code == 0
    assert (tmp_path / "zones.png").exists()


def test_what_cannot_be_drawn_is_one_sentence_and_leaves_no_file(clip, tmp_path):
    path = tmp_path / "zones.json"
    assert_failed(run("zones", clip, "-o", path, "--at", 100), "its last frame is at ", "before --at 100: choose an")
    assert_failed(run("zones", tmp_path / "no.mp4", "-o", path), "no such video file")
    assert_failed(run("zones", clip, "-o", path, "--image", tmp_path / "zones.jpg"), "the ending .png")
    assert_failed(run("zones", clip, "-o", path, "--image", clip.with_suffix(".PNG"), "--at", 99), "its last frame")
    assert not list(tmp_path.iterdir())
    path.write_text("{")
    assert_failed(run("zones", clip, "-o", path), "zones.json: not JSON")
    assert path.read_text() == "{"
    assert not (tmp_path / "zones.png").exists()


def test_lines_are_where_their_labels_say():
    drawn = draw_grid(np.full((60, 120, 3), 90, np.uint8), 2, {"gate": LEFT}, {"clock": LEFT})
    plain = draw_grid(np.full((60, 120, 3), 90, np.uint8), 2)
    # A frame of 1200 x 600, with margins: white lines at its edges and in its middle.
    columns = np.flatnonzero((plain[44 + 150] == 255).all(axis=1) & (np.arange(plain.shape[1]) >= 44))
    assert np.abs(np.array([44, 44 + 600, 44 + 1199])[:, None] - columns).min(axis=1).max() <= 1
    assert (drawn != plain).any()


def test_fit_learns_from_the_crops_that_zones_have(clip, tmp_path):
    model = tmp_path / "gate.onnx"
    zones = tmp_path / "zones.json"
    write_zones(zones, Zones([Zone("gate", LEFT, model=model), Zone("door", LEFT)]))
    outcome = run("fit", "--from-video", clip, "--zones", zones, "-o", model, *OPTIONS)
    assert outcome.code == 0
    assert outcome.err == ""
    assert oddsight.load(model).footage is None  # as it says nothing of the door
    expected = Zones([read_zones(zones).include[0]])
    crops = list(Crops(VideoFile(clip), zones=expected))
    assert {crop.image.shape for crop in crops} == {(48, 24, 3)}
    learned = oddsight.load(model).metadata.training
    assert learned.images <= len(crops)
    assert learned.unreadable == 0
    assert oddsight.load(model).predict(crops[0]).p_value > 0


@pytest.mark.slow
def test_a_model_of_all_zones_has_footage_for_alarms_wherever_the_files_lie(clip, tmp_path, monkeypatch):
    zones, model = tmp_path / "zones.json", tmp_path / "gate.onnx"
    write_zones(zones, Zones([Zone("gate", LEFT, model=model)]))
    assert run("fit", "--from-video", clip, "--zones", zones, "-o", model, *OPTIONS).code == 0
    footage = oddsight.load(model).footage
    assert footage is not None
    assert list(footage.scores) == ["gate"]
    assert footage.blocks == 3  # a quarter of 3.6 seconds in blocks of 0.3
    monkeypatch.chdir(tmp_path)
    options = ["--zones", "zones.json", "--window", "0.07s", "--alarms-per-hour", 4000]
    assert run("watch", "gate.onnx", clip, *options, "--quiet").code == 0


@pytest.mark.slow
def test_zones_that_name_no_model_are_watched_by_the_map_of_whole_frames(clip, tmp_path):
    zones, model = tmp_path / "zones.json", tmp_path / "m.onnx"
    zones.write_text(json.dumps({"gate": "0,0,0.5,0,0.5,1"}))
    assert run("fit", "--from-video", clip, "--zones", zones, "-o", model, *MAPPED).code == 0
    footage = oddsight.load(model).footage
    assert footage is not None
    assert list(footage.scores) == ["gate"]
    assert_failed(run("fit", "--from-video", clip, "--zones", zones, "-o", tmp_path / "x.onnx", *OPTIONS), "localises")
    options = ["--window", "0.07s", "--alarms-per-hour", 4000, "--quiet"]
    assert run("watch", model, clip, "--zones", zones, *options).code == 0
    assert_failed(run("watch", model, clip, *options), "give the same --zones and --roi")


def test_one_block_is_too_few_and_the_error_speaks_of_blocks(clip, tmp_path):
    outcome = run("fit", "--from-video", clip, "--every", "0.1s", "-o", tmp_path / "m.onnx", "--quiet")
    assert_failed(outcome, "0 of 36 images are left to train on", "give more footage, or shorter blocks (--block)")


@pytest.mark.slow
def test_fit_learns_from_regions_of_interest(clip, tmp_path):
    model = tmp_path / "tiles.onnx"
    assert run("fit", "--from-video", clip, "--roi", "grid:2x1", "-o", model, *OPTIONS).code == 0
    metadata = oddsight.load(model).metadata
    assert metadata.calibration.groups == 3  # a quarter of 3.6 seconds in blocks of 0.3
    assert metadata.training.images > 27


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        (["--zones", "zones.json"], 'none has the property "model": "m.onnx"', 1),
        (["--zones", "missing.json"], "missing.json: the zones cannot be read", 1),
        (["--roi", "faces"], "no regions of interest 'faces'", 1),
        (["--roi", "missing.onnx"], "missing.onnx: cannot be read", 1),
    ],
)
def test_places_that_will_not_do(clip, tmp_path, monkeypatch, options, words, code):
    monkeypatch.chdir(tmp_path)
    write_zones(tmp_path / "zones.json", Zones([Zone("gate", LEFT, model=tmp_path / "other.onnx")]))
    assert_failed(run("fit", "--from-video", clip, *options, "-o", "m.onnx", "--quiet"), words, code=code)
    assert not (tmp_path / "m.onnx").exists()


def test_places_are_of_videos(world, tmp_path):
    outcome = run("fit", world.good, "--roi", "motion", "-o", tmp_path / "m.onnx")
    assert outcome.code == 2
    assert "--roi needs --from-video" in outcome.err
