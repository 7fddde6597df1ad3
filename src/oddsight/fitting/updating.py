"""update(): a finished model that learns new normal images, with its own settings and with its guarantee."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oddsight.backbones.cache import FeatureCache
from oddsight.data.anomaly_folders import require_normal_folders
from oddsight.data.collection import Collection, ImageFile, seen, unpacked
from oddsight.data.grouping import AUTO, Groups
from oddsight.detectors import Detector
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.fitting.growing import grow
from oddsight.fitting.normal import fit
from oddsight.fitting.plan import FitPlan
from oddsight.fitting.scoring import score
from oddsight.fitting.settings import settings_of
from oddsight.model.model import Model
from oddsight.runtime.progress import Progress, silent
from oddsight.runtime.records import as_json
from oddsight.sources.collecting import collect_sources, described
from oddsight.sources.source import ImagesLike


@dataclass(frozen=True)
class Changes:
    """What an update changed; pairs are before and after.

    Attributes:
        images: Distinct images that were given, the old ones included.
        new: How many of them the old model did not know.
        forgotten: Images that the old model was fitted on and the new one was not.
        training: Images learned from.
        calibration: Calibration scores: one for each calibration image, or group of them.
        threshold: Of the score.
        false_alarm_rate: For which the thresholds were chosen; None for one set by hand.
        flagged: How many of the new images each model flags. The new model has learned from most of them.
        changed: How many of the new images got another decision.
        suspicious: New images that the old model flags strongly: they score above its highest calibration score by more
            than the standard deviation of these scores. They were learned from like all others.
    """

    images: int
    new: int
    forgotten: int
    training: tuple[int, int]
    calibration: tuple[int, int]
    threshold: tuple[float, float]
    false_alarm_rate: tuple[float | None, float | None]
    flagged: tuple[int, int]
    changed: int
    suspicious: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``update --json`` writes it."""
        return as_json(self)


@dataclass(frozen=True, eq=False)
class Update:
    """An updated model.

    Attributes:
        model: The new model; the old one stays as it is.
        changes: What is different.
        errors: Files that could not be read.
    """

    model: Model
    changes: Changes
    errors: tuple[ImageError, ...]


def update(
    model: Model,
    *images: ImagesLike,
    replace: bool = False,
    old: Sequence[ImagesLike] = (),
    backbone: str | None = None,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    groups: Groups = AUTO,
    memory: str | int | None = None,
    cache: FeatureCache | None = None,
    progress: Progress = silent,
    on_plan: Callable[[FitPlan], None] = lambda plan: None,
) -> Update:
    """Have a model learn new normal images: with the old ones, in their place, or on top of them.

    With ``replace`` or ``old`` it is fitted again with its own settings, and the result is, to the byte, what
    :func:`oddsight.fit` makes of the same images with these. They are divided anew, so that no calibration image is
    learned from, and the false-alarm rate holds as it does after a fit. Features of old images come from the cache;
    only new images, and what the cache has lost, pass through the backbone.

    Example:
        >>> model = oddsight.load("parts.onnx")
        >>> updated = oddsight.update(model, "test/good", old=["parts/good"])
        >>> updated.changes.new
        6
        >>> updated.model.save("parts-2.onnx")

    Args:
        model: As fitted or loaded.
        *images: New normal images, as :func:`oddsight.fit` takes them.
        replace: Learn from the new images only, such as after a change of camera.
        old: The images that the model was fitted on, to learn from them, too. With neither ``old`` nor ``replace``
            the new images are added to the memory bank of a method that has one (``knn``, ``patchcore``), at no cost
            for the old ones. No score can rise by that: the old calibration scores stay as upper bounds, and p-values
            and rate stay valid. No new image is calibrated on. Of the settings below only ``false_alarm_rate`` and
            ``confidence`` count.
        backbone: Where the model's backbone is, if it is a file.
        false_alarm_rate: By default the model's; if that was the smallest that its images could promise, 1% or the
            smallest that these can.
        confidence: By default the model's.
        groups: Which images belong together; see :func:`oddsight.fit`.
        memory: As for :func:`oddsight.fit`.
        cache: The feature cache; by default the user's.
        progress: Called with phase, done and total.
        on_plan: Called once with the plan before the work starts.

    Raises:
        DataError: The images are too few for the rate, or the model knows them all.
        OddsightError: ``replace`` and ``old`` are given, or neither for a method without a memory bank; the bank is
            full; the model was converted, knows classes, or its method or backbone is not there.
    """
    _check(model, replace=replace, old=old)
    settings = settings_of(model.metadata, backbone)
    if not replace and not len(old):
        grown, given = _grown(model, settings["method"], images, progress)
        if false_alarm_rate is not None:
            grown = grown.with_decision(false_alarm_rate=false_alarm_rate, confidence=confidence)
        return Update(grown, _changes(model, grown, given.images, progress), given.errors)
    settings |= {} if false_alarm_rate is None else {"false_alarm_rate": false_alarm_rate}
    settings |= {} if confidence is None else {"confidence": confidence}
    plans: list[FitPlan] = []

    def start(plan: FitPlan) -> None:
        plans.append(plan)
        on_plan(plan)

    new = fit(
        *images, *old, **settings, groups=groups, memory=memory, cache=cache, progress=progress, on_plan=start
    )  # fmt: skip
    return Update(new, _changes(model, new, plans[0].images, progress), tuple(plans[0].errors))


def _grown(
    model: Model, detector: Detector, images: Sequence[ImagesLike], progress: Progress
) -> tuple[Model, Collection]:
    """The model with new images in its bank, and all images that were given."""
    if not detector.grows:
        raise OddsightError(
            f"{detector.name} cannot learn new images without the old ones: name these, too (--with), or learn from "
            "the new ones only (--replace)"
        )
    require_normal_folders(images)
    collection, _ = collect_sources(*images, reading=model.reading, progress=progress)
    known = seen(model.metadata.training.images_seen)
    new = [image for image in collection.images if not known(image.content)]
    if not new:
        raise DataError(f"the model knows all {len(collection.images):,} images in {described(images)} already")
    return grow(model, detector, new, progress), collection


def _check(model: Model, *, replace: bool, old: Sequence[ImagesLike]) -> None:
    metadata = model.metadata
    if metadata.conversion is not None:
        raise OddsightError(
            f"the model was converted to {metadata.conversion.to}: update the model that it was made of, and export "
            "the result"
        )
    if metadata.classes is not None:
        raise OddsightError("the model knows classes, which an update cannot change: fit-classes on all images again")
    if metadata.types is not None:
        raise OddsightError(
            "the model names types of anomalies, which an update would not keep: update the model of normal images, "
            "and then name the types again (fit-classes --normal)"
        )
    if replace and len(old):
        raise OddsightError("to replace the old images and to learn from them, too, exclude each other: choose one")


def _changes(before: Model, after: Model, images: Sequence[ImageFile], progress: Progress) -> Changes:
    known, models = seen(before.metadata.training.images_seen), (before, after)
    new = [image for image in images if not known(image.content)]
    forgotten = {*unpacked(before.metadata.training.images_seen)} - {*unpacked(after.metadata.training.images_seen)}
    scores = [score(model, new, progress) for model in models]
    flags = [said.decisions(model) for said, model in zip(scores, models, strict=True)]
    calibration = before.calibration_scores
    far = float(calibration[-1] + np.std(calibration))
    return Changes(
        images=len(images),
        new=len(new),
        forgotten=len(forgotten),
        training=(before.metadata.training.images, after.metadata.training.images),
        calibration=(len(before.calibration_scores), len(after.calibration_scores)),
        threshold=(before.decision.threshold, after.decision.threshold),
        false_alarm_rate=(before.decision.false_alarm_rate, after.decision.false_alarm_rate),
        flagged=(sum(flag for flag, _ in flags[0]), sum(flag for flag, _ in flags[1])),
        changed=sum(one != other for one, other in zip(*flags, strict=True)),
        suspicious=tuple(str(one.path) for one, value in zip(new, scores[0].values, strict=True) if value > far),
    )
