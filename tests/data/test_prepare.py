"""What prepare writes: the same images and labels in every file, honest statistics, nothing overwritten."""

from __future__ import annotations

import csv
import json
import shutil
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import oddsight
from class_files import (
    CLASSES,
    binary_files,
    labels_of,
    python_files,
    random_images,
    write_archive,
    write_class_folders,
    write_files,
)
from cli_files import assert_failed, error_lines, run
from oddsight.data.classes import form_of, read_classes
from oddsight.data.images import content_hash
from oddsight.data.outliers import read_unlabelled
from oddsight.data.prepare import prepare
from oddsight.data.prepared import STATISTICS, digest_of
from oddsight.errors import DataError, OddsightError
from oddsight.runtime.records import write_record

N = 18
IMAGES, LABELS = random_images(N), labels_of(N)


def array(folder, name):
    return np.load(folder / name, allow_pickle=False)


def rows(data):
    return [(image.content, data.classes[label]) for image, label in zip(data.images, data.labels, strict=True)]


@pytest.fixture
def data(tmp_path):
    """15 training and 3 test images."""
    return write_files(tmp_path / "data", binary_files(IMAGES, LABELS))


def test_every_file_says_the_same(tmp_path, data):
    out = tmp_path / "new" / "out"
    found = prepare(data, out)
    source = read_classes(data)
    said = json.loads((out / STATISTICS).read_text())
    assert said["classes"] == list(CLASSES)
    assert (said["height"], said["width"], said["complete"], said["form"]) == (32, 32, True, "CIFAR-10, binary version")
    assert list(found.splits) == list(said["splits"]) == ["train", "test"]
    for split, images, labels in (("train", IMAGES[:15], LABELS[:15]), ("test", IMAGES[15:], LABELS[15:])):
        assert array(out, f"{split}-images.npy").dtype == np.uint8
        assert np.array_equal(array(out, f"{split}-images.npy"), images)
        assert array(out, f"{split}-labels.npy").dtype == np.int64
        assert array(out, f"{split}-labels.npy").tolist() == labels
        assert np.array_equal(array(out, f"{split}-one-hot.npy"), np.eye(3)[labels])
        values = images.transpose(0, 3, 1, 2) / 255
        mean, std = (IMAGES[:15] / 255).mean((0, 1, 2)), (IMAGES[:15] / 255).std((0, 1, 2))
        normalised = array(out, f"{split}-normalised.npy")
        assert normalised.dtype == np.float32
        np.testing.assert_allclose(normalised, (values - mean[:, None, None]) / std[:, None, None], atol=1e-6)
        np.testing.assert_allclose(said["mean"], mean, rtol=1e-12)
        np.testing.assert_allclose(said["std"], std, rtol=1e-12)
        with np.load(out / f"{split}.npz", allow_pickle=False) as held:
            assert np.array_equal(held["images"], images)
            assert held["labels"].tolist() == labels
            assert held["classes"].tolist() == list(CLASSES)
        table = list(csv.DictReader((out / f"{split}.csv").open(newline="")))
        assert [(int(row["index"]), row["class"], row["content"]) for row in table] == [
            (index, CLASSES[label], content_hash(image))
            for index, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        assert said["splits"][split] == {
            "images": len(images),
            "counts": {name: len(images) // 3 for name in CLASSES},
            "fingerprint": source[split].fingerprint,
        }
    assert next(csv.DictReader((out / "test.csv").open()))["source"] == "cifar-10/test_batch/0"
    assert said["duplicates"] == {"within splits": [], "between splits": [], "between classes": []}
    assert str(tmp_path) not in (out / STATISTICS).read_text()


@pytest.mark.slow
def test_what_was_prepared_is_read_again(tmp_path, data):
    out = tmp_path / "out"
    prepare(data, out, normalised=False)
    assert not list(out.glob("*-normalised.npy"))
    again = read_classes(out)
    assert form_of(out).name == "prepared"
    assert {split: rows(images) for split, images in again.items()} == {
        split: rows(images) for split, images in read_classes(data).items()
    }
    assert [np.array_equal(i.read(), p) for i, p in zip(again["test"].images, IMAGES[15:], strict=True)] == [True] * 3
    assert [image.content for image in read_unlabelled(out)] == [image.content for image in again["test"].images]
    prepare(out, tmp_path / "twice", normalised=False)
    for name in ("train-images.npy", "train-labels.npy", "test.npz"):
        assert (tmp_path / "twice" / name).read_bytes() == (out / name).read_bytes()


def test_its_parquet_files_are_read_again(tmp_path, data):
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    assert prepare(data, out).parquet
    (out / STATISTICS).unlink()
    assert form_of(out).name == "Parquet"
    assert {split: rows(images) for split, images in read_classes(out).items()} == {
        split: rows(images) for split, images in read_classes(data).items()
    }


@pytest.mark.slow
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    names=st.lists(
        st.text("abz é'\",;\n=", min_size=1, max_size=5).map(str.strip), min_size=4, max_size=4, unique=True
    ),
)
def test_round_trips(tmp_path_factory, seed, sides, counts, names):
    folder = tmp_path_factory.mktemp("round")
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    classes = tuple(name or "nothing" for name in names)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), *sides, 3), dtype=np.uint8)
    data = write_class_folders(folder / "data", images, labels, classes)
    wanted = sorted((content_hash(image), classes[label]) for image, label in zip(images, labels, strict=True))
    assert sorted(rows(read_classes(data)["train"])) == wanted
    prepare(data, folder / "out")
    assert sorted(rows(read_classes(folder / "out")["train"])) == wanted
    table = csv.DictReader((folder / "out" / "train.csv").open(newline="", encoding="utf-8"))
    # Names that begin as formulas do are marked as text, and lines stay lines.
    cells = {name: ("'" if name.startswith("=") else "") + name.replace("\n", r"\n") for name in classes}
    assert sorted((row["content"], row["class"]) for row in table) == sorted((one, cells[name]) for one, name in wanted)
    if (folder / "out" / "train.parquet").exists():
        assert sorted(rows(read_classes(folder / "out" / "train.parquet")["train"])) == wanted


def test_a_constant_channel_becomes_zero(tmp_path):
    images = random_images(4)
    images[..., 1] = 7
    found = prepare(write_class_folders(tmp_path / "data", images, [0, 1, 0, 1]), tmp_path / "out")
    assert found.mean[1] == pytest.approx(7 / 255, rel=1e-12)
    assert found.std[1] == 0
    normalised = array(tmp_path / "out", "train-normalised.npy")
    assert np.isfinite(normalised).all()
    assert not normalised[:, 1].any()


def test_statistics_are_of_the_training_images_alone(tmp_path):
    data = tmp_path / "data"
    write_class_folders(
        data / "train", np.zeros((2, 4, 4, 3), np.uint8) + np.array([[[[10]]], [[[30]]]], np.uint8), [0, 1]
    )
    write_class_folders(data / "test", np.full((2, 4, 4, 3), 255, np.uint8), [0, 1])
    found = prepare(data, tmp_path / "out")
    assert found.mean == pytest.approx([20 / 255] * 3)
    assert found.std == pytest.approx([10 / 255] * 3)


@pytest.mark.slow
def test_splitting_off_validation_images(tmp_path, data):
    out = tmp_path / "out"
    found = prepare(data, out, validation=0.2, seed=3)
    assert list(found.splits) == ["train", "validation", "test"]
    assert found.splits["validation"].counts() == dict.fromkeys(CLASSES, 1)
    splits = read_classes(out)
    both = rows(splits["train"]) + rows(splits["validation"])
    assert sorted(both) == sorted(rows(read_classes(data)["train"]))
    values = array(out, "train-images.npy").reshape(-1, 3) / 255
    assert found.mean == pytest.approx(values.mean(axis=0).tolist())
    prepare(data, tmp_path / "other", validation=0.2, seed=4)
    assert rows(read_classes(tmp_path / "other")["validation"]) != rows(splits["validation"])
    with pytest.raises(OddsightError, match="a validation split already"):
        prepare(out, tmp_path / "third", validation=0.2)
    with pytest.raises(DataError, match="leaves no image of 'airplane' to train on"):
        prepare(data, tmp_path / "third", validation=0.95)


def test_images_of_different_sizes(tmp_path):
    data = tmp_path / "data"
    write_class_folders(data, random_images(2, side=20), [0, 1])
    wide = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(wide).save(data / "cat" / "wide.png")
    with pytest.raises(DataError, match=r"images differ in size \(.*\): choose one size .*--size 64"):
        prepare(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found = prepare(data, tmp_path / "out", size=16)
    assert found.size == (16, 16)
    images = array(tmp_path / "out", "train-images.npy")
    assert images.shape == (3, 16, 16, 3)
    names = [row["source"] for row in csv.DictReader((tmp_path / "out" / "train.csv").open())]
    assert sorted(names) == ["airplane/000.png", "cat/001.png", "cat/wide.png"]
    expected = np.asarray(Image.fromarray(wide).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(images[names.index("cat/wide.png")], expected)
    table = {row["source"]: row["content"] for row in csv.DictReader((tmp_path / "out" / "train.csv").open())}
    assert table["cat/wide.png"] == content_hash(wide)
    assert oddsight.prepare is prepare


def test_other_sides_than_squares_are_kept(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 9, 3), dtype=np.uint8)
    found = prepare(write_class_folders(tmp_path / "data", images, [0, 0, 1, 1]), tmp_path / "out")
    assert found.size == (6, 9)
    assert array(tmp_path / "out", "train-normalised.npy").shape == (4, 3, 6, 9)


@pytest.fixture
def leaky(tmp_path):
    """An image in both splits, one of these in two classes, one twice in a split, and a file that is none."""
    data = tmp_path / "leaky"
    write_class_folders(data / "train", IMAGES[:6], LABELS[:6])
    write_class_folders(data / "test", IMAGES[6:12], LABELS[6:12])
    Image.fromarray(IMAGES[0]).save(data / "test" / "airplane" / "same.bmp")
    Image.fromarray(IMAGES[1]).save(data / "test" / "truck" / "other class.png")
    Image.fromarray(IMAGES[2]).save(data / "train" / "truck" / "again.tif")
    (data / "train" / "cat" / "broken.png").write_bytes(b"broken")
    return data


@pytest.mark.slow
def test_leaks_and_errors_are_reported(tmp_path, leaky):
    outcome = run("prepare", leaky, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert outcome.out == ""
    [error] = error_lines(outcome)
    assert "broken.png: not an image" in error
    warnings = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 3
    assert "2 images are in more than one split" in warnings[0]
    assert "same.bmp" in warnings[0]
    assert "1 image is in more than one class" in warnings[1]
    assert "other class.png (truck)" in warnings[1]
    assert "1 image is more than once in a split" in warnings[2]
    said = json.loads((tmp_path / "out" / STATISTICS).read_text())
    found = {
        kind: [sorted((place["split"], place["name"], place["class"]) for place in places) for places in repeated]
        for kind, repeated in said["duplicates"].items()
    }
    disputed = [("test", "test/truck/other class.png", "truck"), ("train", "train/cat/001.png", "cat")]
    leak = [("test", "test/airplane/same.bmp", "airplane"), ("train", "train/airplane/000.png", "airplane")]
    assert found["between classes"] == [disputed]
    assert sorted(found["between splits"]) == sorted([leak, disputed])
    assert found["within splits"] == [
        [("train", "train/truck/002.png", "truck"), ("train", "train/truck/again.tif", "truck")]
    ]
    assert [entry["reason"].split(" (")[0] for entry in said["unreadable"]] == ["not an image that can be read"]
    quiet = run("prepare", leaky, "-o", tmp_path / "out", "--quiet")
    assert len(quiet.err.splitlines()) == 1


def test_the_command(tmp_path, data):
    out = tmp_path / "out"
    outcome = run("prepare", data, "-o", out, "--validation", "0.2", "--no-normalised", "--size", 8, "--seed", 1)
    assert (outcome.code, outcome.out) == (0, "")
    assert f"wrote {out}: train 12, validation 3, test 3 images of 3 classes, 8 x 8 pixels" in outcome.err
    assert "mean" in outcome.err
    assert "warning" not in outcome.err
    assert array(out, "validation-images.npy").shape == (3, 8, 8, 3)
    assert run("prepare", data, "-o", out, "--quiet").err == ""


@pytest.mark.slow
def test_a_prepared_folder_is_replaced_and_its_stale_files_go(tmp_path, data):
    out = tmp_path / "out"
    prepare(data, out, validation=0.2)
    (out / "notes.txt").write_text("mine")
    assert (out / "validation-images.npy").exists()
    prepare(data, out, normalised=False)
    assert (out / "notes.txt").read_text() == "mine"
    assert not list(out.glob("validation*"))
    assert not list(out.glob("*normalised*"))
    assert not list(out.glob(".oddsight*"))
    assert len(array(out, "train-images.npy")) == 15


def test_without_pyarrow(tmp_path, data, monkeypatch):
    monkeypatch.setattr("oddsight.data.prepare.can_write_parquet", lambda: False)
    outcome = run("prepare", data, "-o", tmp_path / "out")
    assert outcome.code == 0
    assert "no Parquet files, which need pyarrow: pip install 'oddsight[parquet]'" in outcome.err
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_what_is_there_is_not_overwritten(tmp_path, data):
    out = tmp_path / "out"
    out.mkdir()
    for name, content in (("mine.txt", "mine"), (STATISTICS, '{"mine": 1}'), (STATISTICS, "[" * 10**5)):
        (out / name).write_text(content)
        assert_failed(run("prepare", data, "-o", out), out, "did not write: name a new or an empty folder")
        assert [(entry.name, entry.read_text()) for entry in out.iterdir()] == [(name, content)]
        (out / name).unlink()
    prepare(data, out)
    assert_failed(run("prepare", out, "-o", out), "cannot be read and written at once")
    assert_failed(run("prepare", data, "-o", data / "test_batch.bin"), "is a file: name a folder")
    assert_failed(run("prepare", data, "-o", data / "test_batch.bin" / "x"), "where it would be read")
    (tmp_path / "file").touch()
    assert_failed(run("prepare", data, "-o", tmp_path / "file" / "x"), "cannot make the folder")
    assert_failed(run("prepare", data, "-o", tmp_path / "x", "--size", 0), "size must be from 1")
    assert_failed(run("prepare", data, "-o", tmp_path / "x", "--validation", 1), "at least 0 and below 1")
    assert_failed(run("prepare", tmp_path / "gone", "-o", tmp_path / "x"), "no such file or folder")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_an_interruption_leaves_a_folder_that_says_so(tmp_path, data):
    out = tmp_path / "out"

    def stop(phase, done, total):
        if phase == "writing test-normalised.npy":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(data, out, progress=stop)
    assert not list(out.glob(".oddsight*"))
    assert not (out / "test-normalised.npy").exists()
    with pytest.raises(DataError, match="interrupted: run 'oddsight prepare' again"):
        read_classes(out)
    prepare(data, out)
    assert len(read_classes(out)["train"]) == 15


def test_damaged_prepared_folders(tmp_path, data):
    whole = tmp_path / "whole"
    prepare(data, whole, normalised=False)
    statistics = json.loads((whole / STATISTICS).read_text())
    out = tmp_path / "out"

    def save(values, name="train-images.npy"):
        np.save(out / name, values, allow_pickle=True)

    damages = [
        ((out / "train-images.npy").unlink, "missing or damaged"),
        (lambda: (out / "train-images.npy").write_bytes(b"\x93NUMPY\x01\x00"), "missing or damaged"),
        (lambda: (out / "train-images.npy").write_bytes((whole / "train-images.npy").read_bytes()[:-9]), "damaged"),
        (lambda: (out / "train-images.npy").write_bytes((whole / "test.npz").read_bytes()), "not hold a single array"),
        (lambda: save(np.array([{}], object), "train-labels.npy"), "missing or damaged"),
        (lambda: save(np.zeros((15, 3, 4, 4), np.uint8)), r"uint8 \[N, H, W, 3\]"),
        (lambda: save(np.zeros((15, 4, 4, 3), np.float32)), r"uint8 \[N, H, W, 3\]"),
        (lambda: save(np.asfortranarray(np.zeros((15, 4, 4, 3), np.uint8))), r"uint8 \[N, H, W, 3\]"),
        (lambda: save(np.zeros(15), "train-labels.npy"), r"int64 \[N\]"),
        (lambda: save(np.zeros(14, np.int64), "train-labels.npy"), "15 images but 14 labels"),
        (lambda: save(np.full(15, 3), "train-labels.npy"), "a label is 3"),
        (lambda: (out / STATISTICS).write_text(json.dumps(statistics | {"classes": 3})), "names no classes"),
        (lambda: (out / STATISTICS).write_text(json.dumps(statistics | {"splits": []})), "no split called train"),
    ]
    for damage, message in damages:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        damage()
        with pytest.raises(DataError, match=message):
            read_classes(out)


def test_downloading_first(tmp_path, monkeypatch):
    """The archive that is fetched is the data."""

    def fetched(folder, *, progress):
        folder.mkdir()
        return write_archive(folder / "cifar-10-python.tar.gz", python_files(IMAGES, LABELS))

    monkeypatch.setattr("oddsight.data.download.download_cifar10", fetched)
    outcome = run("prepare", tmp_path / "new", "-o", tmp_path / "out", "--download")
    assert outcome.code == 0, outcome
    assert "they were read from CIFAR-10, Python version" in outcome.err
    assert len(read_classes(tmp_path / "out")["train"]) == 15


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path):
    """Images on disk are copied some at a time."""
    source = tmp_path / "source"
    prepare(write_class_folders(tmp_path / "data", random_images(4), [0, 1, 0, 1]), source)
    count, side = 300, 232
    big = np.lib.format.open_memmap(source / "train-images.npy", "w+", np.uint8, (count, side, side, 3))
    big[:] = np.arange(count, dtype=np.uint8)[:, None, None, None]
    big.flush()
    labels = np.arange(count, dtype=np.int64) % 2
    np.save(source / "train-labels.npy", labels)
    said = json.loads((source / STATISTICS).read_text())
    said["digests"]["train"] = digest_of(map(content_hash, big), labels)
    write_record(source / STATISTICS, said)
    del big
    tracemalloc.start()
    prepare(source, tmp_path / "out", normalised=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out" / "train-images.npy").stat().st_size > 48e6
    assert peak < 40e6 < count * side * side * 3
