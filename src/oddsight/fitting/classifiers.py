"""Classifiers: a feature network, frozen or trained, and what is linear on top of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from oddsight import backbones
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Attention, Extractor, Features
from oddsight.data.class_images import ClassImages
from oddsight.data.collection import ImageFile
from oddsight.data.memory import MemoryPlan, plan_memory
from oddsight.detectors.head import Head
from oddsight.errors import MemoryBudgetError
from oddsight.fitting.parts import Parts
from oddsight.fitting.plan import Request, images_adapted_to
from oddsight.graphs.preprocessing import Size
from oddsight.metrics.classification import temperature
from oddsight.runtime.files import make_folder
from oddsight.runtime.progress import Progress, silent, track
from oddsight.training.classifier_settings import ClassifierSettings
from oddsight.training.image_arrays import gather_arrays
from oddsight.training.libraries import require_training
from oddsight.training.workplace import Workplace

if TYPE_CHECKING:
    from oddsight.training.classifiers import TrainedClassifier

PROBE = "probe"
"""A classifier that is linear on frozen features."""

LOOKS = "looks_where_anomalous"
"""What the record of a probe says if places of its embedding count by an anomaly map."""

PENALTY = 100.0
"""Of the squares of a probe's weights, for features in units of their spread."""

_ITERATIONS = 300
_COPIES = 4
"""How many copies of the embeddings learning from them takes in memory, at most."""


@dataclass(frozen=True)
class Classifier:
    """A feature network, and what is linear on top of it."""

    extractor: Extractor  # From an image to its embedding
    head: Head  # From the embedding to logits
    classes: tuple[str, ...]  # Their names
    record: Mapping[str, JsonValue]  # How it came to be, as JSON can hold it


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embeddings of all parts, float32 ``[n, C]`` each."""

    training: NDArray[np.float32]
    validation: NDArray[np.float32]
    calibration: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Fold:
    """A part of the images learned from, and what is linear on their features if it learns from the others alone."""

    head: Head
    learned: NDArray[np.intp]  # Where the others are
    tested: NDArray[np.intp]  # Where the part is


@dataclass(frozen=True, eq=False)
class Learned:
    """A classifier, the embeddings of all parts, and the folds, if it is cheap to learn several times."""

    classifier: Classifier
    embeddings: Embeddings
    folds: Sequence[Fold] = ()


def temperature_of(learned: Learned, parts: Parts) -> float:
    """The temperature of the probabilities, by images that were not learned from: those for validation, or folds.

    It is 1 if there are neither.
    """
    if len(parts.validation):
        logits = learned.classifier.head.logits(learned.embeddings.validation)
        return temperature(logits, parts.validation.labels)
    if not learned.folds:
        return 1.0
    rows, labels = learned.embeddings.training, parts.training.labels
    logits = np.concatenate([fold.head.logits(rows[fold.tested]) for fold in learned.folds])
    return temperature(logits, np.concatenate([labels[fold.tested] for fold in learned.folds]))


def embed_parts(
    extractor: Extractor, parts: Parts, memory: MemoryPlan, cache: FeatureCache | None, progress: Progress = silent
) -> Embeddings:
    """The embeddings of all parts.

    Raises:
        MemoryBudgetError: If what the budget leaves cannot hold them.
    """
    images = parts.images
    needed = _COPIES * 4 * extractor.shape[0] * len(images)
    if needed > memory.method:
        raise MemoryBudgetError(
            f"learning from {len(images):,} embeddings of {extractor.shape[0]:,} numbers takes "
            f"{needed / 1e6:,.0f} MB, and the budget leaves {memory.method / 1e6:,.0f} MB: raise the memory budget, "
            "or use fewer images or a network with a smaller embedding"
        )
    of_parts = [parts.training, parts.validation, *([parts.calibration] if parts.kind == "split" else [])]
    rows = [embed_images(extractor, part.images, cache, progress) for part in of_parts]
    return Embeddings(*rows, *([rows[0][parts.calibrated]] if parts.kind == "cross" else []))


def embed_images(
    extractor: Extractor, images: Sequence[ImageFile], cache: FeatureCache | None = None, progress: Progress = silent
) -> NDArray[np.float32]:
    """Embeddings of images, float32 ``[n, C]``."""
    rows = np.empty((len(images), *extractor.shape), np.float32)
    features = track(Features(extractor, images, cache), "extracting features", len(images), progress)
    for number, one in enumerate(features):
        rows[number] = one
    return rows


def probe(
    extractor: Extractor, embeddings: NDArray[np.float32], images: ClassImages, penalty: float = PENALTY
) -> Classifier:
    """A classifier that is linear on frozen features ``[n, C]``: multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    centre = embeddings.mean(axis=0)
    scale = embeddings.std(axis=0) + 1e-6
    learned = LogisticRegression(C=1 / penalty, max_iter=_ITERATIONS, tol=1e-4)
    learned.fit((embeddings - centre) / scale, images.labels)
    rows, shifts = learned.coef_, learned.intercept_
    if len(rows) == 1:
        # For two classes scikit-learn gives the difference only.
        rows, shifts = np.concatenate([-rows, rows]) / 2, np.concatenate([-shifts, shifts]) / 2
    weights = rows.T / scale[:, None]
    head = Head(weights.astype(np.float32), (shifts - centre @ weights).astype(np.float32))
    record: dict[str, JsonValue] = {"classifier": PROBE, "penalty": penalty, "iterations": _ITERATIONS}
    return Classifier(extractor, head, images.classes, record)


class Probe:
    """Where a probe comes from.

    Args:
        name: Of the backbone.
        layers: Stages that are averaged, by default the deepest; of what ``attention`` looks at those that methods on
            embeddings read, and the next deeper one.
        size: Side in pixels to which images are brought; by default the backbone's, or that of ``attention`` if it
            reads the same backbone.
        attention: Where in an image to look; by default everywhere.

    Raises:
        OddsightError: If there is no such backbone or stage, or the size does not suit it.
    """

    settings = None
    validated = False

    def __init__(
        self, name: str, layers: Sequence[str] | None, size: int | None, attention: Attention | None = None
    ) -> None:
        network = backbones.backbone(name)
        names, usual = list(network.stages), network.layers["embedding"]
        own: Size = network.size
        stages = names[-1:]
        if attention is not None:
            next_deeper = names.index(usual[-1]) + 1
            stages = [*usual, *names[next_deeper : next_deeper + 1]]
            own = attention.size if attention.backbone == network.sha256 else own
        chosen = tuple(stages if layers is None else layers)
        network.check_layers(chosen)
        self.extractor = Extractor(network, chosen, own if size is None else size, "embedding", attention)
        network.shapes(self.extractor.stages, self.extractor.size)
        self.adapted_to = images_adapted_to(network)
        self.penalty = PENALTY

    def at(self, size: Size, layers: Sequence[str], penalty: float) -> Probe:
        """The same backbone at another size, with other layers and another penalty."""
        changed = copy(self)
        changed.penalty = penalty
        changed.extractor = replace(self.extractor, layers=tuple(layers), size=size)
        return changed

    def memory_plan(self, request: Request, images: Sequence[ImageFile], largest: int) -> MemoryPlan:
        """How the budget is divided."""
        return request.memory_plan(images, self.extractor, largest=largest)

    def learn(self, parts: Parts, memory: MemoryPlan, cache: FeatureCache | None, progress: Progress) -> Learned:
        """The classifier, the embeddings of all parts, and the folds."""
        embeddings = embed_parts(self.extractor, parts, memory, cache, progress)
        known = probe(self.extractor, embeddings.training, parts.training, self.penalty)
        if self.extractor.attention is not None:
            known = replace(known, record={**known.record, LOOKS: True})
        return Learned(known, embeddings, self._folds(embeddings.training, parts))

    def _folds(self, rows: NDArray[np.float32], parts: Parts) -> list[Fold]:
        found: list[Fold] = []
        if parts.fold is None:
            return found
        for number in sorted({*parts.fold.tolist()} - {-1}):
            learned, tested = np.flatnonzero(parts.fold != number), np.flatnonzero(parts.fold == number)
            head = probe(self.extractor, rows[learned], parts.training.subset(learned), self.penalty).head
            found.append(Fold(head, learned, tested))
        return found


@dataclass(frozen=True)
class TrainedNetwork:
    """Where a classifier comes from whose network is trained: how, where and on what."""

    settings: ClassifierSettings
    workplace: Workplace
    adapted_to = ""
    validated = True

    def memory_plan(self, request: Request, images: Sequence[ImageFile], largest: int) -> MemoryPlan:
        """How the budget is divided, beside what training itself takes."""
        return plan_memory(request.budget, images, self.settings.size, largest=largest)

    def learn(self, parts: Parts, memory: MemoryPlan, cache: FeatureCache | None, progress: Progress) -> Learned:
        """The classifier, and the embeddings of all parts."""
        known, _ = train(parts, self.settings, self.workplace)
        return Learned(known, embed_parts(known.extractor, parts, memory, cache, progress))


def train(
    parts: Parts, settings: ClassifierSettings, workplace: Workplace, *, start: Path | None = None
) -> tuple[Classifier, TrainedClassifier]:
    """A classifier whose network is trained, and what became of the training.

    The images are gathered in the folder of the workplace; those for calibration are not touched. See
    :func:`oddsight.training.classifiers.train_classifier`.
    """
    require_training()
    from oddsight.training.classifiers import train_classifier

    folder = workplace.folder
    assert folder is not None
    make_folder(folder)
    training, validation = (
        gather_arrays(part.images, part.labels, settings.size, folder / f"{name}.npy", workplace.progress)
        for name, part in (("training", parts.training), ("validation", parts.validation))
    )
    trained = train_classifier(training, validation, parts.training.classes, settings, workplace, start=start)
    record: dict[str, JsonValue] = {"classifier": settings.network, "settings": trained.settings.as_json()}
    return _as_classifier(trained, parts.training.classes, record), trained


def average(
    classes: tuple[str, ...], settings: ClassifierSettings, members: Sequence[Path], folder: Path
) -> tuple[Classifier, TrainedClassifier]:
    """A classifier whose network is the average of trained ones, and what became of it.

    See :func:`oddsight.training.classifiers.average_classifiers`.
    """
    require_training()
    from oddsight.training.classifiers import average_classifiers

    averaged = average_classifiers(classes, settings, members, folder)
    record: dict[str, JsonValue] = {
        "network": settings.network,
        "size": settings.size,
        "mirrored": settings.mirrored,
        "average_of": [member.name for member in members],
    }
    return _as_classifier(averaged, classes, record), averaged


def _as_classifier(trained: TrainedClassifier, classes: tuple[str, ...], record: Mapping[str, JsonValue]) -> Classifier:
    network = backbones.backbone(trained.backbone)
    extractor = Extractor(network, (trained.layer,), trained.settings.size, "embedding")
    return Classifier(extractor, Head(trained.weights, trained.bias), classes, record)
