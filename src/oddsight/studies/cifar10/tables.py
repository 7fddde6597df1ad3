"""The numbers of a study as rows: what its CSV files hold, and what its report says.

Shares, areas and probabilities are from 0 to 1; what does not apply is None, an empty field of the file.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError
from oddsight.metrics.classification import (
    accuracy,
    brier,
    confusion,
    expected_calibration_error,
    macro_average,
    negative_log_likelihood,
    per_class,
)
from oddsight.metrics.image import binomial_interval, decision
from oddsight.metrics.ood import auroc_interval, fpr_interval, ood_numbers, oscr
from oddsight.model.calibration import decide
from oddsight.studies.cifar10.recipes import RECIPES
from oddsight.studies.cifar10.results import Run, Scored, Study

# How well a run predicts classes; `_scaled` numbers are of probabilities after temperature scaling. `epochs` is 0 for a
# head on frozen features and for an average of networks; `seconds_with_start` includes the runs it is made from; `nll`
# is in nats, `brier` from 0 to 2.
ClassificationRow = namedtuple(
    "ClassificationRow",
    "run seed title size parameters epochs train_seconds seconds_with_start test_images accuracy accuracy_low "
    "accuracy_high macro_precision macro_recall macro_f1 nll nll_scaled brier brier_scaled ece ece_scaled temperature",
)

# How well a run predicts one class.
PerClassRow = namedtuple("PerClassRow", "run seed class_ precision recall f1 support")

# How many test images of one class a run predicted as one class; pairs that do not occur have no row.
ConfusionRow = namedtuple("ConfusionRow", "run seed truth predicted count")

# One epoch of one run.
CurveRow = namedtuple(
    "CurveRow",
    "run seed epoch train_loss validation_loss train_accuracy validation_accuracy learning_rate seconds",
)

# How well one score of one run distinguishes one set of unknown images from the test images. `fpr95` counts test
# images rejected when 95% of the unknown ones are, as OpenOOD v1.5; `fpr95_id_positive` unknown images accepted when
# 95% of the test images are, as OpenOOD v1. `threshold` is for the rate of the study, from the calibration images of
# this run; None if they are too few for it, and then so is all that follows.
OodRow = namedtuple(
    "OodRow",
    "run seed score unknown nearness known_images unknown_images auroc auroc_low auroc_high aupr_in aupr_out fpr95 "
    "fpr95_low fpr95_high fpr95_id_positive fpr95_id_positive_low fpr95_id_positive_high oscr fit_seconds threshold "
    "false_rejection_rate false_rejection_low false_rejection_high detection_rate detection_low detection_high "
    "precision recall f1",
)

# One answer of the shipped file about test images or unknown ones. `measure` is `accuracy`, `accuracy of accepted`,
# `rejected` or `rejected of mistakes`; `images_of` is `all classes`, `class`, or `near` or `far unknowns`; `asked` is
# the rate that the file promises, where it does.
ShippedRow = namedtuple("ShippedRow", "measure images_of name images count share low high asked")

# AUROC of a trivial baseline, in its better direction.
BaselineRow = namedtuple("BaselineRow", "unknown nearness images baseline auroc")


@dataclass(frozen=True)
class Tables:
    """All rows of a study, in the order of its runs, their scores and the sets of unknown images."""

    classification: tuple[ClassificationRow, ...]
    per_class: tuple[PerClassRow, ...]
    confusion: tuple[ConfusionRow, ...]
    curves: tuple[CurveRow, ...]
    ood: tuple[OodRow, ...]
    shipped: tuple[ShippedRow, ...]
    baselines: tuple[BaselineRow, ...]
    confidence: float  # of all intervals


def study_tables(study: Study, *, confidence: float = 0.95) -> Tables:
    """Measure everything that a study recorded."""
    if not study.runs:
        raise DataError(f"the study {study.name} has no runs: nothing was trained")
    return Tables(
        classification=tuple(_classification(study, run, confidence) for run in study.runs),
        per_class=tuple(row for run in study.runs for row in _per_class(study, run)),
        confusion=tuple(row for run in study.runs for row in _confusion(study, run)),
        curves=tuple(row for run in study.runs for row in _curves(run)),
        ood=tuple(row for run in study.runs for row in _ood(study, run, confidence)),
        shipped=tuple(_shipped(study, confidence)),
        baselines=tuple(
            BaselineRow(one.name, nearness(one.near), one.count, baseline, area)
            for one in study.unknowns
            for baseline, area in one.baselines.items()
        ),
        confidence=confidence,
    )


def nearness(near: bool) -> str:
    """The word for whether unknowns resemble the classes."""
    return "near" if near else "far"


def predictions(run: Run) -> NDArray[np.int64]:
    """The classes that a run names, int64 ``[n]``; the first of equals."""
    return np.asarray(run.logits.argmax(axis=1), np.int64)


def probabilities(run: Run, *, scaled: bool) -> NDArray[np.float64]:
    """Of the classes, ``[n, K]``, before or after temperature scaling."""
    from scipy.special import softmax

    return np.asarray(softmax(run.logits.astype(np.float64) / (run.temperature if scaled else 1.0), axis=1), np.float64)


def threshold_for(scored: Scored, rate: float) -> float | None:
    """The threshold for a false-rejection rate from calibration scores; None if they are too few for it."""
    try:
        return decide(scored.calibration, rate).threshold
    except DataError:
        return None


def seconds_with_start(study: Study, run: Run) -> float:
    """What training a run took, with the runs of the same seed that its recipe needs."""
    needed, names = [run.name], {run.name}
    while needed:
        recipe = RECIPES.get(needed.pop())
        new = [name for name in recipe.needs if name not in names] if recipe is not None else []
        needed += new
        names.update(new)
    return sum(one.seconds for one in study.runs if one.seed == run.seed and one.name in names)


def _classification(study: Study, run: Run, confidence: float) -> ClassificationRow:
    share, (low, high) = accuracy(run.labels, predictions(run), confidence)
    macro = macro_average(confusion(run.labels, predictions(run), len(study.data.classes)))
    plain, scaled = probabilities(run, scaled=False), probabilities(run, scaled=True)
    logits = run.logits.astype(np.float64) / run.temperature
    return ClassificationRow(
        *(run.name, run.seed, run.title, run.size, run.parameters, len(run.curves), run.seconds),
        *(seconds_with_start(study, run), len(run.labels), share, low, high, macro.precision, macro.recall, macro.f1),
        *(negative_log_likelihood(run.logits, run.labels), negative_log_likelihood(logits, run.labels)),
        *(brier(plain, run.labels), brier(scaled, run.labels)),
        *(expected_calibration_error(plain, run.labels), expected_calibration_error(scaled, run.labels)),
        run.temperature,
    )


def _per_class(study: Study, run: Run) -> Iterator[PerClassRow]:
    names = study.data.classes
    for name, row in zip(names, per_class(confusion(run.labels, predictions(run), len(names))), strict=True):
        yield PerClassRow(run.name, run.seed, name, row.precision, row.recall, row.f1, row.support)


def _confusion(study: Study, run: Run) -> Iterator[ConfusionRow]:
    names = study.data.classes
    counts = confusion(run.labels, predictions(run), len(names))
    for truth, predicted in np.argwhere(counts):
        yield ConfusionRow(run.name, run.seed, names[truth], names[predicted], int(counts[truth, predicted]))


def _curves(run: Run) -> Iterator[CurveRow]:
    for one in run.curves:
        rates = (one.train_loss, one.validation_loss, one.train_accuracy, one.accuracy, one.learning_rate)
        yield CurveRow(run.name, run.seed, one.epoch, *rates, one.seconds)


def _ood(study: Study, run: Run, confidence: float) -> Iterator[OodRow]:
    right = predictions(run) == run.labels
    for scored in run.scores:
        known, threshold = scored.known, threshold_for(scored, study.shipped.rate)
        for one in study.unknowns:
            unknown = scored.unknown[one.name]
            numbers = ood_numbers(known, unknown)
            yield OodRow(
                *(run.name, run.seed, scored.name, one.name, nearness(one.near), known.size, unknown.size),
                *(numbers.auroc, *auroc_interval(known, unknown, confidence), numbers.aupr_in, numbers.aupr_out),
                *(numbers.fpr95, *fpr_interval(known, unknown, confidence=confidence)),
                *(numbers.fpr95_id_positive, *fpr_interval(-unknown, -known, confidence=confidence)),
                *(oscr(known, right, unknown), scored.seconds),
                *((None,) * 10 if threshold is None else _decisions(known, unknown, threshold, confidence)),
            )


def _decisions(
    known: NDArray[np.float32], unknown: NDArray[np.float32], threshold: float, confidence: float
) -> tuple[float, ...]:
    """The last ten fields of a row, from the threshold on."""
    made = decision(known > threshold, unknown > threshold)
    rejected = binomial_interval(int((known > threshold).sum()), known.size, confidence)
    detected = binomial_interval(int((unknown > threshold).sum()), unknown.size, confidence)
    rates = (made.false_alarm_rate, *rejected, made.recall, *detected)
    return (threshold, *rates, made.precision, made.recall, made.f1)


def _shipped(study: Study, confidence: float) -> Iterator[ShippedRow]:
    file = study.shipped
    right, rejected = file.predicted == file.labels, file.rejected

    def row(measure: str, of: str, name: str, flags: NDArray[np.bool_], asked: float | None = None) -> ShippedRow:
        count, images = int(flags.sum()), flags.size
        low, high = binomial_interval(count, images, confidence) if images else (None, None)
        return ShippedRow(measure, of, name, images, count, count / images if images else None, low, high, asked)

    yield row("accuracy", "all classes", "", right)
    yield row("accuracy of accepted", "all classes", "", right[~rejected])
    yield row("rejected", "all classes", "", rejected, file.rate)
    yield row("rejected of mistakes", "all classes", "", rejected[~right])
    for index, name in enumerate(study.data.classes):
        own = file.labels == index
        yield row("accuracy", "class", name, right[own])
        yield row("accuracy of accepted", "class", name, right[own & ~rejected])
        yield row("rejected", "class", name, rejected[own])
    for one in study.unknowns:
        yield row("rejected", f"{nearness(one.near)} unknowns", one.name, file.found[one.name])
