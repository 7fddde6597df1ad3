"""Images given as paths, arrays, Pillow images and lists: the same pixels give the same model; the rest is an error."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import oddsight
from oddsight.data.classes import read_classes
from oddsight.data.images import read_image
from oddsight.errors import DataError, ImageError, ModelError, OddsightError
from oddsight.model.normals import NormalImages
from oddsight.model.result import Result
from oddsight.sources.collecting import collect_sources
from oddsight.sources.source import listed
from tiny_model import tiny_class_model, tiny_model

OPTIONS = {"method": "knn", "size": 64, "false_alarm_rate": 0.2}
NO_SOURCES = [None, 3, 2.5, True, b"a.png", {"a": 1}, object(), memoryview(b"x"), ImageError]


@pytest.fixture(scope="module")
def files(normal_folder):
    return sorted(normal_folder.iterdir())[:16]


@pytest.fixture(scope="module")
def pictures(files):
    return [read_image(path) for path in files]


@pytest.fixture(scope="module")
def expected(files):
    return oddsight.fit(*files, **OPTIONS).to_bytes()


def folder_of(files, tmp_path):
    for path in files:
        shutil.copy(path, tmp_path)
    return tmp_path


FORMS = {
    "a folder": lambda files, pictures, tmp_path: [folder_of(files, tmp_path)],
    "a glob": lambda files, pictures, tmp_path: [f"{folder_of(files, tmp_path)}/*"],
    "a list of paths": lambda files, pictures, tmp_path: [files],
    "a list of texts": lambda files, pictures, tmp_path: [[str(path) for path in files]],
    "a generator of paths": lambda files, pictures, tmp_path: [iter(files)],
    "arrays": lambda files, pictures, tmp_path: pictures,
    "a list of arrays": lambda files, pictures, tmp_path: [pictures],
    "a generator of arrays": lambda files, pictures, tmp_path: [np.array(one) for one in pictures],
    "one array": lambda files, pictures, tmp_path: [np.stack(pictures)],
    "arrays in reverse": lambda files, pictures, tmp_path: [pictures[::-1]],
    "opaque arrays": lambda files, pictures, tmp_path: [
        [np.dstack([one, np.full_like(one[..., 0], 255)]) for one in pictures]
    ],
    "arrays of 16 bits": lambda files, pictures, tmp_path: [[one.astype(np.uint16) * 257 for one in pictures]],
    "Pillow images": lambda files, pictures, tmp_path: [Image.fromarray(one) for one in pictures],
    "Pillow images of files": lambda files, pictures, tmp_path: [[Image.open(path) for path in files]],
    "a mixture": lambda files, pictures, tmp_path: [
        files[:4],
        *pictures[4:8],
        [Image.fromarray(one) for one in pictures[8:]],
    ],
}


QUICK = ("a folder", "arrays", "a mixture")


@pytest.mark.parametrize("form", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in FORMS])
def test_the_same_pixels_give_the_same_model(form, files, pictures, expected, tmp_path):
    assert oddsight.fit(*FORMS[form](files, pictures, tmp_path), **OPTIONS).to_bytes() == expected


def test_the_same_image_counts_once_however_it_is_given(files, pictures):
    plans = []
    model = oddsight.fit(files, pictures[:5], on_plan=plans.append, **OPTIONS)
    assert len(plans[0].images) == 16
    assert plans[0].duplicates == 5
    assert model.metadata.training.duplicates == 5


def test_arrays_may_change_afterwards(pictures):
    changing = [np.array(one) for one in pictures]
    collection, _ = collect_sources(changing)
    before = [image.read() for image in collection.images]
    for one in changing:
        one[:] = 0
    assert all(np.array_equal(image.read(), was) for image, was in zip(collection.images, before, strict=True))


def test_small_copies_of_arrays_are_written(pictures, tmp_path):
    plans = []
    model = oddsight.fit(pictures, on_plan=plans.append, **OPTIONS)
    assert oddsight.write_normals(tmp_path / "x.normals.zip", plans[0].training) == []
    copies = NormalImages(tmp_path / "x.normals.zip")
    nearest = model.predict(pictures[3]).nearest
    assert copies.thumbnail(nearest).size == (min(128, pictures[3].shape[1]), min(128, pictures[3].shape[0]))
    assert copies.path(nearest).startswith("image ")


def test_images_that_cannot_be_used_are_counted(pictures, files, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"rubbish")
    plans = []
    bad = [
        np.zeros((0, 4, 3), np.uint8),
        np.full((4, 4, 3), 0.5),
        np.zeros((4, 4, 2), np.uint8),
        tmp_path / "broken.png",
    ]
    model = oddsight.fit([*pictures, *bad], on_plan=plans.append, **OPTIONS)
    errors = plans[0].errors
    assert model.metadata.training.unreadable == len(errors) == 4
    assert [error.path for error in errors] == ["image 17", "image 18", "image 19", str(tmp_path / "broken.png")]
    assert "float64 pixels; pass uint8" in errors[1].reason


@pytest.mark.parametrize("what", NO_SOURCES, ids=lambda what: type(what).__name__)
def test_what_is_no_image_is_an_error_of_oddsight(what, pictures, tmp_path):
    model = tiny_model()
    for call in (
        lambda: oddsight.fit(what),
        lambda: oddsight.fit([*pictures, what]),
        lambda: model.predict(what),
        lambda: model.predict_many(what),
        lambda: oddsight.predict_scene(model, what, tile=None),
        lambda: oddsight.evaluate(model, what) if what is not None else oddsight.evaluate(model),
        lambda: oddsight.evaluate(what, tmp_path),
        lambda: oddsight.check(what),
        lambda: oddsight.prepare(what, tmp_path / "out"),
        lambda: oddsight.fit_classes(what),
        lambda: read_classes(what),
    ):
        with pytest.raises(OddsightError):
            call()
    with pytest.raises(ModelError, match="a model file is given as a path"):
        oddsight.load(what)


def test_one_image_that_is_none_does_not_stop_the_others(pictures):
    for number, what in enumerate(NO_SOURCES):
        found = list(tiny_model().predict_many([pictures[0], what, pictures[1]]))
        assert [type(one) for one in found] == [Result, ImageError, Result], number
        assert "a path, a NumPy array or a Pillow image, not as a" in found[1].reason


@pytest.mark.parametrize("what", [(), [[]], [[], ()], [np.zeros((0, 4, 4, 3), np.uint8)], [iter(())]], ids=range(5))
def test_nothing_to_learn_from_is_said(what):
    with pytest.raises(DataError, match=r"no images to train on|no images in what was given"):
        oddsight.fit(*what, **OPTIONS)


def test_predict_many_takes_one_image_or_an_array_of_several(pictures, files):
    model = tiny_model()
    scores = [model.predict(one).score for one in pictures[:3]]
    for given in (pictures[:3], tuple(pictures[:3]), iter(pictures[:3]), np.stack(pictures[:3]), files[:3]):
        assert [one.score for one in model.predict_many(given)] == scores
    for given in (pictures[0], str(files[0]), files[0], Image.fromarray(pictures[0])):
        [result] = model.predict_many(given)
        assert result.score == scores[0]
    assert list(model.predict_many([])) == []


def test_what_is_given_as_one_stays_one(pictures):
    assert listed("a.png") == ["a.png"]
    assert listed(Path("a.png")) == [Path("a.png")]
    assert len(listed(np.stack(pictures))) == len(pictures)
    assert listed(pictures) is pictures


def test_hints_and_documentation_name_what_fit_takes():
    assert "ImagesLike" in str(inspect.signature(oddsight.fit).parameters["images"].annotation)


WRONG: dict[str, list[Any]] = {
    "seed": [-1, 1.5, "x", None, True, 2**70, float("nan")],
    "size": [0, -32, 33, 10**9, 64.0, "64", True],
    "calibration_fraction": [-0.1, 1, 2, float("nan"), float("inf"), "x", True],
    "false_alarm_rate": [0, 1, -1, float("nan"), "x", True],
    "memory": [0, -1, "x", "", "-1GB", "nan", [], 10**30, float("nan"), True],
    "method": ["", "x", 3, None],
    "layers": [["x"], [], "x"],
    "backbone": ["", "no-such"],
    "verdicts": [("a",), ("a", "a"), ("", "b"), "ab"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_options_that_cannot_work_are_refused_before_any_image_is_read(name, value, files):
    told = []
    with pytest.raises(OddsightError):
        oddsight.fit(files, **{**OPTIONS, name: value, "progress": lambda *told_: told.append(told_)})
    assert told == [] or name in ("false_alarm_rate", "memory")


@pytest.mark.slow
def test_numbers_of_numpy_are_taken_as_they_are_meant(files, expected):
    options = {"method": "knn", "size": np.int64(64), "false_alarm_rate": np.float32(0.25), "seed": np.uint8(0)}
    model = oddsight.fit(files, **options, memory=np.int64(10**9), calibration_fraction=np.float32(0.25))
    plain = {"method": "knn", "size": 64, "false_alarm_rate": 0.25, "seed": 0, "calibration_fraction": 0.25}
    assert model.to_bytes() == oddsight.fit(files, **plain).to_bytes()
    assert model.with_decision(threshold=np.float32(0.5)).decision.threshold == 0.5
    assert model.with_decision(false_alarm_rate=np.float64(0.25)).to_bytes() == model.to_bytes()


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.with_decision(threshold="x"),
        lambda model: model.with_decision(threshold=float("nan")),
        lambda model: model.with_decision(false_alarm_rate="x"),
        lambda model: model.with_decision(false_alarm_rate=2),
        lambda model: model.predict_many([], workers=0),
        lambda model: model.predict_many([], workers=10**9),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), tile=0),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), tile="x"),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), tile=16.5),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), tile=32, overlap=32),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), tile=32, overlap=float("nan")),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), bands=("a",)),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), scale=("a", 2)),
        lambda model: oddsight.predict_scene(model, np.zeros((4, 4, 3), np.uint8), scale=(float("nan"), 2)),
        lambda model: oddsight.fit(".", backbone=5),
        lambda model: oddsight.fit(".", layers=5),
        lambda model: oddsight.fit(".", layers="stage3"),
        lambda model: oddsight.evaluate(model, ".", confidence=1),
        lambda model: oddsight.evaluate(model, ".", confidence="x"),
        lambda model: oddsight.evaluate(model, ".", aupro_limit=0),
        lambda model: oddsight.evaluate(model, ".", aupro_limit=float("nan")),
        lambda model: oddsight.evaluate(model, ".", seed=-1),
        lambda model: oddsight.compare(".", confidence=0),
        lambda model: oddsight.compare(".", seeds=["x"]),
        lambda model: oddsight.compare(".", seeds=[-1]),
        lambda model: oddsight.compare(".", jobs=0),
        lambda model: oddsight.compare(".", jobs="x"),
        lambda model: oddsight.compare(".", test_share="x"),
        lambda model: oddsight.compare(".", split_seed=-1),
        lambda model: oddsight.prepare(".", "out", size="x"),
        lambda model: oddsight.prepare(".", "out", validation="x"),
        lambda model: oddsight.prepare(".", "out", seed=-1),
        lambda model: oddsight.synthesize(np.zeros((4, 4, 3), np.uint8), "haze", "x"),
        lambda model: oddsight.synthesize(np.zeros((4, 4, 3), np.uint8), "haze", 1, seed=0.5),
        lambda model: oddsight.fit_classes(".", seed=-1),
        lambda model: oddsight.fit_classes(".", score=""),
        lambda model: oddsight.fit_classes(".", score="+"),
        lambda model: oddsight.fit_classes(".", score=3),
        lambda model: oddsight.fit_classes(".", classifier=3),
    ],
)
def test_arguments_that_cannot_work_are_refused(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OddsightError):
        call(tiny_model())
    assert not list(tmp_path.iterdir())


def test_classes_of_a_model_stay_what_they_are(pictures):
    """A model that knows classes takes the same forms."""
    assert [one.label for one in tiny_class_model().predict_many(np.stack(pictures[:2]))] == [
        tiny_class_model().predict(one).label for one in pictures[:2]
    ]
