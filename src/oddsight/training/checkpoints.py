"""Where a training stands, as one safetensors file: tensors, and JSON in its header. Nothing in it can be run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch
from oddsight.runtime.files import write_bytes
from oddsight.runtime.records import DIGEST, digest_arrays

FILE = "checkpoint.safetensors"

Tensors = dict[str, torch.Tensor]


def save(path: Path, identity: Mapping[str, Any], curves: Sequence[Epoch], parts: Mapping[str, Tensors]) -> None:
    """Write a checkpoint, all at once.

    Args:
        path: The file.
        identity: What the training is: settings and images, as JSON can hold them.
        curves: The epochs so far.
        parts: Tensors by name, by the name of what they belong to.
    """
    from safetensors.torch import save as serialised

    tensors = {f"{part}/{name}": _apart(tensor) for part, named in parts.items() for name, tensor in named.items()}
    header = {"identity": json.dumps(identity), "curves": json.dumps([asdict(row) for row in curves])}
    write_bytes(path, serialised(tensors, {**header, DIGEST: _digest(tensors, header)}), follow_links=False)


def load(path: Path, identity: Mapping[str, Any]) -> tuple[list[Epoch], dict[str, Tensors]] | None:
    """Read what :func:`save` wrote, or None if there is no such file.

    Raises:
        OddsightError: If it is damaged, was edited, has no digest, or belongs to another training.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    parts: dict[str, Tensors] = {}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            known = json.loads(header["identity"])
            curves = [Epoch(**row) for row in json.loads(header["curves"])]
            _check_identity(path, known, json.loads(json.dumps(identity)))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        if header.pop(DIGEST) != _digest(tensors, header):
            raise ValueError("its digest is another")
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OddsightError(f"{path}: a damaged checkpoint: delete it to start again") from error
    return curves, parts


def save_weights(path: Path, weights: Tensors) -> None:
    """Write tensors by name with their digest, all at once."""
    from safetensors.torch import save as serialised

    write_bytes(path, serialised(weights, {DIGEST: _digest(weights, {})}))


def load_weights(path: Path) -> Tensors:
    """Read what :func:`save_weights` wrote.

    Raises:
        OddsightError: If it is not there, is damaged or was edited.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            known, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if known[DIGEST] != _digest(tensors, {}):
            raise ValueError("its digest is another")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise OddsightError(f"{path}: missing, damaged, or written by an older Oddsight: train it again") from error
    return tensors


def _digest(tensors: Tensors, header: Mapping[str, str]) -> str:
    """SHA-256 over tensors and texts, hex."""
    arrays = {
        f"{name} {tensor.dtype} {tuple(tensor.shape)}": tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        for name, tensor in tensors.items()
    }
    texts = {f"{name} as text": np.frombuffer(text.encode(), np.uint8) for name, text in header.items()}
    return digest_arrays({**arrays, **texts})


def _apart(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in memory of its own: the format knows no tensors that share it."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


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
