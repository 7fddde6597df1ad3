"""Train classifiers by recipes, take embeddings of all images, and apply every score to them.

Every step leaves what it made in a folder and takes it from there when the study is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from oddsight.backbones import DEFAULT, Backbone, backbone
from oddsight.backbones.extraction import Extractor
from oddsight.data.class_images import ClassImages
from oddsight.data.collection import ImageFile
from oddsight.detectors import create
from oddsight.detectors.head import Head
from oddsight.errors import DataError, OddsightError
from oddsight.evaluation.compare.store import compute_once, key_of, pack, unpack
from oddsight.fitting.classifiers import Classifier, average, embed_images, probe, train
from oddsight.fitting.ensembles import Member, join_heads, join_networks
from oddsight.fitting.parts import Parts
from oddsight.graphs.building import chain
from oddsight.graphs.preprocessing import sides
from oddsight.metrics.classification import temperature
from oddsight.model.curves import Epoch
from oddsight.runtime.files import make_folder
from oddsight.runtime.parallel import cores
from oddsight.runtime.progress import Progress
from oddsight.runtime.records import Arrays, read_arrays
from oddsight.runtime.sessions import run as run_graph
from oddsight.runtime.sessions import session
from oddsight.studies.cifar10.recipes import ENSEMBLE, PROBE, RECIPES, Recipe
from oddsight.studies.cifar10.results import Run, Scored
from oddsight.training.classifier_settings import classifier_settings
from oddsight.training.image_arrays import Arrays as ImageArrays
from oddsight.training.workplace import Workplace

if TYPE_CHECKING:
    from oddsight.training.classifiers import TrainedClassifier

_ODIN = "odin"
_PROBE_SIZE = 96
_CHUNK = 1000

Embeddings = Mapping[str, NDArray[np.float32]]  # Embeddings of each set, by the names of `Sets.by_name`


@dataclass(frozen=True)
class Sets:
    """All images of a study."""

    parts: Parts  # Of the images to train on
    test: ClassImages  # Of the same classes
    unknown: Mapping[str, Sequence[ImageFile]]  # Images of none of them, by the name of their set
    fitted_on: int | None = None  # How many of the training images scores are fitted on; None for all

    @property
    def fitting(self) -> ClassImages:
        """The training images that scores are fitted on: the first by content, which is a random order."""
        return self.parts.training.subset(range(len(self.parts.training))[: self.fitted_on])

    def by_name(self) -> dict[str, Sequence[ImageFile]]:
        """All sets that embeddings are taken of."""
        return {"training": self.fitting.images, "validation": self.parts.validation.images, **self.scored()}

    def scored(self) -> dict[str, Sequence[ImageFile]]:
        """The sets that scores are applied to: those that nothing is trained on."""
        unknown = {f"unknown-{name}": images for name, images in self.unknown.items()}
        return {"calibration": self.parts.calibration.images, "test": self.test.images, **unknown}


@dataclass(frozen=True)
class Job:
    """A run that is wanted."""

    recipe: Recipe
    sets: Sets
    seed: int
    work: Path  # Every run has a folder of its own in it
    changes: Mapping[str, Any]  # To the settings of the recipe
    accelerator: str
    progress: Progress
    on_epoch: Callable[[Epoch], None]  # Called with each new row of learning curves

    @property
    def folder(self) -> Path:
        """Where the run leaves what it made."""
        return self.work / f"{self.recipe.name}-{self.seed}"


@dataclass(frozen=True)
class TrainedRun:
    """A run with all that the shipped file is made of."""

    run: Run  # For the report
    classifier: Classifier  # The network and its head
    embeddings: Embeddings


@dataclass(frozen=True)
class _Learning:
    """A classifier, and how it came to be."""

    classifier: Classifier
    settings: Mapping[str, Any]
    seconds: float
    network: TrainedClassifier | None = None  # None for a head on frozen features


def train_recipe(job: Job, score_names: Sequence[str]) -> TrainedRun:
    """Train by a recipe, take the embeddings of all sets once, and fit and apply every score."""
    make_folder(job.folder)
    recipe, sets = job.recipe, job.sets
    if recipe.network == PROBE:
        network = backbone(DEFAULT)
        extractor = Extractor(network, (_deepest(network),), recipe.changes.get("size", _PROBE_SIZE), "embedding")
        known = _embeddings(extractor, job)
        learned = _fit_probe(extractor, known["training"], job)
    elif recipe.network == ENSEMBLE:
        heads, extractor = _join(job)
        known = _embeddings(extractor, job)
        learned = _fit_ensemble(extractor, heads, known["validation"], job)
    else:
        learned = _network(job)
        known = _embeddings(learned.classifier.extractor, job)
    classifier, trained = learned.classifier, learned.network
    negative = bool(known["training"].min() < 0)
    scores = [
        _apply_score(name, classifier.head, known, job)
        for name in score_names
        if not (negative and create(name, "classes").positive)
    ]
    if trained is not None and trained.settings.from_scratch and _ODIN in score_names:
        scores.append(_apply_odin(trained, job))
    run = Run(
        *(recipe.name, recipe.title, recipe.description, job.seed, learned.settings),
        curves=() if trained is None else trained.curves,
        seconds=learned.seconds,
        parameters=_parameters(classifier),
        size=sides(classifier.extractor.size)[0],
        temperature=temperature(classifier.head.logits(known["validation"]), sets.parts.validation.labels),
        labels=sets.test.labels,
        logits=classifier.head.logits(known["test"]),
        scores=tuple(scores),
    )
    return TrainedRun(run, classifier, known)


def _needed(job: Job) -> list[Path]:
    """The folders of what the recipe starts from or is made of."""
    folders = [job.work / f"{name}-{job.seed}" for name in job.recipe.needs]
    for name, folder in zip(job.recipe.needs, folders, strict=True):
        if not (folder / ("head.npz" if RECIPES[name].network == PROBE else "weights.safetensors")).exists():
            raise OddsightError(f"{job.recipe.name} needs {name} of seed {job.seed}, which has not been trained")
    return folders


def _network(job: Job) -> _Learning:
    recipe, parts, before = job.recipe, job.sets.parts, _needed(job)
    planned = classifier_settings(recipe.network, **{**recipe.changes, **job.changes, "seed": job.seed})
    if recipe.members:
        classifier, trained = average(job.sets.test.classes, planned, before, job.folder)
        settings = dict(classifier.record)
    else:
        workplace = Workplace(job.folder, job.accelerator, job.progress, job.on_epoch)
        classifier, trained = train(parts, planned, workplace, start=before[0] if before else None)
        settings = trained.settings.as_json()
    return _Learning(classifier, settings, sum(row.seconds for row in trained.curves), trained)


def _fit_probe(extractor: Extractor, embeddings: NDArray[np.float32], job: Job) -> _Learning:
    images = job.sets.fitting

    def fit_head() -> Arrays:
        started = time.perf_counter()
        classifier = probe(extractor, embeddings, images)
        seconds = np.array(time.perf_counter() - started)
        record = {**classifier.record, "backbone": extractor.backbone.name, "size": extractor.size}
        return {**vars(classifier.head), "seconds": seconds, "record": pack(record)}

    # A head that was trained on other images, or on other features of them, is not taken.
    kept = compute_once(job.folder / "head.npz", key_of(images.fingerprint, *_maker(extractor)), fit_head)
    record = unpack(kept["record"])
    classifier = Classifier(extractor, Head(kept["weights"], kept["bias"]), images.classes, record)
    return _Learning(classifier, record, float(kept["seconds"]))


def _join(job: Job) -> tuple[list[Head], Extractor]:
    """The heads of an ensemble's members, and one network that gives their embeddings side by side."""
    members = []
    for name, folder, sizes in zip(job.recipe.members, _needed(job), job.recipe.sizes, strict=True):
        network = backbone(DEFAULT if RECIPES[name].network == PROBE else folder / "network.onnx")
        kept = read_arrays(folder / "head.npz")
        if kept is None:
            raise OddsightError(f"{folder} holds no head that can be read: train {name} again")
        head = Head(kept["weights"], kept["bias"])
        members.append(Member(name.replace("-", "_"), network, _deepest(network), head, sizes))
    extractor = join_networks(members, job.recipe.changes["size"], job.folder / "network.onnx")
    return [member.head for member in members], extractor


def _fit_ensemble(extractor: Extractor, heads: Sequence[Head], embeddings: NDArray[np.float32], job: Job) -> _Learning:
    started = time.perf_counter()
    head, weights = join_heads(heads, embeddings, job.sets.parts.validation.labels)
    seconds = time.perf_counter() - started
    recipe = job.recipe
    members: list[JsonValue] = [
        {"name": name, "sizes": list(sizes), "weight": weight}
        for name, sizes, weight in zip(recipe.members, recipe.sizes, weights, strict=True)
    ]
    record: dict[str, JsonValue] = {"network": recipe.network, "members": members}
    return _Learning(Classifier(extractor, head, job.sets.test.classes, record), record, seconds)


def _deepest(network: Backbone) -> str:
    return list(network.stages)[-1]


def _maker(extractor: Extractor) -> list[str]:
    return [extractor.backbone.sha256, str(extractor.size), str(extractor.layers)]


def _embeddings(extractor: Extractor, job: Job) -> Embeddings:
    """Embeddings of every set, from the folder where they have been taken of these images before."""
    found = {}
    for name, images in job.sets.by_name().items():
        key = key_of(*_maker(extractor), [image.content for image in images])

        def take(images: Sequence[ImageFile] = images) -> Arrays:
            return {"embeddings": embed_images(extractor, images, None, job.progress)}

        kept = compute_once(job.folder / f"embeddings-{name}.npz", key, take)
        found[name] = np.asarray(kept["embeddings"], np.float32)
    return found


def _apply_score(name: str, head: Head, known: Embeddings, job: Job) -> Scored:
    """Fit a score and apply it to all sets but those that were trained on."""

    def compute() -> Arrays:
        job.progress(f"scoring by {name}", 0, 1)
        started = time.perf_counter()
        labels = job.sets.fitting.labels
        fitted = create(name, "classes").fit(known["training"], labels, head, seed=job.seed)
        arrays: Arrays = {"seconds": np.array(time.perf_counter() - started)}
        loaded = session(chain([head.graph(), fitted.graph()], ["score"]).SerializeToString(), threads=cores())
        for one in job.sets.scored():
            chunks = [known[one][at : at + _CHUNK] for at in range(0, len(known[one]), _CHUNK)]
            arrays[one] = np.concatenate([run_graph(loaded, {"embedding": chunk}, one)[0] for chunk in chunks])
        job.progress(f"scoring by {name}", 1, 1)
        if not all(np.isfinite(values).all() for values in arrays.values()):
            raise DataError(f"{name} gave scores that are not finite")
        return arrays

    key = key_of(name, job.seed, {one: float(np.sum(values, dtype=np.float64)) for one, values in known.items()})
    return _as_scores(name, compute_once(job.folder / f"score-{name.replace(':', '-')}.npz", key, compute))


def _apply_odin(trained: TrainedClassifier, job: Job) -> Scored:
    """ODIN with its input gradient: only of networks from scratch, as it takes long, and only to compare with."""
    from oddsight.studies.cifar10.odin import odin_scores
    from oddsight.training.classifiers import load_network

    sets = job.sets.scored()

    def compute() -> Arrays:
        # Training has just left its images there.
        array, parts = np.load(job.folder / "training.npy", mmap_mode="r", allow_pickle=False), job.sets.parts
        training = ImageArrays(array, parts.training.labels, parts.fingerprint)
        network = load_network(training, len(job.sets.test.classes), trained.settings, job.folder)
        size = trained.settings.size
        return {name: odin_scores(network, images, size, progress=job.progress) for name, images in sets.items()}

    name = f"{_ODIN} with gradient"
    key = key_of(
        name, [[image.content for image in own] for own in sets.values()], float(np.abs(trained.weights).sum())
    )
    return _as_scores(name, compute_once(job.folder / "score-odin-with-gradient.npz", key, compute))


def _as_scores(name: str, arrays: Arrays) -> Scored:
    unknown = {one.removeprefix("unknown-"): array for one, array in arrays.items() if one.startswith("unknown-")}
    return Scored(name, arrays["test"], unknown, arrays["calibration"], float(arrays.get("seconds", 0.0)))


def _parameters(known: Classifier) -> int:
    """Numbers that the network and its head hold."""
    graph = known.extractor.backbone.graph(known.extractor.stages).graph
    sizes = [int(np.prod(tensor.dims)) for tensor in graph.initializer if len(tensor.dims)]
    return sum(sizes) + known.head.weights.size + known.head.bias.size
