"""What a model was trained on, its file keeps: bands and scale are applied again without being asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest

import oddsight
from cli_files import error_lines, run
from oddsight.data.check import check
from oddsight.data.images import content_hash, read_image
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import ImageError, OddsightError
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages
from oddsight.model.sections import ReadingInfo
from oddsight.sinks import HeatMaps, Regions
from textures import SIZE, texture, write_textures
from tiff_files import NODATA, page, write
from tiny_model import tiny_model

BANDS, SCALE = (4, 3, 2), (1000.0, 3000.0)
READING = Reading(BANDS, SCALE)


def scene(seed: int, anomalous: bool = False) -> np.ndarray:
    """Five bands of 16 bits: the second to fourth hold a texture, the others noise that differs between files."""
    rng = np.random.default_rng(seed)
    pixels = texture(seed, SIZE, SIZE) if not anomalous else rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    levels = (1000 + pixels.astype(np.uint16) * 7)[..., ::-1]
    first, last = (rng.integers(0, 65536, (SIZE, SIZE, 1), np.uint16) for _ in "ab")
    return np.concatenate([first, levels, last], axis=2)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for name, seeds, odd in (("good", range(12), False), ("new", range(50, 54), False), ("odd", range(80, 84), True)):
        (folder / name).mkdir()
        for seed in seeds:
            write(folder / name / f"{seed}.tif", page(scene(seed, odd), 1))
    return folder


@pytest.fixture(scope="module")
def trained(scenes):
    path = scenes / "model.onnx"
    outcome = run("fit", scenes / "good", "-o", path, "--method", "patchcore", "--size", SIZE, "--bands", "4,3,2",
                  "--scale", "1000,3000", "--quiet")  # fmt: skip
    assert outcome.code == 0, outcome.err
    return path


def rows(*arguments) -> list[dict]:
    outcome = run("predict", *arguments, "--json", "-", "--quiet")
    assert outcome.code == 0, outcome.err
    return [json.loads(line) for line in outcome.out.splitlines()]


@pytest.mark.slow
def test_the_file_keeps_the_reading(trained, scenes):
    model = oddsight.load(trained)
    assert model.metadata.schema_version == 7
    assert model.metadata.reading == ReadingInfo(bands=[4, 3, 2], scale=SCALE)
    assert model.reading == READING
    assert model.with_decision(threshold=1.0).reading == READING
    assert tiny_model().reading == AS_DECLARED
    same = oddsight.fit(scenes / "good", method="patchcore", size=SIZE, reading=Reading([4, 3, 2], list(SCALE)))
    assert same.to_bytes() == model.to_bytes()


@pytest.mark.slow
def test_prediction_reads_as_training_did(trained, scenes):
    model = oddsight.load(trained)
    image = scenes / "new" / "50.tif"
    expected = model.predict(read_image(image, reading=READING)).score
    assert model.predict(image).score == expected
    assert [found.score for found in model.predict_many([image])] == [expected]
    assert oddsight.predict_scene(model, image, tile=None).score == expected
    plain, asked = rows(trained, image), rows(trained, image, "--bands", "4,3,2", "--scale", "1000,3000")
    regions = rows(trained, image, "--regions", scenes / "found")
    tiled = rows(trained, image, "--tile", SIZE)
    assert {row["score"] for row in (*plain, *asked, *regions, *tiled)} == {expected}
    assert model.predict(image, reading=Reading((3, 3, 2))).score != expected


@pytest.mark.slow
def test_another_reading_takes_precedence_and_is_said(trained, scenes):
    image = scenes / "new" / "50.tif"
    outcome = run("predict", trained, image, "--bands", "2,3,4")
    assert outcome.code == 0
    assert "read with bands 2,3,4 and scale 1000,3000, and the model was trained with bands 4,3,2" in outcome.err
    own = oddsight.load(trained).predict(image, reading=Reading((2, 3, 4)))
    assert rows(trained, image, "--bands", "2,3,4")[0]["score"] == own.score
    assert "trained with" not in run("predict", trained, image, "--bands", "4,3,2").err


def test_images_that_cannot_be_read_so(trained, tmp_path, scenes):
    values = scene(50)
    write(tmp_path / "three.tif", page(values[..., :3], 2))
    (tmp_path / "a.png").write_bytes((scenes / "new" / "50.tif").read_bytes())
    model = oddsight.load(trained)
    assert model.predict(tmp_path / "a.png").score == model.predict(scenes / "new" / "50.tif").score
    for options in ([], ["--tile", SIZE]):
        outcome = run("predict", trained, tmp_path / "three.tif", *options, "--quiet")
        (line,) = error_lines(outcome)
        assert outcome.code == 1 and "has 3 bands, and band 4 was asked for" in line
    # Arrays are RGB already.
    assert model.predict(read_image(scenes / "new" / "50.tif", reading=READING)).score > 0
    with pytest.raises(ImageError, match="only for TIFF files"):
        oddsight.predict_scene(model, np.zeros((SIZE, SIZE, 3), np.uint8), tile=None, bands=(1,))


@pytest.mark.slow
def test_evaluation_and_leaks_see_the_same_pixels(trained, scenes):
    model = oddsight.load(trained)
    found = oddsight.evaluate(model, normal=scenes / "new", anomalous=scenes / "odd")
    assert found.reading == READING
    assert found.judged[0].score == model.predict(found.judged[0].path).score
    with pytest.raises(oddsight.DataError, match="used to fit"):
        oddsight.evaluate(model, normal=scenes / "good", anomalous=scenes / "odd")
    other = oddsight.evaluate(model, normal=scenes / "new", anomalous=scenes / "odd", reading=Reading((3, 3, 3)))
    assert other.judged[0].score != found.judged[0].score
    outcome = run("evaluate", trained, "--normal", scenes / "new", "--anomalous", scenes / "odd", "--bands", "3",
                  "--json", "-", "--report", scenes / "report.html", "--quiet")  # fmt: skip
    assert outcome.code == 0, outcome.err


def test_small_copies_are_of_the_same_pixels(trained, scenes):
    normals = NormalImages.beside(trained)
    image = scenes / "good" / "3.tif"
    pixels = read_image(image, reading=READING)
    copy = normals.thumbnail(content_hash(pixels)[:16])
    assert np.abs(np.asarray(copy).astype(int) - pixels).mean() < 12


@pytest.mark.slow
def test_check_and_compare_take_bands(scenes, tmp_path):
    assert check(scenes / "good", reading=READING).unreadable == ()
    outcome = run("check", scenes / "good", "--bands", "9", "--json", "-")
    assert "has 5 bands, and band 9 was asked for" in outcome.out
    options = {"methods": ["knn"], "sizes": [SIZE], "normal": "good", "test_share": 0.25, "work": tmp_path}
    found = oddsight.compare(f"a={scenes}", **options, reading=READING)
    assert not found.cells[0].error
    assert found.trials[0].training[0].reading == READING


@pytest.mark.slow
def test_labelled_images_take_bands(scenes, tmp_path):
    run("fit-classes", scenes, "-o", tmp_path / "a.onnx", "--bands", "1")
    assert oddsight.load(tmp_path / "a.onnx").reading.bands == (1,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bands": (1, 2)}, "one band or three"),
        ({"bands": (0,)}, "counted from 1"),
        ({"bands": ()}, "one band or three"),
        ({"bands": 5}, "not 5"),
        ({"bands": "4,3,2"}, "not '4,3,2'"),
        ({"scale": (5, 5)}, "from 5 to 5"),
        ({"scale": 5}, "not 5"),
        ({"scale": (1, 2, 3)}, "two values"),
        ({"scale": (0, float("nan"))}, "nan"),
    ],
)
def test_readings_that_cannot_be(options, words):
    with pytest.raises(OddsightError, match=words):
        Reading(**options)
    with pytest.raises(OddsightError, match=words):
        oddsight.predict_scene(tiny_model(), np.zeros((9, 9, 3), np.uint8), **options)


def test_readings_override_one_another():
    assert READING.override(None) == READING == READING.override(AS_DECLARED)
    assert READING.override(Reading((1,))) == Reading((1,), SCALE)
    assert (str(READING), str(AS_DECLARED)) == ("bands 4,3,2 and scale 1000,3000", "the file's own colours")


def test_pixels_without_data_are_not_flagged_by_any_path(tmp_path):
    model: Model = tiny_model().with_decision(threshold=100)
    values = np.full((64, 64, 3), 40, np.uint8)
    values[:32] = 250
    values[:, 60:] = 90
    path = write(tmp_path / "a.tif", page(values, 2, tags={NODATA: (2, b"250\0")}))
    plain, scened = model.predict(path), oddsight.predict_scene(model, path, tile=None)
    assert plain.to_json() == scened.to_json()
    np.testing.assert_array_equal(plain.map, scened.map)
    assert not plain.anomalous and 40 <= plain.score <= 90
    assert not next(iter(model.predict_many([path] * 9))).anomalous


@pytest.mark.slow
def test_arrays_go_with_a_model_that_reads_other_bands(trained, tmp_path):
    arrays = [np.full((SIZE, SIZE, 3), value, np.uint8) for value in (10, 200)]
    for options in (
        {"tile": SIZE // 2},
        {"sinks": [Regions(tmp_path / "regions")]},
        {"sinks": [HeatMaps(tmp_path / "maps")]},
    ):
        assert oddsight.predict(trained, arrays, **options).errors == 0
    refused = oddsight.predict(trained, arrays, tile=SIZE // 2, reading=Reading((1, 2, 3)))
    assert refused.errors == 2


@pytest.mark.slow
def test_a_model_of_classes_keeps_its_reading(tmp_path):
    for folder, seeds in (("data", range(12)), ("test", range(20, 23))):
        for name, odd in (("plain", False), ("noise", True)):
            (tmp_path / folder / name).mkdir(parents=True)
            for seed in seeds:
                write(tmp_path / folder / name / f"{seed}.tif", page(scene(seed, odd), 1))
    path, data = tmp_path / "m.onnx", tmp_path / "data"
    bands = ("--bands", "4,3,2", "--scale", "1000,3000")
    options = ("--size", 32, "--false-alarm-rate", 0.4, "--calibration-fraction", 0.3, "--quiet")
    assert run("fit-classes", data, "-o", path, *bands, *options).code == 0
    model = oddsight.load(path)
    assert model.metadata.reading == ReadingInfo(bands=[4, 3, 2], scale=SCALE)
    image = data / "noise" / "3.tif"
    assert model.predict(image).score == model.predict(read_image(image, reading=READING)).score
    (tmp_path / "strange").mkdir()
    write(tmp_path / "strange" / "0.tif", page(scene(99, True), 1))
    measured = ("--labelled", tmp_path / "test", "--unknown", tmp_path / "strange")
    assert run("evaluate", path, *measured, "--json", "-", "--quiet").code == 0
    for name, seeds in (("a", range(3)), ("b", range(3, 6))):
        write_textures(tmp_path / "raw" / name, seeds, width=24, height=24)
    assert run("prepare", tmp_path / "raw", "-o", tmp_path / "packed", "--quiet").code == 0
    assert "no TIFF files" in run("fit-classes", tmp_path / "packed", "-o", path, *bands).err
