"""Sinks: results of any source go to any number of them, and nothing half-written stays."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import run
from oddsight.data.decoding import IMAGE_MEMORY
from oddsight.data.images import read_image
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.sinks import Explanations, HeatMaps, JsonLines, Regions, Table
from oddsight.sinks.prediction import _memory_left
from oddsight.sources import Arrays, Encoded, Files
from tiny_model import tiny_model


@pytest.fixture(scope="module")
def model():
    """It flags what is bright."""
    return tiny_model()


@pytest.fixture
def images(tmp_path):
    """A dark image, a bright one and a broken one."""
    folder = tmp_path / "new"
    folder.mkdir()
    for name, value in (("dark", 20), ("bright", 250)):
        Image.fromarray(np.full((24, 24, 3), value, np.uint8)).save(folder / f"{name}.png")
    (folder / "torn.png").write_bytes(b"no image")
    return folder


class Noted:
    """A sink of one's own, which notes what it is told."""

    def __init__(self):
        self.told, self.ended = [], None

    @contextmanager
    def open(self, run):
        self.model = run.model
        try:
            yield self.told.append
            self.ended = "well"
        except BaseException as error:
            self.ended = error
            raise


def test_a_sink_of_ones_own_is_told_of_every_image_in_order(model, images):
    noted = Noted()
    totals = oddsight.predict(model, images, sinks=[noted])
    outcomes = [prediction.outcome for prediction in noted.told]
    assert [Path(o.path if isinstance(o, ImageError) else o.source).stem for o in outcomes] == [
        "bright",
        "dark",
        "torn",
    ]
    assert (totals.normal + totals.anomalous, totals.errors, noted.ended) == (2, 1, "well")
    assert noted.model is model


@pytest.mark.slow
def test_files_are_those_of_the_command(model, images, tmp_path):
    model.save(tmp_path / "model.onnx")
    threshold = model.with_decision(threshold=-1e9)
    here = tmp_path / "here"
    sinks = [HeatMaps(here / "maps"), Explanations(here / "why"), Regions(here / "regions")]
    oddsight.predict(threshold, images, sinks=[*sinks, JsonLines(tmp_path / "here.jsonl")])
    there = tmp_path / "there"
    options = ["--maps", there / "maps", "--explain", there / "why", "--regions", there / "regions"]
    run("predict", tmp_path / "model.onnx", images, *options, "--json", tmp_path / "there.jsonl", "--threshold=-1e9")
    names = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert len(names) == 8
    assert names == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    assert all((here / name).read_bytes() == (there / name).read_bytes() for name in names)
    expected = (tmp_path / "there.jsonl").read_text().replace(str(there), str(here))
    assert (tmp_path / "here.jsonl").read_text() == expected


def test_images_in_memory_get_files_by_their_names(model, images, tmp_path):
    contents = {name: (images / "bright.png").read_bytes() for name in ("a/x.png", "b/X.png", "../..")}
    oddsight.predict(model, Encoded(contents), sinks=[HeatMaps(tmp_path / "maps")])
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["X_2.png", "image.png", "x.png"]
    pixels = read_image(images / "dark.png")
    oddsight.predict(model, Arrays([pixels, pixels], times=[0, 1]), sinks=[HeatMaps(tmp_path / "frames")])
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["image-000000.png", "image-000001.png"]


def test_a_stream_gets_lines_as_they_come(model, images):
    stream = io.StringIO()
    oddsight.predict(model, Files(images), sinks=[JsonLines(stream)])
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [set(line) >= {"path", "score"} for line in lines] == [True, True, False]


def test_nothing_half_written_stays_after_an_error(model, images, tmp_path):
    def interrupted():
        yield oddsight.Frame(images / "dark.png")
        raise KeyboardInterrupt

    target = tmp_path / "scores.jsonl"
    target.write_text("of an earlier run")
    noted = Noted()
    with pytest.raises(KeyboardInterrupt):
        oddsight.predict(model, interrupted(), sinks=[noted, JsonLines(target)])
    assert target.read_text() == "of an earlier run"
    assert isinstance(noted.ended, KeyboardInterrupt)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_a_decision_over_the_batch_reaches_every_sink(model, images):
    noted = Noted()
    oddsight.predict(model, images, sinks=[noted], fdr=0.5)
    frames = [prediction.frame for prediction in noted.told]
    assert [frame.path.stem for frame in frames] == ["bright", "dark", "torn"]


def test_folders_are_checked_before_anything_is_written(model, images, tmp_path):
    with pytest.raises(OddsightError, match="name two folders"):
        oddsight.predict(model, images, sinks=[HeatMaps(tmp_path / "x"), Explanations(tmp_path / "x")])
    with pytest.raises(OddsightError, match="could replace the images there"):
        oddsight.predict(model, images, sinks=[HeatMaps(images)])
    with pytest.raises(DataError, match="no images in"):
        oddsight.predict(model, tmp_path / "x")
    assert not list((tmp_path / "x").iterdir())


def test_rows_go_to_standard_output(model, images, capfd):
    oddsight.predict(model, images, sinks=[Table()])
    assert len(capfd.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("options", [{"overlap": 4}, {"per_tile": True}])
def test_what_is_for_tiles_needs_a_tile(model, images, options):
    with pytest.raises(OddsightError, match="give a tile"):
        oddsight.predict(model, images, **options)


def test_an_empty_list_is_an_error(model):
    with pytest.raises(DataError, match="the list is empty"):
        oddsight.predict(model, [])


def test_a_sink_that_cannot_open_is_known_before_a_batch_is_scored(model, images):
    class Shut:
        @contextmanager
        def open(self, run):
            raise DataError("shut")
            yield

    read = []

    def frames():
        for path in sorted(images.iterdir()):
            read.append(path)
            yield path

    with pytest.raises(DataError, match="shut"):
        oddsight.predict(model, frames(), sinks=[Shut()], fdr=0.5)
    assert not read


@pytest.mark.parametrize("name", ["bright.png", "dark.png"])
def test_a_folder_in_the_place_of_a_result_is_the_error_of_that_image(name, model, images, tmp_path):
    (tmp_path / "maps" / name).mkdir(parents=True)
    noted = Noted()
    totals = oddsight.predict(model, images, sinks=[HeatMaps(tmp_path / "maps"), noted])
    errors = {Path(p.outcome.path).name: p.outcome.reason for p in noted.told if isinstance(p.outcome, ImageError)}
    assert sorted(errors) == sorted([name, "torn.png"]) and totals.errors == 2
    assert (
        errors[name] == f"{tmp_path / 'maps' / name}: a folder is where this result is to be written: move it elsewhere"
    )


@pytest.mark.parametrize(("size", "left"), [(224, IMAGE_MEMORY), (640, 1_460_000_000), (4000, IMAGE_MEMORY // 4)])
def test_a_larger_network_leaves_less_memory_for_images(size, left):
    backbone = SimpleNamespace(size=size)
    model = cast("Any", SimpleNamespace(metadata=SimpleNamespace(backbone=backbone), to_bytes=lambda: b""))
    assert _memory_left(None, model) == pytest.approx(left, rel=0.01)
