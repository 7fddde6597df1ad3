"""The numbers of a study as rows: what its CSV files hold, and what its report says.

Every row is flat, so that a table of rows is a CSV file. Shares, areas and probabilities are from 0 to 1; what does not
apply is None, and an empty field in the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oddsight.calibration import decide
from oddsight.classification_metrics import (
    accuracy,
    brier,
    confusion,
    expected_calibration_error,
    macro_average,
    negative_log_likelihood,
    per_class,
)
from oddsight.errors import DataError
from oddsight.metrics import binomial_interval
from oddsight.rejection_metrics import at_threshold, auroc_interval, fpr_interval, ood_numbers, oscr
from oddsight.studies.recipes import RECIPES
from oddsight.studies.results import Run, Scored, Shipped, Study

Nearness = Literal["near", "far"]


@dataclass(frozen=True)
class ClassificationRow:
    """How well a run names classes; ``_scaled`` numbers are of probabilities after temperature scaling.

    Attributes:
        epochs: 0 for a head on frozen features.
        seconds_with_start: Training, and that of the run it started from.
        nll: Mean negative log-likelihood in nats.
        brier: 0 to 2.
    """

    run: str
    seed: int
    title: str
    size: int
    parameters: int
    epochs: int
    train_seconds: float
    seconds_with_start: float
    test_images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    nll: float
    nll_scaled: float
    brier: float
    brier_scaled: float
    ece: float
    ece_scaled: float
    temperature: float


@dataclass(frozen=True)
class PerClassRow:
    """How well a run names one class."""

    run: str
    seed: int
    class_: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ConfusionRow:
    """How many test images of one class a run took for one class; pairs that do not occur have no row."""

    run: str
    seed: int
    truth: str
    predicted: str
    count: int


@dataclass(frozen=True)
class CurveRow:
    """One epoch of one run."""

    run: str
    seed: int
    epoch: int
    train_loss: float
    validation_loss: float
    train_accuracy: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class OodRow:
    """How well one score of one run tells one set of unknowns from the test images.

    Attributes:
        fpr95: Test images rejected when 95% of the unknowns are, as OpenOOD v1.5 counts.
        fpr95_id_positive: Unknowns accepted when 95% of the test images are, as OpenOOD v1 counted.
        fit_seconds: To fit the score.
        threshold: For the study's rate, from the calibration images of this run; None if they are too few for it, and
            then so is all that follows.
        false_rejection_rate: Test images above it.
        detection_rate: Unknowns above it; the recall of precision and F1.
    """

    run: str
    seed: int
    score: str
    unknown: str
    nearness: Nearness
    known_images: int
    unknown_images: int
    auroc: float
    auroc_low: float
    auroc_high: float
    aupr_in: float
    aupr_out: float
    fpr95: float
    fpr95_low: float
    fpr95_high: float
    fpr95_id_positive: float
    fpr95_id_positive_low: float
    fpr95_id_positive_high: float
    oscr: float
    fit_seconds: float
    threshold: float | None
    false_rejection_rate: float | None
    false_rejection_low: float | None
    false_rejection_high: float | None
    detection_rate: float | None
    detection_low: float | None
    detection_high: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ShippedRow:
    """One thing that the shipped file said of test images or of unknowns, from running the file itself.

    Attributes:
        measure: ``accuracy``, ``accuracy of accepted``, ``rejected`` or ``rejected of mistakes``.
        images_of: ``all classes``, ``class`` or ``near`` or ``far`` unknowns.
        name: Of the class or set.
        images: Whose share it is.
        count: Of them.
        share: None if there are no images.
        asked: The rate that the file promises, where it does.
    """

    measure: str
    images_of: str
    name: str
    images: int
    count: int
    share: float | None
    low: float | None
    high: float | None
    asked: float | None


@dataclass(frozen=True)
class BaselineRow:
    """AUROC of a measure that knows nothing, in its better direction."""

    unknown: str
    nearness: Nearness
    images: int
    baseline: str
    auroc: float


Row = ClassificationRow | PerClassRow | ConfusionRow | CurveRow | OodRow | ShippedRow | BaselineRow


@dataclass(frozen=True)
class Tables:
    """All rows of a study, in the order of its runs, their scores and the sets of unknowns.

    Attributes:
        confidence: Of all intervals.
    """

    classification: tuple[ClassificationRow, ...]
    per_class: tuple[PerClassRow, ...]
    confusion: tuple[ConfusionRow, ...]
    curves: tuple[CurveRow, ...]
    ood: tuple[OodRow, ...]
    shipped: tuple[ShippedRow, ...]
    baselines: tuple[BaselineRow, ...]
    confidence: float

    def csv_files(self) -> dict[str, bytes]:
        """The tables as CSV files, by name; numbers have six digits, a table without rows its heading."""
        kinds: dict[str, tuple[type, Sequence[Row]]] = {
            "classification": (ClassificationRow, self.classification),
            "per_class": (PerClassRow, self.per_class),
            "confusion": (ConfusionRow, self.confusion),
            "curves": (CurveRow, self.curves),
            "ood": (OodRow, self.ood),
            "shipped": (ShippedRow, self.shipped),
            "baselines": (BaselineRow, self.baselines),
        }
        return {f"{name}.csv": _csv(kind, rows) for name, (kind, rows) in kinds.items()}


def study_tables(study: Study, *, confidence: float = 0.95) -> Tables:
    """Measure everything that a study recorded.

    Args:
        study: What was found.
        confidence: Of all intervals, between 0 and 1.

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
    return run.logits.argmax(axis=1).astype(np.int64)


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
    """What training a run took, with the run of the same seed that its recipe starts from."""
    start = RECIPES[run.name].start if run.name in RECIPES else None
    before = next((one for one in study.runs if (one.name, one.seed) == (start, run.seed)), None)
    return run.seconds + (seconds_with_start(study, before) if before is not None else 0.0)


def _classification(study: Study, run: Run, confidence: float) -> ClassificationRow:
    share, (low, high) = accuracy(run.labels, predictions(run), confidence)
    macro = macro_average(confusion(run.labels, predictions(run), len(study.data.classes)))
    plain, scaled = probabilities(run, scaled=False), probabilities(run, scaled=True)
    return ClassificationRow(
        run=run.name,
        seed=run.seed,
        title=run.title,
        size=run.size,
        parameters=run.parameters,
        epochs=len(run.curves),
        train_seconds=run.seconds,
        seconds_with_start=seconds_with_start(study, run),
        test_images=len(run.labels),
        accuracy=share,
        accuracy_low=low,
        accuracy_high=high,
        macro_precision=macro.precision,
        macro_recall=macro.recall,
        macro_f1=macro.f1,
        nll=negative_log_likelihood(run.logits, run.labels),
        nll_scaled=negative_log_likelihood(run.logits.astype(np.float64) / run.temperature, run.labels),
        brier=brier(plain, run.labels),
        brier_scaled=brier(scaled, run.labels),
        ece=expected_calibration_error(plain, run.labels),
        ece_scaled=expected_calibration_error(scaled, run.labels),
        temperature=run.temperature,
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
        run.name,
        run.seed,
        scored.name,
        name,
        near,
        known.size,
        unknown.size,
        numbers.auroc,
        *auroc_interval(known, unknown, confidence),
        numbers.aupr_in,
        numbers.aupr_out,
        numbers.fpr95,
        *fpr_interval(known, unknown, confidence=confidence),
        numbers.fpr95_id_positive,
        *fpr_interval(-unknown, -known, confidence=confidence),
        oscr(known, right, unknown),
        scored.seconds,
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

    def row(
        measure: str, of: str, name: str, flags: NDArray[np.bool_], asked: float | None = None
    ) -> ShippedRow:
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


def _csv(kind: type, rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name.rstrip("_") for field in fields(kind)])
    writer.writerows([_field(value) for value in astuple(row)] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _field(value: Any) -> str:  # noqa: ANN401 - of any row
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
