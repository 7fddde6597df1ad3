"""The numbers of a study of clouds as rows: what its CSV files hold.

Rates, shares and areas are from 0 to 1; what does not apply is None, an empty field of the file.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, OddsightError
from oddsight.metrics.image import auroc, binomial_interval, decision
from oddsight.metrics.ood import auroc_interval
from oddsight.model.calibration import decide
from oddsight.studies.clouds.results import CloudStudy, Measurement, SplitRow, Trivial
from oddsight.studies.clouds.variants import feasible_rate

ALL = "all classes"  # Stands for the images of all anomalous classes together

RATES = (0.01, 0.05)  # False-alarm rates at which every method is compared

THRESHOLD_METHODS = ("autoencoder", "dense-autoencoder", "denoising-autoencoder", "variational-autoencoder")
"""Methods whose scores are errors of reconstruction, for which thresholds by hand or by deviations are usual."""

_DEVIATIONS = 3

# One method by one seed against one anomalous class, or against :data:`ALL` of a side. `normal` is the side: `clear`,
# or the class that is normal. `threshold_1` is for a false-alarm rate of 1%, from the calibration images, and what ends
# in `_5` for 5%; None if they are too few for it. `learn_seconds` is with features at hand, `image_ms` of one core for
# one image by the whole file. A method that could not be run has an `error` and nothing else.
SceneRow = namedtuple(
    "SceneRow",
    "method seed normal anomalous training_images calibration_images normal_images anomalous_images auroc auroc_low "
    "auroc_high threshold_1 false_alarm_rate_1 precision_1 recall_1 f1_1 accuracy_1 threshold_5 false_alarm_rate_5 "
    "precision_5 recall_5 f1_5 accuracy_5 learn_seconds image_ms file_bytes error",
)

# A trivial baseline, read in whichever direction works better on these images; `anomalous_are` is `above` or `below`.
BaselineRow = namedtuple(
    "BaselineRow",
    "baseline seed normal anomalous normal_images anomalous_images auroc auroc_low auroc_high anomalous_are",
)

# One way to set a threshold for the scores of one method by one seed, and what follows for one anomalous class. `asked`
# is the false-alarm rate asked for, where the way takes one; `found` is the share of the class above the threshold.
ThresholdRow = namedtuple(
    "ThresholdRow",
    "method seed normal way threshold asked normal_images false_alarm_rate false_alarm_low false_alarm_high anomalous "
    "anomalous_images found",
)

# One epoch of one training; `parts` of the loss are `name=value`, separated by semicolons.
CurveRow = namedtuple("CurveRow", "method normal seed epoch train_loss validation_loss learning_rate seconds parts")


@dataclass(frozen=True)
class CloudTables:
    """All rows of a study."""

    scenes: tuple[SceneRow, ...]
    baselines: tuple[BaselineRow, ...]
    thresholds: tuple[ThresholdRow, ...]
    splits: tuple[SplitRow, ...]
    curves: tuple[CurveRow, ...]
    confidence: float  # of all intervals


def cloud_tables(study: CloudStudy, *, confidence: float = 0.95) -> CloudTables:
    """Measure everything that a study recorded."""
    if not 0 < confidence < 1:
        raise OddsightError(f"the confidence must be between 0 and 1, not {confidence}")
    failed = (SceneRow._make([one.method, one.seed, one.side, "", *[None] * 22, one.reason]) for one in study.failed)
    return CloudTables(
        scenes=(*(row for one in study.measured for row in _scenes(study, one, confidence)), *failed),
        baselines=tuple(row for one in study.trivial for row in _baselines(one, confidence)),
        thresholds=tuple(row for one in study.measured for row in _thresholds(study, one, confidence)),
        splits=study.splits,
        curves=tuple(row for one in study.measured for row in _curves(one)),
        confidence=confidence,
    )


def with_all(anomalous: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The scores of each class, and of all together where there are several."""
    whole = {ALL: np.concatenate(list(anomalous.values()))} if len(anomalous) > 1 else {}
    return {**anomalous, **whole}


def _scenes(study: CloudStudy, one: Measurement, confidence: float) -> Iterator[SceneRow]:
    trained = sum(row.images for row in study.splits if row[:2] == (one.side, one.seed) and row.role == "training")
    for name, scores in with_all(one.anomalous).items():
        low, high = auroc_interval(one.normal, scores, confidence)
        parts = (trained, len(one.calibration), len(one.normal), len(scores))
        decided = [value for rate in RATES for value in _at(one, scores, rate)]
        yield SceneRow(
            *(one.method, one.seed, one.side, name, *parts, auroc(one.normal, scores), low, high),
            *(*decided, one.seconds, one.milliseconds, one.bytes, ""),
        )


def _at(one: Measurement, scores: NDArray[np.float32], rate: float) -> tuple[float | None, ...]:
    """The fields of a row at a false-alarm rate; None if the calibration images are too few for it."""
    try:
        threshold = decide(one.calibration, rate).threshold
    except DataError:
        return (None,) * 6
    made = decision(one.normal > threshold, scores > threshold)
    accuracy = (made.tp + made.tn) / (len(one.normal) + len(scores))
    return threshold, made.false_alarm_rate, made.precision, made.recall, made.f1, accuracy


def _baselines(one: Trivial, confidence: float) -> Iterator[BaselineRow]:
    for name, values in with_all(one.anomalous).items():
        # In the measure's favour: what it reaches is no less than it could.
        above = auroc(one.normal, values) >= 0.5
        sign = 1 if above else -1
        normal, anomalous = sign * one.normal, sign * values
        areas = (auroc(normal, anomalous), *auroc_interval(normal, anomalous, confidence))
        counts = (len(normal), len(anomalous))
        yield BaselineRow(one.name, one.seed, one.side, name, *counts, *areas, "above" if above else "below")


def three_ways(
    training: NDArray[np.float32], calibration: NDArray[np.float32], hand: float, rate: float
) -> dict[str, tuple[float, float | None]]:
    """Thresholds that no test image has a part in: each with the false-alarm rate that it promises, if any."""
    possible = feasible_rate(rate, len(calibration))
    return {
        "by hand": (hand, None),
        "mean + 3 sd": (rule_of_thumb(training), None),
        "conformal": (decide(calibration, possible).threshold, possible),
    }


def rule_of_thumb(scores: NDArray[np.float32]) -> float:
    """Mean and three standard deviations."""
    values = scores.astype(np.float64)
    return float(values.mean() + _DEVIATIONS * values.std())


def _thresholds(study: CloudStudy, one: Measurement, confidence: float) -> Iterator[ThresholdRow]:
    if one.training is None or one.method not in study.compared:
        return
    for way, (value, asked) in three_ways(one.training, one.calibration, study.hand, study.rate).items():
        alarms = int((one.normal > value).sum())
        low, high = binomial_interval(alarms, len(one.normal), confidence)
        for name, scores in one.anomalous.items():
            seen = (len(one.normal), alarms / len(one.normal), low, high)
            detected = (name, len(scores), float((scores > value).mean()))
            yield ThresholdRow(one.method, one.seed, one.side, way, value, asked, *seen, *detected)


def _curves(one: Measurement) -> Iterator[CurveRow]:
    for row in one.curves:
        parts = ";".join(f"{name}={value:.6g}" for name, value in getattr(row, "losses", {}).items())
        losses = (row.train_loss, row.validation_loss)
        yield CurveRow(one.method, one.side, one.seed, row.epoch, *losses, row.learning_rate, row.seconds, parts)
