import json

import numpy as np
import pytest

from oddsight.errors import DataError, ModelError
from oddsight.model import footage as module
from oddsight.model.footage import Footage
from oddsight.model.metadata import Metadata
from oddsight.model.model import Model
from tiny_model import tiny_model

SCORES = np.array([1, 2, np.nan, 4, 5, 6], np.float32)


def footage(times=(0.0, 1.0, 2.0, 4.0, 5.0, 8.0), **changes):
    return Footage(**{"times": np.array(times), "scores": {"frame": SCORES}, "block": 2.0, "places": "here"} | changes)


def test_a_model_keeps_footage_and_nothing_else_changes(tmp_path):
    before = tiny_model()
    after = before.with_footage(footage())
    after.save(tmp_path / "model.onnx")
    kept = Model.load(tmp_path / "model.onnx").footage
    assert kept.times.tolist() == footage().times.tolist()
    np.testing.assert_array_equal(kept.scores["frame"], SCORES)
    assert (kept.block, kept.places) == (2.0, "here")
    assert after.metadata.schema_version == 8
    assert after.metadata.graph_sha256 == before.metadata.graph_sha256
    assert after.with_decision(false_alarm_rate=0.2).footage is not None
    assert after.with_footage(None).to_bytes() == before.to_bytes()
    assert before.footage is None


def test_blocks_count_if_they_are_there():
    assert footage().numbers.tolist() == [0, 0, -1, 2, 2, -1]
    assert footage().blocks == 2
    assert footage().hours == pytest.approx(4 / 3600)
    assert footage().interval == 1


def test_of_too_many_scores_every_second_is_left_out(monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    assert footage().reduced().times.tolist() == [0, 2, 5]
    assert len(tiny_model().with_footage(footage()).footage.times) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"times": (0, 1, 2, 4, 5, 5)}, "do not ascend"),
        ({"times": (-1, 1, 2, 4, 5, 8)}, "do not ascend"),
        ({"times": (0, 1)}, "not as many"),
        ({"scores": {}}, "not as many"),
        ({"scores": {"frame": np.array([1, 2, 3, 4, 5, np.inf], np.float32)}}, "not finite"),
    ],
)
def test_footage_that_cannot_be_is_refused(changes, words):
    with pytest.raises(DataError, match=words):
        footage(**changes)


@pytest.mark.parametrize("field", ["times", "scores"])
def test_damaged_footage_in_a_file_is_one_error(field):
    content = json.loads(tiny_model().with_footage(footage()).metadata.to_json())
    short = content["footage"]["times"][:8]
    content["footage"][field] = short if field == "times" else {"frame": short}
    metadata = Metadata.from_json(json.dumps(content))
    with pytest.raises(ModelError, match="its footage is damaged"):
        Footage.from_info(metadata.footage)


def test_older_schemas_have_no_footage():
    content = json.loads(tiny_model().with_footage(footage()).metadata.to_json())
    with pytest.raises(ModelError, match="do not fit together: these are of version 8"):
        Metadata.from_json(json.dumps(content | {"schema_version": 2}))


def test_blocks_of_footage_with_a_variable_rate_are_whole():
    """Half of the time a frame every thirtieth of a second, else one a second; and then a block that lacks a half."""
    busy, calm = np.arange(0, 5, 1 / 30), np.arange(5, 10, 1.0)
    times = np.concatenate([10 * number + part for number in range(6) for part in (busy, calm)])
    times = np.append(times, 60 + np.concatenate([busy, [9.9]]))
    found = Footage(times, {"frame": np.zeros(len(times), np.float32)}, 10.0)
    assert found.blocks == 6
    assert set(found.numbers[times >= 60]) == {-1}
    dropped = np.delete(np.arange(0, 60, 0.2), slice(2, None, 3))
    assert Footage(dropped, {"frame": np.zeros(len(dropped), np.float32)}, 10.0).blocks == 6
