"""The numbers of a study of clouds as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, OddsightError
from oddsight.metrics.image import auroc, binomial_interval, decision
from oddsight.metrics.ood import auroc_interval
from oddsight.model.calibration import decide
from oddsight.studies.clouds.results import CloudStudy, Measured, SplitFacts, Trivial
from oddsight.studies.clouds.rows import (
    ALL,
    RATES,
    BaselineRow,
    CloudTables,
    CurveRow,
    Role,
    SceneRow,
    SplitRow,
    ThresholdRow,
)
from oddsight.studies.clouds.thresholds import three_ways


def cloud_tables(study: CloudStudy, *, confidence: float = 0.95) -> CloudTables:
    """Measure everything that a study recorded.

    Raises:
        OddsightError: If the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise OddsightError(f"the confidence must be between 0 and 1, not {confidence}")
    failed = (SceneRow._make([one.method, one.seed, one.side, "", *[None] * 22, one.reason]) for one in study.failed)
    return CloudTables(
        scenes=(*(row for one in study.measured for row in _scenes(study, one, confidence)), *failed),
        baselines=tuple(row for one in study.trivial for row in _baselines(one, confidence)),
        thresholds=tuple(row for one in study.measured for row in _thresholds(study, one, confidence)),
        splits=tuple(row for one in study.splits for row in _splits(one)),
        curves=tuple(row for one in study.measured for row in _curves(one)),
        confidence=confidence,
    )


def with_all(anomalous: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The scores of each class, and of all together where there are several."""
    whole = {ALL: np.concatenate(list(anomalous.values()))} if len(anomalous) > 1 else {}
    return {**anomalous, **whole}


def _scenes(study: CloudStudy, one: Measured, confidence: float) -> Iterator[SceneRow]:
    own = next(split for split in study.splits if (split.side, split.seed) == (one.side, one.seed))
    for name, scores in with_all(one.anomalous).items():
        low, high = auroc_interval(one.normal, scores, confidence)
        parts = (sum(own.training.values()), len(one.calibration), len(one.normal), len(scores))
        decided = [value for rate in RATES for value in _at(one, scores, rate)]
        yield SceneRow(
            *(one.method, one.seed, one.side, name, *parts, auroc(one.normal, scores), low, high),
            *(*decided, one.seconds, one.milliseconds, one.bytes, ""),
        )


def _at(one: Measured, scores: NDArray[np.float32], rate: float) -> tuple[float | None, ...]:
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


def _thresholds(study: CloudStudy, one: Measured, confidence: float) -> Iterator[ThresholdRow]:
    if one.training is None or one.method not in study.compared:
        return
    for threshold in three_ways(one.training, one.calibration, study.hand, study.rate):
        alarms = int((one.normal > threshold.value).sum())
        low, high = binomial_interval(alarms, len(one.normal), confidence)
        for name, scores in one.anomalous.items():
            way = (one.method, one.seed, one.side, threshold.way, threshold.value, threshold.asked)
            seen = (len(one.normal), alarms / len(one.normal), low, high)
            yield ThresholdRow(*way, *seen, name, len(scores), float((scores > threshold.value).mean()))


def _splits(one: SplitFacts) -> Iterator[SplitRow]:
    roles: dict[Role, Mapping[str, int]] = {
        "training": one.training,
        "calibration": one.calibration,
        "normal test": one.normal,
        "anomalous test": one.anomalous,
    }
    for role, counts in roles.items():
        for name, images in counts.items():
            yield SplitRow(one.side, one.seed, name, role, images)


def _curves(one: Measured) -> Iterator[CurveRow]:
    for row in one.curves:
        parts = ";".join(f"{name}={value:.6g}" for name, value in getattr(row, "losses", {}).items())
        losses = (row.train_loss, row.validation_loss)
        yield CurveRow(one.method, one.side, one.seed, row.epoch, *losses, row.learning_rate, row.seconds, parts)
