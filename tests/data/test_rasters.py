"""GeoTIFFs: bands, scales, missing pixels, and where they lie."""

from __future__ import annotations

import itertools
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from cli_files import error_lines, run
from oddsight.data.images import read_image
from oddsight.data.reading import Reading
from oddsight.data.tiff import Raster
from oddsight.errors import ImageError
from oddsight.scenes import predict_scene, write_tiles
from oddsight.scenes.georeference import georeference
from oddsight.scenes.scene_image import SceneImage
from tiff_files import KEYS, PLACED, geotiff
from tiny_model import tiny_model


def bands(kind, count=4, high=4000, height=90, width=110):
    values = np.random.default_rng(0).integers(0, min(high, 256 if kind == "uint8" else high), (height, width, count))
    return values.astype(kind)


def expected(values, chosen, low, high):
    levels = (values[..., [band - 1 for band in chosen]].astype(float) - low) * 255 / (high - low)
    return np.broadcast_to(np.rint(np.clip(levels, 0, 255)).astype(np.uint8), (*values.shape[:2], 3))


LAYOUTS = [
    {"tile": (32, 48)},
    {"rowsperstrip": 7},
    {"rowsperstrip": 90},
    {"rowsperstrip": 7, "planarconfig": "separate"},
]
STORAGE = [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"byteorder": ">", "bigtiff": True}]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
def test_bands_and_scales(tmp_path, kind):
    values = bands(kind)
    for number, (layout, storage) in enumerate(itertools.product(LAYOUTS, STORAGE)):
        if "predictor" in storage and kind.startswith("float"):
            continue
        path = geotiff(tmp_path / f"{number}.tif", values, **{"planarconfig": "contig"} | layout | storage)
        for chosen in ((4, 3, 2), (2,)):
            raster = Raster(path, Reading(chosen, (100, 3000)))
            parts = [raster.rows(top, bottom)[0] for top, bottom in ((0, 40), (33, 90))]
            found = np.concatenate([parts[0], parts[1][7:]])
            np.testing.assert_array_equal(found, expected(values, chosen, 100, 3000))


@pytest.mark.parametrize("name", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_what_pillow_compresses(tmp_path, name):
    values = bands("uint8", 3)
    Image.fromarray(values).save(tmp_path / "a.tif", compression=name)
    raster = Raster(tmp_path / "a.tif")
    np.testing.assert_array_equal(raster.rows(10, 70)[0], values[10:70])


def test_floating_point_differences(tmp_path):
    """As GDAL writes them with PREDICTOR=3: bytes apart by significance, and each row's differences."""
    values = bands("float32", 2) / np.float32(7)
    apart = values.astype(">f4").reshape(90, -1).view(np.uint8).reshape(90, -1, 4).transpose(0, 2, 1).reshape(90, -1, 2)
    stored = np.diff(apart, axis=1, prepend=np.zeros((90, 1, 2), np.uint8)).astype(np.uint8)
    strips = (zlib.compress(stored[top : top + 30].tobytes()) for top in (0, 30, 60))
    # Without other libraries tifffile writes differences of whole numbers only, so that two tags are changed.
    geotiff(tmp_path / "a.tif", strips, shape=values.shape, dtype=np.int32, compression="zlib", rowsperstrip=30,
            planarconfig="contig", predictor=2)  # fmt: skip
    content = (tmp_path / "a.tif").read_bytes()
    for old, new in (((317, 3, 1, 2, 0), (317, 3, 1, 3, 0)), ((339, 3, 2, 2, 2), (339, 3, 2, 3, 3))):
        assert content.count(struct.pack("<HHIHH", *old)) == 1
        content = content.replace(struct.pack("<HHIHH", *old), struct.pack("<HHIHH", *new))
    (tmp_path / "a.tif").write_bytes(content)
    raster = Raster(tmp_path / "a.tif", Reading((2,), (0, 600)))
    np.testing.assert_array_equal(raster.rows(0, 90)[0], expected(values, (2,), 0, 600))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "P", "RGBA", "1", "CMYK"])
def test_defaults_are_what_is_read_for_fitting(tmp_path, mode):
    values = bands("uint8", 3)
    image = (
        Image.fromarray(bands("uint16", 1, 65536)[..., 0]) if mode == "I;16" else Image.fromarray(values).convert(mode)
    )
    image.save(tmp_path / "a.tif")
    whole = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(SceneImage(tmp_path / "a.tif").rows(0, 90)[0], whole)
    model = tiny_model()
    assert predict_scene(model, tmp_path / "a.tif").to_json() | {"tiles": 0} == model.predict(
        tmp_path / "a.tif"
    ).to_json() | {"tiles": 0}


def test_colour_of_16_bits_is_what_is_read_for_fitting(tmp_path):
    geotiff(tmp_path / "a.tif", bands("uint16", 3, 65536), photometric="rgb")
    np.testing.assert_array_equal(SceneImage(tmp_path / "a.tif").rows(0, 90)[0], read_image(tmp_path / "a.tif"))


def test_more_bands_than_a_image_has(tmp_path):
    values = bands("uint8", 7)
    path = geotiff(tmp_path / "a.tif", values, planarconfig="contig")
    np.testing.assert_array_equal(SceneImage(path).rows(0, 90)[0], values[..., :3])


@pytest.mark.parametrize(
    ("kind", "count", "options", "words"),
    [
        ("uint16", 4, {"bands": (5,)}, ["has 4 bands", "band 5"]),
        ("uint8", 2, {}, ["2 bands", "--bands"]),
        ("float32", 1, {}, ["float32", "--scale"]),
        ("int16", 3, {}, ["int16", "--scale"]),
        ("uint32", 3, {}, ["uint32", "--scale"]),
    ],
)
def test_what_cannot_be_read_so(tmp_path, kind, count, options, words):
    path = tmp_path / "a.tif"
    values = bands(kind, count)
    geotiff(path, values, planarconfig="contig")
    tiny_model().save(tmp_path / "tiny.onnx")
    arguments = ["--bands", ",".join(map(str, options["bands"]))] if "bands" in options else []
    outcome = run("predict", tmp_path / "tiny.onnx", path, "--tile", 32, *arguments, "--json", "-", "--quiet")
    (line,) = error_lines(outcome)
    assert outcome.code == 1
    assert all(word in line for word in [str(path), *words]), line


@pytest.mark.slow
def test_damaged_files_are_one_error_each(tmp_path):
    whole = geotiff(tmp_path / "a.tif", bands("uint16"), PLACED, planarconfig="contig", compression="zlib").read_bytes()
    rng = np.random.default_rng(0)
    failures = 0
    for number in range(300):
        content = bytearray(whole)
        if number % 3 == 0:
            content = content[: rng.integers(1, len(content))]
        else:
            for place in rng.integers(0, 400 if number % 3 == 1 else len(content), 3):
                content[place] = rng.integers(256)
        path = tmp_path / "b.tif"
        path.write_bytes(content)
        try:
            image = SceneImage(path, Reading((1, 2, 3), (0, 4000)))
            if image.width * image.height < 10**6:
                image.rows(0, image.height)
        except ImageError as error:
            failures += 1
            assert "\n" not in str(error)
    assert failures > 100
    with pytest.raises(ImageError, match="no such file"):
        SceneImage(tmp_path / "none.tif")


def test_bands_of_a_turned_image(tmp_path):
    values = bands("uint8", 1)[..., 0]
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={274: 6})
    raster = Raster(tmp_path / "a.tif", Reading((1,)))
    assert (raster.width, raster.height) == (90, 110)
    np.testing.assert_array_equal(raster.rows(5, 60)[0][..., 0], np.rot90(values, -1)[5:60])


def test_tifffile_is_not_needed(tmp_path, monkeypatch):
    geotiff(tmp_path / "a.tif", bands("uint8", 3), PLACED)
    tiny_model().save(tmp_path / "tiny.onnx")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    options = ["--tile", 32, "--regions", tmp_path / "found", "--threshold", 5, "--quiet"]
    assert run("predict", tmp_path / "tiny.onnx", tmp_path / "a.tif", *options).code == 0
    assert (tmp_path / "found" / "a-mask.tif").exists()


def test_pixels_without_data_are_never_flagged(tmp_path):
    model = tiny_model().with_decision(threshold=50)
    values = np.full((96, 128, 3), 40, np.float32)
    values[:, 48:] = -9999
    values[80:, :30] = np.nan
    values[:16, 60:70] = 240
    path = geotiff(tmp_path / "a.tif", values, {42113: "-9999"}, planarconfig="contig", photometric="rgb")
    found = predict_scene(model, path, tile=32, overlap=8, scale=(0, 255))
    inside = found.map > 50
    columns = (np.nonzero(inside)[1] + 0.5) * 128 / found.map.shape[1]
    assert found.anomalous
    assert columns.min() > 56
    assert columns.max() < 74
    assert found.tiling.count < 6 * 5  # those without any data were not scored
    assert not predict_scene(model, path, tile=32, overlap=8, scale=(-60_000, 90_000)).map.max() > 200
    path = geotiff(tmp_path / "b.tif", np.zeros((64, 64), np.uint8), {42113: "0"})
    with pytest.raises(ImageError, match="no data"):
        predict_scene(model, path, tile=32)
    assert len(write_tiles(tmp_path / "a.tif", tmp_path / "new", tile=16, scale=(0, 255))) == 6 * 3 - 2


def test_where_pixels_lie():
    corners = np.array([[0.0, 0], [1, 0], [0, 1]])
    place = georeference(PLACED)
    assert place is not None
    np.testing.assert_allclose(place(corners), [[500_000, 5e6], [500_010, 5e6], [500_000, 5e6 - 20]])
    assert (place.crs, place.metres) == ("urn:ogc:def:crs:EPSG::32633", True)
    assert place.pixel_area == pytest.approx(200)
    # A point is the centre of its pixel.
    point = georeference(PLACED | {34735: (*KEYS[:11], 2, *KEYS[12:])})
    assert point is not None
    np.testing.assert_allclose(point(corners + 0.5), place(corners))
    turned = georeference({34735: KEYS, 34264: (9, 2, 0, 50, 1, -8, 0, 70, 0, 0, 0, 0, 0, 0, 0, 1)})
    assert turned is not None
    np.testing.assert_allclose(turned(corners), [[50, 70], [59, 71], [52, 62]])
    degrees = georeference(PLACED | {34735: (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326)})
    assert (degrees.crs, degrees.metres) == ("urn:ogc:def:crs:OGC:1.3:CRS84", False)
    own = georeference(PLACED | {34735: (1, 1, 0, 2, 1024, 0, 1, 1, 1026, 34737, 5, 0), 34737: "Moon|"})
    assert (own.crs, own.metres) == ("Moon", False)
    assert georeference({tag: value for tag, value in PLACED.items() if tag != 34735}) is None
    assert georeference({34735: KEYS, 33922: PLACED[33922]}) is None
    for damage in ({33550: (1.0,)}, {33922: (1.0,)}, {34735: (1, 1, 0, 9)}, {33550: (0.0, 1.0, 0.0)}, {34264: (1.0,)}):
        with pytest.raises(ValueError, match="damaged"):
            georeference(PLACED | damage)
