"""Caches and prepared folders in which anything may lie: one clear line, or computed again; no traceback, no wait."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oddsight
from class_files import write_class_folders
from cli_files import assert_failed, run
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.network_file import read_network
from oddsight.data.classes import read_classes
from oddsight.data.collection import unpacked
from oddsight.data.prepare import prepare
from oddsight.data.prepared import STATISTICS
from oddsight.errors import DataError, ModelError
from oddsight.runtime.records import digest_json
from oddsight.training.adapting import KEY as ADAPTATION
from oddsight.training.adapting import read_adaptation
from textures import texture
from tiny_model import tiny_proto

MAKER, IMAGE = "a" * 64, "1" * 64
ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


# The cache of features.


@pytest.fixture
def cache(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    cache.put(MAKER, IMAGE, ARRAY)
    return cache


def entry(cache):
    [path] = cache.folder.rglob("*.npy")
    return path


def with_check(content):
    return content + zlib.crc32(content).to_bytes(4, "big")


@given(st.binary(max_size=300), st.booleans())
@quick
def test_a_cache_entry_of_any_bytes_counts_as_missing_and_is_replaced(tmp_path, content, checked):
    cache = FeatureCache(tmp_path / "any")
    cache.put(MAKER, IMAGE, ARRAY)
    entry(cache).write_bytes(with_check(content) if checked else content)
    assert cache.get(MAKER, IMAGE) is None
    assert cache.get(MAKER, IMAGE, ARRAY.shape) is None
    cache.put(MAKER, IMAGE, ARRAY)
    assert np.array_equal(cache.get(MAKER, IMAGE, ARRAY.shape), ARRAY)


@pytest.mark.slow
def test_every_byte_of_a_cache_entry_counts(cache):
    whole = entry(cache).read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        entry(cache).write_bytes(flipped)
        assert cache.get(MAKER, IMAGE, ARRAY.shape) is None


@pytest.mark.parametrize("kind", ["pipe", "loop", "dangling", "huge", "empty", "four zeros"])
def test_anything_else_in_the_place_of_an_entry_is_replaced(cache, kind):
    path = entry(cache)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif kind in ("loop", "dangling"):
        path.symlink_to(path if kind == "loop" else "nowhere")
    else:
        path.write_bytes(b"" if kind == "empty" else bytes(4))
    assert cache.get(MAKER, IMAGE, ARRAY.shape) is None
    cache.put(MAKER, IMAGE, ARRAY)
    assert np.array_equal(cache.get(MAKER, IMAGE, ARRAY.shape), ARRAY)


def test_an_entry_of_another_shape_or_type_counts_as_missing(cache):
    assert cache.get(MAKER, IMAGE, (3, 2, 4)) is None
    assert cache.get(MAKER, IMAGE, (24,)) is None
    cache.put(MAKER, IMAGE, ARRAY.astype(np.float64))
    assert cache.get(MAKER, IMAGE, ARRAY.shape) is None


@pytest.mark.slow
def test_a_fit_over_a_cache_of_rubbish_gives_the_same_model(normal_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ODDSIGHT_CACHE", str(tmp_path / "cache"))
    options = {"method": "knn", "size": 64, "false_alarm_rate": 0.2}
    first = oddsight.fit(normal_folder, **options)
    for number, path in enumerate(sorted((tmp_path / "cache").rglob("*.npy"))):
        path.unlink()
        if number % 5 == 0:
            os.mkfifo(path)
        elif number % 5 == 1:
            path.mkdir()
        else:
            path.write_bytes([bytes(4), b"", b"rubbish"][number % 3])
    assert oddsight.fit(normal_folder, **options).to_bytes() == first.to_bytes()


# Prepared folders.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    labels = [0, 1] * 4
    data = write_class_folders(folder / "data", [texture(n, 5, 4) for n in range(8)], labels)
    prepare(data, folder / "whole", normalised=False)
    return folder / "whole"


@pytest.fixture
def prepared(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "prepared")


def content_of(splits):
    return {
        split: (data.classes, data.labels.tolist(), [image.content for image in data.images])
        for split, data in splits.items()
    }


def header(descr, shape, fortran=False):
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def save(name, array):
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def state(**changes):
    """Statistics that say otherwise, with a digest that fits."""

    def change(folder):
        said = json.loads((folder / STATISTICS).read_text()) | changes
        (folder / STATISTICS).write_text(json.dumps(said | {"sha256": digest_json(said)}))

    return change


def replaced(name, make):
    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    return change


IMAGES, LABELS = "train-images.npy", "train-labels.npy"
PIXELS = np.zeros((8, 4, 5, 3), np.uint8)
HOSTILE = {
    "no pixels": (save(IMAGES, np.zeros((8, 0, 0, 3), np.uint8)), "holds no pixels"),
    "no images": (save(IMAGES, np.zeros((0, 4, 5, 3), np.uint8)), "holds no pixels"),
    "10^12 rows": (write(IMAGES, header("|u1", (10**12, 4, 5, 3))), "missing or damaged"),
    "10^12 rows of nothing": (write(IMAGES, header("|u1", (10**12, 0, 0, 3))), "missing or damaged|no pixels"),
    "10^30 rows": (write(IMAGES, header("|u1", (10**30, 4, 5, 3))), "missing or damaged"),
    "negative rows": (write(IMAGES, header("|u1", (-1, 4, 5, 3)) + bytes(60)), "missing or damaged|uint8"),
    "four zeros": (write(IMAGES, bytes(4)), "missing or damaged: not an array that 'prepare' wrote$"),
    "10^12 labels": (write(LABELS, header("<i8", (10**12,))), "missing or damaged"),
    "rows that are no numbers": (write(IMAGES, header("|u1", "(a, b)")), "missing or damaged"),
    "a deep header": (write(IMAGES, header("|u1", "(" * 5000)), "missing or damaged"),
    "a long header": (write(IMAGES, header("|u1" + " " * 50_000, (8,))), "missing or damaged"),
    "objects": (save(IMAGES, np.array([{}] * 8, object)), "missing or damaged"),
    "floats": (save(IMAGES, np.full((8, 4, 5, 3), np.nan)), "uint8"),
    "Fortran order": (save(IMAGES, np.asfortranarray(texture(0, 5, 4)[None].repeat(8, 0))), "uint8"),
    "other images": (save(IMAGES, PIXELS), "damaged or were edited"),
    "fewer images": (save(IMAGES, PIXELS[:7]), "7 images but 8 labels"),
    "labels below": (save(LABELS, np.full(8, -1)), "a label is -1"),
    "labels beyond": (save(LABELS, np.full(8, 2)), "a label is 2"),
    "labels in a table": (save(LABELS, np.zeros((8, 1), np.int64)), r"int64 \[N\]"),
    "labels of floats": (save(LABELS, np.full(8, np.nan)), r"int64 \[N\]"),
    "other labels": (save(LABELS, np.zeros(8, np.int64)), "damaged or were edited"),
    "images in a pipe": (replaced(IMAGES, os.mkfifo), "not a regular one"),
    "images in a folder": (replaced(IMAGES, lambda path: path.mkdir()), "not a regular one"),
    "labels in a pipe": (replaced(LABELS, os.mkfifo), "not a regular one"),
    "a dangling link": (replaced(LABELS, lambda path: path.symlink_to("nowhere")), "no such file"),
    "other class names": (state(classes=["a", "b", "c"]), None),
    "classes of the same name": (state(classes=["a", "a"]), "two classes are called"),
    "no digests": (state(digests=None), "older Oddsight"),
    "classes that are no names": (state(classes=[1, 2]), "names no classes"),
    "statistics in a pipe": (replaced(STATISTICS, os.mkfifo), "statistics.json is damaged"),
    "statistics in depth": (write(STATISTICS, b"[" * 100_000), "statistics.json is damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_prepared_folder_is_one_clear_error(prepared, kind):
    damage, reason = HOSTILE[kind]
    damage(prepared)
    if reason is None:  # nothing that a digest could not say as well
        assert read_classes(prepared)["train"].classes == ("a", "b", "c")
        return
    with pytest.raises(DataError, match=reason) as error:
        read_classes(prepared)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("kind", ["no pixels", "10^12 rows of nothing", "images in a pipe", "statistics in a pipe"])
def test_commands_say_it_in_one_line(prepared, tmp_path, kind):
    HOSTILE[kind][0](prepared)
    outcome = run("fit-classes", prepared, "-o", tmp_path / "model.onnx", "--quiet")
    assert_failed(outcome, "error: ")
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step", "bits"), [(STATISTICS, 3, 7), (IMAGES, 2, 8), (LABELS, 2, 8)])
def test_every_byte_of_what_is_prepared_counts(whole, tmp_path, name, step, bits):
    folder = shutil.copytree(whole, tmp_path / "flipped")
    content, expected = (folder / name).read_bytes(), content_of(read_classes(folder))
    for at in range(0, len(content), step):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % bits
        (folder / name).write_bytes(flipped)
        try:
            found = content_of(read_classes(folder))
        except DataError:
            continue
        assert found == expected, at


@given(name=st.sampled_from([IMAGES, LABELS, STATISTICS]), content=st.binary(max_size=200))
@quick
def test_any_bytes_in_a_prepared_folder_are_an_error(whole, tmp_path, name, content):
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (folder / name).write_bytes(content)
    with pytest.raises(DataError):
        read_classes(folder)


# What the file of a backbone says it was adapted to.


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Any ONNX file, to hold a record."""
    return tmp_path_factory.mktemp("network") / "own.onnx"


def with_record(network, text):
    proto = tiny_proto()
    proto.metadata_props.add(key=ADAPTATION, value=text)
    network.write_bytes(proto.SerializeToString())
    return network


RECORD = {"images_seen": "ERERERERERE=", "epochs": 3}


@pytest.mark.slow
def test_every_character_of_a_record_of_an_adaptation_counts(network):
    text = json.dumps({**RECORD, "sha256": digest_json(RECORD)})
    assert read_adaptation(with_record(network, text)) == RECORD
    for at in range(len(text)):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        try:
            found = read_adaptation(with_record(network, changed))
        except ModelError as error:
            assert "damaged: adapt the backbone again" in str(error)
        else:
            assert {name: found[name] for name in RECORD} == RECORD, changed


nested = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(nested.map(json.dumps) | st.text(max_size=30) | nested.map(lambda value: json.dumps({"images_seen": value})))
@quick
def test_any_record_of_an_adaptation_is_read_or_refused(network, text):
    try:
        found = read_adaptation(with_record(network, text))
    except ModelError as error:
        assert len(str(error)) < 1000
    else:
        assert isinstance(found["images_seen"], str)
        unpacked(found["images_seen"])


@given(st.binary(max_size=200))
@quick
def test_any_bytes_in_the_place_of_a_backbone_are_one_error(network, content):
    network.write_bytes(content)
    with pytest.raises(ModelError):
        read_network(network)
    # What protobuf takes for an empty message says nothing of an adaptation.
    with suppress(ModelError):
        assert read_adaptation(network) is None
