"""Finished work on disk: any change of it is noticed."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oddsight.runtime.records import DIGEST, digest_json, read_arrays, read_regular, write_arrays, write_record

CONTENT = {"key": {"seed": 0, "name": "größe"}, "scores": [0.1, -2.5e-07, 3.0], "error": None, "count": 12}
ARRAYS: dict[str, np.ndarray] = {
    "scores": np.array([0.1, -2.5, 3.0], np.float32),
    "labels": np.arange(6).reshape(2, 3),
    "record": np.array(json.dumps(CONTENT)),
    "one": np.array(2.5),
    "none": np.zeros((0, 4), np.float32),
    "flags": np.array([[True], [False]]),
}

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def same(arrays):
    return arrays.keys() == ARRAYS.keys() and all(
        arrays[name].dtype == array.dtype and np.array_equal(arrays[name], array) for name, array in ARRAYS.items()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write_record(folder / "whole.json", CONTENT)
    write_arrays(folder / "whole.npz", ARRAYS)
    return folder


def test_what_was_written_is_read(folder):
    assert json.loads((folder / "whole.json").read_bytes()) == {**CONTENT, DIGEST: digest_json(CONTENT)}
    assert same(read_arrays(folder / "whole.npz"))
    with np.load(folder / "whole.npz", allow_pickle=False) as file:
        assert {*file.files} == {*ARRAYS, DIGEST}


@pytest.mark.slow
def test_every_byte_of_arrays_counts(folder):
    whole, path = (folder / "whole.npz").read_bytes(), folder / "flipped.npz"
    missing = 0
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        found = read_arrays(path)
        assert found is None or same(found), at
        missing += found is None
    assert missing > len(whole) / 2


@given(name=st.sampled_from(["scores", "count", "error", "key"]), value=st.sampled_from([0, 1.5, "x", None, [], {}]))
@quick
def test_an_edited_record_has_another_digest(folder, name, value):
    content = json.loads((folder / "whole.json").read_bytes())
    content[name] = value
    assert (digest_json(content) == content[DIGEST]) == (value == CONTENT[name])


def test_edited_arrays_count_as_missing(folder):
    path = folder / "edited.npz"
    with np.load(folder / "whole.npz", allow_pickle=False) as file:
        whole = {name: file[name] for name in file.files}
    np.savez(path, **whole)
    assert same(read_arrays(path))
    for edit in (
        {"scores": whole["scores"] + np.float32(1e-6)},
        {"scores": whole["scores"].astype(np.float64)},
        {"labels": whole["labels"].reshape(3, 2)},
        {"another": np.zeros(1)},
        {DIGEST: np.array("0" * 64)},
    ):
        np.savez(path, **{**whole, **edit})
        assert read_arrays(path) is None
    np.savez(path, **{name: array for name, array in whole.items() if name != DIGEST})
    assert read_arrays(path) is None


@given(st.binary(max_size=200))
@quick
def test_any_bytes_count_as_missing(folder, content):
    path = folder / "any"
    path.write_bytes(content)
    assert read_arrays(path) is None


def test_objects_are_never_made(folder):
    path, file = folder / "objects.npz", io.BytesIO()
    np.savez(file, allow_pickle=True, scores=np.array([{}], object), sha256=np.array("0" * 64))
    path.write_bytes(file.getvalue())
    assert read_arrays(path) is None


def test_what_is_no_regular_file_counts_as_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**34)
    for name in ("pipe", "folder", "loop", "huge", "not there", "no\0name"):
        assert read_arrays(tmp_path / name) is None
        with pytest.raises((OSError, ValueError)):
            read_regular(tmp_path / name)
    (tmp_path / "ten").write_bytes(bytes(10))
    assert read_regular(tmp_path / "ten", 10) == bytes(10)
    with pytest.raises(OSError, match="larger than 9 bytes"):
        read_regular(tmp_path / "ten", 9)
    (tmp_path / "link").symlink_to("ten")
    assert read_regular(tmp_path / "link") == bytes(10)


def test_numbers_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(tmp_path / "x.json", {"score": float("nan")})
    assert not list(tmp_path.iterdir())
