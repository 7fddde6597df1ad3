"""Ensembles: their embeddings are those of their members, and their weights are the best on images not learned from."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax

import oddsight
from cli_files import assert_failed, run
from oddsight.backbones import backbone
from oddsight.backbones.extraction import Extractor
from oddsight.detectors.head import Head
from oddsight.errors import OddsightError
from oddsight.fitting.ensembles import Member, join_heads, join_networks
from oddsight.graphs.neighbours import most_compared
from oddsight.runtime.records import write_arrays
from oddsight.runtime.sessions import session
from textures import texture

LITE = backbone("efficientnet-lite0")


def head(channels, seed=0):
    lots = np.random.default_rng(seed)
    return Head(lots.normal(0, 1, (channels, 3)).astype(np.float32), lots.normal(0, 1, 3).astype(np.float32))


def embed(extractor, images):
    loaded = session(extractor.graph.SerializeToString(), threads=1)
    return np.concatenate([loaded.run(["embedding"], {"image": image[None]})[0] for image in images])


@pytest.fixture(scope="module")
def images():
    return [texture(seed, 64, 64) for seed in range(3)]


def member(name, layer, *sizes):
    return Member(name, LITE, layer, head(LITE.stages[layer][1]), sizes)


def test_embeddings_stand_side_by_side(images, tmp_path):
    joined = join_networks([member("deep", "stage5", 64), member("shallow", "stage2", 64)], 64, tmp_path / "both.onnx")
    assert joined.shape == (112 + 24,)
    own = [embed(Extractor(LITE, (layer,), 64, "embedding"), images) for layer in ("stage5", "stage2")]
    np.testing.assert_allclose(embed(joined, images), np.concatenate(own, axis=1), rtol=1e-4, atol=1e-5)


def test_an_embedding_is_the_mean_of_those_at_each_size(images, tmp_path):
    several, *single = (
        embed(join_networks([member("one", "stage3", *sizes)], 64, tmp_path / "one.onnx"), images)
        for sizes in ((64, 96, 128), (64,), (96,), (128,))
    )
    np.testing.assert_allclose(several, np.mean(single, axis=0), rtol=1e-4, atol=1e-5)
    assert np.abs(single[0] - single[2]).max() > 0.01


def test_weights_are_stored_once(tmp_path):
    for sizes in ((64,), (64, 96, 128)):
        join_networks([member("one", "head", *sizes)], 64, tmp_path / f"{len(sizes)}.onnx")
    assert (tmp_path / "3.onnx").stat().st_size < 1.05 * (tmp_path / "1.onnx").stat().st_size


def test_a_joined_network_is_a_backbone_of_one_size(tmp_path):
    joined = join_networks([member("one", "head", 64)], 32, tmp_path / "one.onnx")
    again = backbone(tmp_path / "one.onnx")
    assert (again.name, again.size, again.fixed, list(again.stages)) == ("ensemble", 32, True, ["one"])
    assert again.sha256 == joined.backbone.sha256
    with pytest.raises(OddsightError, match="takes only images of 32 pixels"):
        again.shapes(("one",), 64)


@pytest.mark.parametrize(
    ("reading", "shape", "most"),
    [
        ("embedding", (1280,), 2000),
        ("embedding", (2560,), 1000),
        ("patches", (2048, 28, 28), 1250),
        ("levels", (48, 80, 1500, 14, 14), 1706),
        ("pixels", (3, 64, 64), 2000),
    ],
)
def test_long_embeddings_are_compared_with_fewer_images(reading, shape, most):
    assert most_compared(reading, shape) == most


def loss(logits, labels):
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("seed", range(5))
def test_weights_have_the_least_loss(seed):
    lots = np.random.default_rng(seed)
    labels = lots.integers(0, 3, 400)
    signal = np.eye(3)[labels]
    skills = lots.uniform(0.5, 3, 2)
    embeddings = np.concatenate([skill * signal + lots.normal(0, 1, (400, 3)) for skill in skills], 1)
    heads = [Head(np.eye(3, dtype=np.float32) * scale, np.zeros(3, np.float32)) for scale in lots.uniform(0.3, 5, 2)]
    joined, weights = join_heads(heads, embeddings.astype(np.float32), labels)
    parts = [one.logits(part) for one, part in zip(heads, np.split(embeddings.astype(np.float32), 2, 1), strict=True)]
    found = joined.logits(embeddings.astype(np.float32))
    np.testing.assert_allclose(found, weights[0] * parts[0] + weights[1] * parts[1], rtol=1e-4, atol=1e-4)
    least = loss(found, labels)
    assert min(weights) >= 0
    for change in ((1.05, 1), (0.95, 1), (1, 1.05), (1, 0.95)):
        assert (
            loss(sum(w * c * part for w, c, part in zip(weights, change, parts, strict=True)), labels) >= least - 1e-6
        )


def test_a_member_that_is_worse_than_nothing_has_no_weight():
    labels = np.arange(300) % 3
    good = np.eye(3)[labels] + np.random.default_rng(0).normal(0, 0.5, (300, 3))
    heads = [Head(np.eye(3, dtype=np.float32) * sign, np.zeros(3, np.float32)) for sign in (1, -1)]
    _, weights = join_heads(heads, np.concatenate([good, good], 1).astype(np.float32), labels)
    assert weights[1] == 0 < weights[0]


@pytest.fixture
def trained(tmp_path) -> Path:
    """A study's folder, in which the fine-tuned member of the ensemble has been trained already."""
    folder = tmp_path / "out" / "work" / "largest-soup-0"
    folder.mkdir(parents=True)
    shutil.copyfile(LITE.path, folder / "network.onnx")
    (folder / "weights.safetensors").touch()
    constants = head(1280)
    write_arrays(folder / "head.npz", {"weights": constants.weights[:, :2], "bias": constants.bias[:2]})
    for split, seeds in (("train", range(34)), ("test", range(100, 108))):
        for material in ("cloth", "bark"):
            (tmp_path / "known" / split / material).mkdir(parents=True)
            for seed in seeds:
                image = Image.fromarray(texture(seed, 32, 32, material=material))
                image.save(tmp_path / "known" / split / material / f"{seed}.png")
    return tmp_path


@pytest.mark.slow
def test_a_study_joins_what_was_trained_with_a_probe(trained):
    out = trained / "out"
    options = ("study", "cifar10", "--data", trained / "known", "-o", out, "--score", "vim+gen")
    done = run(*options, "--networks", "probe-larger,ensemble", "--false-alarm-rate", 0.3)
    assert done.code == 0, done.err
    rows = {row["run"]: row for row in csv.DictReader((out / "classification.csv").open())}
    # A head at random adds nothing to a probe, and so has next to no weight.
    assert float(rows["ensemble"]["accuracy"]) >= float(rows["probe-larger"]["accuracy"]) > 0.9
    model = oddsight.load(out / "ensemble-vim+gen.onnx")
    members = model.metadata.classes.head["members"]
    assert [one["name"] for one in members] == ["largest-soup", "probe-larger"]
    assert [one["sizes"] for one in members] == [[128, 160, 192], [224]]
    assert model.metadata.backbone.size == 32
    large = Image.fromarray(texture(101, 32, 32, material="bark")).resize((320, 320))
    assert model.predict(large).label == "bark"
    assert "stacking" in (out / "report.md").read_text()


@pytest.mark.slow
def test_members_that_are_missing_or_damaged_are_named(trained):
    options = ("study", "cifar10", "--data", trained / "known", "-o", trained / "out", "--false-alarm-rate", 0.3)
    assert_failed(run(*options, "--networks", "ensemble"), "ensemble needs probe-larger of seed 0")
    (trained / "out" / "work" / "largest-soup-0" / "head.npz").write_bytes(b"no head")
    assert_failed(run(*options, "--networks", "probe-larger,ensemble"), "holds no head that can be read")
