"""One cell of a study: a method trained on one side by one seed, what it scores, and the file in which that is kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight import backbones, detectors
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor
from oddsight.data.collection import ImageFile
from oddsight.data.grouping import NONE
from oddsight.errors import DataError, ModelError
from oddsight.evaluation.compare.cells import scores_from_features, whole_file
from oddsight.fitting.assembly import versions
from oddsight.fitting.normal import fit
from oddsight.fitting.plan import FitPlan
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.runtime.files import write_bytes
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent
from oddsight.studies.clouds.protocol import Split
from oddsight.studies.clouds.results import Measured
from oddsight.studies.store import keep, state_of, taken


@dataclass(frozen=True)
class Cell:
    """What is wanted."""

    method: str  # Its name
    split: Split  # The images
    memory: str  # The budget, such as `2GB`
    accelerator: str = "auto"  # Lightning's, for methods that are trained by it
    training: bool = False  # Whether the images that it learns from are scored, too
    kept: bool = False  # Whether the model file is kept

    @property
    def key(self) -> dict[str, Any]:
        """Everything that a result depends on, as JSON."""
        method = detectors.by_name(self.method)()
        return {
            "versions": {"oddsight": versions()["oddsight"], **versions()["versions"]},
            "split": self.split.fingerprint,
            "method": method.name,
            "settings": method.settings(),
            "backbone": backbones.backbone(backbones.DEFAULT).sha256,
            "seed": self.split.seed,
            "memory": self.memory,
        }

    @property
    def state(self) -> str:
        """The same as a digest."""
        return state_of(self.key)

    def path(self, folder: Path) -> Path:
        """Where it is kept."""
        return folder / f"{self.split.side.name[:40]}-{self.method}-{self.split.seed}-{self.state[:16]}.npz"


@dataclass(frozen=True)
class Found:
    """A cell that is there."""

    measured: Measured  # What it scored
    training: tuple[str, ...]  # Contents of the images that it trained on
    calibration: tuple[str, ...]  # Contents of those that it was calibrated on
    model: Path | None  # The model file, if it was to be kept


def extractor_of(name: str) -> Extractor | None:
    """What computes the features of a method with its defaults; None for one that reads the pixels themselves."""
    cls = detectors.by_name(name)
    if cls.reads == "pixels":
        return None
    network = backbones.backbone(backbones.DEFAULT)
    return Extractor(network, network.default_layers(cls.reads, cls.stride), network.size, cls.reads)


def compute(
    cell: Cell,
    folder: Path,
    cache: FeatureCache | None,
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> Found:
    """Learn, score every image that is wanted once, and keep it.

    ``on_epoch`` is called with each new row of the learning curves of a method that trains a network.

    Raises:
        OddsightError: If it cannot be trained, or the file does not score as its parts do.
    """
    split, plans = cell.split, list[FitPlan]()
    started = time.perf_counter()
    model = fit(
        *(image.path for image in split.trained),
        method=cell.method,
        calibration_fraction=split.calibration_fraction,
        memory=cell.memory,
        seed=split.seed,
        groups=NONE,
        verdicts=split.side.verdicts,
        cache=cache,
        progress=_named(progress, cell),
        on_plan=plans.append,
        **_training(cell, folder, on_epoch),
    )
    seconds = time.perf_counter() - started
    trained = [image for image in plans[0].training if cell.training]
    images = [*split.test, *trained]
    scores = _scores(model, cell.method, images, cache, _named(progress, cell))
    if not np.isfinite(scores).all():
        raise DataError(f"{cell.method} gave scores that are not finite")
    tested = len(split.test)
    milliseconds = whole_file(model, split.test, scores[:tested])
    record = {
        "settings": dict(model.metadata.method.settings),
        "seconds": seconds,
        "milliseconds": milliseconds,
        "bytes": len(model.to_bytes()),
        "curves": _curves(model),
        "graph": model.metadata.graph_sha256,
        "model": hashlib.sha256(model.to_bytes()).hexdigest(),
        "training": [image.content for image in plans[0].training],
        "calibration_contents": [image.content for image in plans[0].calibration],
    }
    parts = {"scores": scores[:tested], **({"training_scores": scores[tested:]} if cell.training else {})}
    path = cell.path(folder)
    if cell.kept:
        write_bytes(path.with_suffix(".onnx"), model.to_bytes(), follow_links=False)
    arrays = {
        "calibration": model.calibration_scores,
        **{name: part.astype(np.float32) for name, part in parts.items()},
    }
    keep(path, cell.state, arrays | {"record": np.array(json.dumps(record))})
    # What a training leaves is there for one that is interrupted.
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    found = stored(cell, folder)
    if found is None:
        raise DataError(f"{path} cannot be read back: is the disk full?")
    return found


def stored(cell: Cell, folder: Path) -> Found | None:
    """The cell, if it was computed before with all that is wanted now; what is damaged or edited counts as missing."""
    path = cell.path(folder)
    arrays = taken(path, cell.state)
    if arrays is None:
        return None
    try:
        return _found(cell, arrays, json.loads(str(arrays["record"])), path.with_suffix(".onnx") if cell.kept else None)
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


def _found(cell: Cell, arrays: dict[str, NDArray[Any]], record: dict[str, Any], model: Path | None) -> Found | None:
    split, scores = cell.split, arrays["scores"]
    missing = (cell.training and "training_scores" not in arrays) or len(scores) != len(split.test)
    if missing or (model is not None and hashlib.sha256(Model.load(model).to_bytes()).hexdigest() != record["model"]):
        return None
    ends = np.cumsum([len(split.normal), *(len(images) for images in split.anomalous.values())])
    parts = np.split(scores.astype(np.float32), ends[:-1])
    measured = Measured(
        method=cell.method,
        side=split.side.name,
        seed=split.seed,
        settings=record["settings"],
        calibration=arrays["calibration"].astype(np.float32),
        training=arrays["training_scores"].astype(np.float32) if cell.training else None,
        normal=parts[0],
        anomalous=dict(zip(split.anomalous, parts[1:], strict=True)),
        seconds=float(record["seconds"]),
        milliseconds=float(record["milliseconds"]),
        bytes=int(record["bytes"]),
        curves=tuple(Epoch(**row) for row in record["curves"]),
    )
    return Found(measured, tuple(record["training"]), tuple(record["calibration_contents"]), model)


def _training(cell: Cell, folder: Path, on_epoch: Callable[[Epoch], None]) -> dict[str, Any]:
    """What :func:`oddsight.fit` takes for methods that train a network, and for no others."""
    if not detectors.by_name(cell.method).needs:
        return {}
    work = cell.path(folder).with_suffix("")
    return {"work": work, "accelerator": cell.accelerator, "on_epoch": on_epoch}


def _scores(
    model: Model, name: str, images: Sequence[ImageFile], cache: FeatureCache | None, progress: Progress
) -> NDArray[np.float64]:
    """Of images, from features at hand; methods that read pixels have none, and the whole file runs."""
    extractor = extractor_of(name)
    if extractor is not None:
        return scores_from_features(model, extractor, images, cache, progress)
    scores = []
    for done, score in enumerate(whole_scores(model, images), 1):
        scores.append(score)
        progress("scoring", done, len(images))
    return np.array(scores)


def whole_scores(model: Model, images: Iterable[ImageFile]) -> Iterable[float]:
    """Scores of images by the whole file, in order."""
    return ordered_map(lambda image: model.score(image.read(), one_core=True).score, images)


def _curves(model: Model) -> list[dict[str, Any]]:
    """Learning curves that the model keeps, a row an epoch."""
    return [asdict(row) for row in model.curves]


def _named(progress: Progress, cell: Cell) -> Progress:
    """Progress that says what it is about."""
    about = f"{cell.split.side.name}, {cell.method}, seed {cell.split.seed}"
    return lambda phase, done, total: progress(f"{about}: {phase}", done, total)
