"""The report of an evaluation of a model that knows classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from oddsight.data.classes import read_classes
from oddsight.data.outliers import read_unlabelled
from oddsight.errors import DataError, OddsightError
from oddsight.metrics.classification import expected_calibration_error
from oddsight.report import write_report
from tiny_model import CLASSES, tiny_class_model, tiny_model
from web_pages import Page

HOSTILE = "<script>*x*|`$"


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three colours, four each, of which one is named wrongly and one is bright; and six grey ones."""
    root, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        for number in range(4):
            pixels = rng.normal(50, 5, (70, 90, 3))
            pixels[..., channel if (channel, number) != (0, 0) else 1] += 80
            save(pixels + 150 * ((channel, number) == (2, 3)), root / "labelled" / name / f"{number}.png")
    for number in range(6):
        save(rng.normal(80 + 40 * (number > 1), 2, (70, 90, 3)) + 60 * (number > 1), root / "grey" / f"{number}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("by_class", [False, True])
def test_the_page_has_every_part(data: Path, tmp_path: Path, by_class: bool) -> None:
    model = tiny_class_model(by_class=by_class)
    found = oddsight.evaluate(model, labelled=data / "labelled", unknown={HOSTILE: data / "grey"})
    write_report(found, model, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    page = Page(html)
    sections = {"the-numbers", "which-classes-are-confused", "rejection", "the-images", "what-this-does-not-say"}
    assert sections <= set(page.ids)
    drawn = {"confusion", "pairs", "reliability", "roc", "oscr", "wrong", "rejected", "accepted"}
    drawn |= set() if by_class else {"histogram", "p-values", "rejected-by-probability"}
    assert {name.removeprefix("figure-") for name in page.ids if name.startswith("figure-")} == drawn
    assert HOSTILE in page.text
    assert "<script>" not in html
    numbers = found.to_json()
    assert f"{numbers['accuracy']:.3f}" in page.text
    assert f"{numbers['expected_calibration_error']:.3f}" in page.text
    assert "red/0.png" in page.text
    assert "predicted: green" in page.text
    assert all(warning in page.text for warning in found.warnings)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/"))


@pytest.mark.slow
def test_without_unknown_images_the_page_says_so(data: Path, tmp_path: Path) -> None:
    model = tiny_class_model()
    found = oddsight.evaluate(model, labelled=data / "labelled")
    gone = tuple(dataclasses.replace(image, path=Path("/gone/\udcff.png")) for image in found.images)
    write_report(dataclasses.replace(found, images=gone), model, tmp_path / "page.html", title="Colours")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "No images of unknown classes were given" in page.text
    assert "could not be read again" in page.text
    assert "figure-roc" not in page.ids
    with pytest.raises(DataError, match="another"):
        write_report(found, model.with_decision(threshold=1.0), tmp_path / "other.html")


def test_evaluate_is_what_evaluate_classes_does_with_the_images_read(data: Path) -> None:
    model = tiny_class_model()
    found = oddsight.evaluate(model, labelled=data / "labelled", unknown={"grey": data / "grey"})
    images = read_classes(data / "labelled")["train"]
    same = oddsight.evaluate_classes(model, images, {"grey": read_unlabelled(data / "grey")})
    assert found.to_json() == same.to_json()
    probabilities = np.full((len(found.known), 3), 0.0)
    for row, (result, predicted) in enumerate(zip(found.known, found.predicted, strict=True)):
        probabilities[row] = (1 - result.label_probability) / 2
        probabilities[row, predicted] = result.label_probability
    error = expected_calibration_error(probabilities, found.labels)
    assert found.to_json()["expected_calibration_error"] == pytest.approx(error)


def test_classes_without_images_and_more_rejections_than_chance_are_said(data: Path) -> None:
    model = tiny_class_model().with_decision(threshold=0.0)
    found = oddsight.evaluate(model, labelled=data / "labelled")
    assert not any("more than chance explains" in warning for warning in found.warnings)  # nothing was promised
    promised = dataclasses.replace(found, rate=0.1, labels=np.zeros_like(found.labels))
    assert any("12 of 12 images of known classes were rejected" in warning for warning in promised.warnings)
    assert any("Classes without test images: green, blue;" in warning for warning in promised.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled": "x", "normal": "y"}, "labelled images go with unknown ones only"),
        ({"labelled": "x", "confidence": 0.9}, "95% confidence"),
        ({"folder": "x", "unknown": {"a": "y"}}, "unknown images go with labelled ones"),
        ({"labelled": 5}, "a folder"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict, message: str) -> None:
    with pytest.raises(OddsightError, match=message):
        oddsight.evaluate(tiny_class_model(), **options)


def test_a_model_without_classes_is_refused(data: Path) -> None:
    with pytest.raises(DataError, match="knows no classes"):
        oddsight.evaluate(tiny_model(), labelled=data / "labelled")
