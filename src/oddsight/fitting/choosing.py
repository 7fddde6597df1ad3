"""Size, layers, penalty and score of a probe, chosen from the training images alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from oddsight import detectors
from oddsight.backbones.cache import FeatureCache
from oddsight.data.class_images import stratified
from oddsight.data.collection import count_groups
from oddsight.data.dataset import Dataset
from oddsight.detectors import Detector
from oddsight.detectors.head import Head
from oddsight.fitting.classifiers import Probe, embed_images, probe
from oddsight.graphs.building import chain
from oddsight.graphs.preprocessing import Size, size_text
from oddsight.metrics.classification import negative_log_likelihood
from oddsight.metrics.image import auroc
from oddsight.runtime.progress import Progress, silent, track
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
_FEWEST = 6  # Groups of images of a class, without which nothing is chosen
_SPLITS = 3
_SHARE = 1 / 3  # Of the images that are tested on
_LEFT_OUT = 6  # Classes that are unknown in turn, at most

Layers = tuple[str, ...]
Rows = NDArray[np.float32]
Split = tuple[NDArray[np.intp], NDArray[np.intp]]  # Where images to learn from are, and images to test on


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
        best probabilities there. The score is the one that best detects the images of one class among those of the
        others, whose classifier never saw that class; each class is left out in turn. A score must be better than
        ``energy+knn`` by an AUROC of 0.01 to be preferred to it. With fewer than six groups of images of a class, or
        for a score fewer than three classes, the defaults stay.
        """
        images = _some(training, seed)
        splits = [_split(images, seed + number) for number in range(_SPLITS)]
        whole = [split for split in splits if split is not None]
        of_class = (images.subset(np.flatnonzero(images.labels == label)) for label in range(len(images.classes)))
        if min(count_groups(own.images) for own in of_class) < _FEWEST or len(whole) < _SPLITS:
            return Choice(source, detector, {})
        record: dict[str, JsonValue] = {"images": len(images)}
        stages = self._stages(source)
        sizes = self._sizes(source)
        network = source.extractor.backbone
        everything = tuple(name for name in network.stages if any(name in layers for layers in stages))
        columns = _columns({name: network.stages[name][1] for name in everything})
        embeddings: dict[Size, Rows] = {}
        for size in sizes:
            extractor = replace(source.extractor, layers=everything, size=size)
            embeddings[size] = embed_images(extractor, images.images, cache, progress)
        options = list(product(sizes, stages))
        rows = {
            (size, layers): embeddings[size][:, np.concatenate([columns[name] for name in layers])]
            for size, layers in options
        }
        tried: dict[tuple[Size, Layers], _Tried] = {}
        for option in track(options, "choosing size and layers", len(options), progress):
            tried[option] = _try(rows[option], images, source, whole)
        best = max(options, key=lambda option: tried[option].accuracy)
        record["accuracy"] = {
            f"{size_text(size)} {'+'.join(layers)}": round(one.accuracy, 4) for (size, layers), one in tried.items()
        }
        source = source.at(*best, tried[best].penalty)
        if self.score and len(images.classes) > 2:
            found = areas(rows[best], images, source, seed, progress)
            if found:
                detector = detectors.create(best_score(found), "classes")
                record["auroc"] = {name: round(value, 4) for name, value in found.items()}
        return Choice(source, detector, record)

    def _sizes(self, source: Probe) -> list[Size]:
        """The probe's own, and others; what a model of normal images looks at stays as that model reads it."""
        network, own = source.extractor.backbone, source.extractor.size
        if not self.size or network.fixed or source.extractor.attention is not None:
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


def _split(images: Dataset, seed: int) -> Split | None:
    """Divide images; None if one part has none of a class: one group may be all that a class has."""
    at = {image.content: row for row, image in enumerate(images.images)}
    first, second = stratified(images, _SHARE, seed)
    if not all(min(part.counts().values()) for part in (first, second)):
        return None
    learned, tested = (np.array([at[image.content] for image in part.images]) for part in (first, second))
    return learned, tested


@dataclass(frozen=True)
class _Tried:
    """What a probe reaches on images that it did not learn from, with the best of the penalties."""

    penalty: float
    accuracy: float


def _try(rows: Rows, images: Dataset, source: Probe, splits: Sequence[Split]) -> _Tried:
    """Take the penalty whose probabilities are best (the least cross-entropy), over a few splits."""
    losses, accuracies = np.empty((2, len(PENALTIES), len(splits)))
    for (at, penalty), (number, (learned, tested)) in product(enumerate(PENALTIES), enumerate(splits)):
        head = probe(source.extractor, rows[learned], images.subset(learned), penalty).head
        logits, labels = head.logits(rows[tested]), images.labels[tested]
        losses[at, number] = negative_log_likelihood(logits, labels)
        accuracies[at, number] = (logits.argmax(axis=1) == labels).mean()
    best = int(losses.mean(axis=1).argmin())
    return _Tried(PENALTIES[best], float(accuracies[best].mean()))


def areas(rows: Rows, images: Dataset, source: Probe, seed: int, progress: Progress = silent) -> dict[str, float]:
    """How well each score tells a class that was left out, as an AUROC; the mean over up to six classes.

    ``rows`` are the embeddings of the images ``[n, C]``. Without a class that can be left out, the result is empty.
    """
    left_out = np.random.default_rng(seed).permutation(len(images.classes))[:_LEFT_OUT].tolist()
    found: dict[str, list[float]] = {name: [] for name in SCORES}
    for label in track(left_out, "choosing the score", len(left_out), progress):
        kept = np.flatnonzero(images.labels != label)
        known = images.subset(kept)
        classes = tuple(name for number, name in enumerate(images.classes) if number != label)
        known = Dataset(known.images, known.labels - (known.labels > label), classes)
        split = _split(known, seed)
        if split is None:  # A group has images of several classes
            continue
        learned, tested = split
        training = known.subset(learned)
        head = probe(source.extractor, rows[kept[learned]], training, source.penalty).head
        sets = rows[kept[tested]], rows[images.labels == label]
        for name in SCORES:
            fitted = detectors.create(name, "classes").fit(rows[kept[learned]], training.labels, head, seed=seed)
            found[name].append(auroc(*_scores(head, fitted, sets)))
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def best_score(areas: Mapping[str, float]) -> str:
    """The score of the highest area; another than the first only if it is clearly better."""
    return max(SCORES, key=lambda name: areas[name] - _MARGIN * (name != SCORES[0]))


def _scores(head: Head, fitted: Detector, sets: Sequence[Rows]) -> list[NDArray[np.float32]]:
    loaded = session(chain([head.graph(), fitted.graph()], ["score"]).SerializeToString(), threads=1)
    return [run(loaded, {"embedding": rows}, "embeddings")[0] for rows in sets]
