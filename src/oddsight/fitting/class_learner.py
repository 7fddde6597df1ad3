"""How labelled images become a classifier, a detector of what is of no class, and a threshold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import JsonValue

from oddsight.backbones.cache import FeatureCache
from oddsight.data.class_images import ClassImages
from oddsight.data.classes import read_classes
from oddsight.data.collection import ImageFile
from oddsight.data.decoding import memory_for_images
from oddsight.data.grouping import AUTO, Groups, group_images
from oddsight.data.memory import RUNNING
from oddsight.data.reading import Reading
from oddsight.detectors import Detector
from oddsight.errors import DataError
from oddsight.fitting.assembly import CHECKED, Components
from oddsight.fitting.choosing import Open
from oddsight.fitting.classifiers import Classifier, Embeddings, Learned, Probe, TrainedNetwork, temperature_of
from oddsight.fitting.parts import Parts, divide_classes
from oddsight.fitting.plan import FitPlan, Request
from oddsight.graphs.building import chain, copied
from oddsight.graphs.naming import naming
from oddsight.graphs.neighbours import most_compared, nearest
from oddsight.model.calibration import DEFAULT_RATE, images_needed
from oddsight.model.outputs import read_score
from oddsight.model.sections import ClassesInfo
from oddsight.runtime.progress import Progress, track
from oddsight.runtime.sessions import run as run_graph
from oddsight.runtime.sessions import session
from oddsight.training.classifier_settings import ClassifierSettings

DEFAULT_FRACTION = 0.1
"""Share of the images of each class that is held out for calibration by default, if that is enough."""


@dataclass(frozen=True, kw_only=True)
class ClassPlan(FitPlan):
    """What a fit to labelled images is about to do, known before it starts."""

    parts: Parts  # The images with their classes
    settings: ClassifierSettings | None = None  # Of the training of a network, or None for a probe

    @property
    def folds(self) -> int:
        """See :attr:`FitPlan.folds`; where a class has few images, some folds have none."""
        if self.kind == "split" or self.parts.fold is None:
            return 1
        return len({*self.parts.fold.tolist()} - {-1})

    @classmethod
    def of(cls, parts: Parts, rate: float, request: Request) -> Self:
        """The plan for divided images."""
        return cls(
            images=parts.images,
            training=parts.training.images,
            calibration=parts.calibration.images,
            held=parts.held,
            duplicates=parts.duplicates,
            fingerprint=parts.fingerprint,
            rate=rate,
            request=request,
            kind=parts.kind,
            parts=parts,
        )


@dataclass(eq=False)
class ClassLearner:
    """Learns classes by a classifier, and by a detector what belongs to none of them; a learner of the pipeline."""

    detector: Detector
    source: Probe | TrainedNetwork
    data: str | os.PathLike[str] | ClassImages
    request: Request
    per_class: bool
    reading: Reading
    cache: FeatureCache | None
    progress: Progress
    left: Open  # What is chosen from the images

    def plan(self) -> ClassPlan:
        """Read the images, find their groups and divide them."""
        request = self.request
        with memory_for_images(request.budget - RUNNING, final=True) as room:
            read = (
                self.data
                if isinstance(self.data, ClassImages)
                else _training_split(self.data, self.reading, self.progress)
            )
        read = _find_groups(read, request.groups, self.progress)
        parts = divide(read, request, per_class=self.per_class, validated=self.source.validated)
        rate = _choose_rate(parts, request, per_class=self.per_class)
        memory = self.source.memory_plan(request, parts.images, room.largest)
        return replace(
            ClassPlan.of(parts, rate, request),
            errors=read.errors,
            memory=memory,
            adapted_to=self.source.adapted_to,
            settings=self.source.settings,
        )

    def learn(self, plan: ClassPlan) -> Components:
        """Train classifier and detector."""
        source, detector, seed = self.source, self.detector, plan.request.seed
        record: Mapping[str, JsonValue] = {}
        if isinstance(source, Probe) and any(vars(self.left).values()):
            training = plan.parts.training
            choice = self.left.choose(source, detector, training, seed=seed, cache=self.cache, progress=self.progress)
            source, detector, record = choice.source, choice.detector, choice.record
        learned = source.learn(plan.parts, plan.memory, self.cache, self.progress)
        known, rows, labels = learned.classifier, learned.embeddings.training, plan.parts.training.labels
        known = replace(known, record={**known.record, **({"chosen": dict(record)} if record else {})})
        self.progress("learning", 0, 1)
        measured = _cross_scores(detector, learned, plan, self.progress) if plan.kind == "cross" else None
        detector.fit(rows, labels, known.head, seed=seed)
        self.progress("learning", 1, 1)
        warmth = temperature_of(learned, plan.parts)
        return combine_classes(
            known, detector, warmth, learned.embeddings, plan, per_class=self.per_class, measured=measured
        )


Measured = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores of calibration images, and the classes that were predicted for them."""


def _cross_scores(detector: Detector, learned: Learned, plan: ClassPlan, progress: Progress) -> Measured:
    """Score each calibration image by a classifier and a detector that saw neither it nor any of its group."""
    rows, training = learned.embeddings.training, plan.parts.training
    scores, predicted = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
    calibrated = plan.parts.calibrated
    for fold in track(learned.folds, "calibrating in folds", len(learned.folds), progress):
        one = deepcopy(detector)
        one.fit(rows[fold.learned], training.labels[fold.learned], fold.head, seed=plan.request.seed)
        tail = chain([fold.head.graph(), naming(len(training.classes), 1.0), one.graph()], ["score", "class_index"])
        tested = np.intersect1d(fold.tested, calibrated)
        images = [training.images[at] for at in tested.tolist()]
        scores[tested], predicted[tested] = _score_embeddings(tail, rows[tested], images)
    return scores[calibrated], predicted[calibrated]


def divide(data: ClassImages, request: Request, *, per_class: bool, validated: bool) -> Parts:
    """Hold out the share asked for, or a tenth; where that is not enough for a rate of 1%, calibrate in folds.

    A rate above 1% needs fewer images, but a threshold that rests on few is a matter of luck, and folds cost little.
    What is ``validated`` has no folds: it is a network that is trained.
    """
    share = DEFAULT_FRACTION if request.fraction is None else request.fraction
    parts = divide_classes(data, share, request.seed, validated=validated)
    if request.fraction is not None or validated:
        return parts
    needed = images_needed(min(request.rate or DEFAULT_RATE, DEFAULT_RATE), request.confidence)
    if _promised(parts, per_class=per_class) >= needed:
        return parts
    return divide_classes(data, 0.0, request.seed, validated=validated)


def combine_classes(
    known: Classifier,
    detector: Detector,
    temperature: float,
    embeddings: Embeddings,
    plan: ClassPlan,
    *,
    per_class: bool,
    measured: Measured | None = None,
) -> Components:
    """What a model is assembled of: a classifier, a fitted detector, and their scores of the calibration images.

    These are ``measured``, or found here.

    Raises:
        ImageError: If the score of a calibration image is not one finite number.
    """
    extractor, names = known.extractor, known.classes
    shown = most_compared(extractor.reading, extractor.shape)
    neighbours = nearest(extractor.reading, extractor.shape, embeddings.training[:shown])
    pieces = [known.head.graph(), naming(len(names), temperature), detector.graph(), neighbours]
    outputs = ["score", "class_index", "class_probability", "nearest"]
    tail = chain([copied(one) for one in pieces], outputs)
    tested = len(plan.calibration) if measured is None else CHECKED
    found = _score_embeddings(tail, embeddings.calibration[:tested], plan.calibration[:tested])
    scores, predicted = found if measured is None else measured
    classes = ClassesInfo(names=list(names), head=dict(known.record), temperature=temperature, thresholds=None)
    return Components(
        extractor, detector, pieces, outputs, scores, found[0][:CHECKED], classes, predicted if per_class else None
    )


def _score_embeddings(
    graph: onnx.ModelProto, embeddings: NDArray[np.float32], images: Sequence[ImageFile]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores of embeddings of images, and the predicted classes."""
    loaded = session(graph.SerializeToString(), threads=1)
    scores, predicted = [], []
    for embedding, image in zip(embeddings, images, strict=True):
        score, index = run_graph(loaded, {"embedding": embedding[None]}, str(image.path), ["score", "class_index"])
        scores.append(read_score(score, str(image.path)))
        predicted.append(index[0])
    return np.array(scores, np.float32), np.array(predicted, np.int64)


def _training_split(data: str | os.PathLike[str], reading: Reading, progress: Progress) -> ClassImages:
    splits = read_classes(data, reading=reading, progress=progress)
    if "train" not in splits:
        raise DataError(f"{os.fspath(data)} has no training images, only {', '.join(splits)}")
    return splits["train"]


def _find_groups(data: ClassImages, groups: Groups, progress: Progress) -> ClassImages:
    """Images with their groups; near copies are looked for within each class."""
    if not (isinstance(groups, str) and groups == AUTO):
        return replace(data, images=group_images(data.images, groups, progress=progress))
    images = list(data.images)
    for label in range(len(data.classes)):
        # Copies of an image that is there more than once are left out later, and count as one.
        places = {images[index].content: index for index in np.flatnonzero(data.labels == label).tolist()}
        of_class = group_images([images[index] for index in places.values()], progress=progress)
        for index, image in zip(places.values(), of_class, strict=True):
            images[index] = image
    firsts = {image.content: image.group for image in images if image.group}
    return replace(data, images=tuple(replace(one, group=firsts.get(one.content, ""), sketch=b"") for one in images))


def _choose_rate(parts: Parts, request: Request, *, per_class: bool) -> float:
    """The rate asked for, or 1%, or the smallest that the images promise, of each class if that is asked."""
    count = min(parts.calibration.counts().values()) if per_class else len(parts.calibration)
    what = "groups of calibration images" if parts.held > len(parts.calibration) else "calibration images"
    promised = _promised(parts, per_class=per_class)
    return request.choose_rate(count, what + " of each class" * per_class, "images", promised=promised)


def _promised(parts: Parts, *, per_class: bool) -> int:
    """How many images the default rate may rest on."""
    if not per_class:
        return len(parts.calibration)
    # Fewer images are predicted as a class than belong to it where some are predicted as another.
    return max(1, min(parts.calibration.counts().values()) // 2)
