"""Fitting on one image and a few: what is learned from, and what can be promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import run
from oddsight.data.collection import ImageFile, collect
from oddsight.data.copies import changed_copies
from oddsight.detectors import quick
from oddsight.errors import DataError
from oddsight.fitting.plan import FEWEST, FitPlan
from textures import texture, write_textures

SIDE = 48
OPTIONS = {"size": 64, "groups": "none"}


def fitted(count, **options):
    plans: list[FitPlan] = []
    images = [texture(seed, SIDE, SIDE) for seed in range(count)]
    return oddsight.fit(images, **OPTIONS, **options, on_plan=plans.append), plans[0]


def write(folder, *arrays):
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{number}.png")
    return collect(folder).images


# What a fit makes of few images.


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4, FEWEST - 1, FEWEST])
def test_the_rate_is_the_smallest_that_so_many_images_can_promise(count):
    model, plan = fitted(count, method="knn")
    assert model.decision.false_alarm_rate == pytest.approx(1 / (count + 1))
    assert len(model.calibration_scores) == count  # copies are learned from, and not calibrated on
    assert plan.copied == (count < FEWEST)
    assert model.metadata.training.images == count
    assert model.predict(texture(99, SIDE, SIDE)).p_value >= 1 / (count + 1) - 1e-6
    with pytest.raises(DataError, match=f"needs at least {count + 1} calibration images, and there are {count}"):
        fitted(count, method="knn", false_alarm_rate=1 / (count + 2))


@pytest.mark.slow
def test_one_image_promises_nothing():
    model, _ = fitted(1, method="patchcore")
    assert model.decision.false_alarm_rate is None
    assert model.decision.threshold == model.calibration_scores[-1]
    assert model.true_rate_range is None
    bad = model.predict(texture(99, SIDE, SIDE, blot=True))
    assert bad.score > model.predict(texture(0, SIDE, SIDE)).score
    for promise in ({"false_alarm_rate": 0.5}, {"confidence": 0.9}):
        with pytest.raises(DataError, match="one image leaves none to calibrate on"):
            fitted(1, method="knn", **promise)
    with pytest.raises(DataError, match="fitted on one image, so no false-alarm rate can be promised"):
        model.with_decision(false_alarm_rate=0.5)
    assert model.with_decision(threshold=3).decision.threshold == 3


@pytest.mark.slow
@pytest.mark.parametrize(("count", "rate", "kind"), [(2, 0.5, "cross"), (9, 0.35, "cross"), (16, 0.2, "split")])
def test_a_quarter_is_held_out_only_if_that_leaves_enough_to_learn_from(count, rate, kind):
    model, _ = fitted(count, method="knn", false_alarm_rate=rate)
    assert model.metadata.calibration.kind == kind


@pytest.mark.slow
@pytest.mark.parametrize("method", quick())
@pytest.mark.parametrize("count", [1, 2])
def test_every_method_learns_from_one_image_and_from_two(method, count):
    model, _ = fitted(count, method=method)
    good, bad = (model.predict(texture(90, SIDE, SIDE, blot=blot)) for blot in (False, True))
    assert np.isfinite([good.score, bad.score, model.decision.threshold]).all()


@pytest.mark.slow
def test_the_command_says_what_is_promised(tmp_path, monkeypatch):
    monkeypatch.setenv("ODDSIGHT_CACHE", "off")
    write_textures(tmp_path / "one", range(1), width=SIDE, height=SIDE)
    write_textures(tmp_path / "four", range(4), width=SIDE, height=SIDE)
    options = ("-o", tmp_path / "m.onnx", "--method", "knn", "--size", "64", "--group-by", "none")
    said = run("fit", tmp_path / "one", *options).err
    assert "changed copies are learned from" in said
    assert "without a promised rate: one image leaves none to calibrate on" in said
    assert run("info", tmp_path / "m.onnx", "--json").json["calibration"]["smallest_rate"] is None
    assert "flags at most 20% of normal images" in run("fit", tmp_path / "four", *options).err


# Copies.


def turns(images):
    return {copy.turn for copy in changed_copies(images) if copy.turn}


def test_textures_are_turned_in_all_ways_and_parts_that_lie_alike_in_none(tmp_path):
    random = np.random.default_rng(0)
    textures = [random.integers(0, 255, (64, 64, 3)).astype(np.uint8) for _ in range(6)]
    assert len(turns(write(tmp_path / "textures", *textures))) == 7
    assert len(turns(write(tmp_path / "wide", *(one[:32] for one in textures)))) == 3
    part = np.zeros((64, 64, 3), np.uint8)
    part[8:20, 8:50] = part[20:56, 8:16] = 200
    parts = [np.clip(part + random.normal(20, 10, part.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    assert not turns(write(tmp_path / "parts", *parts))
    symmetric = np.maximum(part, part[:, ::-1])
    mirrored = [np.clip(symmetric + random.normal(20, 10, part.shape), 0, 255).astype(np.uint8) for _ in range(6)]
    assert turns(write(tmp_path / "symmetric", *mirrored)) == {"mirrored"}
    assert not turns(write(tmp_path / "one", part))
    assert turns(write(tmp_path / "mirror", symmetric)) == {"mirrored"}


def test_light_changes_by_as_much_as_among_the_images(tmp_path):
    alike = write(tmp_path / "alike", *(np.full((9, 9, 3), value, np.uint8) for value in (99, 100, 101)))
    apart = write(tmp_path / "apart", *(np.full((9, 9, 3), value, np.uint8) for value in (90, 100, 110)))
    for images, share in ((alike, 0.03), (apart, np.std([90, 100, 110]) / 100)):
        lights = sorted({copy.light for copy in changed_copies(images) if not copy.turn})
        assert lights == pytest.approx([1 - 2 * share, 1 - share, 1 + share, 1 + 2 * share])


def test_a_copy_is_known_by_its_content_and_stays_with_its_image(tmp_path):
    images = write(tmp_path / "two", texture(0, SIDE, SIDE), texture(1, SIDE, SIDE))
    copies = changed_copies(images)
    assert len({copy.content for copy in copies} | {image.content for image in images}) == len(copies) + 2
    assert {copy.group for copy in copies} == {image.content for image in images}
    assert {copy.group for copy in changed_copies(images[:1])} == {""}
    lit = next(copy for copy in copies if copy.light > 1)
    expected = np.clip(np.rint(lit.original.read() * lit.light), 0, 255)
    np.testing.assert_allclose(lit.read(), expected, atol=1)
    assert isinstance(lit, ImageFile)
    assert Path(lit.path) != lit.original.path
