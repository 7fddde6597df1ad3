"""Sources: frames of files, arrays and encoded bytes are the same images, and say when they were taken."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import oddsight
from oddsight.data.images import read_image
from oddsight.errors import DataError, ImageError
from oddsight.sources import Arrays, Encoded, Files
from oddsight.sources.source import as_source, known_length
from tiny_model import tiny_model


@pytest.fixture(scope="module")
def files(normal_folder):
    return sorted(normal_folder.iterdir())[:3]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def test_every_kind_of_source_gives_the_same_scores(files, model):
    expected = [model.predict(path).score for path in files]
    pixels = [read_image(path) for path in files]
    contents = {path.name: path.read_bytes() for path in files}
    for source in (Files(*files), Arrays(pixels), Arrays(np.stack(pixels)), Encoded(contents), iter(Files(*files))):
        assert [result.score for result in model.predict_many(source)] == expected
    assert [result.source for result in model.predict_many(Encoded(contents))] == list(contents)


def test_files_yield_what_is_not_there_first(files, tmp_path):
    source = Files(*files, tmp_path / "missing.png")
    first, *others = source
    assert isinstance(first, ImageError)
    assert [frame.path for frame in others] == list(files)
    assert len(source) == known_length(as_source(source)) == 4


def test_arrays_carry_names_times_and_numbers(files, model):
    source = Arrays([read_image(path) for path in files], names=["a", "b", "c"], times=[0.0, 0.5, 1.0])
    results = list(model.predict_many(source))
    assert [(r.source, r.time, r.index) for r in results] == [("a", 0.0, 0), ("b", 0.5, 1), ("c", 1.0, 2)]
    assert results[1].to_json()["time"] == 0.5
    with pytest.raises(DataError, match="2 names do not fit 3 images"):
        Arrays([read_image(path) for path in files], names=["a", "b"])


def test_results_of_files_say_nothing_of_time(files, model):
    content = model.predict(files[0]).to_json()
    assert "time" not in content
    assert "index" not in content


def test_broken_bytes_are_an_error_by_their_name(files, model):
    outcomes = list(model.predict_many(Encoded({"good": files[0].read_bytes(), "bad": b"no image", "none": b""})))
    assert [isinstance(one, ImageError) for one in outcomes] == [False, True, True]
    assert [one.path for one in outcomes[1:]] == ["bad", "none"]


def test_a_source_of_ones_own_is_read_one_by_one(files, model):
    class Stream:
        def __iter__(self):
            yield oddsight.Frame(files[0], "first", time=0.0, index=0)
            yield ImageError("second", "the camera is off")
            yield oddsight.Frame(read_image(files[1]), "third", time=2.0, index=2)

    outcomes = list(model.predict_many(Stream()))
    assert [one.path if isinstance(one, ImageError) else one.source for one in outcomes] == ["first", "second", "third"]
    assert known_length(Stream()) is None


def test_frames_can_be_sent(files):
    for image in (files[0], files[0].read_bytes()):
        frame = pickle.loads(pickle.dumps(oddsight.Frame(image, "x", 1.0, 3)))
        assert (frame.name, frame.time, frame.index) == ("x", 1.0, 3)
        np.testing.assert_array_equal(frame.read(), read_image(files[0]))


@pytest.mark.slow
def test_fit_learns_from_any_source(normal_folder):
    files = sorted(normal_folder.iterdir())[:12]
    options = {"method": "knn", "size": 64, "false_alarm_rate": 0.2}
    expected = oddsight.fit(files, **options).to_bytes()
    assert oddsight.fit(Files(*files), **options).to_bytes() == expected
    assert oddsight.fit(Encoded({path.name: path.read_bytes() for path in files}), **options).to_bytes() == expected
