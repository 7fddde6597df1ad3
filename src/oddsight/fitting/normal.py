"""fit(): from a folder of normal images to a model."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight import backbones, detectors
from oddsight.backbones import Backbone
from oddsight.backbones.cache import FeatureCache, default_cache
from oddsight.backbones.extraction import Extraction, Extractor, Features
from oddsight.data.anomaly_folders import require_normal_folders
from oddsight.data.collection import Collection, ImageFile, folds, merged, pack, seen
from oddsight.data.decoding import memory_for_images
from oddsight.data.grouping import AUTO, Groups, group_images
from oddsight.data.memory import parse_bytes, plan_memory
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.detectors import Detector
from oddsight.errors import DataError, OddsightError
from oddsight.fitting.plan import FEWEST, FOLDS, FitPlan, make_plan
from oddsight.fitting.sizing import input_size
from oddsight.graphs.building import chain, copied, digest
from oddsight.graphs.calibrating import calibrating
from oddsight.graphs.neighbours import MOST, nearest, summary
from oddsight.metrics.image import check_confidence
from oddsight.model.calibration import check_rate, decide
from oddsight.model.curves import Epoch
from oddsight.model.metadata import (
    KEY,
    BackboneInfo,
    CalibrationInfo,
    CurveInfo,
    DecisionInfo,
    ExplanationInfo,
    Metadata,
    MethodInfo,
    ReadingInfo,
    TrainingInfo,
    checked_verdicts,
)
from oddsight.model.model import Model
from oddsight.model.outputs import read_score
from oddsight.runtime.bounds import check_number, check_seed, check_whole
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent
from oddsight.runtime.sessions import Graph, run, session
from oddsight.sources.collecting import collect_sources, described
from oddsight.sources.source import ImagesLike
from oddsight.training.workplace import Workplace

CHECKED = 3
"""Images that a finished graph is checked on."""


def fit(  # noqa: PLR0913 - one keyword for each option of the command
    *images: ImagesLike,
    method: str | Detector = detectors.DEFAULTS["normal"],
    backbone: str | None = None,
    layers: Sequence[str] | None = None,
    size: int | None = None,
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
        *images: Normal images: files, folders (searched recursively) and globs; arrays (uint8 ``[H, W, 3]``, grey, with
            alpha, or several as ``[N, H, W, C]``) and Pillow images; or lists and other iterables of these. The same
            pixels give the same model, wherever they come from.
        method: The name of a method in :data:`oddsight.detectors.METHODS`, or a detector with other settings.
        backbone: A name that ``oddsight backbones`` lists, ``timm:NAME``, or the path of an ONNX file; see
            :func:`oddsight.backbones.backbone`. By default EfficientNet-Lite0, or none for methods that read pixels.
        layers: Stages of the backbone to read; by default those that suit the method.
        size: To what images are resized, in pixels: the side of a square. Images that are not square keep their median
            shape, with as many pixels as that square. By default the backbone's size; for detectors that look at
            details (``auto``, ``patchcore``) as many pixels as the images have, at most 640 x 640.
        false_alarm_rate: Share of normal images that may be flagged. By default 1%, or the smallest rate that the
            number of images can promise.
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
        DataError: There are no images, fewer than 8 distinct ones, or too few images or groups for the rate; an image
            has no group; or the verdicts are not two words.
        MemoryBudgetError: The memory budget is too small.
        OddsightError: A setting is invalid.
    """
    chosen = detectors.create(method)
    if not images:
        raise DataError("there are no images to train on: name folders or files, or give arrays or Pillow images")
    workplace = Workplace(Path(work) if work is not None else None, accelerator, progress, on_epoch)
    chosen.require_libraries()
    if not chosen.trains_network and (work is not None or accelerator != "auto"):
        raise OddsightError(f"{chosen.name} trains no network: leave work and accelerator out")
    seed, size = check_seed(seed), None if size is None else check_whole(size, "the size", None)
    false_alarm_rate = None if false_alarm_rate is None else check_rate(false_alarm_rate)
    confidence = None if confidence is None else check_confidence(confidence)
    _check_fraction(calibration_fraction)
    network = backbones.backbone(backbones.suited(chosen.reads, backbone))
    stages = network.default_layers(chosen.reads, chosen.stride) if layers is None else _names(layers)
    extractor = Extractor(network, stages, input_size([], network, type(chosen), size), chosen.reads)
    network.check_layers(extractor.layers)
    network.shapes(extractor.stages, extractor.size)
    words = checked_verdicts(verdicts) if verdicts is not None else None
    budget = parse_bytes(memory if memory is not None else chosen.budget)

    require_normal_folders(images)
    weights = network.memory(extractor.stages)
    before = plan_memory(budget, [], extractor.size, activations=network.activations, weights=weights)
    with memory_for_images(before.method, final=True) as room:
        collection, names = collect_sources(*images, reading=reading, progress=progress)
    _check_collection(collection, described(images))
    extractor = replace(extractor, size=input_size(collection.images, network, type(chosen), size))
    memory_plan = plan_memory(
        budget,
        collection.images,
        extractor.size,
        activations=network.activations,
        weights=weights,
        largest=room.largest,
    )
    chosen.require(memory_plan.method, extractor.shape, len(collection.images))
    grouped = group_images(collection.images, groups, names=names, progress=progress)
    collection = replace(collection, images=grouped)
    near_copies = isinstance(groups, str) and groups == AUTO
    asked = (false_alarm_rate, confidence)
    plan = make_plan(collection, asked, calibration_fraction, memory_plan, seed, near_copies=near_copies)
    adapted = _adapted(network)
    plan = replace(plan, adapted=sum(map(seen(adapted), (image.content for image in plan.calibration))))
    on_plan(plan)

    with memory_for_images(memory_plan.images, final=True):
        job = _Job(extractor, plan, seed, cache or default_cache(), progress, workplace)
        scores = job.cross_scores(chosen) if plan.kind == "cross" else None
        graph = job.whole(chosen)
        job.check(graph, chosen)
        if scores is None:
            scores = job.scores(chosen, plan.calibration, "calibrating")
    model = _model(chosen, extractor, plan, graph, scores, seed, adapted)
    return model if words is None else model.with_verdicts(*words)


def _adapted(network: Backbone) -> str:
    """The images that a backbone was adapted to, packed; empty if it was not."""
    if network.name in backbones.BACKBONES:
        return ""
    from oddsight.training.adapting import read_adaptation

    return str((read_adaptation(network.path) or {}).get("images_seen", ""))


def _check_fraction(fraction: float | None) -> None:
    if fraction is not None:
        check_number(fraction, "the calibration fraction")
    if fraction is not None and not 0 <= fraction < 1:
        raise OddsightError(f"the calibration fraction must be at least 0 and below 1, not {fraction:g}")


def _check_collection(collection: Collection, where: str) -> None:
    count = len(collection.images)
    if count == 1 and collection.duplicates:
        raise DataError(f"all {len(collection.duplicates) + 1} images in {where} are identical")
    if count < FEWEST:
        raise DataError(f"{where} holds {count} distinct images, and training needs at least {FEWEST}")


class _Job:
    """One fit: what its steps share."""

    def __init__(
        self,
        extractor: Extractor,
        plan: FitPlan,
        seed: int,
        cache: FeatureCache | None,
        progress: Progress,
        workplace: Workplace,
    ) -> None:
        self.extractor, self.plan, self.seed = extractor, plan, seed
        self.progress, self.workplace = progress, workplace
        self.cache = cache
        self.features = Features(extractor, plan.collection.images, cache, workers=plan.memory.workers)

    def learned(self, method: Detector, images: Sequence[ImageFile], phase: str, kept: int = 0) -> _Watched:
        """Fit ``method`` on the features of images, and return these; ``kept`` of them have summaries."""
        features = _Watched(self.features.of(images), phase, self.progress, kept)
        if method.trains_network:
            method.workplace = self.workplace.part(phase)
        method.fit(features, memory=self.plan.memory.method, seed=self.seed)
        return features

    def whole(self, method: Detector) -> onnx.ModelProto:
        """Fit on all training images, and return the graph from image to score."""
        features = self.learned(method, self.plan.training, "learning", MOST)
        neighbours = nearest(self.extractor.reading, self.extractor.shape, np.stack(features.summaries))
        return chain([copied(self.extractor.graph), neighbours, method.graph()], [*_outputs(method), "nearest"])

    def cross_scores(self, method: Detector) -> NDArray[np.float32]:
        """Score every calibration image by a model that saw neither it nor any of its group."""
        calibration = {image.content for image in self.plan.calibration}
        parts = folds(self.plan.training, min(FOLDS, len(calibration)), self.seed)
        scores = []
        for number, part in enumerate(parts, 1):
            others = [image for other in parts if other is not part for image in other]
            name = f"fold {number} of {len(parts)}"
            others.sort(key=lambda image: image.content)
            one = deepcopy(method)
            self.learned(one, others, name)
            scores.append(self.scores(one, [image for image in part if image.content in calibration], name))
        return np.concatenate(scores)

    def scores(self, method: Detector, images: Sequence[ImageFile], phase: str) -> NDArray[np.float32]:
        """Scores of images by the method's graph on their features, which are known or come from the same graph."""
        graph = Graph(lambda: method.graph().SerializeToString())
        score = _Scoring(self.features.one, graph, self.extractor.reading)
        scores = []
        for done, value in enumerate(map_jobs(score, images, workers=self.plan.memory.workers), 1):
            scores.append(value)
            self.progress(phase, done, len(images))
        return np.array(scores, np.float32)

    def check(self, graph: onnx.ModelProto, method: Detector) -> None:
        """Refuse a whole graph that does not score as its parts do; see :func:`check_assembled`."""
        images = self.plan.calibration[:CHECKED]
        whole = assembled_scores(graph, images)
        check_assembled(whole, self.scores(method, images, "checking"), method.name)


@dataclass(frozen=True, eq=False)
class _Scoring:
    """A job: from an image's file to its score, by a method's graph on its features."""

    extraction: Extraction
    graph: Graph
    reading: str

    def __call__(self, image: ImageFile) -> float:
        feed = {self.reading: self.extraction(image)[None]}
        return read_score(run(self.graph.session, feed, str(image.path), ["score"])[0], str(image.path))


def _outputs(method: Detector) -> list[str]:
    voices = ["evidence", "voice_p_values"] if method.voices([]) else []
    return ["score", *(["anomaly_map"] if method.localises else []), *voices]


def _all_outputs(method: Detector) -> list[str]:
    maps = ["anomaly_map"] if method.localises else []
    return ["score", "p_value", *maps, "nearest", *(name for name in _outputs(method)[1:] if name not in maps)]


class _Watched:
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


def _names(layers: Sequence[str]) -> tuple[str, ...]:
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise OddsightError(f"layers are a list of names, such as ['stage3', 'stage5'], not {layers!r}")
    return tuple(layers)


def _model(
    method: Detector,
    extractor: Extractor,
    plan: FitPlan,
    graph: onnx.ModelProto,
    scores: NDArray[np.float32],
    seed: int,
    adapted: str,
) -> Model:
    """Add calibration and metadata to the graph."""
    decision = decide(scores, plan.rate, plan.confidence)
    whole = chain([graph, calibrating(scores)], _all_outputs(method))
    metadata = Metadata.create(
        **versions(),
        graph_sha256=digest(whole),
        method=MethodInfo(name=method.name, paper=method.paper, settings=method.settings()),
        backbone=BackboneInfo(
            name=extractor.backbone.name,
            sha256=extractor.backbone.sha256,
            layers=list(extractor.layers),
            size=extractor.size,
        ),
        map_size=_map_size(whole),
        training=TrainingInfo(
            images=len(plan.training),
            duplicates=len(plan.collection.duplicates),
            unreadable=len(plan.collection.errors),
            fingerprint=plan.collection.fingerprint,
            images_seen=merged(pack(plan.collection.images), adapted),
            seed=seed,
            curves=[
                CurveInfo(**{name: value for name, value in asdict(row).items() if name != "seconds"})
                for row in method.curves_
            ],
        ),
        calibration=CalibrationInfo(
            kind="cross" if plan.kind == "cross" else "split",
            images=plan.held,
            folds=min(FOLDS, len(scores)) if plan.kind == "cross" else 1,
            groups=plan.groups,
        ),
        decision=DecisionInfo(**asdict(decision)),
        # Training images are in the order of their contents, as packing puts them.
        explanation=ExplanationInfo(normals=pack(plan.training[:MOST]), voices=method.voices(extractor.layers)),
        reading=reading_info(plan.training[0].reading),
    )
    whole.metadata_props.add(key=KEY, value=metadata.to_json())
    return Model.from_bytes(whole.SerializeToString(deterministic=True))


def reading_info(reading: Reading) -> ReadingInfo | None:
    """How images were read, as metadata keep it; None if as they declare it themselves."""
    if not reading.chosen:
        return None
    return ReadingInfo(bands=list(reading.bands) if reading.bands is not None else None, scale=reading.scale)


def _map_size(graph: onnx.ModelProto) -> tuple[int, int] | None:
    """Height and width of the anomaly map, if there is one."""
    for value in graph.graph.output:
        if value.name == "anomaly_map":
            _, height, width = (dim.dim_value for dim in value.type.tensor_type.shape.dim)
            return height, width
    return None


_RECORDED = ("numpy", "onnx", "onnxruntime", "pillow", "scikit-learn")


def assembled_scores(graph: onnx.ModelProto, images: Sequence[ImageFile]) -> list[np.float32]:
    """Scores of images by a whole graph, whose session is freed at once."""
    loaded = session(graph.SerializeToString(), threads=1)
    return [run(loaded, {"image": one.read()[None]}, str(one.path), ["score"])[0][0] for one in images]


def check_assembled(whole: Sequence[np.float32], parts: NDArray[np.float32], name: str) -> None:
    """Refuse a whole graph whose scores of some images are not those of its parts.

    Raises:
        OddsightError: If they differ, which no user can cause.
    """
    if not np.allclose(whole, parts, rtol=1e-3, atol=1e-6):
        raise OddsightError(f"{name} gives other scores in one graph than in parts: its scores are unstable")


def versions() -> dict[str, Any]:
    """Versions of Oddsight, and of Python and libraries, as metadata keep them."""
    libraries = {"python": platform.python_version(), **{name: version(name) for name in _RECORDED}}
    return {"oddsight": version("oddsight"), "versions": libraries}
