"""fit(): from a folder of normal images to a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight import backbones, detectors
from oddsight.backbones.cache import FeatureCache, default_cache
from oddsight.backbones.extraction import Extraction, Extractor, Features
from oddsight.data.anomaly_folders import require_normal_folders
from oddsight.data.collection import Collection, ImageFile, folds
from oddsight.data.copies import changed_copies
from oddsight.data.decoding import memory_for_images
from oddsight.data.grouping import AUTO, Groups, group_images
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.detectors import Detector
from oddsight.errors import DataError, OddsightError
from oddsight.fitting.assembly import CHECKED, Components
from oddsight.fitting.pipeline import run
from oddsight.fitting.plan import FitPlan, Request, make_plan
from oddsight.fitting.sizing import BALANCED, Speed, at_speed, input_size
from oddsight.graphs.neighbours import most_compared, nearest, summary
from oddsight.graphs.preprocessing import Size
from oddsight.model.curves import Epoch
from oddsight.model.metadata import checked_verdicts
from oddsight.model.model import Model
from oddsight.model.outputs import read_score
from oddsight.model.regions import pixel_levels, typical_levels
from oddsight.runtime.bounds import Real, check_whole
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent, track
from oddsight.runtime.sessions import Graph
from oddsight.runtime.sessions import run as run_graph
from oddsight.sources.collecting import collect_sources, described
from oddsight.sources.source import ImagesLike
from oddsight.training.workplace import Workplace


def fit(  # noqa: PLR0913 - one keyword for each option of the command
    *images: ImagesLike,
    method: str | Detector = detectors.DEFAULTS["normal"],
    backbone: str | None = None,
    layers: Sequence[str] | None = None,
    size: int | tuple[int, int] | None = None,
    speed: str = BALANCED,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    calibration_fraction: float | None = None,
    groups: Groups = AUTO,
    memory: str | int | None = None,
    seed: int = 0,
    reading: Reading = AS_DECLARED,
    verdicts: tuple[str, str] | None = None,
    work: str | os.PathLike[str] | None = None,
    accelerator: str = "auto",
    cache: FeatureCache | None = None,
    progress: Progress = silent,
    on_plan: Callable[[FitPlan], None] = lambda plan: None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> Model:
    """Train a detector on normal images and return a calibrated model.

    Example:
        >>> model = oddsight.fit("parts/good", method="knn", size=64, false_alarm_rate=0.05)
        >>> model.save("parts.onnx")

    Args:
        *images: Normal images, at least one: files, folders (searched recursively) and globs; arrays (uint8
            ``[H, W, 3]``, grey, with alpha, or several as ``[N, H, W, C]``) and Pillow images; or lists and other
            iterables of these. The same pixels give the same model, wherever they come from.
        method: The name of a method in :data:`oddsight.detectors.METHODS`, or a detector with other settings.
        backbone: A name that ``oddsight backbones`` lists, ``timm:NAME``, or the path of an ONNX file; see
            :func:`oddsight.backbones.backbone`. By default EfficientNet-Lite0, or none for methods that read pixels.
        layers: Stages of the backbone to read; by default those that suit the method.
        size: To what images are resized, in pixels: the side of a square. Images of one shape that is not square
            keep it, with as many pixels as that square. Height and width are taken as they are if they suit the shape
            of the images. By default the backbone's size; for detectors that look at details (``auto``, ``patchcore``)
            that of large images, at most that of the speed.
        speed: For detectors that look at details: ``fast`` (224 pixels, a bank of 1,000 patches), ``balanced`` (up to
            640 pixels, 4,000 patches) or ``best`` (up to 896 pixels, 10,000 patches). A size or a ``bank_size`` of your
            own replaces that part of it.
        false_alarm_rate: Share of normal images that may be flagged. By default 1%, or the smallest rate that the
            number of images can promise; a single image promises none.
        confidence: The probability with which the true rate is at most that, such as 0.95. The true rate depends on the
            calibration images that were drawn; by default it is at most that on average over such draws; see
            :func:`oddsight.model.calibration.decide`.
        calibration_fraction: Share of the images held out of training for calibration. By default a quarter if that is
            enough for the rate, otherwise 0: every image is then scored by a model that was not trained on it (five
            folds), and the final model is trained on all images.
        groups: Which images belong together, such as photos of one part: they are never on both sides of a split, and
            calibration uses one image of each group, so that the rate holds for an image of a new group. By default
            near copies form groups; see :data:`oddsight.data.grouping.Groups`.
        memory: Memory budget of the whole process, such as ``1GB``, which is the default; 3 GB for methods that train a
            network.
        seed: Seed of every random choice. The same images, settings and seed give the same bytes.
        reading: Which bands and values of TIFF files to take. The model stores it and reads other images in the same
            way.
        verdicts: Words for normal and anomalous images, such as ``("clear", "cloudy")``; see
            :meth:`oddsight.Model.with_verdicts`.
        work: For methods that train a network: a folder for checkpoints, to continue after an interruption.
        accelerator: For methods that train a network: Lightning's ``auto``, ``cpu``, ``gpu``, ...
        cache: The feature cache; by default the user's, see :func:`oddsight.backbones.cache.default_cache`.
        progress: Called with phase, done and total.
        on_plan: Called once with the plan before the work starts.
        on_epoch: Called with each new row of the learning curves of a method that trains a network.

    Raises:
        DataError: There are no images, or too few images or groups for the rate; an image has no group; or the verdicts
            are not two words.
        MemoryBudgetError: The memory budget is too small.
        OddsightError: A setting is invalid.
    """
    chosen = detectors.create(method)
    pace = at_speed(chosen, speed)
    if not images:
        raise DataError("there are no images to train on: name folders or files, or give arrays or Pillow images")
    workplace = Workplace(Path(work) if work is not None else None, accelerator, progress, on_epoch)
    chosen.require_libraries()
    if not chosen.trains_network and (work is not None or accelerator != "auto"):
        raise OddsightError(f"{chosen.name} trains no network: leave work and accelerator out")
    request = Request(
        rate=false_alarm_rate,
        confidence=confidence,
        fraction=calibration_fraction,
        groups=groups,
        memory=chosen.budget if memory is None else memory,
        seed=seed,
    )
    if request.fraction is not None:
        Real(least=0, below=1).read(request.fraction, "the calibration fraction")
    size = _check_size(size)
    extractor = _extractor(chosen, backbone, layers, size)
    words = checked_verdicts(verdicts) if verdicts is not None else None
    features = cache or default_cache()
    model = run(NormalLearner(chosen, extractor, size, pace, request, images, reading, workplace, features), on_plan)
    return model if words is None else model.with_verdicts(*words)


def _check_size(size: int | tuple[int, int] | None) -> Size | None:
    """The size as plain numbers."""
    if isinstance(size, tuple):
        height, width = size
        return check_whole(height, "the height", None), check_whole(width, "the width", None)
    return None if size is None else check_whole(size, "the size", None)


def _extractor(detector: Detector, backbone: str | None, layers: Sequence[str] | None, size: Size | None) -> Extractor:
    """From images to what a detector reads, before their shapes are known."""
    network = backbones.backbone(backbones.suited(detector.reads, backbone))
    stages = network.default_layers(detector.reads, detector.stride) if layers is None else _names(layers)
    extractor = Extractor(network, stages, input_size([], network, type(detector), size), detector.reads)
    network.check_layers(extractor.layers)
    network.shapes(extractor.stages, extractor.size)
    return extractor


def _names(layers: Sequence[str]) -> tuple[str, ...]:
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise OddsightError(f"layers are a list of names, such as ['stage3', 'stage5'], not {layers!r}")
    return tuple(layers)


@dataclass(eq=False)
class NormalLearner:
    """Learns what is normal from features; a learner of the pipeline."""

    detector: Detector
    extractor: Extractor
    size: Size | None
    speed: Speed
    request: Request
    images: Sequence[ImagesLike]
    reading: Reading
    workplace: Workplace
    cache: FeatureCache | None

    def plan(self) -> FitPlan:
        """Read the images, find their groups and divide them."""
        require_normal_folders(self.images)
        request, progress = self.request, self.workplace.progress
        with memory_for_images(request.memory_plan([], self.extractor).method, final=True) as room:
            collection, names = collect_sources(*self.images, reading=self.reading, progress=progress)
        _check_collection(collection, described(self.images))
        size = input_size(collection.images, self.extractor.backbone, type(self.detector), self.size, self.speed)
        self.extractor = replace(self.extractor, size=size)
        memory = request.memory_plan(collection.images, self.extractor, largest=room.largest)
        self.detector.require(memory.method, self.extractor.shape, len(collection.images))
        grouped = group_images(collection.images, request.groups, names=names, progress=progress)
        return make_plan(replace(collection, images=grouped), request, memory, self.extractor.backbone)

    def learn(self, plan: FitPlan) -> Components:
        """Fit the detector and score the calibration images."""
        self.features = Features(self.extractor, plan.images, self.cache, workers=plan.memory.workers)
        measured = self._cross_scores(plan) if plan.kind == "cross" else None
        reading, shape = self.extractor.reading, self.extractor.shape
        shown = min(most_compared(reading, shape), len(plan.training))
        seen = self._fit(self.detector, plan.training, plan, "learning", shown)
        neighbours = nearest(reading, shape, np.stack(seen.summaries))
        if measured is None:
            measured = self._scores(self.detector, plan.calibration, "calibrating")
            checked = measured[:CHECKED]
        else:
            checked = self._scores(self.detector, plan.calibration[:CHECKED], "checking")
        detector, voices = self.detector, ["evidence", "voice_p_values"] if self.detector.voices([]) else []
        outputs = ["score", *(["anomaly_map"] if detector.localises else []), "nearest", *voices]
        scores, pixels = measured[:, 0], typical_levels(measured[:, 1:])
        pieces = [neighbours, detector.graph()]
        return Components(self.extractor, detector, pieces, outputs, scores, checked[:, 0], pixels=pixels)

    def _fit(
        self, detector: Detector, images: Sequence[ImageFile], plan: FitPlan, phase: str, kept: int = 0
    ) -> _ReportingFeatures:
        """Fit a detector on the features of images, and return these; ``kept`` of them have summaries."""
        learned = [*images, *(changed_copies(images) if plan.copied else [])]
        features = _ReportingFeatures(self.features.of(learned), phase, self.workplace.progress, kept)
        if detector.trains_network:
            detector.workplace = self.workplace.part(phase)
        detector.fit(features, memory=plan.memory.method, seed=plan.request.seed)
        return features

    def _cross_scores(self, plan: FitPlan) -> NDArray[np.float32]:
        """Score every calibration image by a model that saw neither it nor any of its group."""
        calibration = {image.content for image in plan.calibration}
        parts = folds(plan.training, plan.folds, plan.request.seed)
        scores = []
        for number, part in enumerate(parts, 1):
            others = [image for other in parts if other is not part for image in other] or changed_copies(part)
            name = f"fold {number} of {len(parts)}"
            others.sort(key=lambda image: image.content)
            one = deepcopy(self.detector)
            self._fit(one, others, plan, name)
            scores.append(self._scores(one, [image for image in part if image.content in calibration], name))
        return np.concatenate(scores)

    def _scores(self, detector: Detector, images: Sequence[ImageFile], phase: str) -> NDArray[np.float32]:
        """Scores of images by the detector's graph on their features, which are known or come from the same graph.

        Returns:
            ``[n, 1]``, or with the levels of their pixels ``[n, 3]`` if there are maps.
        """
        graph = Graph(lambda: detector.graph().SerializeToString())
        outputs = ["score", *(["anomaly_map"] if detector.localises else [])]
        score = _Scoring(self.features.one, graph, self.extractor.reading, outputs)
        scores = map_jobs(score, images, workers=self.features.workers)
        return np.array(list(track(scores, phase, len(images), self.workplace.progress)), np.float32)


def _check_collection(collection: Collection, where: str) -> None:
    count = len(collection.images)
    if count == 1 and collection.duplicates:
        raise DataError(f"all {len(collection.duplicates) + 1} images in {where} are identical")


@dataclass(frozen=True, eq=False)
class _Scoring:
    """A job: from an image's file to its score and the levels of its pixels, by a method's graph on its features."""

    extraction: Extraction
    graph: Graph
    reading: str
    outputs: list[str]

    def __call__(self, image: ImageFile) -> tuple[float, ...]:
        feed, name = {self.reading: self.extraction(image)[None]}, str(image.path)
        score, *maps = run_graph(self.graph.session, feed, name, self.outputs)
        return read_score(score, name), *(level for values in maps for level in pixel_levels(values))


class _ReportingFeatures:
    """Features whose passing by is reported; summaries of the first ``kept`` are taken when they first pass."""

    def __init__(self, features: Features, phase: str, progress: Progress, kept: int = 0) -> None:
        self.features, self.phase, self.progress = features, phase, progress
        self.shape, self.groups, self.channels = features.shape, features.groups, features.channels
        self.defects = features.defects
        self.kept = kept
        self.summaries: list[NDArray[np.float32]] = []

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for done, array in enumerate(self.features, 1):
            if len(self.summaries) < min(done, self.kept):
                self.summaries.append(summary(self.features.extractor.reading, array, self.shape))
            yield array
            self.progress(self.phase, done, len(self.features))
