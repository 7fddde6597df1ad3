"""One cell of a study: a method trained on one side by one seed, what it scores, and the file in which that is kept."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
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
from oddsight.errors import DataError
from oddsight.evaluation.compare.cells import scores_from_features, whole_file
from oddsight.evaluation.compare.store import key_of, pack, read_cell, unpack, write_cell
from oddsight.fitting.normal import fit
from oddsight.fitting.plan import FitPlan
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.runtime.files import write_bytes
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, track
from oddsight.runtime.records import read_regular
from oddsight.studies.clouds.results import Measurement
from oddsight.studies.clouds.scenes import Split
from oddsight.studies.clouds.variants import add_prefix


@dataclass(frozen=True)
class Job:
    """A cell to be computed."""

    method: str  # Its name
    split: Split  # The images
    memory: str  # The budget, such as `2GB`
    accelerator: str  # Lightning's, for methods that are trained by it
    training: bool  # Whether the images that it learns from are scored, too
    kept: bool  # Whether the model file is kept

    @property
    def place(self) -> tuple[str, int, str]:
        """Side, seed and method, which name it within a study."""
        return self.split.side.name, self.split.seed, self.method

    @property
    def key(self) -> str:
        """Everything that a result depends on, as a digest."""
        method = detectors.by_name(self.method)()
        backbone = backbones.backbone(backbones.DEFAULT).sha256
        return key_of(self.split.fingerprint, method.name, method.settings(), backbone, self.split.seed, self.memory)

    def path(self, folder: Path) -> Path:
        """Where it is kept."""
        return folder / f"{self.split.side.name[:40]}-{self.method}-{self.split.seed}-{self.key[:16]}.npz"


def extractor_of(name: str) -> Extractor | None:
    """What computes the features of a method with its defaults; None for one that reads the pixels themselves."""
    cls = detectors.by_name(name)
    if cls.reads == "pixels":
        return None
    network = backbones.backbone(backbones.DEFAULT)
    return Extractor(network, network.default_layers(cls.reads, cls.stride), network.size, cls.reads)


def measure(
    job: Job, folder: Path, cache: FeatureCache | None, progress: Progress, on_epoch: Callable[[Epoch], None]
) -> Measurement:
    """Learn, score every image that is wanted once, and keep it.

    ``on_epoch`` is called with each new row of the learning curves of a method that trains a network.
    """
    split, plans, path = job.split, list[FitPlan](), job.path(folder)
    work = path.with_suffix("")  # of a training, which goes on there after an interruption
    training: dict[str, Any] = {"work": work, "accelerator": job.accelerator, "on_epoch": on_epoch}
    watch = add_prefix(progress, f"{split.side.name}, {job.method}, seed {split.seed}: ")
    started = time.perf_counter()
    model = fit(
        *(image.path for image in split.trained),
        method=job.method,
        calibration_fraction=split.calibration_fraction,
        memory=job.memory,
        seed=split.seed,
        groups=NONE,
        verdicts=split.side.verdicts,
        cache=cache,
        progress=watch,
        on_plan=plans.append,
        **(training if detectors.by_name(job.method).needs else {}),
    )
    seconds, tested = time.perf_counter() - started, len(split.test)
    learned = plans[0].training
    scores = _scores(model, job.method, [*split.test, *(learned if job.training else ())], cache, watch)
    if not np.isfinite(scores).all():
        raise DataError(f"{job.method} gave scores that are not finite")
    facts = {
        "seconds": seconds,
        "milliseconds": whole_file(model, split.test, scores[:tested]),
        "bytes": len(model.to_bytes()),
        "curves": [asdict(row) for row in model.curves],
        "graph": model.metadata.graph_sha256,
        "model": _digest(model.to_bytes()),
        "training": [image.content for image in learned],
        "calibration_contents": [image.content for image in plans[0].calibration],
    }
    arrays = {"scores": scores[:tested], **({"training_scores": scores[tested:]} if job.training else {})}
    arrays = {"calibration": model.calibration_scores} | {name: own.astype(np.float32) for name, own in arrays.items()}
    if job.kept:
        write_bytes(path.with_suffix(".onnx"), model.to_bytes(), follow_links=False)
    write_cell(path, job.key, {**arrays, "record": pack(facts)})
    shutil.rmtree(work, ignore_errors=True)
    found = stored(job, folder)
    if found is None:
        raise DataError(f"{path} cannot be read back: is the disk full?")
    return found


def stored(job: Job, folder: Path) -> Measurement | None:
    """The cell, if it was computed before with all that is wanted now."""
    split, path = job.split, job.path(folder)
    arrays, file = read_cell(path, job.key), path.with_suffix(".onnx")
    if arrays is None or (job.training and "training_scores" not in arrays):
        return None
    facts = unpack(arrays["record"])
    try:
        if job.kept and _digest(read_regular(file)) != facts["model"]:
            return None
    except OSError:
        return None
    normal, anomalous = split.parts(arrays["scores"])
    return Measurement(
        method=job.method,
        side=split.side.name,
        seed=split.seed,
        calibration=arrays["calibration"].astype(np.float32),
        training=arrays["training_scores"] if job.training else None,
        normal=normal,
        anomalous=anomalous,
        seconds=facts["seconds"],
        milliseconds=facts["milliseconds"],
        bytes=facts["bytes"],
        curves=tuple(Epoch(**row) for row in facts["curves"]),
        trained_on=tuple(facts["training"]),
        calibrated_on=tuple(facts["calibration_contents"]),
        model=file if job.kept else None,
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _scores(
    model: Model, name: str, images: Sequence[ImageFile], cache: FeatureCache | None, progress: Progress
) -> NDArray[np.float64]:
    """Of images, from features at hand; methods that read pixels have none, and the whole file runs."""
    extractor = extractor_of(name)
    if extractor is not None:
        return scores_from_features(model, extractor, images, cache, progress)
    scores = ordered_map(lambda image: model.score(image.read(), one_core=True).score, images)
    return np.array(list(track(scores, "scoring", len(images), progress)))
