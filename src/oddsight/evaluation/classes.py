"""evaluate_classes(): a model that knows classes against labelled images, and against images of none of its classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile, seen
from oddsight.data.dataset import Dataset
from oddsight.errors import DataError, ImageError, plain, some, without_traceback
from oddsight.evaluation.overlap import refuse_overlap
from oddsight.metrics.classification import (
    ReliabilityBin,
    accuracy,
    calibration_gap,
    confusion,
    macro_average,
    per_class,
    reliability_of,
)
from oddsight.metrics.image import binomial_interval
from oddsight.metrics.ood import ood_numbers, oscr
from oddsight.model.calibration import chance_of_alarms
from oddsight.model.metadata import Metadata
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent, track


@dataclass(frozen=True, eq=False)
class ClassEvaluation:
    """Results of a model on images of its classes, and on images of none of them.

    Attributes:
        classes: Names of the classes.
        labels: The classes of the test images, int64 ``[n]``.
        predicted: The predicted classes, int64 ``[n]``.
        known: Results of the test images, in their order.
        unknown: Results of the images of each set of unknowns, by name.
        rate: The false-rejection rate that the model promises, or None if its threshold was set by hand.
        errors: Images that could not be read or scored.
        metadata: Metadata of the model.
        images: The test images, in their order.
        unknown_images: The images of each set of unknowns, in the order of their results.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    known: tuple[Result, ...]
    unknown: Mapping[str, tuple[Result, ...]]
    rate: float | None
    errors: tuple[ImageError, ...]
    metadata: Metadata
    images: tuple[ImageFile, ...]
    unknown_images: Mapping[str, tuple[ImageFile, ...]]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which test images are predicted as their own class, ``[n]``."""
        return np.equal(self.predicted, self.labels)

    @property
    def rejected(self) -> NDArray[np.bool_]:
        """Which test images are rejected, that is, predicted to be of none of the classes, ``[n]``."""
        return flagged(self.known)

    @property
    def reliability(self) -> list[ReliabilityBin]:
        """How far the probabilities of the predicted classes can be believed, in 15 ranges."""
        return reliability_of([result.label_probability or 0.0 for result in self.known], self.right)

    def to_json(self) -> dict[str, Any]:
        """As ``evaluate --labelled --json`` writes it; rates and areas are in [0, 1], intervals are 95% intervals."""
        table = confusion(self.labels, self.predicted, len(self.classes))
        share, interval = accuracy(self.labels, self.predicted)
        rejected, total = int(self.rejected.sum()), len(self.labels)
        accepted = ~self.rejected
        rows = zip(self.classes, per_class(table), strict=True)
        scores = scored(self.known)
        return {
            "images": total,
            "accuracy": share,
            "accuracy_ci": interval,
            "accuracy_of_accepted": float(self.right[accepted].mean()) if accepted.any() else None,
            "macro_f1": macro_average(table).f1,
            "expected_calibration_error": calibration_gap(self.reliability),
            "false_rejection_rate": rejected / total,
            "false_rejection_rate_ci": binomial_interval(rejected, total),
            "promised_rate": self.rate,
            "classes": {
                name: {
                    "images": row.support,
                    "precision": row.precision,
                    "recall": row.recall,
                    "f1": row.f1,
                    "rejected": float(self.rejected[self.labels == index].mean()) if row.support else None,
                }
                for index, (name, row) in enumerate(rows)
            },
            "confusion": table.tolist(),
            "unknown": {name: self._unknown_json(scores, found) for name, found in self.unknown.items()},
            "warnings": list(self.warnings),
            "errors": [{"path": error.path, "error": error.reason} for error in self.errors],
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """Caveats for the reader, one sentence each."""
        return tuple(_warnings(self))

    def _unknown_json(self, known: NDArray[np.float32], found: Sequence[Result]) -> dict[str, Any]:
        theirs, flags = scored(found), flagged(found)
        numbers = ood_numbers(known, theirs)
        return {
            "images": len(found),
            "auroc": numbers.auroc,
            "auroc_ci": numbers.auroc_ci,
            "aupr_in": numbers.aupr_in,
            "aupr_out": numbers.aupr_out,
            "fpr95": numbers.fpr95,
            "fpr95_id_positive": numbers.fpr95_id_positive,
            "oscr": oscr(known, self.right, theirs),
            "rejected": float(flags.mean()),
            "rejected_ci": binomial_interval(int(flags.sum()), len(flags)),
        }


def evaluate_classes(
    model: Model,
    data: Dataset,
    unknown: Mapping[str, Sequence[ImageFile]] | None = None,
    *,
    progress: Progress = silent,
) -> ClassEvaluation:
    """Evaluate a model that knows classes on labelled images and on images of none of its classes.

    Args:
        model: A model that knows classes; it is not changed.
        data: Labelled images. The model must know their classes, by name.
        unknown: Sets of images of none of the classes, by name.
        progress: Called with phase, done and total.

    Raises:
        DataError: The model knows no classes or other ones, a set has no images or none that can be scored, or images
            were used to fit the model.
    """
    if not model.classes:
        raise DataError("the model knows no classes: evaluate it on normal and anomalous images")
    strange = sorted(set(data.classes) - set(model.classes))
    if strange:
        names = plain(", ".join(model.classes))
        raise DataError(f"the model does not know the class {plain(strange[0])}: it knows {names}")
    sets = {f"images of {plain(name)}": images for name, images in (unknown or {}).items()}
    used = seen(model.metadata.training.images_seen)
    for what, images in {"labelled images": data.images, **sets}.items():
        if not images:
            raise DataError(f"there are no {what} to evaluate on")
        refuse_overlap(images, used, what, "were used to fit this model")
    contents = {image.content for image in data.images}
    for what, images in sets.items():
        refuse_overlap(images, contents.__contains__, what, "are among the labelled images, too")
    outcomes = _score_all(model, data.images, progress)
    known = _results(outcomes, "labelled images")
    others = {name: _score_all(model, images, progress) for name, images in (unknown or {}).items()}
    index = {name: number for number, name in enumerate(model.classes)}
    labels = [index[data.classes[label]] for label in data.labels]
    is_scored = [isinstance(outcome, Result) for outcome in outcomes]
    return ClassEvaluation(
        classes=model.classes,
        labels=np.array(labels, np.int64)[is_scored],
        predicted=np.array([index[str(result.label)] for result in known], np.int64),
        known=known,
        unknown={name: _results(them, f"images of {plain(name)}") for name, them in others.items()},
        rate=model.decision.false_alarm_rate,
        metadata=model.metadata,
        images=_scored(data.images, outcomes),
        unknown_images={name: _scored(images, others[name]) for name, images in (unknown or {}).items()},
        errors=(*data.errors, *_errors(outcomes), *_errors(chain.from_iterable(others.values()))),
    )


def _warnings(found: ClassEvaluation) -> Iterator[str]:
    rejected, total, calibration = int(found.rejected.sum()), len(found.labels), found.metadata.calibration
    by_class = found.metadata.classes is not None and found.metadata.classes.thresholds is not None
    if found.rate is not None and not by_class:
        chance = chance_of_alarms(rejected, total, found.rate, calibration.scores, found.metadata.decision.confidence)
        if chance < 0.01:
            yield (
                f"{rejected:,} of {total:,} images of known classes were rejected at a rate of {found.rate:.2%}, more "
                "than chance explains (1 evaluation in 100): these images differ from those of calibration."
            )
    counts = np.bincount(found.labels, minlength=len(found.classes))
    missing = [name for name, count in zip(found.classes, counts.tolist(), strict=True) if not count]
    if missing:
        yield f"Classes without test images: {some(missing)}; macro F1 counts them as 0."
    few = [name for name, count in zip(found.classes, counts.tolist(), strict=True) if 0 < count < 20]
    if few:
        yield f"Classes with fewer than 20 test images: {some(few)}; mind how little their rows can say."


def scored(results: Sequence[Result]) -> NDArray[np.float32]:
    """Their scores, ``[n]``."""
    return np.array([result.score for result in results], np.float32)


def flagged(results: Sequence[Result]) -> NDArray[np.bool_]:
    """Which are of none of the classes, ``[n]``."""
    return np.array([result.anomalous for result in results], np.bool_)


def _score_all(model: Model, images: Sequence[ImageFile], progress: Progress) -> list[Result | ImageError]:
    return list(track(map_jobs(partial(_score, model), images), "scoring", len(images), progress))


def _score(model: Model, image: ImageFile) -> Result | ImageError:
    try:
        return model.score(image.read(), source=str(image.path), one_core=True)
    except ImageError as error:
        return without_traceback(error)


def _results(outcomes: Sequence[Result | ImageError], what: str) -> tuple[Result, ...]:
    """Those that are no errors."""
    results = tuple(outcome for outcome in outcomes if isinstance(outcome, Result))
    if not results:
        raise DataError(f"none of the {what} could be scored; the first is {outcomes[0]}")
    return results


def _scored(images: Sequence[ImageFile], outcomes: Sequence[Result | ImageError]) -> tuple[ImageFile, ...]:
    """The images that have a result."""
    return tuple(image for image, outcome in zip(images, outcomes, strict=True) if isinstance(outcome, Result))


def _errors(outcomes: Iterable[Result | ImageError]) -> Iterator[ImageError]:
    return (outcome for outcome in outcomes if isinstance(outcome, ImageError))
