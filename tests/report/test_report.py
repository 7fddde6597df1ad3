"""The report of an evaluation, and the heat maps in it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from oddsight.drawing.overlays import MAX_SIDE, overlay
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.evaluation.normal import Evaluation
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.report import write_report
from web_pages import Page

SIDE = 96
HOSTILE = "<script>alert(1)<script>.png"


def image(rng: np.random.Generator, spot: int = 0) -> Image.Image:
    """Soft stripes with a little noise, and a bright square of ``spot`` pixels if it is odd."""
    wave = 110 + 40 * np.sin(np.arange(SIDE) / 6 + rng.uniform(0, 0.4))
    pixels = np.repeat(np.repeat(wave[None], SIDE, 0)[..., None], 3, 2) + rng.normal(0, 4, (SIDE, SIDE, 3))
    if spot:
        pixels[30 : 30 + spot, 40 : 40 + spot] = (250, 30, 30)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for folder in ("train", "test/good", "test/spot", "test/$tiny_{", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    for index in range(20):
        image(rng).save(root / "train" / f"{index}.png")
    for index in range(5):
        image(rng).save(root / "test" / "good" / f"{index}.png")
        image(rng, 2).save(root / "test" / "$tiny_{" / f"{index}.png")
        name = HOSTILE if index == 0 else f"{index}.png"
        image(rng, 26).save(root / "test" / "spot" / name.replace("/", "_"))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[30:56, 40:66] = 255
        Image.fromarray(mask).save(root / "ground_truth" / "spot" / name)
    (root / "test" / "good" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


@pytest.fixture(scope="module")
def model(data: Path) -> Model:
    return oddsight.fit(data / "train", method="patchcore", size=SIDE, false_alarm_rate=0.1, groups="none")


@pytest.fixture(scope="module")
def evaluation(model: Model, data: Path) -> Evaluation:
    return oddsight.evaluate(model, data)


@pytest.fixture(scope="module")
def page(model: Model, evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(evaluation, model, path)
    return path.read_text("utf-8")


@pytest.mark.slow
def test_page_loads_nothing(page: str) -> None:
    for tag, attributes in Page(page).tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,")), (tag, attributes)
    assert "@import" not in page
    assert page.count("url(") == page.count("url(#")


@pytest.mark.slow
def test_page_has_every_part(page: str, evaluation: Evaluation) -> None:
    parsed = Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    drawn = {"histogram", "roc", "precision-recall", "p-values", "baselines", "key", "found", "passed"}
    assert {f"figure-{name}" for name in drawn} <= set(parsed.ids)
    assert {"the-numbers", "the-scores", "the-images", "how-it-was-made", "what-this-does-not-say"} <= set(parsed.ids)
    assert parsed.count("svg") == 5
    found = evaluation.counts["flagged_anomalous"]
    assert parsed.count("img") == 2 * (min(8, found) + min(8, 10 - found) + 5)
    verdict = f"{evaluation.counts['flagged_anomalous']} of 10"
    promised = "the smallest rate that can be promised is 4.76%"
    for said in (verdict, promised, "upper bound, not a setting", evaluation.metadata.graph_sha256, "$tiny_{"):
        assert said in parsed.text
    for warning in evaluation.warnings:
        assert warning in parsed.text
    assert "broken.png" in parsed.text
    assert len(page) < 2e6


@pytest.mark.slow
def test_names_are_escaped(page: str) -> None:
    assert HOSTILE in Page(page).text
    assert "<script>" not in page


@pytest.mark.slow
def test_empty_sections_say_so_and_undecodable_names_pass(model: Model, evaluation: Evaluation, tmp_path: Path) -> None:
    spots = tuple(one for one in evaluation.judged if one.kind == "spot" or (one.kind is None and not one.flagged))
    strange = dataclasses.replace(spots[-1], path="/gone/\udcff\x07.png", kind="\udcfe")
    changed = dataclasses.replace(
        evaluation,
        judged=(*spots, strange),
        by_type={"\udcfe": {**evaluation.by_type["spot"], "images": 1}, "spot": evaluation.by_type["spot"]},
        counts={**evaluation.counts, "flagged_anomalous": evaluation.counts["anomalous"], "flagged_normal": 0},
        warnings=("A baseline <b>wins</b>.",),
        errors=(ImageError("/x/\udcff.png", "is \udcff broken"),) * 60,
    )
    write_report(changed, model, tmp_path / "page.html", title="Stripes & spots \udcff")
    text = Page((tmp_path / "page.html").read_text("utf-8")).text
    for said in ("No anomaly was missed.", "A baseline <b>wins</b>.", "Stripes & spots", "could not be read again"):
        assert said in text
    assert "No normal image was flagged." in text
    assert "and 10 more" in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_other_model_is_refused(model: Model, evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another"):
        write_report(evaluation, model.with_decision(threshold=1.0), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [-3.0, 0.0, 1e-6, 1e9])
def test_odd_thresholds(model: Model, evaluation: Evaluation, tmp_path: Path, threshold: float) -> None:
    by_hand = model.with_decision(threshold=threshold)
    judged = tuple(dataclasses.replace(one, flagged=one.score > threshold) for one in evaluation.judged[-1:])
    few = dataclasses.replace(
        evaluation,
        metadata=by_hand.metadata,
        judged=(*(one for one in evaluation.judged if one.kind is None), *judged),
        by_type={"spot": evaluation.by_type["spot"]},
    )
    write_report(few, by_hand, tmp_path / "page.html")
    assert "set by hand" in (tmp_path / "page.html").read_text("utf-8")


def result(values: np.ndarray, threshold: float | None, width: int = 80, height: int = 60) -> Result:
    score = float(values.max())
    return Result("a.png", width, height, score, 0.5, threshold, None, values.astype(np.float32))


GREY = np.full((60, 80, 3), 90, np.uint8)


def bump(low: float, high: float) -> np.ndarray:
    values = np.full((6, 8), low)
    values[2:4, 4:6] = high
    return values


def test_colours_are_tied_to_the_threshold() -> None:
    once = overlay(GREY, result(bump(0.2, 1.7), 1.0))
    assert once.shape == GREY.shape
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, overlay(GREY, result(bump(0.4, 3.4), 2.0)))
    assert (once != overlay(GREY, result(bump(0.4, 3.4), 3.0))).any()
    assert (once[:5] == GREY[:5]).all()
    red, green, blue = (int(value) for value in once[30, 50])
    assert red > 120 > max(green, blue)


def test_far_below_the_threshold_nothing_changes() -> None:
    np.testing.assert_array_equal(overlay(GREY, result(bump(0.1, 0.7), 1.0)), GREY)


def test_near_and_at_the_threshold_it_is_yellow_without_a_box() -> None:
    red, green, blue = (int(value) for value in overlay(GREY, result(np.ones((6, 8)), 1.0))[30, 40])
    assert min(red, green) > 130
    assert blue < 90


def test_boxes_lie_on_the_regions_and_scale_with_the_copy() -> None:
    found = result(bump(0.2, 1.7), 1.0, 800, 600)
    assert found.regions[0].bbox == (400, 200, 600, 400)
    drawn = overlay(np.full((600, 800, 3), 90, np.uint8), found)
    assert (drawn[[210, 390, 300], [402, 597, 402]] >= 250).all(axis=1).any()
    white = np.argwhere((overlay(GREY, found) == 255).all(axis=2))
    assert white.min(axis=0).tolist() == [20, 40]
    assert white.max(axis=0).tolist() == [39, 59]


def test_a_negative_threshold_keeps_the_order() -> None:
    values = np.full((6, 8), -2.0)
    values[:, 4:] = -0.2
    drawn = overlay(GREY, result(values, -1.0))
    np.testing.assert_array_equal(drawn[10, 0], GREY[10, 0])
    assert drawn[30, 60, 0] > drawn[30, 60, 1]


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_without_a_threshold_it_is_blue(threshold: float | None) -> None:
    drawn = overlay(GREY, result(bump(-5.0, -1.0), threshold))
    red, green, blue = (int(value) for value in drawn[30, 50])
    assert blue > max(red, green)
    np.testing.assert_array_equal(overlay(GREY, result(np.ones((6, 8)), None)), GREY)


def test_large_images_are_reduced_and_one_pixel_works() -> None:
    assert overlay(np.zeros((40, 2 * MAX_SIDE, 3), np.uint8), result(bump(0, 2), 1.0)).shape == (20, MAX_SIDE, 3)
    assert overlay(np.zeros((1, 1, 3), np.uint8), result(np.ones((1, 1)), 0.5, 1, 1)).shape == (1, 1, 3)


def test_without_a_map_it_is_an_error() -> None:
    with pytest.raises(OddsightError, match=r"a\.png has no anomaly map"):
        overlay(GREY, dataclasses.replace(result(np.ones((1, 1)), 1.0), map=None))


@pytest.mark.slow
def test_overlays_are_quick_to_import() -> None:
    heavy = "import sys, oddsight.drawing.overlays; print({'matplotlib', 'onnx', 'sklearn', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
