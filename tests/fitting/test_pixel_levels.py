"""The levels of normal pixels that a model stores: those of its calibration images, and what they change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oddsight
from oddsight.model.regions import pixel_levels, typical_levels
from textures import texture


@pytest.fixture(scope="module")
def plans():
    return []


@pytest.fixture(scope="module")
def model(plans):
    images = [texture(seed, 40, 40) for seed in range(20)]
    return oddsight.fit(images, method="patch-pca", size=64, calibration_fraction=0.5, on_plan=plans.append)


def test_levels_are_those_of_the_calibration_images(model, plans):
    maps = [model.predict(image.read()).map for image in plans[0].calibration]
    expected = typical_levels(np.array([pixel_levels(values) for values in maps]))
    assert model.metadata.pixels.median == pytest.approx(expected.median, rel=1e-4)
    assert model.metadata.pixels.high == pytest.approx(expected.high, rel=1e-4)
    assert expected.median < expected.high < model.calibration_scores.max()
    assert model.metadata.schema_version == 7
    assert oddsight.Model.from_bytes(model.to_bytes()).metadata.pixels == model.metadata.pixels


@pytest.mark.slow
def test_levels_change_the_extent_of_regions_and_nothing_else(model):
    lower = model.with_decision(threshold=float(model.calibration_scores[0]))
    assert lower.metadata.pixels == model.metadata.pixels
    for seed in range(100, 110):
        now = lower.predict(texture(seed, 40, 40, blot=True))
        old = replace(now, levels=None)
        assert (now.anomalous, now.score, now.p_value) == (old.anomalous, old.score, old.p_value)
        assert bool(now.regions) == bool(old.regions) == now.anomalous == bool((now.map > now.threshold).any())
        if now.anomalous:
            assert now.regions[0].peak == old.regions[0].peak == pytest.approx(now.score)
            assert now.regions[0].p_value == now.p_value
            assert all(region.threshold == now.threshold for region in old.regions)
            assert now.mask()[old.mask()].any()


def test_levels_of_maps_are_medians_over_images():
    levels = [pixel_levels(np.full((4, 4), value, np.float32)) for value in (1, 5, 9)]
    found = typical_levels(np.array(levels))
    assert (found.median, found.high) == (5, 5)
    assert typical_levels(np.empty((3, 0))) is None


@pytest.mark.slow
def test_methods_without_maps_have_no_levels():
    model = oddsight.fit([texture(seed, 32, 32) for seed in range(10)], method="knn", size=32)
    assert model.metadata.pixels is None
    assert (model.metadata.schema_version, '"pixels"' in model.metadata.to_json()) == (2, False)
