"""One cell of a comparison: a method fitted with its settings on a dataset, measured, and kept in a file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight import backbones, detectors
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import ImageFile
from oddsight.data.decoding import memory_for_images
from oddsight.data.memory import RUNNING, MemoryPlan
from oddsight.detectors import Detector
from oddsight.errors import ModelError
from oddsight.evaluation.compare.store import key_of, pack, read_cell, unpack, write_cell
from oddsight.evaluation.compare.trials import Trial
from oddsight.evaluation.maps import map_metrics
from oddsight.fitting.normal import fit
from oddsight.fitting.sizing import input_size
from oddsight.graphs.building import cut
from oddsight.graphs.preprocessing import size_text
from oddsight.model.model import Model
from oddsight.model.outputs import read_map, read_score
from oddsight.runtime.parallel import interruptible
from oddsight.runtime.progress import Progress, track
from oddsight.runtime.sessions import run, session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CLOSE = 1e-4
"""How far a score from cached features may lie from that of the whole file, relative to scores and their spread."""

TIMED = 10  # Test images on which the whole file is run, for its time and to compare its scores; at most


@dataclass(frozen=True)
class Setting:
    """What is compared: a method with its defaults on features."""

    method: str  # Its name
    backbone: str  # The name of the feature network
    layers: tuple[str, ...]  # The stages it reads
    size: int | None  # Side in pixels to which images are brought; None if the images and the method choose it

    def extractor(self, images: Sequence[ImageFile]) -> Extractor:
        """What computes its features where it learns from these images."""
        detector, network = detectors.by_name(self.method), backbones.backbone(self.backbone)
        return Extractor(network, self.layers, input_size(images, network, detector, self.size), detector.reads)


@dataclass(frozen=True)
class Job:
    """A cell to be computed: a setting on a dataset with a seed, wanted at a false-alarm rate within some memory."""

    trial: Trial
    setting: Setting
    seed: int
    rate: float | None
    memory: MemoryPlan

    @cached_property
    def extractor(self) -> Extractor:
        """What computes its features."""
        return self.setting.extractor(self.trial.training)

    @cached_property
    def key(self) -> str:
        """Everything that a result depends on, as a digest."""
        method, backbone = detectors.by_name(self.setting.method)(), backbones.backbone(self.setting.backbone)
        return key_of(
            *(self.trial.fingerprint, self.trial.groups_fingerprint, method.name, method.settings(), backbone.sha256),
            *(self.setting.layers, self.extractor.size, self.seed, self.rate, self.memory.budget),
        )


@dataclass(frozen=True)
class Measurement:
    """What came of a cell.

    ``scores`` are raw, in the order of the trial's test images. ``fit_seconds`` is wall-clock time with the features at
    hand, beside other cells; ``answer_ms`` the median processor time of the whole file on one image and one core;
    ``size`` what images were brought to.
    """

    scores: tuple[float, ...]
    threshold: float
    false_alarm_rate: float
    learned: int
    calibration: str
    graph_sha256: str
    pixel_auroc: float | None
    aupro: float | None
    fit_seconds: float
    answer_ms: float
    model_bytes: int
    size: str


@dataclass(frozen=True)
class Cell:
    """A finished cell: what was measured, or the error in its place."""

    data: str
    setting: Setting
    seed: int
    measured: Measurement | None
    error: str | None


def stored(folder: Path, job: Job) -> Cell | None:
    """The cell, if it was finished before; a file that is damaged or was edited counts as missing."""
    arrays = read_cell(_file(folder, job), job.key)
    if arrays is None:
        return None
    facts = unpack(arrays["facts"])
    measured = None if facts["measured"] is None else Measurement(tuple(arrays["scores"].tolist()), **facts["measured"])
    return Cell(job.trial.name, job.setting, job.seed, measured, facts["error"])


def store(folder: Path, job: Job, measured: Measurement | None, error: str | None) -> Cell:
    """Keep what came of a cell."""
    facts = asdict(measured) if measured is not None else None
    scores = facts.pop("scores") if facts is not None else ()
    arrays = {"scores": np.array(scores, np.float64), "facts": pack({"measured": facts, "error": error})}
    write_cell(_file(folder, job), job.key, arrays)
    return Cell(job.trial.name, job.setting, job.seed, measured, error)


def _file(folder: Path, job: Job) -> Path:
    return folder / f"{job.key}.npz"


def memory_for(budget: int, plan: MemoryPlan, detector: Detector, shape: tuple[int, ...], images: int) -> MemoryPlan:
    """What one cell may take of a budget: a quarter of what the method could have alone, or what it needs at least.

    It depends on the budget and the data only, not on how many cells run side by side: methods may learn a little
    better with more memory, and the same comparison must give the same table.
    """
    if plan.method <= 0:
        return plan  # fit says what is missing
    granted = max(detector.memory_needed(shape, images), plan.method // 4)
    return replace(plan, budget=min(plan.running + plan.images + granted, budget))


def room_taken(plan: MemoryPlan) -> int:
    """Bytes that a cell takes beside the process itself."""
    return plan.budget - RUNNING


def measure(job: Job, cache: FeatureCache, progress: Progress) -> Measurement:
    """Fit as users do, score the test images, and see that the whole file gives the same scores.

    Raises:
        OddsightError: If it cannot be fitted, or if the file's scores are others.
    """
    trial, setting = job.trial, job.setting
    started = time.perf_counter()
    model = fit(
        *trial.paths,
        method=setting.method,
        backbone=setting.backbone,
        layers=setting.layers,
        size=setting.size,
        false_alarm_rate=job.rate,
        memory=job.memory.budget,
        seed=job.seed,
        reading=trial.reading,
        groups=trial.group_of,
        cache=cache,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    with tempfile.TemporaryFile() as maps:
        scores = scores_from_features(model, job.extractor, trial.test.images, cache, progress, maps)
        pixel = map_metrics(maps, model.metadata.map_size, trial.test)
    # A limit of its own: those of other cells at work are not for these images.
    with memory_for_images(room_taken(job.memory)):
        answer = whole_file(model, trial.test.images, scores)
    metadata = model.metadata
    assert metadata.decision.false_alarm_rate is not None
    return Measurement(
        scores=tuple(scores.tolist()),
        threshold=metadata.decision.threshold,
        false_alarm_rate=metadata.decision.false_alarm_rate,
        learned=metadata.training.images,
        calibration=f"{metadata.calibration.kind} {metadata.calibration.scores}",
        graph_sha256=metadata.graph_sha256,
        pixel_auroc=pixel.auroc if pixel else None,
        aupro=pixel.aupro if pixel else None,
        fit_seconds=seconds,
        answer_ms=answer,
        model_bytes=len(model.to_bytes()),
        size=size_text(job.extractor.size),
    )


def scores_from_features(
    model: Model,
    extractor: Extractor,
    images: Sequence[ImageFile],
    cache: FeatureCache | None,
    progress: Progress,
    maps: IO[bytes] | None = None,
) -> NDArray[np.float64]:
    """Scores of images by the model's own graph from the features on, ``[n]``.

    The anomaly maps of a model that localises go to the file ``maps``, if given, one after the other.

    Raises:
        ModelError: If the graph fails on an image.
        ImageError: If what it gives for one is out of range.
    """
    features = Features(extractor, images, cache)
    loaded, entry = reading_on(model, extractor.reading, extractor.array_shape)
    outputs = ["score", "anomaly_map"] if maps is not None and model.metadata.map_size else ["score"]
    scores = []
    grid = model.metadata.map_size
    for array, image in track(zip(features, images, strict=True), "scoring", len(features), progress):
        name = str(image.path)
        score, *more = run(loaded, {entry: array[None]}, name, outputs)
        scores.append(read_score(score, name))
        for values in more:
            assert maps is not None and grid is not None
            maps.write(read_map(values, grid, scores[-1], name).tobytes())
    return np.array(scores)


def reading_on(model: Model, reading: str, shape: tuple[int, ...]) -> tuple[InferenceSession, str]:
    """The model's own graph from a reading on, loaded, and the name of its input."""
    graph, entry = cut(onnx.load_model_from_string(model.to_bytes()), reading, shape)
    return session(graph.SerializeToString(), threads=1), entry


def whole_file(model: Model, images: Sequence[ImageFile], scores: NDArray[np.float64]) -> float:
    """Milliseconds of one core for an image, the median over some."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(TIMED, len(images))).astype(int))

    def timed(pixels: NDArray[np.uint8]) -> tuple[float, float]:
        """Score and milliseconds of this thread's processor time, which other threads at work do not add to."""
        started = time.thread_time()
        score = model.score(pixels, one_core=True).score
        return score, 1000 * (time.thread_time() - started)

    timed(images[chosen[0]].read())  # loads the graph
    answers = []
    for index in chosen:
        # In another thread than the main one, which would have the work done elsewhere and count nothing.
        score, milliseconds = interruptible(partial(timed, images[index].read()))
        answers.append(milliseconds)
        scale = max(abs(score), float(scores.std()))
        if abs(score - scores[index]) > CLOSE * scale:
            raise ModelError(
                f"the whole file scores {images[index].path} {score:.7g}, but its stored features give "
                f"{scores[index]:.7g}: please report this"
            )
    return float(np.median(answers))
