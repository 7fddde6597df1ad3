"""fit_classes(): from labelled images to a model that names a class, or says that it is none of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from oddsight import backbones, detectors
from oddsight.backbones.cache import FeatureCache, default_cache
from oddsight.backbones.extraction import Extractor
from oddsight.data.class_images import ClassImages
from oddsight.data.classes import read_classes
from oddsight.data.decoding import memory_for_images
from oddsight.data.grouping import AUTO, Groups, group_images
from oddsight.data.memory import RUNNING, parse_bytes
from oddsight.detectors import Detector
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.fitting.assembly import assembled
from oddsight.fitting.classifiers import PROBE, Embeddings, frozen, probe, train
from oddsight.fitting.parts import Parts, divided
from oddsight.metrics.classification import temperature
from oddsight.model.calibration import (
    DEFAULT_RATE,
    advised_rate,
    check_confidence,
    check_rate,
    describe_rate,
    images_needed,
    smallest_rate,
)
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.runtime.bounds import check_seed, check_whole
from oddsight.runtime.progress import Progress, silent
from oddsight.training.classifier_settings import NETWORKS, ClassifierSettings, classifier_settings
from oddsight.training.libraries import require_training
from oddsight.training.workplace import Workplace

FINE_TUNED = "fine-tuned"
"""A classifier whose backbone learns, too."""

CLASSIFIERS = (PROBE, FINE_TUNED, *NETWORKS)

DEFAULT_FRACTION = 0.1


@dataclass(frozen=True)
class LabelledPlan:
    """What a fit is about to do, known before it starts.

    Attributes:
        parts: The images.
        errors: Files that could not be read.
        classifier: Of :data:`CLASSIFIERS`.
        rate: The false-rejection rate of the decision.
        near_copies: Whether groups are of near copies that were found, rather than named.
        settings: Of the training, or None for a probe.
    """

    parts: Parts
    errors: tuple[ImageError, ...]
    classifier: str
    rate: float
    near_copies: bool
    settings: ClassifierSettings | None


def fit_classes(  # noqa: PLR0913 - one keyword for each option of the command
    data: str | os.PathLike[str] | ClassImages,
    *,
    classifier: str = PROBE,
    backbone: str | None = None,
    layers: Sequence[str] | None = None,
    size: int | None = None,
    score: str | Detector = detectors.DEFAULTS["classes"],
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    per_class: bool = False,
    groups: Groups = AUTO,
    calibration_fraction: float | None = None,
    epochs: int | None = None,
    loss: str | None = None,
    extras: Sequence[str] | None = None,
    mirrored: bool | None = None,
    work: str | os.PathLike[str] | None = None,
    accelerator: str = "auto",
    memory: str | int = "1GB",
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: Progress = silent,
    on_plan: Callable[[LabelledPlan], None] = lambda plan: None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> Model:
    """Train a classifier and return a calibrated model, which predicts a class or says that it is none of them.

    Example:
        >>> model = oddsight.fit_classes("animals", size=64, false_alarm_rate=0.2)
        >>> model.classes
        ('cat', 'dog')
        >>> model.predict("animals/cat/0000.png").label
        'cat'

    Args:
        data: Labelled images, in a form that :func:`oddsight.data.classes.read_classes` reads. Only the training split
            is used.
        classifier: ``probe`` (linear on frozen features; needs no PyTorch), ``fine-tuned`` (the backbone is trained,
            too), ``compact``, ``wide`` or ``textbook`` (networks trained from scratch).
        backbone: For ``probe`` as :func:`oddsight.fit` takes it, for ``fine-tuned`` the name of a network that PyTorch
            can train; by default :data:`oddsight.backbones.DEFAULT`.
        layers: For ``probe``: the stages that are averaged for the embedding; by default the deepest.
        size: Side in pixels to which images are resized; by default the classifier's.
        score: The score that detects images of none of the classes: a name that ``oddsight scores`` lists, names
            joined by ``+``, or a detector with other settings.
        false_alarm_rate: Share of images of the known classes that may be rejected. By default 1%, or the smallest rate
            that the number of images can promise.
        confidence: The probability with which the true rate is at most that, such as 0.95; see :func:`oddsight.fit`.
        per_class: Whether the rate holds for each predicted class, by a threshold for each.
        groups: Which images belong together, as for :func:`oddsight.fit`. By default near copies within each class form
            groups.
        calibration_fraction: Share of the images of each class held out for calibration; as many again are held out for
            the temperature of the probabilities. By default a tenth.
        epochs: Number of epochs; by default the classifier's.
        loss: See :class:`oddsight.training.classifier_settings.ClassifierSettings`.
        extras: See :class:`oddsight.training.classifier_settings.ClassifierSettings`.
        mirrored: See :class:`oddsight.training.classifier_settings.ClassifierSettings`.
        work: A folder for checkpoints, to continue after an interruption.
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        memory: Memory budget of the process while it trains on embeddings; training a network takes more.
        seed: Seed of every random choice.
        cache: The feature cache; by default the user's.
        progress: Called with phase, done and total.
        on_plan: Called once with the plan before the work starts.
        on_epoch: Called with each new row of the learning curves.

    Raises:
        DataError: There are too few images or classes, or too few images for the rate, or an image is in two classes.
        MemoryBudgetError: The memory budget is too small.
        OddsightError: A setting is invalid.
    """
    if classifier not in CLASSIFIERS:
        raise OddsightError(f"no classifier {classifier!r}: there are {', '.join(CLASSIFIERS)}")
    seed, size = check_seed(seed), None if size is None else check_whole(size, "the size", None)
    false_alarm_rate = None if false_alarm_rate is None else check_rate(false_alarm_rate)
    confidence = None if confidence is None else check_confidence(confidence)
    chosen = detectors.create(score, "classes")
    budget = parse_bytes(memory)
    start: Extractor | ClassifierSettings
    if classifier == PROBE:
        _check_probe(epochs=epochs, loss=loss, extras=extras, mirrored=mirrored, work=work, accelerator=accelerator)
        start = frozen(backbones.DEFAULT if backbone is None else backbone, layers, size)
    else:
        start = _settings(classifier, backbone, layers, size, epochs, loss, extras, mirrored, seed)
    with memory_for_images(budget - RUNNING, final=True) as room:
        read = data if isinstance(data, ClassImages) else _training_split(data, progress)
    read = _grouped(read, groups, progress)
    parts = divided(read, DEFAULT_FRACTION if calibration_fraction is None else calibration_fraction, seed)
    rate = _reachable(parts, false_alarm_rate, confidence, per_class=per_class)
    near_copies = isinstance(groups, str) and groups == AUTO
    settings = None if isinstance(start, Extractor) else start
    on_plan(LabelledPlan(parts, read.errors, classifier, rate, near_copies, settings))
    cache = cache or default_cache()
    with ExitStack() as stack:
        if isinstance(start, Extractor):
            found = Embeddings(start, parts, memory, cache, progress, largest=room.largest)
            known = probe(start, found.training, parts.training)
        else:
            folder = Path(work) if work is not None else Path(stack.enter_context(TemporaryDirectory()))
            known, _ = train(parts, start, Workplace(folder, accelerator, progress, on_epoch))
            found = Embeddings(known.extractor, parts, memory, cache, progress, largest=room.largest)
        progress("learning", 0, 1)
        chosen.fit(found.training, parts.training.labels, known.head, seed=seed)
        progress("learning", 1, 1)
        return assembled(
            known,
            chosen,
            temperature(known.head.logits(found.validation), parts.validation.labels),
            found.training,
            found.calibration,
            parts,
            rate,
            confidence,
            per_class=per_class,
            seed=seed,
            unreadable=len(read.errors),
        )


def _check_probe(*, accelerator: str, **others: object) -> None:
    given = [name for name, value in others.items() if value is not None] + ["accelerator"] * (accelerator != "auto")
    if given:
        raise OddsightError(f"a probe trains no network, so it takes no {given[0]}: choose another classifier")


def _settings(
    classifier: str,
    backbone: str | None,
    layers: Sequence[str] | None,
    size: int | None,
    epochs: int | None,
    loss: str | None,
    extras: Sequence[str] | None,
    mirrored: bool | None,
    seed: int,
) -> ClassifierSettings:
    changes = {
        "epochs": epochs,
        "loss": loss,
        "extras": tuple(extras) if extras is not None else None,
        "mirrored": mirrored,
    }
    if backbone is not None and classifier != FINE_TUNED:
        raise OddsightError(f"the classifier {classifier} is a network of its own: leave the backbone out")
    if layers is not None:
        raise OddsightError(f"the classifier {classifier} reads the deepest layer of its network: leave the layers out")
    if size is not None:
        changes |= {"size": size, "first_size": 0}
    network = backbones.DEFAULT if backbone is None else backbone
    settings = classifier_settings(network if classifier == FINE_TUNED else classifier, seed=seed, **changes)
    require_training()
    return settings


def _training_split(data: str | os.PathLike[str], progress: Progress) -> ClassImages:
    splits = read_classes(data, progress=progress)
    if "train" not in splits:
        raise DataError(f"{os.fspath(data)} has no training images, only {', '.join(splits)}")
    return splits["train"]


def _grouped(data: ClassImages, groups: Groups, progress: Progress) -> ClassImages:
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


def _reachable(parts: Parts, rate: float | None, confidence: float | None, *, per_class: bool) -> float:
    """The rate asked for, or 1 %, or the smallest that this number of images promises."""
    count = min(parts.calibration.counts().values()) if per_class else len(parts.calibration)
    if rate is not None:
        if count < images_needed(rate, confidence):
            what = "groups of calibration images" if parts.groups is not None else "calibration images"
            each = " of each class" * per_class
            raise DataError(
                f"{describe_rate(rate, confidence)} needs at least {images_needed(rate, confidence):,} {what}{each}, "
                f"and there are {count:,}: add images or ask for {advised_rate(max(1, count), confidence):.3g} or more"
            )
        return rate
    # Fewer images are predicted as a class than belong to it where some are predicted as another.
    return max(DEFAULT_RATE, smallest_rate(max(1, count // 2) if per_class else count, confidence))
