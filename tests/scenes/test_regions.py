"""Regions as outlines and masks: sound polygons that agree with each other and the result."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import oddsight
from cli_files import assert_failed, json_lines, run
from oddsight.model.result import Result
from oddsight.model.sections import PixelLevels
from oddsight.scenes.region_files import geojson
from oddsight.scenes.scene_image import SceneImage
from tiff_files import KEYS, PLACED, geotiff
from tiny_model import tiny_model

LEVELS = [0.0, 0.4, 0.5, 0.50001, 0.6, 1.0]


def result(values, width, height, threshold=0.5, levels=None):
    values = np.asarray(values, np.float32)
    return Result("a.png", width, height, float(values.max()), 0.01, threshold, 0.05, values, levels=levels)


def shoelace(ring):
    x, y = np.asarray(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def crosses(ring):
    """Whether two edges of a ring share anything but the corner between neighbours."""

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    edges = list(itertools.pairwise(ring))
    for i, (a, b) in enumerate(edges):
        for c, d in edges[i + 2 : len(edges) - (i == 0)]:
            if side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0:
                return True
    return len({tuple(point) for point in ring[:-1]}) < len(ring) - 1


def painted(features, width, height, fine=4):
    """Pixels that polygons cover, by drawing them enlarged."""
    image = Image.new("L", (width * fine, height * fine))
    draw = ImageDraw.Draw(image)
    for feature in features:
        geometry = feature["geometry"]
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        for polygon in polygons:
            for number, ring in enumerate(polygon):
                draw.polygon([(fine * x, fine * y) for x, y in ring], fill=0 if number else 1)
    return np.asarray(image)[fine // 2 :: fine, fine // 2 :: fine] > 0


maps = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda shape: st.lists(
        st.lists(st.sampled_from(LEVELS), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)


LOW = st.none() | st.builds(
    PixelLevels, median=st.sampled_from([0.0, 0.2, 0.7]), high=st.sampled_from([0.1, 0.45, 0.9])
)


@pytest.mark.slow
@given(maps, st.integers(8, 60), st.integers(8, 60), LOW)
@settings(max_examples=150)
def test_outlines_are_sound_and_agree_with_the_regions_and_the_mask(values, width, height, levels):
    one = result(values, width, height, levels=levels)
    pixels = one.mask()
    assert pixels.any() == one.anomalous == bool(one.regions)
    features = geojson(one.regions, None)["features"]
    for region, feature in zip(one.regions, features, strict=True):
        geometry = feature["geometry"]
        assert feature["properties"] == {
            "peak": region.peak, "threshold": region.threshold, "p_value": None, "area_pixels": region.area,
            "bbox_pixels": list(region.bbox),
        }  # fmt: skip
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        assert polygons
        for polygon in polygons:
            for number, ring in enumerate(polygon):
                assert ring[0] == ring[-1]
                assert len(ring) >= 4
                assert (shoelace(ring) > 0) == (number == 0)
                assert not crosses(ring)
                x, y = np.asarray(ring).T
                # Within a cell of the box of the region's cells, and in the image.
                across, down = width / one.map.shape[1], height / one.map.shape[0]
                assert max(0, region.bbox[0] - across) - 1e-9 <= x.min()
                assert x.max() <= min(width, region.bbox[2] + across) + 1e-9
                assert max(0, region.bbox[1] - down) - 1e-9 <= y.min()
                assert y.max() <= min(height, region.bbox[3] + down) + 1e-9


def test_outlines_and_mask_agree_on_smooth_maps():
    rng = np.random.default_rng(0)
    for _ in range(5):
        coarse = Image.fromarray(rng.random((5, 6)).astype(np.float32))
        one = result(np.asarray(coarse.resize((24, 20), Image.Resampling.BICUBIC)), 190, 150)
        features = geojson(one.regions, None)["features"]
        pixels = one.mask()
        assert (painted(features, 190, 150) != pixels).mean() < 0.02
        np.testing.assert_array_equal(np.concatenate([one.mask(0, 31), one.mask(31)]), pixels)


def test_a_hole_is_a_hole():
    values = np.zeros((9, 9))
    values[2:7, 2:7] = 1
    values[4, 4] = 0
    (region,) = result(values, 90, 90).regions
    ((outer, hole),) = region.polygons
    np.testing.assert_allclose([np.min(outer), np.max(outer)], [20, 70])
    np.testing.assert_allclose([np.min(hole), np.max(hole)], [40, 50])
    (feature,) = geojson([region], None)["features"]
    assert [shoelace(ring) > 0 for ring in feature["geometry"]["coordinates"]] == [True, False]


def test_a_normal_image_has_no_regions():
    assert result(np.zeros((4, 4)), 40, 40).regions == ()
    assert not result(np.zeros((4, 4)), 40, 40).mask().any()


@pytest.fixture
def folder(tmp_path):
    pixels = np.full((90, 110, 3), 30, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "calm.png")
    pixels[20:50, 30:80] = 250
    Image.fromarray(pixels).save(tmp_path / "odd.png")
    geotiff(tmp_path / "placed.tif", pixels, PLACED, photometric="rgb")
    tiny_model().with_decision(threshold=150).save(tmp_path / "tiny.onnx")
    return tmp_path


@pytest.mark.parametrize("options", [[], ["--tile", 32, "--overlap", 8]])
def test_predict_writes_regions(folder, options):
    out = folder / "regions"
    images = [folder / name for name in ("calm.png", "odd.png", "placed.tif")]
    outcome = run("predict", folder / "tiny.onnx", *images, "--regions", out, "--json", folder / "rows", *options)
    assert outcome.code == 0, outcome.err
    names = {"odd.geojson", "odd-mask.png", "placed.geojson", "placed-mask.png", "placed-mask.tif"}
    assert {path.name for path in out.iterdir()} == names
    _, odd, placed = json_lines(folder / "rows")
    assert odd["regions"] == placed["regions"]
    content = json.loads((out / "odd.geojson").read_text())
    assert "crs" not in content
    assert content["coordinates"].startswith("pixels")
    properties = [feature["properties"] for feature in content["features"]]
    for region, own in zip(odd["regions"], properties, strict=True):
        assert (own["bbox_pixels"], own["area_pixels"]) == (region["bbox"], region["area"])
        assert all(own[name] == region[name] for name in ("peak", "threshold", "p_value"))
    if not options:
        plain = oddsight.load(folder / "tiny.onnx").predict(folder / "odd.png")
        assert plain.to_json()["regions"] == odd["regions"]
    pixels = np.asarray(Image.open(out / "odd-mask.png"))
    assert pixels.shape == (90, 110)
    assert set(np.unique(pixels)) == {0, 255}
    truth = np.zeros((90, 110), bool)
    truth[20:50, 30:80] = True
    assert (truth & (pixels > 0)).sum() / (truth | (pixels > 0)).sum() > 0.6
    np.testing.assert_array_equal(tifffile.imread(out / "placed-mask.tif"), pixels)


def test_regions_on_earth(folder):
    out = folder / "regions"
    assert run("predict", folder / "tiny.onnx", folder / "placed.tif", "--regions", out, "--quiet").code == 0
    content = json.loads((out / "placed.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    (feature,) = content["features"]
    assert feature["properties"]["area_m2"] == pytest.approx(200 * feature["properties"]["area_pixels"])
    (ring,) = feature["geometry"]["coordinates"]
    assert shoelace(ring) > 0
    x, y = np.asarray(ring).T
    assert abs(x.min() - 500_300) < 150  # a cell has 13.75 x 11.25 pixels of 10 x 20 metres
    assert abs(y.max() - (5e6 - 400)) < 240
    with tifffile.TiffFile(out / "placed-mask.tif") as tiff:
        tags = {tag.code: tag.value for tag in tiff.pages[0].tags}
    assert {tag: tags[tag] for tag in PLACED} == PLACED
    assert tags[34735] == KEYS


def test_masks_leave_out_what_is_missing(tmp_path):
    values = np.full((64, 64), 250, np.uint8)
    values[:, 41:] = 9
    values[3, 5] = 9
    path = geotiff(tmp_path / "a.tif", values, {42113: "9"})
    tiny_model().with_decision(threshold=100).save(tmp_path / "tiny.onnx")
    assert run("predict", tmp_path / "tiny.onnx", path, "--regions", tmp_path / "new", "--quiet").code == 0
    pixels = np.asarray(Image.open(tmp_path / "new" / "a-mask.png"))
    valid = SceneImage(path).rows(0, 64)[1]
    assert not pixels[~valid].any()
    assert pixels[valid].mean() > 230


def test_regions_need_a_folder_of_their_own(folder):
    options = ["--regions", folder / "new", "--maps", folder / "new"]
    assert_failed(run("predict", folder / "tiny.onnx", folder / "odd.png", *options), "heat maps and regions", "two")
    assert_failed(run("predict", folder / "tiny.onnx", folder / "odd.png", "--regions", folder), "replace the images")
