"""Scenes: tiles cover them, what tiles say becomes one map, and the alarm rate is that of the scene."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cli_files import assert_failed, environment, json_lines, run
from image_files import oriented, png_of
from oddsight.data import decoding
from oddsight.data.images import read_image
from oddsight.errors import ImageError, OddsightError
from oddsight.model.calibration import Decision, decide, p_values
from oddsight.scenes import SceneSettings, decision_for, predict_scene, write_tiles
from oddsight.scenes.scene_image import SceneImage
from oddsight.scenes.tiling import Canvas, axis
from tiny_model import GRID, tiny_class_model, tiny_model

CUTS = st.tuples(st.integers(1, 400), st.integers(16, 120), st.integers(0, 119), st.integers(1, 20)).filter(
    lambda cut: cut[2] < cut[1]
)
"""Size, tile, overlap and cells of the map of a tile."""


def scene(height=150, width=210, seed=0, high=100):
    return np.random.default_rng(seed).integers(0, high, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@given(CUTS)
def test_tiles_cover_every_pixel_and_their_maps_every_cell(cut):
    size, tile, overlap, cells = cut
    found = axis(*cut)
    assert found.starts[0] == 0
    assert found.starts[-1] + found.tile == size
    assert found.tile == min(tile, size)
    steps = np.diff(found.starts)
    assert (steps > 0).all()
    assert (steps <= max(1, found.tile - overlap)).all()
    assert found.places[0] == 0
    assert found.places[-1] + cells == found.cells
    assert (np.diff(found.places) <= cells).all()
    # A map is put within half a cell of where its tile is, and a cell that all cells share among them.
    ideal = np.array(found.starts) * cells / found.tile
    assert np.abs(np.array(found.places) - ideal).max() <= 1.5


@given(CUTS)
def test_weights_sum_to_one_and_fall_towards_the_edges(cut):
    found = axis(*cut)
    total = np.zeros(found.cells)
    for place, weights in zip(found.places, found.weights, strict=True):
        assert (weights > 0).all()
        total[place : place + len(weights)] += weights
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_weights_are_linear_in_the_overlap_and_one_outside_of_it():
    found = axis(28, 16, 4, 16)
    assert found.places == (0, 12)
    np.testing.assert_allclose(found.weights[0], [1] * 12 + [0.875, 0.625, 0.375, 0.125])
    np.testing.assert_allclose(found.weights[1], [0.125, 0.375, 0.625, 0.875] + [1] * 12)


@given(CUTS, CUTS, st.floats(-1e6, 1e6, width=32))
@settings(max_examples=30)
def test_a_constant_stays_that_constant(rows, columns, value):
    down, across = axis(*rows), axis(*columns)
    canvas = Canvas(down, across)
    for row in range(len(down.starts)):
        for column in range(len(across.starts)):
            canvas.add(row, column, np.full((rows[3], columns[3]), value, np.float32))
    assert (canvas.map() == np.float32(value)).all()


@pytest.mark.slow
@given(st.data())
@settings(max_examples=30)
def test_no_place_exceeds_the_tiles_and_lone_ones_keep_their_value(data):
    down, across = axis(*data.draw(CUTS)), axis(*data.draw(CUTS))
    canvas, count = Canvas(down, across), np.zeros((down.cells, across.cells), int)
    shape = down.weights.shape[1], across.weights.shape[1]
    levels = np.array(data.draw(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=9)), np.float32)
    maps = np.random.default_rng(0).choice(levels, (3, *shape))
    last = np.zeros(count.shape, np.float32)
    for row, top in enumerate(down.places):
        for column, left in enumerate(across.places):
            own = maps[(row + column) % 3]
            canvas.add(row, column, own)
            place = (slice(top, top + shape[0]), slice(left, left + shape[1]))
            count[place] += 1
            last[place] = own
    assert canvas.map().max() <= maps.max()
    assert canvas.map().min() >= maps.min()
    np.testing.assert_array_equal(canvas.map()[count == 1], last[count == 1])


@pytest.mark.parametrize("tile", [210, 5000, None])
def test_a_tile_that_covers_the_image_gives_what_no_tiles_give(model, tile):
    plain, tiled = model.predict(scene()), predict_scene(model, scene(), tile=tile)
    np.testing.assert_array_equal(tiled.map, plain.map)
    told = tiled.to_json()
    assert told.pop("tiles", None) == (tile and {"count": 1, "size": tile, "overlap": tile // 8, "per_tile": False})
    assert told == plain.to_json()


def test_without_overlap_the_map_is_the_tiles_maps_side_by_side(model):
    pixels = scene(64, 96)
    found = predict_scene(model, pixels, tile=32, overlap=0)
    assert found.map.shape == (2 * GRID, 3 * GRID)
    for row in range(2):
        for column in range(3):
            own = model.score(pixels[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]).map
            place = found.map[GRID * row : GRID * (row + 1), GRID * column : GRID * (column + 1)]
            np.testing.assert_array_equal(place, own)


def test_no_order_of_work_changes_anything(model, monkeypatch):
    first = predict_scene(model, scene(), tile=32, overlap=8)
    monkeypatch.setattr("oddsight.scenes.ordered_map", map)
    second = predict_scene(model, scene(), tile=32, overlap=8)
    np.testing.assert_array_equal(first.map, second.map)
    assert first.to_json() == second.to_json()


def test_an_anomaly_is_found_where_it_is(model):
    pixels = scene(500, 700, high=60)
    pixels[300:340, 520:600] = 255
    found = predict_scene(model, pixels, tile=64, overlap=16)
    (region,) = found.regions
    assert region.peak == found.score == 255
    # Within a cell of 8 pixels.
    assert np.abs(np.array(region.bbox) - (520, 300, 600, 340)).max() <= 8
    assert (found.width, found.height) == (700, 500)


@pytest.mark.slow
@given(st.integers(1, 60), st.sampled_from([0.02, 0.1, 0.3, 0.9]), st.floats(0, 255, width=32), st.booleans())
@settings(max_examples=100)
def test_flagged_means_beyond_the_threshold_means_a_small_p_value(tiles, rate, score, per_tile):
    model = MODELS[rate] if rate in MODELS else MODELS.setdefault(rate, tiny_model(FIFTY, rate=rate))
    decision = decision_for(model, tiles, per_tile=per_tile)
    own = p_values(FIFTY, np.array([score], np.float32))[0]
    p_value = own if per_tile else min(1, tiles * own)
    promised = decision.false_alarm_rate
    if promised is None:
        assert tiles >= len(FIFTY) + 1
    else:
        assert (score > decision.threshold) == (p_value <= promised * (1 + 1e-9))
        assert promised >= rate


MODELS: dict = {}
FIFTY = np.linspace(5, 250, 49, dtype=np.float32)


def test_the_threshold_of_a_scene_is_that_of_the_rate_over_its_tiles():
    model = tiny_model(np.arange(1, 200, dtype=np.float32), rate=0.1)
    assert decision_for(model, 1) == decision_for(model, 9, per_tile=True) == model.decision
    assert decision_for(model, 10) == Decision(decide(model.calibration_scores, 0.01).threshold, 0.1)
    assert decision_for(model, 20).false_alarm_rate == 0.1
    assert decision_for(model, 40).threshold == 199
    assert decision_for(model, 40).false_alarm_rate == 0.2
    assert decision_for(model, 200).false_alarm_rate is None
    assert decision_for(model.with_decision(threshold=7), 200).threshold == 7


@pytest.mark.slow
def test_few_normal_scenes_are_flagged():
    """Scenes of 9 tiles like those of the calibration, which share much: 0.1 is kept for scenes."""
    rng = np.random.default_rng(1)

    def pixels(count, side):
        # Neighbouring tiles are alike, and the brightest place of each varies.
        base = rng.integers(20, 120, (count, 1, 1, 1))
        return np.clip(base + rng.integers(0, 60, (count, side, side, 1)), 0, 255).astype(np.uint8).repeat(3, 3)

    scorer = tiny_model()
    calibration = np.array([scorer.score(tile).score for tile in pixels(199, 16)], np.float32)
    model = tiny_model(calibration, rate=0.1)
    alarms = [predict_scene(model, one, tile=16, overlap=0).anomalous for one in pixels(200, 48)]
    assert np.mean(alarms) <= 0.1 + 3 * np.sqrt(0.09 / 200)
    by_tile = [predict_scene(model, one, tile=16, overlap=0, per_tile=True).p_value for one in pixels(5, 48)]
    assert min(by_tile) < 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 15}, ["16 pixels", "15"]),
        ({"tile": 64, "overlap": 64}, ["64 pixels", "63"]),
        ({"tile": 64, "overlap": -1}, ["-1"]),
    ],
)
def test_settings_that_cannot_work(options, words):
    with pytest.raises(OddsightError) as error:
        SceneSettings(**options)
    assert all(word in str(error.value) for word in words)


def test_tiles_take_a_model_with_a_map():
    for model in (tiny_model(localises=False), tiny_class_model()):
        with pytest.raises(OddsightError, match="cannot say where"):
            predict_scene(model, scene())
        assert predict_scene(model, scene(), tile=None).to_json() == model.predict(scene()).to_json()


def test_bands_of_what_has_none(model):
    with pytest.raises(ImageError, match="only for TIFF files"):
        predict_scene(model, scene(), bands=(1,))


@pytest.mark.parametrize(
    "cheap",
    [
        pytest.param(decoding._CHEAP, id="here"),
        pytest.param(-1.0, id="in a process", marks=pytest.mark.slow),
    ],
)
def test_rows_of_any_image_are_rows_of_what_is_read(tmp_path, monkeypatch, cheap):
    monkeypatch.setattr(decoding, "_CHEAP", cheap)
    grey = Image.fromarray(scene(30, 20)[..., 0])
    rgb = Image.fromarray(scene(30, 20))
    transparent = Image.merge("RGBA", (*rgb.split(), grey))
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (30, 20), dtype=np.uint16))
    images = {
        "grey.png": grey,
        "rgb.png": rgb,
        "clear.png": transparent,
        "palette.png": rgb.quantize(9),
        "two.gif": rgb.quantize(9),
        "deep.png": deep,
        "one.png": grey.convert("1"),
        "la.png": transparent.convert("LA"),
        "colour.jpg": rgb.convert("CMYK"),
    }
    for name, image in images.items():
        image.save(tmp_path / name)
    for orientation in range(2, 9):
        rgb.save(tmp_path / f"turned-{orientation}.jpg", exif=oriented(orientation))
        transparent.save(tmp_path / f"turned-{orientation}.png", exif=oriented(orientation))
    for path in sorted(tmp_path.iterdir()):
        whole, large = read_image(path), SceneImage(path)
        assert (large.height, large.width) == whole.shape[:2]
        parts = [large.rows(0, 7)[0], large.rows(7, large.height)[0]]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        np.testing.assert_array_equal(large.reduced(30), whole)


def test_a_reduced_copy_is_an_average(tmp_path):
    pixels = scene(301, 200)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    copy = SceneImage(tmp_path / "a.png").reduced(60)
    assert copy.shape == (60, 40, 3)
    assert abs(copy.mean() - pixels.mean()) < 1


def test_tiles_are_written_for_fitting(tmp_path):
    pixels = scene(70, 100)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    files = write_tiles(tmp_path / "one.png", tmp_path / "tiles", tile=32)
    assert [file.name for file in files[:2]] == ["one_00000_00000.png", "one_00000_00032.png"]
    assert len(files) == 3 * 4
    np.testing.assert_array_equal(read_image(files[-1]), pixels[38:, 68:])


@pytest.fixture
def model_file(model, tmp_path):
    model.save(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


def test_predict_with_tiles(model, model_file, tmp_path):
    pixels = scene(high=60)
    Image.fromarray(pixels).save(tmp_path / "calm.png")
    pixels[20:60, 30:80] = 255
    Image.fromarray(pixels).save(tmp_path / "odd.png")
    out = tmp_path / "out.jsonl"
    options = ["--tile", 64, "--overlap", 8, "--threshold", 150]
    outputs = ["--json", out, "--maps", tmp_path / "maps", "--explain", tmp_path / "why"]
    outcome = run("predict", model_file, tmp_path / "calm.png", tmp_path / "odd.png", *options, *outputs)
    assert (outcome.code, outcome.err) == (0, "1 anomalous, 1 normal\n")
    rows = json_lines(out)
    own = model.with_decision(threshold=150)
    for row, name in zip(rows, ("calm.png", "odd.png"), strict=True):
        expected = predict_scene(own, tmp_path / name, tile=64, overlap=8).to_json()
        assert {key: row[key] for key in expected if key != "nearest"} == {
            key: value for key, value in expected.items() if key != "nearest"
        }
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"calm.png", "odd.png"}
    assert {path.name for path in (tmp_path / "why").iterdir()} == {"odd.png"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["0.1", "12 tiles", "119 calibration images", "19", "promises a rate of 0.6", "--per-tile"]),
        (["--overlap", 60], ["promises no rate", "--per-tile"]),
        (["--per-tile"], ["per tile", "of 12 tiles", "up to 1.2 "]),
    ],
)
def test_predict_says_what_the_rate_means(model_file, tmp_path, options, words):
    Image.fromarray(scene()).save(tmp_path / "a.png")
    outcome = run("predict", model_file, tmp_path / "a.png", "--tile", 64, *options)
    assert outcome.code == 0
    said = outcome.err.splitlines()[-1]
    assert all(word in said for word in words), said
    assert run("predict", model_file, tmp_path / "a.png", "--tile", 64, *options, "--quiet").err == ""


def test_options_that_do_not_go_together(model_file, tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.png")
    for options in (["--overlap", 3], ["--per-tile"], ["--tile", "64", "--scale", "1"], ["--bands", "red"]):
        assert run("predict", model_file, tmp_path / "a.png", *options).code == 2
    assert_failed(run("predict", model_file, tmp_path / "a.png", "--tile", 64, "--fdr", 0.1), "--fdr", "--tile")
    assert_failed(run("predict", model_file, tmp_path / "a.png", "--tile", 64, "--overlap", 64), "64", "63")
    tiny_model(localises=False).save(tmp_path / "blind.onnx")
    for options in (["--tile", 64], ["--regions", tmp_path / "new"]):
        assert_failed(run("predict", tmp_path / "blind.onnx", tmp_path / "a.png", *options), "cannot say where")
    assert not (tmp_path / "new").exists()


MEASURED = """
import resource, sys
sys.path.insert(0, {tests!r})
import numpy as np
import tifffile
from oddsight import predict_scene
from oddsight.data import decoding
from oddsight.data.images import read_image
from tiny_model import tiny_model
model = tiny_model()
predict_scene(model, np.zeros((64, 64, 3), np.uint8), tile=32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
result = predict_scene(model, {path!r}, tile=500, overlap=0)
assert result.score == 255 and result.map.shape == (160, 160), result
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize(("name", "megabytes"), [("tiles.tif", 150), ("rows.tif", 150), ("whole.png", 550)])
def test_a_image_of_a_hundred_million_pixels_takes_little_memory(tmp_path, name, megabytes):
    """Decoded it is 300 MB, or 400 MB as Pillow keeps it; as float32 it would be 1,200 MB."""
    path = tmp_path / name
    side, part = 10_000, 1_000
    piece = np.zeros((part, side, 3), np.uint8)
    piece[200:600, 4_200:4_600] = 255
    if name == "tiles.tif":
        empty, square = (zlib.compress(bytes([value]) * (256 * 256 * 3)) for value in (0, 255))
        tiles = (
            square if number // 40 in (4, 5, 6) and number % 40 in (20, 21, 22) else empty for number in range(40 * 40)
        )
        tifffile.imwrite(path, tiles, shape=(side, side, 3), dtype=np.uint8, tile=(256, 256), compression="zlib",
                         photometric="rgb")  # fmt: skip
    elif name == "rows.tif":
        tifffile.imwrite(path, (piece for _ in range(10)), shape=(side, side, 3), dtype=np.uint8, photometric="rgb",
                         rowsperstrip=part)  # fmt: skip
    else:
        compressor = zlib.compressobj(1)
        rows = np.concatenate([np.zeros((part, 1), np.uint8), piece.reshape(part, -1)], axis=1).tobytes()
        path.write_bytes(
            png_of(side, side, b"".join(compressor.compress(rows) for _ in range(10)) + compressor.flush())
        )
    script = MEASURED.format(tests=str(Path(__file__).parents[1]), path=str(path))
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) < megabytes
