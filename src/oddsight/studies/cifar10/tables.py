"""The numbers of a study as rows: what its CSV files hold, and what its report says."""

from __future__ import annotations

from collections.abc import Iterator

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
from oddsight.metrics.image import binomial_interval
from oddsight.metrics.ood import at_threshold, auroc_interval, fpr_interval, ood_numbers, oscr
from oddsight.model.calibration import decide
from oddsight.studies.cifar10.recipes import RECIPES
from oddsight.studies.cifar10.results import Run, Scored, Shipped, Study
from oddsight.studies.cifar10.rows import (
    BaselineRow,
    ClassificationRow,
    ConfusionRow,
    CurveRow,
    Nearness,
    OodRow,
    PerClassRow,
    ShippedRow,
    Tables,
)


def study_tables(study: Study, *, confidence: float = 0.95) -> Tables:
    """Measure everything that a study recorded.

    Raises:
        DataError: If the arrays of the study do not fit together.
        OddsightError: If the confidence is not between 0 and 1.
    """
    if not study.runs:
        raise DataError(f"the study {study.name} has no runs: nothing was trained")
    return Tables(
        classification=tuple(_classification(study, run, confidence) for run in study.runs),
        per_class=tuple(row for run in study.runs for row in _per_class(study, run)),
        confusion=tuple(row for run in study.runs for row in _confusion(study, run)),
        curves=tuple(row for run in study.runs for row in _curves(run)),
        ood=tuple(row for run in study.runs for row in _ood(study, run, confidence)),
        shipped=tuple(_shipped(study, study.shipped, confidence)),
        baselines=tuple(
            BaselineRow(one.name, nearness(one.near), one.count, baseline, area)
            for one in study.unknowns
            for baseline, area in one.baselines.items()
        ),
        confidence=confidence,
    )


def nearness(near: bool) -> Nearness:
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
    table = confusion(run.labels, predictions(run), len(names))
    for truth, said in np.argwhere(table):
        yield ConfusionRow(run.name, run.seed, names[truth], names[said], int(table[truth, said]))


def _curves(run: Run) -> Iterator[CurveRow]:
    for one in run.curves:
        losses = (one.train_loss, one.validation_loss)
        yield CurveRow(
            run.name, run.seed, one.epoch, *losses, one.train_accuracy, one.accuracy, one.learning_rate, one.seconds
        )


def _ood(study: Study, run: Run, confidence: float) -> Iterator[OodRow]:
    right = predictions(run) == run.labels
    for scored in run.scores:
        threshold = threshold_for(scored, study.shipped.rate)
        for one in study.unknowns:
            yield _ood_row(run, scored, one.name, nearness(one.near), right, threshold, confidence)


def _ood_row(
    run: Run,
    scored: Scored,
    name: str,
    near: Nearness,
    right: NDArray[np.bool_],
    threshold: float | None,
    confidence: float,
) -> OodRow:
    known, unknown = scored.known, scored.unknown[name]
    numbers = ood_numbers(known, unknown)
    return OodRow(
        *(run.name, run.seed, scored.name, name, near, known.size, unknown.size),
        *(numbers.auroc, *auroc_interval(known, unknown, confidence), numbers.aupr_in, numbers.aupr_out),
        *(numbers.fpr95, *fpr_interval(known, unknown, confidence=confidence)),
        *(numbers.fpr95_id_positive, *fpr_interval(-unknown, -known, confidence=confidence)),
        *(oscr(known, right, unknown), scored.seconds),
        *((None,) * 10 if threshold is None else _decided(known, unknown, threshold, confidence)),
    )


def _decided(
    known: NDArray[np.float32], unknown: NDArray[np.float32], threshold: float, confidence: float
) -> tuple[float, ...]:
    """The last ten fields of a row, from the threshold on."""
    made = at_threshold(known, unknown, threshold)
    rejected = binomial_interval(int((known > threshold).sum()), known.size, confidence)
    found = binomial_interval(int((unknown > threshold).sum()), unknown.size, confidence)
    rates = (made.false_rejection_rate, *rejected, made.recall, *found)
    return (threshold, *rates, made.precision, made.recall, made.f1)


def _shipped(study: Study, file: Shipped, confidence: float) -> Iterator[ShippedRow]:
    names, right, rejected = study.data.classes, file.predicted == file.labels, file.rejected

    def row(measure: str, of: str, name: str, flags: NDArray[np.bool_], asked: float | None = None) -> ShippedRow:
        count, images = int(flags.sum()), flags.size
        low, high = binomial_interval(count, images, confidence) if images else (None, None)
        return ShippedRow(measure, of, name, images, count, count / images if images else None, low, high, asked)

    yield row("accuracy", "all classes", "", right)
    yield row("accuracy of accepted", "all classes", "", right[~rejected])
    yield row("rejected", "all classes", "", rejected, file.rate)
    yield row("rejected of mistakes", "all classes", "", rejected[~right])
    for index, name in enumerate(names):
        own = file.labels == index
        yield row("accuracy", "class", name, right[own])
        yield row("accuracy of accepted", "class", name, right[own & ~rejected])
        yield row("rejected", "class", name, rejected[own])
    for one in study.unknowns:
        yield row("rejected", f"{nearness(one.near)} unknowns", one.name, file.found[one.name])
