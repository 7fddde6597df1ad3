"""Backbones that learn from a user's images: the same, stoppable, and good for every method."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import oddsight
from oddsight import backbones
from oddsight.data.class_images import ClassImages
from oddsight.detectors import METHODS
from oddsight.errors import OddsightError
from oddsight.graphs.building import chain
from oddsight.graphs.preprocessing import preprocessing
from oddsight.runtime.sessions import run, session
from textures import texture, write_textures

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]
torch = pytest.importorskip("torch", reason="needs the train extra")

from oddsight.backbones.exporting import torch_backbone  # noqa: E402
from oddsight.training import adapting  # noqa: E402
from oddsight.training.adapting import adapt, read_adaptation  # noqa: E402
from oddsight.training.batches import FileBatches, Order, loader  # noqa: E402
from oddsight.training.training_images import gather  # noqa: E402

SMALL: dict[str, Any] = {"size": 32, "epochs": 2, "batch_size": 8, "seed": 1}


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    for material in ("cloth", "bark"):
        write_textures(folder / material, range(12), width=40, height=40, material=material)
    return folder


@pytest.fixture(scope="module")
def adapted(classes, tmp_path_factory):
    """A backbone that has learned the two classes."""
    path = tmp_path_factory.mktemp("adapted") / "own.onnx"
    return adapt(classes, output=path, freeze="stage2", **SMALL)


def stages(backbone, names):
    """What stages of a backbone give for one image."""
    proto = chain([preprocessing(64), backbones.backbone(backbone).graph(tuple(names))], names)
    return run(session(proto.SerializeToString(), threads=1), {"image": texture(77, 64, 64)[None]}, "a texture")


def test_what_is_written_is_a_backbone_that_says_what_it_learned(adapted, classes):
    network = backbones.backbone(adapted.path)
    assert network.size == 32
    assert network.stages == backbones.backbone("efficientnet-lite0").stages
    assert "adapted" in network.name and "classes" in network.source
    record = read_adaptation(adapted.path)
    collection = oddsight.data.collection.collect(classes)
    assert record["backbone"] == "efficientnet-lite0"
    assert record["classes"] == ["bark", "cloth"]
    assert (record["training"], record["validation"]) == (20, 4)
    assert record["settings"]["freeze"] == "stage2" and record["settings"]["objective"] == "classes"
    assert record["epochs"] == len(adapted.curves) == 2
    assert record["best_epoch"] == adapted.best.epoch
    recognised = oddsight.data.collection.seen(record["images_seen"])
    assert all(recognised(image.content) for image in collection.images)
    assert not recognised(hashlib.sha256(b"another").hexdigest())
    assert read_adaptation(backbones.backbone("efficientnet-lite0").path) is None


def test_frozen_stages_stay_and_the_others_learn(adapted):
    names = list(backbones.backbone("efficientnet-lite0").stages)
    for name, before, after in zip(
        names, stages("efficientnet-lite0", names), stages(adapted.path, names), strict=True
    ):
        difference = np.abs(after - before).max() / np.abs(before).max()
        assert (difference < 1e-5) == (name in ("stage1", "stage2")), (name, difference)


def test_it_learns(classes, tmp_path):
    """Classes that were shuffled cannot be distinguished; these can, and the loss falls."""
    found = adapt(classes, output=tmp_path / "own.onnx", **{**SMALL, "epochs": 4, "learning_rate": 3e-4})
    losses = [row.train_loss for row in found.curves]
    assert losses[-1] < 0.8 * losses[0]
    assert found.best.accuracy == 1.0
    assert found.curves[0].learning_rate > found.curves[-1].learning_rate == 0.0


READERS = {
    f"{one.reads}/{one.stride}" if one.reads == "patches" else one.reads: name
    for name, one in METHODS.items()
    if one.reads != "pixels"
}


@pytest.mark.parametrize("method", READERS.values(), ids=READERS)
def test_methods_take_it(method, adapted, tmp_path):
    normal = write_textures(tmp_path / "normal", range(100, 120), width=40, height=40)
    model = oddsight.fit(*normal, method=method, backbone=str(adapted.path), size=64)
    model.save(tmp_path / "model.onnx")
    model = oddsight.load(tmp_path / "model.onnx")
    assert "adapted" in model.metadata.backbone.name
    assert model.predict(texture(3, 40, 40, material="bark")).score > model.predict(texture(3, 40, 40)).score


def test_the_same_bytes_twice_and_after_an_interruption(classes, tmp_path):
    """SimSiam, whose head has most that could be lost: statistics, and randomness in each image."""

    def learn(name, **options):
        folder = classes / "cloth"
        return adapt(folder, output=tmp_path / name, **{**SMALL, "epochs": 3, **options})

    def interrupt(row):
        if row.epoch == 2:
            raise KeyboardInterrupt

    whole = learn("whole.onnx")
    assert whole.settings.objective == "simsiam"
    with pytest.raises(KeyboardInterrupt):
        learn("halves.onnx", work=tmp_path / "work", on_epoch=interrupt)
    assert not (tmp_path / "halves.onnx").exists()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["checkpoint.safetensors"]
    seen = []
    halves = learn("halves.onnx", work=tmp_path / "work", on_epoch=seen.append)
    assert [row.epoch for row in seen] == [3]
    assert [row.train_loss for row in halves.curves] == [row.train_loss for row in whole.curves]
    assert (tmp_path / "halves.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    # Once more: nothing is left to do, and the same comes out.
    learn("again.onnx", work=tmp_path / "work", on_epoch=lambda row: pytest.fail("learned again"))
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    other = learn("other.onnx", seed=2, epochs=1)
    assert other.curves[0].train_loss != whole.curves[0].train_loss


def test_rotations_are_learned_where_there_is_a_right_way_up(tmp_path):
    """Images that are brighter above than below, and images of one grey."""
    for number in range(16):
        slope = np.linspace(200, 40, 40)[:, None, None] + np.random.default_rng(number).normal(0, 5, (40, 40, 3))
        grey = np.full((40, 40, 3), 100 + number)
        for name, pixels in (("upright", slope), ("grey", grey)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    options = {**SMALL, "objective": "rotation", "augment": ("flip",), "learning_rate": 1e-3, "epochs": 5}
    upright_run, grey_run = (
        adapt(tmp_path / name, output=tmp_path / f"{name}.onnx", **options) for name in ("upright", "grey")
    )
    assert upright_run.best.accuracy > 0.9 and not upright_run.at_chance
    assert grey_run.best.accuracy == 0.25 and grey_run.at_chance


def test_a_checkpoint_serves_only_what_it_was_made_for(classes, tmp_path):
    work = tmp_path / "work"
    cloth = classes / "cloth"
    options = {**SMALL, "epochs": 1, "objective": "simsiam", "output": tmp_path / "own.onnx", "work": work}
    adapt(cloth, **options)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"learning_rate": 2e-4}, "has learning rate 0.0001, not 0.0002"),
        ({"freeze": "stage3"}, "has freeze None, not stage3"),
        ({"epochs": 2}, "has epochs 1, not 2"),
    ]
    for changed, said in cases:
        with pytest.raises(OddsightError, match=said):
            adapt(cloth, **{**options, **changed})
    with pytest.raises(OddsightError, match="learns from other images"):
        adapt(classes / "bark", **options)
    file = work / "checkpoint.safetensors"
    content = file.read_bytes()
    for damaged in (content[:1000], b"", b"\x80\x04." + content, content[: len(content) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(OddsightError, match="a damaged checkpoint: delete it"):
            adapt(cloth, **options)


def test_no_pickle_is_written_or_read(classes, tmp_path, monkeypatch):
    weights = tmp_path / "lite0.safetensors"
    from safetensors.torch import save_file

    inner = torch_backbone("efficientnet-lite0").trunk.network.state_dict()
    save_file(inner, weights)
    for name in ("save", "load"):
        monkeypatch.setattr(torch, name, lambda *args, **options: pytest.fail("a pickle"))
    for _ in range(2):
        adapt(
            classes, output=tmp_path / "own.onnx", weights=weights, work=tmp_path / "work", **{**SMALL, "epochs": 1}
        )  # fmt: skip
    assert "lite0.safetensors" in backbones.backbone(tmp_path / "own.onnx").source


def test_it_ends_when_nothing_gets_better(classes, tmp_path):
    """With random labels the validation loss soon rises."""
    mixed = tmp_path / "mixed"
    for number, path in enumerate(sorted(classes.rglob("*.png"))):
        (mixed / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (mixed / "ab"[number % 2] / f"{number}.png").write_bytes(path.read_bytes())
    options = {**SMALL, "epochs": 12, "learning_rate": 1e-3, "patience": 1, "augment": ()}
    found = adapt(mixed, output=tmp_path / "own.onnx", **options)
    assert found.best.epoch == len(found.curves) - 1 < 11
    assert read_adaptation(tmp_path / "own.onnx")["validation_loss"] == min(row.validation_loss for row in found.curves)


def test_a_loss_that_diverges(classes, tmp_path):
    with pytest.raises(OddsightError, match="no longer a finite number: choose a learning rate below 1e\\+25"):
        adapt(classes, output=tmp_path / "own.onnx", **{**SMALL, "learning_rate": 1e25})
    assert not (tmp_path / "own.onnx").exists()


def test_outputs_that_collapse(tmp_path):
    """Images of one colour, a pixel of which differs: two versions of any are the same as of any other."""
    for number in range(12):
        pixels = np.full((40, 40, 3), 128, np.uint8)
        pixels[number, 0] = 127
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    with pytest.raises(OddsightError, match="simsiam collapsed"):
        adapt(tmp_path, output=tmp_path / "own.onnx", augment=("crop",), **SMALL)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"objective": "classes", "labelled": False}, "takes labelled images"),
        ({"freeze": "stage9"}, "no stage 'stage9' to freeze: efficientnet-lite0 has stage1"),
        ({"freeze": "head"}, "freezing up to head leaves nothing"),
        ({"size": 40}, "must be a multiple of 32, not 40"),
        ({"backbone": "own.onnx"}, "cannot be trained: name the backbone it comes from"),
        ({"accelerator": "abacus"}, "no accelerator abacus with devices 1"),
        ({"devices": 0}, "no accelerator auto with devices 0"),
        ({"devices": "many"}, "no accelerator auto with devices many"),
        ({"workers": -1}, "workers must be 0 or more"),
        ({"weights": "missing.pth"}, "missing.pth: no such file"),
        ({"output": "missing/own.onnx"}, "cannot write missing/own.onnx"),
        ({"work": "/dev/null/work"}, "cannot make the folder /dev/null/work"),
    ],
)
def test_what_cannot_work(options, said, classes, tmp_path):
    with pytest.raises(OddsightError, match=said):
        adapt(classes, **{"output": tmp_path / "own.onnx", **SMALL, **options})


def test_an_image_that_changed_meanwhile(classes, tmp_path, monkeypatch):
    images = gather([classes], labelled=True, validation=0.1, seed=0)
    copies = tmp_path / "copies"
    paths = write_textures(copies, range(12))

    def spoil(*args, **options):
        found = gather(*args, **options)
        for path in paths:
            Image.fromarray(texture(500)).save(path)
        return found

    monkeypatch.setattr(adapting, "gather", spoil)
    with pytest.raises(OddsightError, match="changed while it was in use"):
        adapt(copies, output=tmp_path / "own.onnx", **SMALL)
    assert images.classes


def test_images_are_brought_to_size_as_in_a_model(tmp_path):
    (path,) = write_textures(tmp_path, [5], width=97, height=150)
    image = oddsight.data.collection.collect(path).images[0]
    ours = FileBatches(ClassImages((image,), np.zeros(1, np.int64), ("",)), 64)[np.array([0]), 0][0]
    theirs = run(session(preprocessing(64).SerializeToString(), threads=1), {"image": image.read()[None]}, "one")[0]
    difference = np.abs(ours[0, 0].numpy() - theirs[0])
    assert difference.max() <= 2
    assert difference.mean() < 0.5


def batches(images, workers, epoch=3):
    files = FileBatches(images, 32, views=2, crop=True)
    order = Order(len(files), 6, shuffle=True, seed=7)
    order.epoch = epoch
    return list(loader(files, order, workers=workers))


def test_images_do_not_depend_on_who_reads_them(classes):
    images = gather([classes], labelled=True, validation=0.1, seed=0).training
    here, there, later = batches(images, 0), batches(images, 1), batches(images, 0, epoch=4)
    assert [len(labels) for _, labels, _ in here] == [6, 6, 6]
    for (one, labels, seed), (other, others, same) in zip(here, there, strict=True):
        assert torch.equal(one, other) and torch.equal(labels, others) and seed == same
        # Two views of an image differ.
        assert not torch.equal(one[:, 0], one[:, 1])
    assert not torch.equal(here[0][0], later[0][0])


@pytest.mark.parametrize(("shuffle", "count"), [(True, 20), (False, 20), (False, 19)])
def test_processes_share_the_images(shuffle, count):
    orders = [Order(count, 5, shuffle=shuffle, seed=7, processes=2, rank=rank) for rank in range(2)]
    shares = [[row for rows, _ in order for row in rows] for order in orders]
    assert sorted({*shares[0], *shares[1]}) == list(range(count))
    assert [len(share) for share in shares] == [10, 10]
    assert not {seed for _, seed in orders[0]} & {seed for _, seed in orders[1]}


def test_the_command(classes, tmp_path):
    from cli_files import run as command

    out, table = tmp_path / "own.onnx", tmp_path / "curves.csv"
    (classes / "bark" / "broken.png").write_bytes(b"no image")
    try:
        outcome = command(
            "adapt", classes, "-o", out, "--size", 32, "--epochs", 1, "--batch-size", 8, "--freeze", "stage5",
            "--augment", "none", "--curves", table, "--curves", tmp_path / "curves.png",
        )  # fmt: skip
    finally:
        (classes / "bark" / "broken.png").unlink()
    assert outcome.code == 1 and "broken.png" in outcome.err
    assert outcome.out == ""
    assert "the folders are 2 classes: bark, cloth" in outcome.err
    assert "epoch 1 of 1: training loss" in outcome.err
    assert "Lightning" not in outcome.err and "TPU" not in outcome.err and "Tip" not in outcome.err
    assert len(table.read_text().splitlines()) == 2
    assert Image.open(tmp_path / "curves.png").format == "PNG"
    entries = [entry for entry in onnx.load(out).metadata_props if entry.key == adapting.KEY]
    assert json.loads(entries[0].value)["settings"]["augment"] == []
