"""Where a training stands, as one safetensors file: tensors, and JSON in its header. Nothing in it can be run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch
from oddsight.runtime.files import write_bytes
from oddsight.runtime.records import DIGEST, digest_arrays

FILE = "checkpoint.safetensors"

Tensors = dict[str, torch.Tensor]

_DAMAGED = (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError)


def save(path: Path, identity: Mapping[str, Any], curves: Sequence[Epoch], parts: Mapping[str, Tensors]) -> None:
    """Write a checkpoint, all at once: what the training is, as JSON can hold it, its epochs, and tensors by name."""
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    header = {"identity": json.dumps(identity), "curves": json.dumps([asdict(row) for row in curves])}
    _write(path, tensors, header)


def load(path: Path, identity: Mapping[str, Any]) -> tuple[list[Epoch], dict[str, Tensors]] | None:
    """Read what :func:`save` wrote, or None if there is no such file.

    Raises:
        OddsightError: If it is damaged, was edited, has no digest, or belongs to another training.
    """
    if not path.exists():
        return None
    try:
        tensors, header = _read(path)
        known = json.loads(header["identity"])
        curves = [Epoch(**row) for row in json.loads(header["curves"])]
        _check_identity(path, known, json.loads(json.dumps(identity)))
    except (*_DAMAGED, AttributeError) as error:
        raise OddsightError(f"{path}: a damaged checkpoint: delete it to start again") from error
    parts: dict[str, Tensors] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return curves, parts


def save_weights(path: Path, weights: Tensors) -> None:
    """Write tensors by name with their digest, all at once."""
    _write(path, weights, {})


def load_weights(path: Path) -> Tensors:
    """Read what :func:`save_weights` wrote.

    Raises:
        OddsightError: If it is not there, is damaged or was edited.
    """
    try:
        return _read(path)[0]
    except _DAMAGED as error:
        raise OddsightError(f"{path}: missing, damaged, or written by an older Oddsight: train it again") from error


def _write(path: Path, tensors: Tensors, header: Mapping[str, str]) -> None:
    # A copy in memory of its own: the format knows no tensors that share it.
    apart = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    write_bytes(path, safetensors.torch.save(apart, {**header, DIGEST: _digest(apart, header)}), follow_links=False)


def _read(path: Path) -> tuple[Tensors, dict[str, str]]:
    with safetensors.safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    if header.pop(DIGEST) != _digest(tensors, header):
        raise ValueError("its digest is another")
    return tensors, header


def _digest(tensors: Tensors, header: Mapping[str, str]) -> str:
    """SHA-256 over tensors and texts, hex."""
    arrays = {
        f"{name} {tensor.dtype} {tuple(tensor.shape)}": tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        for name, tensor in tensors.items()
    }
    texts = {f"{name} as text": np.frombuffer(text.encode(), np.uint8) for name, text in header.items()}
    return digest_arrays({**arrays, **texts})


def _check_identity(path: Path, known: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in sorted(known.keys() | wanted.keys()):
        if known.get(name) != wanted.get(name):
            if name == "images":
                what = "learns from other images"
            else:
                what = f"has {name.replace('_', ' ')} {known.get(name)}, not {wanted.get(name)}"
            raise OddsightError(
                f"{path.parent} holds a training that {what}: use the same settings, or name another folder"
            )
