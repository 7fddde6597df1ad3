"""A study of known classes: train classifiers, score what belongs to none of their classes, ship one file and judge it.

Every step leaves what it made in a folder and takes it from there when the study is run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oddsight.backbones import DEFAULT, backbone
from oddsight.backbones.extraction import Extractor
from oddsight.data.class_images import ClassImages
from oddsight.data.collection import ImageFile
from oddsight.detectors import create
from oddsight.detectors.head import Head
from oddsight.errors import DataError, OddsightError
from oddsight.fitting.assembly import assemble
from oddsight.fitting.classes import ClassPlan, combine_classes
from oddsight.fitting.classifiers import Classifier, Embeddings, average, embed_images, probe, train
from oddsight.fitting.parts import Parts
from oddsight.fitting.plan import Request
from oddsight.graphs.building import chain
from oddsight.metrics.classification import temperature
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.runtime.files import make_folder
from oddsight.runtime.parallel import cores
from oddsight.runtime.progress import Progress, silent
from oddsight.runtime.sessions import run as run_graph
from oddsight.runtime.sessions import session
from oddsight.studies.cifar10.recipes import PROBE, RECIPES, Recipe
from oddsight.studies.cifar10.results import Run, Scored
from oddsight.studies.store import keep, state_of, taken
from oddsight.training.classifier_settings import classifier_settings
from oddsight.training.image_arrays import Arrays
from oddsight.training.workplace import Workplace

if TYPE_CHECKING:
    from oddsight.training.classifiers import TrainedClassifier

ODIN = "odin"

_PROBE_SIZE = 96
_CHUNK = 1000


@dataclass(frozen=True)
class Sets:
    """All images of a study."""

    parts: Parts  # Of the images to train on
    test: ClassImages  # Of the same classes
    unknown: Mapping[str, Sequence[ImageFile]]  # Images of none of them, by the name of their set

    def by_name(self) -> dict[str, Sequence[ImageFile]]:
        """All sets that embeddings are taken of."""
        own = {
            "training": self.parts.training.images,
            "validation": self.parts.validation.images,
            "calibration": self.parts.calibration.images,
            "test": self.test.images,
        }
        return {**own, **{f"unknown-{name}": images for name, images in self.unknown.items()}}


@dataclass(frozen=True)
class Trained:
    """A run with all that the shipped file is made of."""

    run: Run  # For the report
    classifier: Classifier  # The network and its head
    embeddings: Mapping[str, NDArray[np.float32]]  # By the names of Sets.by_name


def trained(
    recipe: Recipe,
    sets: Sets,
    seed: int,
    work: Path,
    score_names: Sequence[str],
    *,
    changes: Mapping[str, int] | None = None,
    accelerator: str = "auto",
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> Trained:
    """Train by a recipe, take the embeddings of all sets once, and fit and apply every score.

    The run has a folder of its own in ``work``; ``changes`` are to the settings of the recipe.

    Raises:
        OddsightError: If a training that it needs is not there, and as :func:`train`.
    """
    folder = work / f"{recipe.name}-{seed}"
    make_folder(folder)
    curves: tuple[Epoch, ...] = ()
    evaluated: tuple[Scored, ...] = ()
    names = sets.by_name()
    if recipe.network == PROBE:
        network = backbone(DEFAULT)
        extractor = Extractor(network, (list(network.stages)[-1],), _PROBE_SIZE, "embedding")
        known = _embeddings(extractor, names, folder, progress)
        classifier, seconds = _probed(extractor, known["training"], sets.parts.training, folder)
        settings = dict(classifier.record)
    else:
        before = [work / f"{name}-{seed}" for name in recipe.needs]
        for name, there in zip(recipe.needs, before, strict=True):
            if not (there / "weights.safetensors").exists():
                raise OddsightError(f"{recipe.name} needs {name} of seed {seed}, which has not been trained")
        planned = classifier_settings(recipe.network, **{**recipe.changes, **(changes or {}), "seed": seed})
        if recipe.members:
            classifier, found = average(sets.test.classes, planned, before, folder)
            settings = dict(classifier.record)
        else:
            start = before[0] if before else None
            classifier, found = train(
                sets.parts, planned, Workplace(folder, accelerator, progress, on_epoch), start=start
            )
            settings = found.settings.as_json()
        known = _embeddings(classifier.extractor, names, folder, progress)
        curves, seconds = found.curves, sum(row.seconds for row in found.curves)
        if found.settings.from_scratch and ODIN in score_names:
            evaluated = (_perturbed(found, sets, folder, progress),)
    head = classifier.head
    labels = sets.parts.training.labels
    record = Run(
        *(recipe.name, recipe.title, recipe.description, seed, settings, curves, seconds, _parameters(classifier)),
        size=classifier.extractor.size,
        temperature=temperature(head.logits(known["validation"]), sets.parts.validation.labels),
        labels=sets.test.labels,
        logits=head.logits(known["test"]),
        scores=(*(_scored(one, head, known, labels, seed, folder, progress) for one in score_names), *evaluated),
    )
    return Trained(record, classifier, known)


def _probed(
    extractor: Extractor, embeddings: NDArray[np.float32], images: ClassImages, folder: Path
) -> tuple[Classifier, float]:
    # A head that was trained on other images, or on other features of them, is not taken.
    path, state = folder / "head.npz", state_of(images.fingerprint, *_maker(extractor))
    kept = taken(path, state)
    if kept is None:
        started = time.perf_counter()
        found = probe(extractor, embeddings, images)
        seconds = np.array(time.perf_counter() - started)
        record = {**found.record, "backbone": extractor.backbone.name, "size": extractor.size}
        arrays = {"weights": found.head.weights, "bias": found.head.bias, "seconds": seconds}
        kept = keep(path, state, arrays | {"record": np.array(json.dumps(record))})
    head = Head(kept["weights"], kept["bias"])
    return Classifier(extractor, head, images.classes, json.loads(str(kept["record"]))), float(kept["seconds"])


def _maker(extractor: Extractor) -> list[str]:
    return [extractor.backbone.sha256, str(extractor.size), str(extractor.layers)]


def _embeddings(
    extractor: Extractor, names: Mapping[str, Sequence[ImageFile]], folder: Path, progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Embeddings of every set, from the folder where they have been taken of these images before."""
    found = {}
    for name, images in names.items():
        path, state = folder / f"embeddings-{name}.npz", state_of(*_maker(extractor), [one.content for one in images])
        kept = taken(path, state)
        if kept is None:
            kept = keep(path, state, {"embeddings": embed_images(extractor, images, None, progress)})
        found[name] = np.asarray(kept["embeddings"], np.float32)
    return found


def _scored(
    name: str,
    head: Head,
    known: Mapping[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    seed: int,
    folder: Path,
    progress: Progress,
) -> Scored:
    """Fit a score and apply it to all sets but those that were trained on."""
    path = folder / f"score-{name.replace(':', '-')}.npz"
    wanted = [one for one in known if one not in ("training", "validation")]
    state = state_of(name, seed, {one: float(np.sum(values, dtype=np.float64)) for one, values in known.items()})
    kept = taken(path, state)
    if kept is not None:
        seconds = float(kept.pop("seconds"))
        return _as_scored(name, kept, seconds)
    progress(f"scoring by {name}", 0, 1)
    started = time.perf_counter()
    fitted = create(name, "classes").fit(known["training"], labels, head, seed=seed)
    seconds = time.perf_counter() - started
    loaded = session(chain([head.graph(), fitted.graph()], ["score"]).SerializeToString(), threads=cores())
    values = {}
    for one in wanted:
        rows = known[one]
        chunks = [rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK)]
        values[one] = np.concatenate([run_graph(loaded, {"embedding": chunk}, one)[0] for chunk in chunks])
    progress(f"scoring by {name}", 1, 1)
    if not all(np.isfinite(value).all() for value in values.values()):
        raise DataError(f"{name} gave scores that are not finite")
    keep(path, state, {**values, "seconds": np.array(seconds)})
    return _as_scored(name, values, seconds)


def _perturbed(found: TrainedClassifier, sets: Sets, folder: Path, progress: Progress) -> Scored:
    """ODIN with its input gradient: only of networks from scratch, as it takes long, and only to compare with."""
    from oddsight.training.classifiers import load_network
    from oddsight.training.odin import odin_scores

    name = f"{ODIN} with gradient"
    wanted = {one: images for one, images in sets.by_name().items() if one not in ("training", "validation")}
    path = folder / "score-odin-with-gradient.npz"
    contents = [image.content for images in wanted.values() for image in images]
    state = state_of(name, contents, float(np.abs(found.weights).sum()))
    kept = taken(path, state)
    if kept is not None:
        return _as_scored(name, kept, 0.0)
    # Training has just left its images there.
    array = np.load(folder / "training.npy", mmap_mode="r", allow_pickle=False)
    training = Arrays(array, sets.parts.training.labels, sets.parts.fingerprint)
    network = load_network(training, len(sets.test.classes), found.settings, folder)
    values = {
        one: odin_scores(network, images, found.settings.size, progress=progress) for one, images in wanted.items()
    }
    keep(path, state, dict(values))
    return _as_scored(name, values, 0.0)


def _as_scored(name: str, values: Mapping[str, NDArray[np.float32]], seconds: float) -> Scored:
    unknown = {one.removeprefix("unknown-"): value for one, value in values.items() if one.startswith("unknown-")}
    return Scored(name, values["test"], unknown, values["calibration"], seconds)


def _parameters(known: Classifier) -> int:
    """Numbers that the network and its head hold."""
    graph = known.extractor.backbone.graph(known.extractor.stages).graph
    sizes = [int(np.prod(tensor.dims)) for tensor in graph.initializer if len(tensor.dims)]
    return sum(sizes) + known.head.weights.size + known.head.bias.size


def shipped_model(chosen: Trained, sets: Sets, score_name: str, rate: float, *, per_class: bool) -> Model:
    """The model file of a run and a score, at a false-rejection rate of all classes together or of each."""
    known, classifier, seed = chosen.embeddings, chosen.classifier, chosen.run.seed
    fitted = create(score_name, "classes").fit(
        known["training"], sets.parts.training.labels, classifier.head, seed=seed
    )
    embeddings = Embeddings(known["training"], known["validation"], known["calibration"])
    plan = ClassPlan.of(sets.parts, rate, Request(seed=seed))
    warmth = chosen.run.temperature
    return assemble(combine_classes(classifier, fitted, warmth, embeddings, plan, per_class=per_class), plan)


def recipes(names: Sequence[str]) -> list[Recipe]:
    """Recipes by name.

    Raises:
        OddsightError: Naming those that exist.
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown or not names:
        what = f"no recipe {unknown[0]!r}" if unknown else "no recipe named"
        raise OddsightError(f"{what}: there are {', '.join(RECIPES)}")
    return [RECIPES[name] for name in names]
