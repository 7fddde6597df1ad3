"""adapt(): fine-tune a backbone on a user's own images."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oddsight import backbones
from oddsight.data.collection import pack
from oddsight.errors import ImageError, ModelError, OddsightError, plain
from oddsight.model.curves import Epoch, best
from oddsight.model.file import parse_proto
from oddsight.runtime.bounds import check_whole
from oddsight.runtime.files import check_writable, write_bytes
from oddsight.runtime.progress import Progress, silent
from oddsight.runtime.records import DIGEST, digest_json, read_regular
from oddsight.training.libraries import require_training
from oddsight.training.settings import DEFAULT_AUGMENT, AdaptationSettings
from oddsight.training.training_images import TrainingImages, gather, has_class_folders
from oddsight.training.workplace import Workplace

if TYPE_CHECKING:
    from oddsight.backbones.exporting import TorchBackbone

KEY = "oddsight.adaptation"  # Where an adapted backbone's file says what it was adapted to

CHANCE = 0.35  # The accuracy on rotations below which nothing was learned: guessing among four gives 0.25


@dataclass(frozen=True)
class Adaptation:
    """The result of an adaptation.

    Attributes:
        path: The file of the adapted backbone.
        settings: How it was adapted.
        curves: The learning curves, one row per epoch.
        best: The row whose weights were kept.
        training: Number of training images.
        validation: Number of validation images.
        classes: Names of the classes; empty if the images have none.
        errors: Files that could not be read.
    """

    path: Path
    settings: AdaptationSettings
    curves: tuple[Epoch, ...]
    best: Epoch
    training: int
    validation: int
    classes: tuple[str, ...]
    errors: tuple[ImageError, ...]

    @property
    def at_chance(self) -> bool:
        """Whether the objective was rotation and stayed at chance, so that the file is hardly worth using."""
        return self.settings.objective == "rotation" and (self.best.accuracy or 0.0) < CHANCE


def adapt(  # noqa: PLR0913 - each is an option of its own
    *paths: str | os.PathLike[str],
    output: str | os.PathLike[str],
    backbone: str = backbones.DEFAULT,
    weights: str | os.PathLike[str] | None = None,
    labelled: bool | None = None,
    objective: str | None = None,
    epochs: int = 20,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    size: int | None = None,
    freeze: str | None = None,
    augment: Sequence[str] = DEFAULT_AUGMENT,
    patience: int = 5,
    validation: float = 0.1,
    precision: str = "32-true",
    accelerator: str = "auto",
    devices: int | str = 1,
    workers: int = 0,
    work: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    on_plan: Callable[[AdaptationSettings, TrainingImages], None] = lambda settings, images: None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> Adaptation:
    """Fine-tune a backbone on images and write it as an ONNX file, which every method accepts as its ``backbone``.

    On a CPU, the same images, settings and seed give the same bytes on the same machine. Needs the ``train`` extra.

    Args:
        *paths: Normal images as files, folders (searched recursively) and globs; or folders of class folders.
        output: The file to write.
        backbone: The backbone to start from, by a name that :func:`oddsight.backbones.exporting.torch_backbone` knows.
        weights: A file with its weights, ``.safetensors`` or ``.pth``.
        labelled: Whether folders are classes. By default they are if there are several.
        objective: ``classes`` (cross-entropy; needs labels), ``rotation`` (which way up? Gidaris et al., ICLR 2018) or
            ``simsiam`` (two versions of an image agree; Chen and He, CVPR 2021). By default ``classes`` for labelled
            images and ``simsiam`` for others.
        epochs: The largest number of epochs.
        learning_rate: The peak learning rate of the backbone; that of the head is ten times as large.
        batch_size: The largest number of images per step and device.
        size: Side in pixels to which images are resized; by default the backbone's.
        freeze: A stage: it and the stages before it are not trained.
        augment: Any of ``rotation`` (quarter turns), ``flip`` (left and right), ``crop``, ``colour`` and ``cutout``.
        patience: Training ends after this number of epochs without a lower validation loss.
        validation: Share of the images for validation; at least one (of each class).
        precision: ``32-true``, ``16-mixed`` or ``bf16-mixed``.
        accelerator: One of Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        devices: Their number, or which (``0,1``), or ``auto``. Several devices train together, one process each; all
            but the first of these processes end inside this call.
        workers: Number of processes that read and augment images; 0 reads in this one. A script that uses more must be
            guarded by ``if __name__ == "__main__"``.
        work: A folder for checkpoints. After an interruption, the same call continues after the last finished epoch.
        seed: Seed of every random choice.
        progress: Called with phase, done and total.
        on_plan: Called once before the work starts, with the settings and the images.
        on_epoch: Called with each new row of the learning curves.

    Raises:
        DataError: There are too few images or classes, or an image changed meanwhile.
        MemoryError: The batch is too large for the device.
        OddsightError: A setting is invalid, the ``train`` extra is missing, the loss diverged, or the outputs
            collapsed.
    """
    require_training("adapting a backbone")
    target = Path(output)
    check_writable(target)
    labelled = has_class_folders(paths) if labelled is None else labelled
    check_whole(workers, "the number of workers", 0)
    if objective == "classes" and not labelled:
        raise OddsightError("learning classes takes labelled images, DATA/CLASS/...: choose rotation or simsiam")
    network = _network(backbone, weights, size, freeze)
    settings = AdaptationSettings(
        backbone=backbone,
        objective=objective or ("classes" if labelled else "simsiam"),
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        size=network.size,
        freeze=freeze,
        augment=tuple(augment),
        patience=patience,
        validation=validation,
        precision=precision,
        seed=seed,
    )
    first_process = os.environ.get("LOCAL_RANK", "0") == "0"
    progress = progress if first_process else silent
    images = gather(paths, labelled=labelled, validation=validation, seed=seed, progress=progress)
    if first_process:
        on_plan(settings, images)
    identity = {
        "images": images.fingerprint,
        "classes": list(images.classes),
        "devices": str(devices),
        "weights": hashlib.sha256(Path(weights).read_bytes()).hexdigest() if weights is not None else None,
        **settings.as_json(),
    }
    from oddsight.training.adapters import ADAPTERS
    from oddsight.training.loop import train

    learner = ADAPTERS[settings.objective](network, images, settings, workers)
    workplace = Workplace(Path(work) if work is not None else None, accelerator, progress, on_epoch, "adapting")
    curves = train(learner, identity, workplace, patience=settings.patience, devices=devices)
    if not first_process:
        sys.exit(0)
    _write(network, settings, images, curves, target)
    return Adaptation(
        path=target,
        settings=settings,
        curves=curves,
        best=best(curves),
        training=len(images.training),
        validation=len(images.validation),
        classes=images.classes,
        errors=images.errors,
    )


def _network(
    name: str, weights: str | os.PathLike[str] | None, size: int | None, last_frozen: str | None
) -> TorchBackbone:
    """The network that is to learn, its input of the size asked for, and its first stages frozen."""
    from oddsight.backbones.exporting import torch_backbone
    from oddsight.training.adapters import freeze

    if name.endswith(".onnx"):
        raise OddsightError(f"{plain(name)}: an exported network cannot be trained: name the backbone it comes from")
    file = Path(weights) if weights is not None else None
    network = torch_backbone(name, weights=file)
    if size is not None and size != network.size:
        if network.fixed:
            network = torch_backbone(name, weights=file, size=size)
        elif size < network.multiple or size % network.multiple:
            raise OddsightError(f"the size for {network.name} must be a multiple of {network.multiple}, not {size}")
        network.size = size
    freeze(network, last_frozen)
    return network


def _write(
    network: TorchBackbone, settings: AdaptationSettings, images: TrainingImages, curves: Sequence[Epoch], path: Path
) -> None:
    """Export the network and add what it was adapted to."""
    import onnx
    import torch

    from oddsight.backbones.exporting import export

    kept = best(curves)
    count = len(images.training) + len(images.validation)
    record = {
        "backbone": network.name,
        "source": network.source,
        "settings": settings.as_json(),
        "classes": list(images.classes),
        "training": len(images.training),
        "validation": len(images.validation),
        "fingerprint": images.fingerprint,
        "images_seen": pack((*images.training.images, *images.validation.images)),
        "epochs": len(curves),
        "best_epoch": kept.epoch,
        "validation_loss": kept.validation_loss,
        "accuracy": kept.accuracy,
    }
    network.source = f"{network.source}; adapted to {count:,} images of the user's ({settings.objective})"
    network.summary = f"{network.summary}; adapted by {settings.objective}"
    network.name = f"{network.name}, adapted"
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "backbone.onnx"
        export(network.to(memory_format=torch.contiguous_format), exported)
        proto = onnx.load_model_from_string(exported.read_bytes())
    sealed = {**record, DIGEST: digest_json(record)}
    proto.metadata_props.add(key=KEY, value=json.dumps(sealed, allow_nan=False))
    write_bytes(path, proto.SerializeToString(deterministic=True))


def read_adaptation(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the adaptation record of a backbone's file; None if the backbone was not adapted.

    Raises:
        ModelError: The record is damaged.
    """
    try:
        proto = parse_proto(read_regular(Path(path)))
    except (OSError, ValueError, ModelError) as error:
        raise ModelError(f"{path}: not an ONNX file") from error
    entries = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    try:
        return _checked_record(entries[0]) if entries else None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its record of an adaptation is damaged: adapt the backbone again") from error


def _checked_record(text: str) -> dict[str, Any]:
    record = json.loads(text)
    if not isinstance(record, dict) or not isinstance(record.get("images_seen"), str):
        raise ValueError("it is not a record")
    # Files of older versions have no digest.
    if record.pop(DIGEST, None) not in (None, digest_json(record)):
        raise ValueError("its digest is another")
    base64.b64decode(record["images_seen"], validate=True)
    return record
