"""Train a classifier, and keep what became of it in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oddsight.backbones.catalogue import offer
from oddsight.backbones.exporting import TorchBackbone, export, torch_backbone
from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch
from oddsight.runtime.files import check_writable, make_folder, write_bytes
from oddsight.runtime.records import write_arrays
from oddsight.training.checkpoints import load_weights, save_weights
from oddsight.training.classifier_settings import ClassifierSettings
from oddsight.training.classifying import ClassifierLearner, Network
from oddsight.training.compact import WIDTHS, build_network
from oddsight.training.image_arrays import Arrays
from oddsight.training.loop import train
from oddsight.training.workplace import Workplace

_LOOKED_AT = 2000  # Images from which a network from scratch takes the statistics of its first layer


@dataclass(frozen=True)
class TrainedClassifier:
    """What became of a training."""

    backbone: Path  # The file of its feature network, which `oddsight.backbones.backbone` takes
    weights: NDArray[np.float32]  # Of the linear head, float32 `[C, K]`
    bias: NDArray[np.float32]  # Of the linear head, float32 `[K]`
    layer: str  # The stage of the backbone whose mean the head reads
    settings: ClassifierSettings  # How it was trained
    curves: tuple[Epoch, ...]  # What happened, one row an epoch


def train_classifier(
    training: Arrays,
    validation: Arrays,
    classes: Sequence[str],
    settings: ClassifierSettings,
    workplace: Workplace,
    *,
    start: Path | None = None,
) -> TrainedClassifier:
    """Train a classifier, or take what an equal call has left in the folder; one that was interrupted goes on.

    On a processor, the same images and settings give the same weights on the same machine. Validation images are
    watched, and nothing is chosen by them. ``start`` is the folder of a finished training of the same network, whose
    weights are where this one begins.

    Raises:
        MemoryError: Too large a batch for the device.
        OddsightError: A setting that cannot work, or a loss that diverged.
    """
    folder = _prepare(workplace.folder)
    settings = _resolve_precision(settings)
    identity = {
        "images": training.fingerprint,
        "validation": validation.fingerprint,
        "classes": list(classes),
        "start": _weights_digest(start) if start is not None else None,
        **settings.as_json(),
    }
    learner = _learner(training, validation, len(classes), settings, start)
    curves = train(learner, identity, workplace, keep_last=True, clip=None if settings.from_scratch else 1.0)
    return _write(learner.kept(), settings, curves, identity, folder)


def _prepare(folder: Path | None) -> Path:
    if folder is None:
        raise OddsightError("a classifier is trained in a folder: name one")
    make_folder(folder)
    check_writable(folder / "network.onnx")
    return folder


def average_classifiers(
    classes: Sequence[str], settings: ClassifierSettings, members: Sequence[Path], folder: Path
) -> TrainedClassifier:
    """A classifier whose weights are the mean of those of fine-tuned ones: a model soup.

    It is one network, and often better than each if all were trained in several ways from the same one (Wortsman et
    al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference
    time, ICML 2022). Nothing is learned. ``members`` are folders of finished trainings of the same network.

    Raises:
        OddsightError: If there are fewer than two, one holds no finished training of that network, or they started
            from scratch, where each finds weights of its own.
    """
    if len(members) < 2:
        raise OddsightError(f"an average needs at least two trained classifiers, not {len(members)}")
    if settings.from_scratch:
        raise OddsightError(f"weights of {settings.network} start at random, so their average means nothing")
    _prepare(folder)
    with torch.random.fork_rng(devices=[]):
        network = Network(_pretrained(settings), len(classes))
    total: dict[str, torch.Tensor] = {}
    for member in members:
        _load(network, member)
        for name, value in network.state_dict().items():
            total[name] = total[name] + value if name in total else value.double()
    network.load_state_dict({name: value / len(members) for name, value in total.items()})
    identity = {
        "classes": list(classes),
        "network": settings.network,
        "size": settings.size,
        "mirrored": settings.mirrored,
        "members": {member.name: _weights_digest(member) for member in members},
    }
    return _write(network, settings, (), identity, folder)


def _resolve_precision(settings: ClassifierSettings) -> ClassifierSettings:
    """With a precision that says what it is.

    Half precision speeds convolutions up where matrix units are built for it. Depthwise ones lose by it on processors,
    but for those of EfficientNet-Lite, whose gradients are our own.
    """
    if settings.precision != "auto":
        return settings
    units = torch.cuda.is_available() or torch.cpu._is_amx_tile_supported()
    gains = settings.network in WIDTHS or (not settings.from_scratch and offer(settings.network).lite is not None)
    return replace(settings, precision="bf16-mixed" if units and gains else "32-true")


def _learner(
    training: Arrays, validation: Arrays, classes: int, settings: ClassifierSettings, start: Path | None
) -> ClassifierLearner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        backbone = _scratch(training, settings) if settings.from_scratch else _pretrained(settings)
        network = Network(backbone, classes)
        if start is not None:
            _load(network, start)
        return ClassifierLearner(network, training, validation, settings)


def _scratch(training: Arrays, settings: ClassifierSettings) -> TorchBackbone:
    lots = np.random.default_rng(settings.seed)
    chosen = np.sort(lots.permutation(len(training))[:_LOOKED_AT])
    images = torch.from_numpy(training.images[chosen]).permute(0, 3, 1, 2).float()
    backbone = build_network(settings.network, settings.size, images)
    backbone.mirrored = settings.mirrored
    return backbone


def _pretrained(settings: ClassifierSettings) -> TorchBackbone:
    backbone = torch_backbone(settings.network)
    for size in {settings.size, settings.first_size or settings.size}:
        if backbone.fixed or size % backbone.multiple:
            raise OddsightError(
                f"the size for {settings.network} must be a multiple of {backbone.multiple}, not {size}"
            )
    backbone.size, backbone.mirrored = settings.size, settings.mirrored
    return backbone


def load_network(training: Arrays, classes: int, settings: ClassifierSettings, folder: Path) -> Network:
    """The network for PyTorch that :func:`train_classifier` left in a folder, given what it learned from and how.

    Raises:
        OddsightError: If there is no finished training of that network.
    """
    network: Network = _learner(training, training, classes, settings, folder).network
    return network


def _load(network: Network, start: Path) -> None:
    _weights_digest(start)  # which says it if there is nothing
    weights = load_weights(start / "weights.safetensors")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise OddsightError(f"{start} holds no finished training of {network.backbone.name} to start from") from error


def _weights_digest(folder: Path) -> str:
    try:
        return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise OddsightError(f"{folder} holds no finished training to start from") from error


def _write(
    network: Network, settings: ClassifierSettings, curves: Sequence[Epoch], identity: dict[str, Any], folder: Path
) -> TrainedClassifier:
    """The feature network as a backbone's file, the head, the weights to start others from, and the record."""
    save_weights(folder / "weights.safetensors", network.state_dict())
    export(network.backbone.to(memory_format=torch.contiguous_format), folder / "network.onnx")
    weights, bias = network.head.weight.detach().cpu().numpy().T.copy(), network.head.bias.detach().cpu().numpy()
    write_arrays(folder / "head.npz", {"weights": weights, "bias": bias})
    record = {"settings": identity, "curves": [asdict(row) for row in curves]}
    write_bytes(folder / "training.json", json.dumps(record, indent=1, allow_nan=False).encode(), follow_links=False)
    return TrainedClassifier(folder / "network.onnx", weights, bias, network.stage, settings, tuple(curves))
