"""The size to which a fit brings its images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from oddsight.backbones import PIXELS, backbone
from oddsight.data.collection import ImageFile
from oddsight.detectors import by_name, create
from oddsight.errors import OddsightError
from oddsight.fitting.sizing import SPEEDS, at_speed, input_size

LITE0 = backbone("efficientnet-lite0")


def images(*shapes):
    return [ImageFile(Path(), "", width, height) for width, height in shapes]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 64), 224),
        ((224, 224), 224),
        ((450, 450), 448),
        ((640, 640), 640),
        ((4000, 4000), 640),
        ((500, 1250), (1024, 416)),
        ((1250, 500), (416, 1024)),
        ((300, 250), (192, 256)),
        ((10_000, 10), (128, 448)),
        ((1000, 10), (128, 448)),
    ],
)
def test_details_are_read_in_the_shape_and_nearly_the_resolution_of_the_images(shape, expected):
    assert input_size(images(shape), LITE0, by_name("auto"), None) == expected


def test_the_median_image_decides():
    some = images((64, 64), (500, 250), (500, 250), (400, 400), (500, 250))
    assert input_size(some, LITE0, by_name("patchcore"), None) == input_size(
        some[1:2], LITE0, by_name("patchcore"), None
    )


def test_images_of_many_shapes_are_read_as_squares():
    many = images((500, 250), (400, 400), (250, 500), (600, 200), (300, 310))
    assert input_size(many, LITE0, by_name("auto"), None) == 352
    assert input_size(many, LITE0, by_name("knn"), None) == 224


@pytest.mark.parametrize(
    ("speed", "shape", "expected"),
    [
        ("fast", (4000, 4000), 224),
        ("fast", (500, 1250), (352, 128)),
        ("balanced", (4000, 4000), 640),
        ("best", (4000, 4000), 896),
        ("best", (640, 640), 640),
        ("best", (64, 64), 224),
    ],
)
def test_the_speed_bounds_the_resolution(speed, shape, expected):
    assert input_size(images(shape), LITE0, by_name("auto"), None, SPEEDS[speed]) == expected


@pytest.mark.parametrize("method", ["auto", "patchcore"])
@pytest.mark.parametrize(("settings", "bank"), [((), 1000), (("bank_size=77",), 77)])
def test_the_speed_chooses_a_bank_that_was_not_chosen(method, settings, bank):
    detector = create(method, settings=settings)
    at_speed(detector, "fast")
    assert asdict(detector)["bank_size"] == bank


def test_what_has_one_speed_says_so():
    with pytest.raises(OddsightError, match="padim has only one speed: choose its size"):
        at_speed(by_name("padim")(), "best")
    with pytest.raises(OddsightError, match="the speed is one of fast, balanced, best, not quick"):
        at_speed(by_name("auto")(), "quick")
    assert at_speed(by_name("padim")(), "balanced") == SPEEDS["balanced"]


@pytest.mark.slow
def test_a_fast_model_is_small(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 48, 48, 3), np.uint8)
    banks = {
        speed: oddsight.fit(pixels, method="patchcore", size=64, speed=speed).metadata.method.settings["bank_size"]
        for speed in ("fast", "best")
    }
    assert banks == {"fast": 1000, "best": 10_000}


def test_other_detectors_read_the_shape_at_the_size_of_the_network():
    assert input_size(images((500, 1250)), LITE0, by_name("knn"), None) == (352, 128)
    assert input_size(images((900, 900)), LITE0, by_name("padim"), None) == 224


def test_a_size_that_was_asked_for_is_that_of_a_square_with_as_many_pixels():
    assert input_size(images((640, 640)), LITE0, by_name("auto"), 96) == 96
    assert input_size(images((500, 1250)), LITE0, by_name("auto"), 224) == (352, 128)


def test_what_reads_pixels_keeps_its_square():
    assert input_size(images((500, 1250)), PIXELS, by_name("autoencoder"), None) == 64
    assert input_size(images((500, 1250)), PIXELS, by_name("autoencoder"), 32) == 32


@pytest.mark.slow
def test_a_model_of_long_images_is_one(tmp_path):
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(90, 110, (90, 220, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    model = oddsight.fit(tmp_path, method="patchcore", size=96, false_alarm_rate=0.2, groups="none")
    assert model.metadata.backbone.size == [64, 160] or model.metadata.backbone.size == (64, 160)
    assert model.metadata.map_size == (8, 20)
    model.save(tmp_path / "m.onnx")
    again = oddsight.Model.load(tmp_path / "m.onnx")
    assert again.predict(tmp_path / "0.png").score == model.predict(tmp_path / "0.png").score
    assert again.predict(tmp_path / "0.png").map.shape == (8, 20)
