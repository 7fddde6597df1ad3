"""How settings stand to each other: on one dataset by paired tests, over several by ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oddsight import metrics
from oddsight.errors import DataError
from oddsight.evaluation.compare.cells import Cell, Setting
from oddsight.evaluation.compare.trials import Trial
from oddsight.metrics.significance import (
    Difference,
    Placements,
    averaged,
    cliques,
    critical_difference,
    delong,
    friedman,
    holm,
    placements,
    ranks,
)
from oddsight.metrics.trivial import BASELINES

Verdict = Literal["highest", "not distinguishable", "lower", "higher", "untested"]

LEAST_DATA_SETS = 3  # So many datasets it takes to test ranks


@dataclass(frozen=True)
class Numbers:
    """What one fitted model, or one baseline, did on the test images. Rates and areas lie in [0, 1]."""

    auroc: float
    auroc_interval: tuple[float, float]
    average_precision: float
    fpr95: float
    recall: float | None = None
    false_alarm_rate: float | None = None
    asked_rate: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    fit_seconds: float | None = None
    answer_ms: float | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Standing:
    """One setting, or one trivial baseline, on one dataset, over all seeds."""

    data: str  # The dataset
    label: str  # What tells it from the other settings
    setting: Setting | None  # None for a baseline
    seeds: tuple[int, ...]  # Those that could be computed
    each: tuple[Numbers, ...]  # Numbers by seed
    # Their mean. Its interval is the mean of the seeds' intervals, no narrower than that of a mean.
    mean: Numbers | None
    spread: tuple[float, float] | None = None  # Lowest and highest AUROC of the seeds
    # Of the test images, averaged over the seeds; see `oddsight.metrics.significance`
    placements: Placements | None = None
    # Against the method of the highest mean AUROC: `highest` itself, `not distinguishable` from it, `lower`; for a
    # baseline also `higher`; `untested` with fewer than two test images of a sort
    verdict: Verdict | None = None
    # To the highest, with the p-value of DeLong's test as it is; None where there is no test
    difference: Difference | None = None
    p_value: float | None = None  # That p-value after Holm's correction, over all methods, or over all baselines
    errors: tuple[str, ...] = ()  # What went wrong with seeds that are missing


@dataclass(frozen=True)
class Ranking:
    """Methods over several datasets. Lower ranks are better."""

    data: tuple[str, ...]  # Names of the datasets, `[n]`
    labels: tuple[str, ...]  # Settings by ascending mean rank, `[k]`
    table: NDArray[np.float64]  # Ranks by mean AUROC, `[n, k]`
    mean_ranks: NDArray[np.float64]  # `[k]`
    left_out: tuple[str, ...]  # Settings that failed on some dataset
    statistic: float | None  # Friedman's, or None with fewer than 3 datasets or 2 settings
    p_value: float | None  # Of Friedman's test
    critical_difference: float | None  # Nemenyi's; None where Friedman's test finds no difference
    groups: tuple[tuple[int, int], ...]  # Runs of settings that cannot be distinguished, as index of first and last


def numbers(cell: Cell, trial: Trial, confidence: float) -> Numbers:
    """All numbers of a cell that has been measured."""
    measured = cell.measured
    assert measured is not None
    truth = trial.test.anomalous
    scores = np.array(measured.scores)
    flags = scores > measured.threshold
    decided = metrics.decision(flags[~truth], flags[truth])
    return Numbers(
        *_ranked(scores[~truth], scores[truth], confidence),
        recall=decided.recall,
        false_alarm_rate=decided.false_alarm_rate,
        asked_rate=measured.false_alarm_rate,
        pixel_auroc=measured.pixel_auroc,
        aupro=measured.aupro,
        fit_seconds=measured.fit_seconds,
        answer_ms=measured.answer_ms,
        megabytes=measured.model_bytes / 1e6,
    )


def _ranked(
    normal: NDArray[np.float64], anomalous: NDArray[np.float64], confidence: float
) -> tuple[float, tuple[float, float], float, float]:
    return (
        metrics.auroc(normal, anomalous),
        metrics.bootstrap_interval(normal, anomalous, metrics.auroc, confidence=confidence),
        metrics.average_precision(normal, anomalous),
        metrics.fpr_at_tpr(normal, anomalous),
    )


def standings_on(trial: Trial, cells: Sequence[Cell], labels: dict[Setting, str], confidence: float) -> list[Standing]:
    """Every setting and every baseline on one dataset, highest mean AUROC first, failed ones last."""
    methods = [_standing(trial, setting, label, cells, confidence) for setting, label in labels.items()]
    found = [one for one in methods if one.mean is not None]
    failed = [one for one in methods if one.mean is None]
    baselines = [_baseline(trial, column, confidence) for column in range(len(BASELINES))]
    if found:
        best = max(found, key=_area)
        found = _tested(found, best, confidence)
        baselines = _tested(baselines, best, confidence)
    return [*sorted(found, key=_area, reverse=True), *sorted(baselines, key=_area, reverse=True), *failed]


def _area(one: Standing) -> float:
    assert one.placements is not None
    return round(one.placements.auroc, 12)  # so that rounding does not decide between equals


def _standing(trial: Trial, setting: Setting, label: str, cells: Sequence[Cell], confidence: float) -> Standing:
    own = [cell for cell in cells if cell.setting == setting]
    measured = [cell for cell in own if cell.measured is not None]
    truth = trial.test.anomalous
    each = tuple(numbers(cell, trial, confidence) for cell in measured)
    scores = [np.array(cell.measured.scores) for cell in measured if cell.measured is not None]
    return Standing(
        data=trial.name,
        label=label,
        setting=setting,
        seeds=tuple(cell.seed for cell in measured),
        each=each,
        mean=_mean(each) if each else None,
        spread=(min(one.auroc for one in each), max(one.auroc for one in each)) if each else None,
        placements=averaged([placements(one[~truth], one[truth]) for one in scores]) if scores else None,
        errors=tuple(dict.fromkeys(cell.error for cell in own if cell.error is not None)),
    )


def _baseline(trial: Trial, column: int, confidence: float) -> Standing:
    """A trivial score, read in whichever direction works better on these labels."""
    truth = trial.test.anomalous
    scores = trial.trivial[:, column]
    if metrics.auroc(scores[~truth], scores[truth]) < 0.5:
        scores = -scores
    own = Numbers(*_ranked(scores[~truth], scores[truth], confidence))
    placed = placements(scores[~truth], scores[truth])
    return Standing(trial.name, BASELINES[column], None, (), each=(own,), mean=own, placements=placed)


def _mean(each: Sequence[Numbers]) -> Numbers:
    values: dict[str, Any] = {}
    for field in fields(Numbers):
        column = [getattr(one, field.name) for one in each]
        values[field.name] = None if None in column else np.mean(column, axis=0).tolist()
    return Numbers(**values | {"auroc_interval": tuple(values["auroc_interval"])})


def _tested(rows: Sequence[Standing], best: Standing, confidence: float) -> list[Standing]:
    """The rows with a verdict against the best each."""
    others = [one for one in rows if one is not best]
    assert best.placements is not None
    try:
        differences = [delong(one.placements, best.placements) for one in others if one.placements is not None]
    except DataError:  # too few images
        return [replace(one, verdict="highest" if one is best else "untested") for one in rows]
    corrected = holm([one.p_value for one in differences])
    done = [replace(best, verdict="highest")] if best in rows else []
    for one, difference, p_value in zip(others, differences, corrected.tolist(), strict=True):
        verdict: Verdict = "not distinguishable"
        if p_value <= 1 - confidence:
            verdict = "lower" if difference.value < 0 else "higher"
        done.append(replace(one, verdict=verdict, difference=difference, p_value=p_value))
    return done


def ranking(data: Sequence[str], rows: Sequence[Standing], confidence: float) -> Ranking | None:
    """Rank the settings over datasets, and test whether they differ where there are enough; None for one dataset."""
    areas: dict[str, dict[str, float]] = {}
    for one in rows:
        if one.setting is not None:
            areas.setdefault(one.label, {}).update({one.data: _area(one)} if one.placements is not None else {})
    complete = [label for label, own in areas.items() if all(name in own for name in data)]
    if len(data) < 2 or len(complete) < 2:
        return None
    table = ranks([[areas[label][name] for label in complete] for name in data])
    order = np.argsort(table.mean(axis=0), kind="stable")
    table, labels = table[:, order], tuple(complete[index] for index in order)
    statistic = p_value = difference = None
    groups: list[tuple[int, int]] = []
    if len(data) >= LEAST_DATA_SETS:
        statistic, p_value = friedman(table)
        if p_value <= 1 - confidence:
            difference = critical_difference(len(labels), len(data), confidence)
            groups = cliques(table.mean(axis=0), difference)
    left_out = tuple(label for label in areas if label not in complete)
    mean_ranks = table.mean(axis=0)
    return Ranking(tuple(data), labels, table, mean_ranks, left_out, statistic, p_value, difference, tuple(groups))
