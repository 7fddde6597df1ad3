"""Checkpoints and weights carry a digest: what was damaged or edited is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch
from oddsight.training import checkpoints

pytestmark = pytest.mark.train

IDENTITY = {"images": "abc", "epochs": 3}
CURVES = [Epoch(1, 0.5, 0.25, 0.75, 0.001, 1.5)]
TENSORS = {
    "half": torch.arange(6).reshape(2, 3).to(torch.bfloat16),
    "one": torch.tensor(2.5),
    "none": torch.zeros(0, 3),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def same(tensors):
    return tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def flips(path):
    whole = path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        yield at
    path.write_bytes(whole)


def test_every_byte_of_a_checkpoint_counts(tmp_path):
    path = tmp_path / checkpoints.FILE
    checkpoints.save(path, IDENTITY, CURVES, {"network": TENSORS})
    loaded = checkpoints.load(path, IDENTITY)
    assert loaded is not None
    curves, parts = loaded
    assert curves == CURVES
    assert same(parts["network"])
    for at in flips(path):
        try:
            loaded = checkpoints.load(path, IDENTITY)
        except OddsightError:
            continue
        assert loaded is not None
        curves, parts = loaded
        assert curves == CURVES and same(parts["network"]), at


def test_every_byte_of_weights_counts(tmp_path):
    path = tmp_path / "weights.safetensors"
    weights = {name: tensor.contiguous() for name, tensor in TENSORS.items()}
    checkpoints.save_weights(path, weights)
    assert same(checkpoints.load_weights(path))
    for at in flips(path):
        try:
            assert same(checkpoints.load_weights(path)), at
        except OddsightError:
            continue


def test_what_has_no_digest_is_refused(tmp_path):
    path = tmp_path / checkpoints.FILE
    checkpoints.save(path, IDENTITY, CURVES, {"network": TENSORS})
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del header["sha256"]
    save_file(tensors, path, header)
    with pytest.raises(OddsightError, match="a damaged checkpoint: delete it to start again"):
        checkpoints.load(path, IDENTITY)
    with pytest.raises(OddsightError, match="written by an older Oddsight: train it again"):
        checkpoints.load_weights(path)
