"""Images of formats that are not read: counted as images, named, and never passed over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oddsight.data.check import check
from oddsight.data.collection import collect
from oddsight.data.folder import find_images
from oddsight.data.formats import IMAGE_SUFFIXES, UNREAD_FORMATS
from oddsight.data.images import read_image
from oddsight.errors import DataError, ImageError
from oddsight.evaluation import evaluate
from oddsight.sinks import JsonLines
from oddsight.sinks.messages import Messages
from oddsight.sinks.prediction import predict
from tiny_model import tiny_model

HEIC = b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(64)


def image(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(level).integers(0, 9, (12, 12, 3)) + level
    Image.fromarray(pixels.astype(np.uint8)).save(path, format="PNG")
    return path


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    tiny_model().save(path)
    return path


@pytest.mark.parametrize("suffix", sorted(UNREAD_FORMATS))
def test_each_counts_as_an_image_and_says_what_to_do(tmp_path, suffix):
    assert suffix in IMAGE_SUFFIXES
    path = tmp_path / f"a{suffix.upper()}"
    path.write_bytes(b"\x01\x02 whatever this format holds" * 9)
    assert find_images(tmp_path).images == (path,)
    with pytest.raises(ImageError, match=r"(is|are) not read: \w+ ") as error:
        read_image(path)
    assert error.value.path == str(path)


@pytest.mark.parametrize("suffix", [".dng", ".CR2", ".nef"])
def test_the_preview_inside_camera_raw_is_not_taken_for_the_image(tmp_path, suffix):
    preview = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    preview.save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / f"a{suffix}")
    with pytest.raises(ImageError, match="camera raw is not read: develop it"):
        read_image(tmp_path / f"a{suffix}")


def test_what_a_file_is_its_content_says(tmp_path):
    """Phones and converters leave JPEG and PNG files under such names."""
    path = image(tmp_path / "a.png", 90)
    renamed = path.rename(tmp_path / "a.heic")
    assert read_image(renamed).shape == (12, 12, 3)


@pytest.mark.slow
def test_predict_names_each_in_its_lines(tmp_path, model):
    image(tmp_path / "new" / "1.png", 100)
    for name in ("IMG_0.HEIC", "IMG_1.heic"):
        (tmp_path / "new" / name).write_bytes(HEIC)
    totals = predict(model, tmp_path / "new", sinks=[JsonLines(tmp_path / "found.jsonl")])
    assert (totals.normal + totals.anomalous, totals.errors) == (1, 2)
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    errors = {Path(line["path"]).name: line["error"] for line in lines if "error" in line}
    assert sorted(errors) == ["IMG_0.HEIC", "IMG_1.heic"]
    assert all("HEIC" in error for error in errors.values())
    assert len(lines) == 3


@pytest.mark.slow
def test_fit_evaluate_and_check_count_them(tmp_path):
    for level in range(3):
        image(tmp_path / "good" / f"{level}.png", 60 + level)
        image(tmp_path / "bad" / f"{level}.png", 200 + level)
    for place in ("good", "bad"):
        (tmp_path / place / "x.HEIC").write_bytes(HEIC)
    assert [Path(error.path).name for error in collect(tmp_path / "good").errors] == ["x.HEIC"]
    found = evaluate(tiny_model(), normal=tmp_path / "good", anomalous=tmp_path / "bad")
    assert (found.counts["unreadable"], found.counts["ignored"]) == (2, 0)
    assert {error["path"] for error in found.to_json()["errors"]} == {
        str(tmp_path / place / "x.HEIC") for place in ("good", "bad")
    }
    assert [Path(one.path).name for one in check(tmp_path / "good").unreadable] == ["x.HEIC"]


# ---- Paths that lead to no image ----


def test_of_several_paths_each_that_leads_to_no_image_is_a_problem(tmp_path):
    good = image(tmp_path / "good.png", 90)
    for name in ("empty", "texts"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    found = find_images(tmp_path / "empty", good, tmp_path / "texts", tmp_path / "*s")
    assert found.images == (good,)
    assert [(problem.path, problem.reason) for problem in found.problems] == [
        (str(tmp_path / "empty"), "no images there"),
        (str(tmp_path / "texts"), "no images there (1 other file is ignored)"),
        (str(tmp_path / "*s"), "no images there"),
    ]


def test_a_path_whose_images_another_has_named_is_none(tmp_path):
    image(tmp_path / "a" / "b" / "1.png", 90)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    paths = [
        tmp_path / "a",
        tmp_path / "a" / "b",
        tmp_path / "a" / "b" / "1.png",
        tmp_path / "link",
        tmp_path / "a" / "*",
    ]
    for order in (paths, paths[::-1]):
        found = find_images(*order)
        assert (len(found.images), found.problems) == (1, ())


def test_predict_says_which_folder_was_empty(tmp_path, model, capfd):
    good = image(tmp_path / "good.png", 90)
    (tmp_path / "empty").mkdir()
    totals = predict(model, [tmp_path / "empty", good], sinks=[Messages()])
    assert (totals.normal + totals.anomalous, totals.errors) == (1, 1)
    assert f"{tmp_path / 'empty'}: no images there" in capfd.readouterr().err.replace("\n", "")


def test_nothing_in_any_of_several_is_an_error_that_names_them(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        DataError, match=rf"^no images in any of .*a, .*b; the first of 2 problems is .*{os.sep}a: no images"
    ):
        collect(tmp_path / "a", tmp_path / "b")
