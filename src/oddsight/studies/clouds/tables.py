"""The numbers of a study of clouds as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.calibration import decide
from oddsight.errors import DataError, OddsightError
from oddsight.metrics import auroc, binomial_interval, decision
from oddsight.rejection_metrics import auroc_interval
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

    Args:
        study: What was found.
        confidence: Of all intervals, between 0 and 1.

    Raises:
        OddsightError: If the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise OddsightError(f"the confidence must be between 0 and 1, not {confidence}")
    failed = (SceneRow(one.method, one.seed, one.side, "", error=one.reason) for one in study.failed)
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
        yield SceneRow(
            method=one.method,
            seed=one.seed,
            normal=one.side,
            anomalous=name,
            training_images=sum(own.training.values()),
            calibration_images=len(one.calibration),
            normal_images=len(one.normal),
            anomalous_images=len(scores),
            auroc=auroc(one.normal, scores),
            auroc_low=low,
            auroc_high=high,
            **{name: value for rate in RATES for name, value in _at(one, scores, rate).items()},
            learn_seconds=one.seconds,
            image_ms=one.milliseconds,
            file_bytes=one.bytes,
        )


def _at(one: Measured, scores: NDArray[np.float32], rate: float) -> dict[str, Any]:
    """The fields of a row at a false-alarm rate; none if the calibration images are too few for it."""
    try:
        threshold = decide(one.calibration, rate).threshold
    except DataError:
        return {}
    made = decision(one.normal > threshold, scores > threshold)
    values = {
        "threshold": threshold,
        "false_alarm_rate": made.false_alarm_rate,
        "precision": made.precision,
        "recall": made.recall,
        "f1": made.f1,
        "accuracy": (made.tp + made.tn) / (len(one.normal) + len(scores)),
    }
    return {f"{name}_{100 * rate:.0f}": value for name, value in values.items()}


def _baselines(one: Trivial, confidence: float) -> Iterator[BaselineRow]:
    for name, values in with_all(one.anomalous).items():
        # In the measure's favour: what it reaches is no less than it could.
        above = auroc(one.normal, values) >= 0.5
        sign = 1 if above else -1
        yield BaselineRow(
            one.name,
            one.seed,
            one.side,
            name,
            len(one.normal),
            len(values),
            auroc(sign * one.normal, sign * values),
            *auroc_interval(sign * one.normal, sign * values, confidence),
            "above" if above else "below",
        )


def _thresholds(study: CloudStudy, one: Measured, confidence: float) -> Iterator[ThresholdRow]:
    if one.training is None or one.method not in study.compared:
        return
    for threshold in three_ways(one.training, one.calibration, study.hand, study.rate):
        alarms = int((one.normal > threshold.value).sum())
        low, high = binomial_interval(alarms, len(one.normal), confidence)
        for name, scores in one.anomalous.items():
            yield ThresholdRow(
                method=one.method,
                seed=one.seed,
                normal=one.side,
                way=threshold.way,
                threshold=threshold.value,
                asked=threshold.asked,
                normal_images=len(one.normal),
                false_alarm_rate=alarms / len(one.normal),
                false_alarm_low=low,
                false_alarm_high=high,
                anomalous=name,
                anomalous_images=len(scores),
                found=float((scores > threshold.value).mean()),
            )


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
