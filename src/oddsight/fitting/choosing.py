"""Size, layers, penalty and score of a probe, chosen from the training images alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from oddsight import detectors
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor
from oddsight.data.class_images import stratified
from oddsight.data.dataset import Dataset
from oddsight.detectors import Detector
from oddsight.detectors.head import Head
from oddsight.fitting.classifiers import Probe, embed_images, probe
from oddsight.graphs.building import chain
from oddsight.metrics.classification import negative_log_likelihood
from oddsight.metrics.image import auroc
from oddsight.runtime.progress import Progress
from oddsight.runtime.sessions import run, session

SIDES = (224, 128, 64)
"""Sizes to choose from, beside the backbone's own."""

PENALTIES = (100.0, 10.0, 1.0, 1000.0)
"""Penalties of a probe's weights to choose from: images that differ little take small ones, and noise large ones."""

SCORES = (
    "energy+knn",
    *("knn", "energy", "gen", "msp", "nnguide", "mahalanobis", "relative-mahalanobis", "vim"),
)
"""Scores to choose from. The first, which reads both logits and distances, stays unless another is clearly better.

Sums with ``vim`` or ``mahalanobis`` are not among them: with fewer images than channels, the scores of their training
images have next to no spread to be measured in.
"""

_MARGIN = 0.01  # By how much an AUROC must be higher to count as better: a few classes say no more

_MOST = 1000  # Images that are looked at
_FEWEST = 6  # Images of a class, without which nothing is chosen
_SPLITS = 3
_SHARE = 1 / 3  # Of the images that are tested on
_LEFT_OUT = 6  # Classes that are unknown in turn, at most

Layers = tuple[str, ...]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and from what, as JSON can hold it."""

    source: Probe
    detector: Detector
    record: Mapping[str, JsonValue]


@dataclass(frozen=True)
class Open:
    """What is to be chosen."""

    size: bool
    layers: bool
    score: bool

    def choose(
        self,
        source: Probe,
        detector: Detector,
        training: Dataset,
        *,
        seed: int,
        cache: FeatureCache | None,
        progress: Progress,
    ) -> Choice:
        """Choose by cross-validation on at most 1,000 of the training images.

        Size and layers are those with the highest accuracy on images held out, each with the penalty that gives the
        best probabilities there. The score is the one that best detects
        the images of one class among those of the others, whose classifier never saw that class; each class is left
        out in turn. A score must be better than ``energy+knn`` by an AUROC of 0.01 to be preferred to it. With fewer
        than six images of a class, or for a score fewer than three classes, the defaults stay.
        """
        images = _some(training, seed)
        if min(images.counts().values()) < _FEWEST or not _divisible(images, range(seed, seed + _SPLITS)):
            return Choice(source, detector, {})
        record: dict[str, JsonValue] = {"images": len(images)}
        stages = self._stages(source)
        sizes = self._sizes(source)
        network = source.extractor.backbone
        everything = tuple(name for name in network.stages if any(name in layers for layers in stages))
        columns = _columns({name: network.stages[name][1] for name in everything})
        embeddings: dict[int, Rows] = {}
        for size in sizes:
            extractor = Extractor(network, everything, size, "embedding")
            embeddings[size] = embed_images(extractor, images.images, cache, progress)
        options = list(product(sizes, stages))
        rows = {
            (size, layers): embeddings[size][:, np.concatenate([columns[name] for name in layers])]
            for size, layers in options
        }
        tried: dict[tuple[int, Layers], _Tried] = {}
        for done, option in enumerate(options, 1):
            tried[option] = _try(rows[option], images, source, seed)
            progress("choosing size and layers", done, len(options))
        best = max(options, key=lambda option: tried[option].accuracy)
        record["accuracy"] = {
            f"{size} {'+'.join(layers)}": round(one.accuracy, 4) for (size, layers), one in tried.items()
        }
        source = source.at(*best, tried[best].penalty)
        if self.score and len(images.classes) > 2:
            areas = _areas(rows[best], images, source, seed, progress)
            if areas:
                best_score = max(SCORES, key=lambda name: areas[name] - _MARGIN * (name != SCORES[0]))
                detector = detectors.create(best_score, "classes")
                record["auroc"] = {name: round(value, 4) for name, value in areas.items()}
        return Choice(source, detector, record)

    def _sizes(self, source: Probe) -> list[int]:
        network, own = source.extractor.backbone, int(source.extractor.size)  # type: ignore[arg-type]
        if not self.size or network.fixed:
            return [own]
        return [own, *(side for side in SIDES if side != own and side % network.multiple == 0)]

    def _stages(self, source: Probe) -> list[Layers]:
        """The layers by default, those of methods that read embeddings, and both."""
        network, own = source.extractor.backbone, source.extractor.layers
        if not self.layers:
            return [own]
        others = network.layers["embedding"]
        both = tuple(name for name in network.stages if name in (*own, *others))
        return list(dict.fromkeys([own, others, both]))


def _some(training: Dataset, seed: int) -> Dataset:
    """At most so many images, a like share of each class."""
    if len(training) <= _MOST:
        return training
    _, some = stratified(training, _MOST / len(training), seed)
    return some


def _columns(widths: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Which columns of an embedding of several stages are of each."""
    ends = np.cumsum([*widths.values()])
    return {name: np.arange(end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)}


def _divisible(images: Dataset, seeds: Iterable[int]) -> bool:
    """Whether both parts of each split have images of every class: one group may be all that a class has."""
    return all(min(part.counts().values()) for seed in seeds for part in stratified(images, _SHARE, seed))


def _split(rows: Rows, images: Dataset, seed: int) -> tuple[tuple[Rows, Dataset], tuple[Rows, Dataset]]:
    """Embeddings with their images, divided in those to learn from and those to test on."""
    at = {image.content: row for row, image in enumerate(images.images)}
    first, second = (
        (rows[[at[image.content] for image in part.images]], part) for part in stratified(images, _SHARE, seed)
    )
    return first, second


@dataclass(frozen=True)
class _Tried:
    """What a probe reaches on images that it did not learn from, with the best of the penalties."""

    penalty: float
    accuracy: float


def _try(rows: Rows, images: Dataset, source: Probe, seed: int) -> _Tried:
    """Take the penalty whose probabilities are best (the least cross-entropy), over a few splits."""
    splits = [_split(rows, images, seed + number) for number in range(_SPLITS)]
    losses, accuracies = np.empty((2, len(PENALTIES), _SPLITS))
    for (at, penalty), (number, split) in product(enumerate(PENALTIES), enumerate(splits)):
        (learned, training), (tested, test) = split
        logits = probe(source.extractor, learned, training, penalty).head.logits(tested)
        losses[at, number] = negative_log_likelihood(logits, test.labels)
        accuracies[at, number] = (logits.argmax(axis=1) == test.labels).mean()
    best = int(losses.mean(axis=1).argmin())
    return _Tried(PENALTIES[best], float(accuracies[best].mean()))


def _areas(rows: Rows, images: Dataset, source: Probe, seed: int, progress: Progress) -> dict[str, float]:
    """How well each score tells a class that was left out, as an AUROC; the mean over classes."""
    left_out = np.random.default_rng(seed).permutation(len(images.classes))[:_LEFT_OUT].tolist()
    areas: dict[str, list[float]] = {name: [] for name in SCORES}
    for done, label in enumerate(left_out, 1):
        kept = np.flatnonzero(images.labels != label)
        known = images.subset(kept)
        classes = tuple(name for number, name in enumerate(images.classes) if number != label)
        known = Dataset(known.images, known.labels - (known.labels > label), classes)
        if not _divisible(known, [seed]):  # A group has images of several classes
            continue
        (learned, training), (tested, _) = _split(rows[kept], known, seed)
        head = probe(source.extractor, learned, training, source.penalty).head
        unknown = rows[images.labels == label]
        for name in SCORES:
            fitted = detectors.create(name, "classes").fit(learned, training.labels, head, seed=seed)
            areas[name].append(auroc(*_scores(head, fitted, (tested, unknown))))
        progress("choosing the score", done, len(left_out))
    return {name: float(np.mean(values)) for name, values in areas.items() if values}


def _scores(head: Head, fitted: Detector, sets: Sequence[Rows]) -> list[NDArray[np.float32]]:
    loaded = session(chain([head.graph(), fitted.graph()], ["score"]).SerializeToString(), threads=1)
    return [run(loaded, {"embedding": rows}, "embeddings")[0] for rows in sets]
