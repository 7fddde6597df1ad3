"""Labelled images in every form: the same images and labels, and one clear error for what is damaged or hostile."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import io
import os
import pickle
import socket
import sys
import tarfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from class_files import (
    CLASSES,
    binary_files,
    labels_of,
    png,
    python_files,
    random_images,
    rows_of,
    write_archive,
    write_class_folders,
    write_files,
    write_idx,
    write_kaggle,
    write_parquet_file,
)
from oddsight.data import cifar_files
from oddsight.data.class_images import ClassImages, repeats
from oddsight.data.classes import FORMS, form_of, read_classes, stratified
from oddsight.data.collection import ImageFile
from oddsight.data.download import download_cifar10
from oddsight.data.images import content_hash
from oddsight.data.outliers import read_unlabelled
from oddsight.data.stored import PixelFile, StoredImage, stored
from oddsight.errors import DataError, ImageError, OddsightError

N = 12  # of which CIFAR-10's forms put the last 2 into the test batch
IMAGES, LABELS = random_images(N), labels_of(N)


def content(images) -> list[str]:
    return [content_hash(image) for image in images]


def rows(data: ClassImages) -> list[tuple[str, str]]:
    """Contents and names of classes, after a check that each image is what it says that it is."""
    for image in data.images:
        pixels = image.read()
        assert (pixels.dtype, pixels.shape) == (np.uint8, (image.height, image.width, 3))
        assert content_hash(pixels) == image.content
    return [(image.content, data.classes[label]) for image, label in zip(data.images, data.labels, strict=True)]


def wanted(images, labels, classes=CLASSES) -> list[tuple[str, str]]:
    return [(hash_, classes[label]) for hash_, label in zip(content(images), labels, strict=True)]


def cifar_folder(tmp_path):
    return write_files(tmp_path / "cifar-10-batches-py", python_files(IMAGES, LABELS))


CIFAR = {
    "python folder": cifar_folder,
    "above the python folder": lambda tmp_path: cifar_folder(tmp_path).parent,
    "python archive": lambda tmp_path: write_archive(tmp_path / "x.tar.gz", python_files(IMAGES, LABELS)),
    "above the python archive": lambda tmp_path: (
        write_archive(tmp_path / "cifar-10-python.tar.gz", python_files(IMAGES, LABELS)).parent
    ),
    "python 3": lambda tmp_path: write_files(tmp_path, python_files(IMAGES, LABELS, protocol=4)),
    "python 0": lambda tmp_path: write_files(tmp_path, python_files(IMAGES, LABELS, protocol=0)),
    "binary folder": lambda tmp_path: write_files(tmp_path / "cifar-10-batches-bin", binary_files(IMAGES, LABELS)),
    "above the binary folder": lambda tmp_path: (
        write_files(tmp_path / "cifar-10-batches-bin", binary_files(IMAGES, LABELS)).parent
    ),
    "binary archive": lambda tmp_path: write_archive(tmp_path / "y.tgz", binary_files(IMAGES, LABELS)),
}


@pytest.mark.parametrize("form", CIFAR)
def test_official_forms_of_cifar_10(tmp_path, form):
    calls = []
    path = CIFAR[form](tmp_path)
    splits = read_classes(path, progress=lambda *call: calls.append(call))
    assert list(splits) == ["train", "test"]
    assert splits["train"].classes == splits["test"].classes == CLASSES
    assert rows(splits["train"]) == wanted(IMAGES[:10], LABELS[:10])
    assert rows(splits["test"]) == wanted(IMAGES[10:], LABELS[10:])
    assert splits["test"].images[1].path == Path("cifar-10/test_batch/1")
    assert splits["train"].images[2].path == Path("cifar-10/data_batch_2/0")
    assert calls == [("reading", done, 7) for done in range(1, 8)]
    assert [entry.name for entry in tmp_path.rglob("*_batch*") if "archive" in form] == []


def test_the_first_image_of_a_record_is_red_then_green_then_blue(tmp_path):
    record = np.zeros((3, 32, 32), np.uint8)
    record[0], record[1, 0], record[2, :, 5] = 10, 20, 30  # all red, the top row green, the sixth column blue
    files = binary_files(IMAGES, LABELS) | {"test_batch.bin": b"\x01" + record.tobytes()}
    [image] = read_classes(write_files(tmp_path, files))["test"].images
    pixels = image.read()
    assert pixels[0, 0].tolist() == [10, 20, 0]
    assert pixels[3, 5].tolist() == [10, 0, 30]


def test_batches_written_by_python_2_with_numpy_1(tmp_path):
    """Spelt out, as nothing here writes them: strings without encoding, and names of modules that have moved since."""
    data = rows_of(IMAGES[:1]).tobytes()
    batch = (
        b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + len(data).to_bytes(4, "little") + data + b"tbU\x06labels]q\x02K\x02au."
    )
    files = python_files(IMAGES, LABELS) | {"test_batch": batch}
    test = read_classes(write_files(tmp_path, files))["test"]
    assert rows(test) == wanted(IMAGES[:1], [2])
    fortran = batch.replace(b"tb\x89T", b"tb\x88T")
    assert rows(read_classes(write_files(tmp_path, files | {"test_batch": fortran}))["test"]) == rows(test)


class Reduced:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def object_array(value):
    array = np.empty(1, object)
    array[0] = value
    return array


def hostile_pickles(folder: Path):
    touch = f"touch {folder / 'ran'}"
    batch = {b"data": rows_of(IMAGES[:2]), b"labels": [0, 1]}
    call = Reduced(os.system, touch)
    return {
        "os.system": pickle.dumps(call, 2),
        "as the data": pickle.dumps(batch | {b"data": call}, 2),
        "among the labels": pickle.dumps(batch | {b"labels": [0, call]}, 4),
        "in an array of objects": pickle.dumps(batch | {b"data": object_array(call)}, 2),
        "eval": pickle.dumps(Reduced(eval, f"__import__('os').system({touch!r})"), 2),
        "getattr": pickle.dumps(Reduced(getattr, str, "join"), 4),
        "codecs.open": b"\x80\x02ccodecs\nopen\nX" + len(touch).to_bytes(4, "little") + touch.encode() + b"\x85R.",
        "_codecs.lookup": b"\x80\x02c_codecs\nlookup\nX\x04\x00\x00\x00utf8\x85R.",
        "numpy's runner": b"cnumpy.testing._private.utils\nruncommand\n(Vtouch\ntR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
        "numpy.load": b"\x80\x02cnumpy\nload\nX\x05\x00\x00\x00x.npy\x85R.",
        "in the state of an array": (
            b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            b"(K\x01K\x01\x85cos\nsystem\nU\x02id\x85RtbU\x06labels]K\x00au."
        ),
        "persistent": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "extension": b"\x80\x02\x82\x01.",
    }


@pytest.mark.parametrize("again", [b"\x32\x86", b"q\x01h\x01\x86", b"N0q\x01h\x01\x86", b"\x94h\x00\x86"])
def test_a_name_that_takes_for_ever_is_refused(tmp_path, again):
    """A tuple of the same tuple twice, 45 times over: its hash would take years, and no signal ends that."""
    bomb = b"\x80\x04}(K\x01" + 45 * again + b"K\x01s."
    path = write_files(tmp_path, python_files(IMAGES, LABELS) | {"data_batch_2": bomb})
    with pytest.raises(DataError, match="data_batch_2 is damaged"):
        read_classes(path)


@pytest.mark.parametrize("name", hostile_pickles(Path()))
@pytest.mark.parametrize("archived", [False, True])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, name, archived):
    evil = hostile_pickles(tmp_path)[name]
    for file in ("data_batch_3", "batches.meta"):
        files = python_files(IMAGES, LABELS) | {file: evil}
        path = tmp_path / file
        path = write_archive(tmp_path / f"{file}.tar.gz", files) if archived else write_files(path, files)
        with pytest.raises(DataError, match=file) as error:
            read_classes(path)
        assert str(error.value).isprintable()
        assert not (tmp_path / "ran").exists()


def test_the_hostile_pickles_do_run_elsewhere(tmp_path):
    """Or the test above would prove nothing."""
    for name in ("os.system", "as the data", "in an array of objects", "eval"):
        pickle.loads(hostile_pickles(tmp_path)[name])
        (tmp_path / "ran").unlink()


def bare_array(shape: bytes, element: bytes, raw: bytes) -> bytes:
    """A batch of one image whose array is described by hand."""
    return (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + shape + element + b"\x89" + raw + b"tbU\x06labels]K\x00au."
    )


TYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
RAW = b"T" + (3072).to_bytes(4, "little") + bytes(3072)
SHAPE = b"K\x01M\x00\x0c\x86"


def pickled(data=None, labels=(0, 1), **more):
    data = rows_of(IMAGES[:2]) if data is None else data
    return pickle.dumps({b"data": data, b"labels": list(labels), **more}, 2)


DAMAGED = {
    "not a pickle": b"Hello, I am no pickle.",
    "empty": b"",
    "cut": pickled()[:4000],
    "a list": pickle.dumps([1, 2]),
    "no data": pickle.dumps({b"labels": [0]}),
    "data is text": pickled(data="text"),
    "too narrow": pickled(data=np.zeros((2, 3071), np.uint8)),
    "one dimension": pickled(data=np.zeros(3072, np.uint8), labels=[0]),
    "no rows": pickled(data=np.zeros((0, 3072), np.uint8), labels=[]),
    "wide numbers": pickled(data=np.zeros((2, 3072), np.int64)),
    "signed": pickled(data=np.zeros((2, 3072), np.int8)),
    "fewer labels": pickled(labels=[0]),
    "label too high": pickled(labels=[0, 3]),
    "label below zero": pickled(labels=[0, -1]),
    "huge label": pickled(labels=[0, 2**70]),
    "label is no number": pickled(labels=[0, "cat"]),
    "label is a truth": pickled(labels=[0, True]),
    "more rows than bytes": bare_array(b"K\x02M\x00\x0c\x86", TYPE, RAW),
    "astronomic shape": bare_array(b"\x8a\x09" + b"\xff" * 8 + b"\x00M\x00\x0c\x86", TYPE, RAW),
    "negative shape": bare_array(b"J\xff\xff\xff\xffM\x00\x0c\x86", TYPE, RAW),
    "another type": bare_array(SHAPE, TYPE.replace(b"u1", b"O8"), RAW),
    "type made without its arguments": bare_array(SHAPE, b"cnumpy\ndtype\n)\x81", RAW),
    "bytes made without their arguments": bare_array(SHAPE, TYPE, b"c_codecs\nencode\n)\x81"),
    "bytes in another code": bare_array(
        SHAPE, TYPE, b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R"
    ),
    "memory for a billion values": b"\x80\x02Kar\x00\x00\x00\x7f.",
    "a string longer than the file": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a state for a type": b"\x80\x02cnumpy\nndarray\n}U\x01ab.",
    "steps without end": b"\x80\x02" + b"}" * 1_100_000 + b".",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_batch_is_refused(tmp_path, name):
    path = write_files(tmp_path, python_files(IMAGES, LABELS) | {"data_batch_2": DAMAGED[name]})
    with pytest.raises(DataError) as error:
        read_classes(path)
    assert str(tmp_path) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
    # Nor has it changed what a sound file gives.
    sound = read_classes(write_files(tmp_path, python_files(IMAGES, LABELS)))
    assert rows(sound["train"]) == wanted(IMAGES[:10], LABELS[:10])


def test_by_hand_the_array_would_be_read(tmp_path):
    """Or the tests of damaged arrays would prove nothing."""
    files = python_files(IMAGES, LABELS) | {"test_batch": bare_array(SHAPE, TYPE, RAW)}
    assert not read_classes(write_files(tmp_path, files))["test"].images[0].read().any()


SOUND = python_files(IMAGES[:6], LABELS[:6])["data_batch_1"]


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data())
def test_changed_bytes_of_a_batch_are_read_or_refused(data):
    batch = bytearray(SOUND)
    interesting = st.sampled_from([*range(200), *range(len(batch) - 80, len(batch))])
    for at in data.draw(st.lists(interesting, min_size=1, max_size=4)):
        batch[at] = data.draw(st.integers(0, 255))
    batch = batch[: data.draw(st.sampled_from([len(batch), len(batch) // 2, len(batch) - 1]))]
    try:
        values, labels = cifar_files._pickled_batch(bytes(batch), "batch")
    except DataError:
        return
    assert values.dtype == np.uint8
    assert values.shape == (len(labels), 3072)


@pytest.mark.parametrize("make", [python_files, binary_files])
def test_a_missing_batch_is_named(tmp_path, make):
    files = make(IMAGES, LABELS)
    for name in files:
        path = write_files(tmp_path / name, {other: content for other, content in files.items() if other != name})
        with pytest.raises(DataError, match=f"lacks {name}: "):
            read_classes(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_batch_1.bin": bytes(3072)}, "3,072 bytes are not a number of records of 3,073"),
        ({"data_batch_1.bin": b""}, "truncated or damaged: 0 bytes"),
        ({"test_batch.bin": b"\x03" + bytes(3072)}, "a label is 3, but the 3 classes count from 0"),
        ({"batches.meta.txt": b"only\n"}, "fewer than two classes"),
        ({"batches.meta.txt": b"a\na\nb\n"}, "two classes are called 'a'"),
        ({"batches.meta.txt": b"\xff\xfe\n\n"}, "not text"),
    ],
)
def test_damaged_binary_files(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_classes(write_files(tmp_path, binary_files(IMAGES, LABELS) | change))


def test_damaged_archives(tmp_path):
    whole = write_archive(tmp_path / "whole.tar.gz", python_files(IMAGES, LABELS)).read_bytes()
    path = tmp_path / "cifar-10-python.tar.gz"
    for end in (0, 10, 300, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError) as error:
            read_classes(path)
        assert str(path) in str(error.value)
    path.write_bytes(whole[:3000] + bytes(500) + whole[3500:])
    with pytest.raises(DataError):
        read_classes(path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_an_archive_of_headers_upon_headers(tmp_path, kind):
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 0
    path = tmp_path / "cifar-10-python.tar"
    path.write_bytes(5000 * header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match="truncated or damaged"):
        read_classes(path)


def test_archives_that_hold_too_much(tmp_path, monkeypatch):
    files = python_files(IMAGES, LABELS)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in [*files.items(), ("data_batch_1", files["data_batch_2"])]:
            member = tarfile.TarInfo(f"a/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match="data_batch_1 is there twice"):
        read_classes(path)
    write_archive(path, files)
    monkeypatch.setattr(cifar_files, "_LARGEST", 3000)
    with pytest.raises(DataError, match="a file of CIFAR-10 has at most 31"):
        read_classes(path)
    monkeypatch.setattr(cifar_files, "_LARGEST_ARCHIVE", 5000)
    with pytest.raises(DataError, match="unpacks to more than"):
        read_classes(path)


def test_members_outside_of_the_archive_stay_there(tmp_path):
    """Members are read by name: neither a way out of the archive nor a link in it leads anywhere."""
    path = tmp_path / "in" / "x.tar.gz"
    path.parent.mkdir()
    secret = write_files(tmp_path, {"data_batch_1": python_files(IMAGES, LABELS)["data_batch_1"]}) / "data_batch_1"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in python_files(IMAGES, LABELS).items():
            member = tarfile.TarInfo(f"../../{name}")
            member.size = len(content)
            if name == "data_batch_1":
                member.size, member.type, member.linkname = 0, tarfile.SYMTYPE, str(secret)
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    with pytest.raises(DataError, match="lacks data_batch_1: "):
        read_classes(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data_batch_1", "in"]


def test_kaggle(tmp_path):
    path = write_kaggle(tmp_path / "k", IMAGES, LABELS)
    (path / "test").mkdir()
    Image.fromarray(IMAGES[0]).save(path / "test" / "1.png")
    splits = read_classes(path)
    assert form_of(path).name == "Kaggle"
    assert list(splits) == ["train"]
    assert splits["train"].classes == tuple(sorted(CLASSES))
    assert sorted(rows(splits["train"])) == sorted(wanted(IMAGES, LABELS))
    Image.fromarray(IMAGES[0]).save(path / "train" / "extra.png")
    (path / "train" / "2.png").unlink()
    (path / "train" / "3.png").write_bytes(b"no image")
    train = read_classes(path)["train"]
    assert len(train) == N - 2
    assert {Path(error.path).name: error.reason.split(" (")[0] for error in train.errors} == {
        "extra.png": "has no label in trainLabels.csv",
        "2": "is named in trainLabels.csv but is not there",
        "3.png": "not an image that can be read",
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,class\n1,cat\n", "needs the columns id and label"),
        ("", "needs the columns id and label"),
        ("id,label\n1,cat\n2\n", "line 3: an id or a label is missing"),
        ("id,label\n1,cat\n1,dog\n", "gives 1 two labels"),
        ("id,label\n1,cat\n2,cat\n", "fewer than two classes"),
        ('id,label\n1,"cat\n', "is not a CSV file in UTF-8"),
        (b"id,label\n1,\xff\n", "is not a CSV file in UTF-8"),
        ("id,label\n8,cat\n9,dog\n", "none of the images in .* can be read; the first of "),
    ],
)
def test_bad_tables_of_labels(tmp_path, table, message):
    path = write_kaggle(tmp_path / "k", IMAGES[:2], LABELS[:2])
    (path / "trainLabels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DataError, match=message):
        read_classes(path)


def test_class_folders(tmp_path):
    path = write_class_folders(tmp_path / "c", IMAGES, LABELS)
    (path / "empty").mkdir()
    (path / ".hidden").mkdir()
    Image.fromarray(IMAGES[0]).save(path / ".hidden" / "a.png")
    Image.fromarray(IMAGES[0]).save(path / "stray.png")
    (path / "cat" / "deep").mkdir()
    Image.fromarray(IMAGES[1]).save(path / "cat" / "deep" / "copy.bmp")
    (path / "truck" / "broken.png").write_bytes(b"")
    splits = read_classes(path)
    assert list(splits) == ["train"]
    train = splits["train"]
    assert train.classes == CLASSES
    assert sorted(rows(train)) == sorted([*wanted(IMAGES, LABELS), (content_hash(IMAGES[1]), "cat")])
    assert {Path(error.path).name: error.reason for error in train.errors} == {
        "stray.png": "lies in no folder of a class",
        "empty": "an empty folder",
        "broken.png": "empty file",
    }


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_class_folders_of_splits(tmp_path, name):
    for split, part in (("train", slice(0, 6)), ("test", slice(6, 9)), (name, slice(9, 12))):
        write_class_folders(tmp_path / split, IMAGES[part], LABELS[part])
    splits = read_classes(tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    assert sorted(rows(splits["validation"])) == sorted(wanted(IMAGES[9:], LABELS[9:]))
    write_class_folders(tmp_path / "test", IMAGES[:1], [0], ("bird",))
    with pytest.raises(DataError, match="train and test must have the same classes, but 'bird' is in one of them only"):
        read_classes(tmp_path)


def test_splits_in_capitals_with_images_beside_their_classes(tmp_path):
    for split, part in (("Train", slice(0, 6)), ("Test", slice(6, 12))):
        write_class_folders(tmp_path / split, IMAGES[part], LABELS[part])
    for stray in (tmp_path / "Train" / "thumb.png", tmp_path / "sheet.png"):
        Image.fromarray(IMAGES[0]).save(stray)
    splits = read_classes(tmp_path)
    assert list(splits) == ["train", "test"]
    assert splits["train"].classes == CLASSES
    assert [(Path(error.path).name, error.reason) for error in splits["train"].errors] == [
        ("thumb.png", "lies in no folder of a class")
    ]


def test_a_class_may_lie_in_a_linked_folder(tmp_path):
    path = write_class_folders(tmp_path / "c", IMAGES, LABELS)
    (path / "cat").rename(tmp_path / "elsewhere")
    (path / "cat").mkdir()
    (path / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (path / "cat" / "round").symlink_to(path / "cat")
    assert sorted(rows(read_classes(path)["train"])) == sorted(wanted(IMAGES, LABELS))


def test_a_class_called_train_may_have_folders(tmp_path):
    write_class_folders(tmp_path, IMAGES, LABELS, ("boat", "test", "train"))
    for name in ("old", "new"):
        write_class_folders(tmp_path / "train", IMAGES[:1], [0], (name,))
    assert read_classes(tmp_path)["train"].classes == ("boat", "test", "train")


def test_a_class_may_be_called_train(tmp_path):
    write_class_folders(tmp_path, IMAGES, LABELS, ("boat", "test", "train"))
    assert list(read_classes(tmp_path)) == ["train"]
    assert read_classes(tmp_path)["train"].classes == ("boat", "test", "train")


@pytest.mark.parametrize("metadata", ["huggingface", "names", None])
@pytest.mark.parametrize(("image", "label"), [("img", "label"), ("image", "labels"), ("image", "fine_label")])
def test_parquet(tmp_path, metadata, image, label):
    pytest.importorskip("pyarrow")
    options = {"image": image, "label": label, "metadata": metadata}
    write_parquet_file(tmp_path / "data" / "train-00000-of-00002.parquet", IMAGES[:5], LABELS[:5], **options)
    write_parquet_file(tmp_path / "data" / "train-00001-of-00002.parquet", IMAGES[5:9], LABELS[5:9], **options)
    write_parquet_file(tmp_path / "data" / "test-00000-of-00001.parquet", IMAGES[9:], LABELS[9:], **options)
    calls = []
    classes = CLASSES if metadata else ("0", "1", "2")
    for path in (tmp_path, tmp_path / "data"):
        splits = read_classes(path, progress=lambda *call: calls.append(call))
        assert list(splits) == ["train", "test"]
        assert rows(splits["train"]) == wanted(IMAGES[:9], LABELS[:9], classes)
        assert rows(splits["test"]) == wanted(IMAGES[9:], LABELS[9:], classes)
        assert splits["train"].images[5].path == Path("train-00001-of-00002.parquet/0")
    assert calls[8:10] == [("reading train", 9, 9), ("reading test", 1, 3)]
    assert rows(read_classes(tmp_path / "data" / "train-00001-of-00002.parquet")["train"]) == wanted(
        IMAGES[5:9], LABELS[5:9], classes
    )


def test_parquet_with_images_of_many_sizes_some_of_them_broken(tmp_path):
    pytest.importorskip("pyarrow")
    images = [random_images(1, side=side)[0] for side in (3, 40, 17)]
    contents = [png(images[0]), b"broken", png(images[1]), None, png(images[2])]
    write_parquet_file(tmp_path / "train.parquet", None, [0, 1, 2, 0, 1], contents=contents)
    train = read_classes(tmp_path)["train"]
    assert rows(train) == wanted(images, [0, 2, 1])
    assert [error.reason.split(" (")[0] for error in train.errors] == [
        "not an image that can be read",
        "the image itself is not in the file",
    ]
    assert [error.path.rpartition("/")[2] for error in train.errors] == ["train.parquet, row 1", "train.parquet, row 3"]


def test_parquet_that_cannot_be_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    path = write_parquet_file(tmp_path / "train.parquet", IMAGES[:3], LABELS[:3])
    whole = path.read_bytes()
    for content in (b"", b"no Parquet", whole[:-10], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a Parquet file, or is damaged"):
            read_classes(tmp_path)
    for labels, message in (
        ([0, 1, 7], "a label is 7"),
        ([0, -1, 1], "a label is -1"),
        ([0, None, 1], "without a label"),
    ):
        write_parquet_file(path, IMAGES[:3], labels)
        with pytest.raises(DataError, match=message):
            read_classes(tmp_path)
    for label in (2**40, 10**6):
        write_parquet_file(path, IMAGES[:3], [0, 1, label], metadata=None)
        with pytest.raises(DataError, match=f"has the label {label}, which is not the index of a class"):
            read_classes(tmp_path)
    write_parquet_file(path, IMAGES[:3], pyarrow.array([0, 1, 2**63 + 5], pyarrow.uint64()))
    with pytest.raises(DataError, match="is not the index of a class"):
        read_classes(tmp_path)
    write_parquet_file(path, IMAGES[:3], LABELS[:3], label="target")
    with pytest.raises(DataError, match="needs a column of images"):
        read_classes(tmp_path)
    write_table(pyarrow.table({"img": ["a"], "label": ["cat"]}), path)
    with pytest.raises(DataError, match="needs a column of images"):
        read_classes(tmp_path)
    write_parquet_file(path, None, [0], contents=[b"broken"])
    with pytest.raises(DataError, match=r"no image of train that can be read: .*row 0"):
        read_classes(tmp_path)
    path.rename(tmp_path / "test.parquet")
    write_parquet_file(tmp_path / "test.parquet", IMAGES[:3], LABELS[:3])
    with pytest.raises(DataError, match="no images to train on, only those of test"):
        read_classes(tmp_path)
    write_parquet_file(path, IMAGES[:3], LABELS[:3], ("other", "names", "here"))
    with pytest.raises(DataError, match="name different classes"):
        read_classes(tmp_path)
    for name in ("coarse", "fine"):
        write_parquet_file(tmp_path / "two" / name / "train.parquet", IMAGES[:3], LABELS[:3])
    with pytest.raises(DataError, match="Parquet files in 2 folders"):
        read_classes(tmp_path / "two")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "train.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OddsightError, match=r"needs pyarrow: pip install 'oddsight\[parquet\]'"):
        read_classes(tmp_path)


def test_anything_else_is_refused_with_the_forms(tmp_path):
    (tmp_path / "notes.txt").write_text("notes")
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "a.png"):
        with pytest.raises(DataError, match="in a known layout") as error:
            read_classes(path)
        assert all(form.layout in str(error.value) for form in FORMS)
    with pytest.raises(DataError, match="no such file or folder"):
        read_classes(tmp_path / "gone")


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), count=st.integers(6, 20), classes=st.integers(2, 5))
def test_all_forms_say_the_same(tmp_path_factory, seed, count, classes):
    names = tuple(f"class {number}" for number in range(classes))
    images = random_images(count, seed=seed)
    labels = np.random.default_rng(seed).integers(0, classes, count).tolist()
    labels[:classes] = range(classes)
    folder = tmp_path_factory.mktemp("forms")
    test = count - int(np.linspace(0, count, 7).astype(int)[5])
    paths = [
        write_archive(folder / "p.tar.gz", python_files(images, labels, names)),
        write_files(folder / "b", binary_files(images, labels, names)),
    ]
    if importlib.util.find_spec("pyarrow"):
        write_parquet_file(folder / "q" / "train.parquet", images[:-test], labels[:-test], names)
        paths.append(write_parquet_file(folder / "q" / "test.parquet", images[-test:], labels[-test:], names).parent)
    for path in paths:
        splits = read_classes(path)
        assert rows(splits["train"]) == wanted(images[:-test], labels[:-test], names)
        assert rows(splits["test"]) == wanted(images[-test:], labels[-test:], names)
        assert splits["train"].fingerprint == read_classes(paths[0])["train"].fingerprint


def files(contents, labels, classes=3) -> ClassImages:
    images = tuple(ImageFile(Path(f"{number}.png"), content, 1, 1) for number, content in enumerate(contents))
    return ClassImages(images, np.array(labels, np.int64), tuple("abcdefgh"[:classes]))


LABELLED = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=60)


@pytest.mark.slow
@given(LABELLED, st.floats(0, 0.99), st.integers(0, 5), st.randoms())
def test_a_division_is_by_content_and_keeps_copies_together(rows_, fraction, seed, random):
    data = files([f"{number:064x}" for number, _ in rows_], [label for _, label in rows_])
    kept, held = stratified(data, fraction, seed)

    def named(part):
        return Counter((image.content, label) for image, label in zip(part.images, part.labels.tolist(), strict=True))

    assert named(kept) + named(held) == named(data)
    assert not {image.content for image in kept.images} & {image.content for image in held.images}
    order = random.sample(range(len(data)), len(data))
    assert [named(part) for part in stratified(data.subset(order), fraction, seed)] == [named(kept), named(held)]
    if fraction == 0:
        assert not len(held)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 5))
def test_distinct_images_are_divided_by_the_exact_share(labels, fraction, seed):
    data = files([f"{number:064x}" for number in range(len(labels))], labels)
    kept, held = stratified(data, fraction, seed)
    for name, count in data.counts().items():
        exact = fraction * count
        assert exact - 1e-6 <= held.counts()[name] < exact + 1
    assert [image.path for image in kept.images] == sorted([i.path for i in kept.images], key=lambda p: int(p.stem))


def test_seeds_divide_otherwise_and_bad_shares_are_refused():
    data = files([f"{number:064x}" for number in range(40)], labels_of(40))
    assert len({tuple(i.content for i in stratified(data, 0.5, seed)[1].images) for seed in range(10)}) == 10
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(OddsightError, match="at least 0 and below 1"):
            stratified(data, share, 0)


def test_class_images_check_themselves():
    with pytest.raises(DataError, match="1 images but 2 labels"):
        files(["0" * 64], [0, 1])
    with pytest.raises(DataError, match="a label is 3"):
        files(["0" * 64], [3])
    with pytest.raises(DataError, match="two classes are called 'a'"):
        ClassImages((), np.array([], np.int64), ("a", "a"))
    data = files(["0" * 64, "1" * 64, "2" * 64], [0, 2, 2])
    assert len(data) == 3
    assert data.counts() == {"a": 1, "b": 0, "c": 2}
    assert [image.path.stem for image in data.subset([2, 0]).images] == ["2", "0"]
    assert data.subset([2, 0]).labels.tolist() == [2, 0]
    assert len(data.subset([])) == 0


def test_the_fingerprint_is_of_images_labels_and_classes():
    data = files(["0" * 64, "1" * 64, "1" * 64], [0, 1, 1])
    assert data.subset([2, 0, 1]).fingerprint == data.fingerprint
    others = [
        data.subset([0, 1]),
        files(["0" * 64, "1" * 64, "1" * 64], [0, 1, 2]),
        files(["0" * 64, "1" * 64, "1" * 64], [0, 1, 1], classes=2),
        files(["0" * 64, "1" * 64, "2" * 64], [0, 1, 1]),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_repeated_images_are_found():
    train = files(["a" * 64, "b" * 64, "a" * 64, "c" * 64], [0, 1, 0, 1])
    test = files(["b" * 64, "c" * 64, "d" * 64], [1, 2, 2])
    found = {repeat.content[0]: repeat for repeat in repeats({"train": train, "test": test})}
    assert {name: (repeat.leaks, repeat.contradicts) for name, repeat in found.items()} == {
        "a": (False, False),
        "b": (True, False),
        "c": (True, True),
    }
    assert [(place.split, place.index, place.label) for place in found["c"].places] == [
        ("train", 3, "b"),
        ("test", 1, "c"),
    ]


def test_stored_images_are_copies_of_their_rows():
    array = random_images(3, side=5)
    images = stored(array, ["a/0", "a/1", "a/2"])
    assert content(array) == [image.content for image in images]
    assert all(isinstance(image, StoredImage) for image in images)
    images[0].read()[:] = 0
    assert np.array_equal(images[0].read(), array[0])
    assert images[0].read().flags.writeable
    with pytest.raises(ValueError, match="zip"):
        stored(array, ["one name"])


def test_a_full_disk_is_one_clear_error(monkeypatch):
    kept = PixelFile()

    class Full:
        def write(self, content):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_file", Full())
    with pytest.raises(OddsightError, match="No space left on device; set TMPDIR"):
        kept.add(IMAGES[0])
    assert PixelFile().arrays() == []


GREY = np.random.default_rng(1).integers(0, 256, (7, 4, 6), dtype=np.uint8)


@pytest.mark.parametrize("zipped", [False, True])
def test_unlabelled_idx(tmp_path, zipped):
    path = write_idx(tmp_path / "t10k-images-idx3-ubyte", GREY, zipped=zipped)
    images = read_unlabelled(path)
    assert [image.read().tolist() for image in images] == np.stack([GREY] * 3, axis=3).tolist()
    assert (images[0].width, images[0].height) == (6, 4)
    with pytest.raises(DataError, match="may hold their labels"):
        read_unlabelled(write_idx(tmp_path / "labels-idx1-ubyte", GREY[:, 0, 0], zipped=zipped))


def test_damaged_idx(tmp_path):
    whole = write_idx(tmp_path / "whole", GREY).read_bytes()
    path = tmp_path / "x-ubyte"
    huge = whole[:4] + b"\xff" * 12
    none = whole[:4] + bytes(12)
    zipped = write_idx(tmp_path / "zipped", GREY, zipped=True).read_bytes()
    for content_ in (whole[:-1], whole + b"0", whole[:9], huge, none, zipped[:-30], zipped[:20]):
        path.write_bytes(content_)
        with pytest.raises(DataError, match=r"damaged|no images"):
            read_unlabelled(path)


def test_unlabelled_images_of_every_form(tmp_path):
    folder = write_class_folders(tmp_path / "c", IMAGES, LABELS)
    (folder / "cat" / "broken.png").write_bytes(b"")
    broken: list[ImageError] = []
    found = read_unlabelled(folder, on_error=broken.append)
    assert sorted(image.content for image in found) == sorted(content(IMAGES))
    assert [error.reason for error in broken] == ["empty file"]
    binary = write_files(tmp_path / "b", binary_files(IMAGES, LABELS))
    assert [image.content for image in read_unlabelled(binary)] == content(IMAGES[10:])
    with pytest.raises(DataError, match="no images in"):
        read_unlabelled(tmp_path / "gone")
    with pytest.raises(OddsightError, match="1 or more"):
        read_unlabelled(folder, limit=0)


def test_unlabelled_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    train = write_parquet_file(tmp_path / "train.parquet", IMAGES[:4], LABELS[:4])
    assert [image.content for image in read_unlabelled(tmp_path)] == content(IMAGES[:4])
    write_parquet_file(tmp_path / "test.parquet", IMAGES[4:6], LABELS[4:6])
    assert [image.content for image in read_unlabelled(tmp_path)] == content(IMAGES[4:6])
    assert [image.content for image in read_unlabelled(train)] == content(IMAGES[:4])
    assert [image.content for image in read_unlabelled(tmp_path / "test.parquet")] == content(IMAGES[4:6])


@pytest.mark.slow
def test_a_limit_chooses_by_content(tmp_path):
    folder = write_class_folders(tmp_path / "c", IMAGES, LABELS)
    renamed = write_class_folders(tmp_path / "d", IMAGES[::-1], LABELS[::-1])
    chosen = [{image.content for image in read_unlabelled(path, 4, 1)} for path in (folder, renamed)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 4
    assert chosen[0] < {image.content for image in read_unlabelled(folder, 5, 1)}
    assert len({frozenset(i.content for i in read_unlabelled(folder, 4, seed)) for seed in range(8)}) > 4
    assert len(read_unlabelled(folder, 100)) == N


ARCHIVE = np.random.default_rng(2).bytes(700_000)


class Server(http.server.HTTPServer):
    """What it serves, and how badly."""

    content, status, ranges = ARCHIVE, 200, True
    cut: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/cifar-10-python.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves what its server holds."""

    server: Server

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut] if server.cut else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(folder, server, **options):
    sums = {"md5": hashlib.md5(ARCHIVE).hexdigest(), "sha256": hashlib.sha256(ARCHIVE).hexdigest()}
    return download_cifar10(folder, server.url, **{"size": len(ARCHIVE), **sums, **options})


def test_downloading(tmp_path, server):
    calls = []
    path = fetch(tmp_path / "new" / "folder", server, progress=lambda *call: calls.append(call))
    assert path == tmp_path / "new" / "folder" / "cifar-10-python.tar.gz"
    assert path.read_bytes() == ARCHIVE
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert calls[-1] == ("downloading", len(ARCHIVE), len(ARCHIVE))
    assert fetch(path.parent, server) == path
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_ended(tmp_path, server, ranges):
    server.cut = 300_000
    with pytest.raises(OddsightError, match="the same command continues"):
        fetch(tmp_path, server)
    part = tmp_path / "cifar-10-python.tar.gz.part"
    assert part.read_bytes() == ARCHIVE[:300_000]
    server.cut, server.ranges = None, ranges
    assert fetch(tmp_path, server).read_bytes() == ARCHIVE
    assert server.asked == [None, "bytes=300000-"]
    assert not part.exists()


@pytest.mark.parametrize("wrong", ["md5", "sha256", "longer", "changed"])
def test_a_wrong_download_is_removed(tmp_path, server, wrong):
    options = {}
    if wrong == "longer":
        server.content = ARCHIVE + b"0" * 10**6
    elif wrong == "changed":
        server.content = b"0" + ARCHIVE[1:]
    else:
        options[wrong] = "0" * 32
    with pytest.raises(DataError, match="size or checksum is wrong: it was removed"):
        fetch(tmp_path, server, **options)
    assert list(tmp_path.iterdir()) == []


def test_downloads_that_fail(tmp_path, server):
    part = tmp_path / "cifar-10-python.tar.gz.part"
    part.write_bytes(b"0" * 100)
    server.content = ARCHIVE[:50]
    with pytest.raises(OddsightError, match="the server says 416"):
        fetch(tmp_path, server)
    assert not part.exists()
    server.content, server.status = ARCHIVE, 404
    with pytest.raises(OddsightError, match="the server says 404"):
        fetch(tmp_path, server)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(OddsightError, match=r"cannot fetch http://.*: Connection refused"):
        download_cifar10(tmp_path, f"http://127.0.0.1:{port}/x.tar.gz")
    (tmp_path / "file").touch()
    with pytest.raises(OddsightError, match="cannot write"):
        fetch(tmp_path / "file", server)


@pytest.mark.parametrize("form", ["above the python folder", "binary folder", "python 3"])
def test_class_folders_beside_a_packed_form_are_not_ignored_in_silence(tmp_path, form):
    path = CIFAR[form](tmp_path)
    for name in ("cat", "dog"):
        (path / name).mkdir()
        Image.fromarray(IMAGES[0]).save(path / name / "1.png")
    for read in (read_classes, read_unlabelled):
        with pytest.raises(DataError, match="folders of classes beside labelled images in another form"):
            read(path)
