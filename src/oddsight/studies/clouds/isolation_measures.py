"""How well maps isolate clouds: areas, overlaps and false alarms, over all scenes and over those that are hard.

Neighbouring pixels say much the same, so intervals come from drawing scenes anew, not pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from oddsight.metrics.pixel import pixel_metrics
from oddsight.studies.clouds.isolation_maps import RULES, Map, SceneMaps
from oddsight.studies.clouds.isolation_scenes import Scene

CONFIDENCE = 0.95
RESAMPLES = 1000

_BINS = 4000
_SAMPLED = 20_000

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Interval = tuple[float, float] | None  # By drawing scenes anew; None if it cannot be told


@dataclass(frozen=True)
class Group:
    """Pixels that are measured together."""

    name: str  # Of the group
    says: str  # What is in it
    ground: tuple[int, ...]  # Indices of the scenes whose clear pixels count
    clouds: tuple[int, ...]  # Indices of the scenes whose clouds count


ALL, BRIGHT = "all scenes", "bright ground"


def groups(scenes: Sequence[Scene]) -> tuple[Group, ...]:
    """All pixels, and those that are hard; groups without any cloud or any ground are left out."""
    every = tuple(range(len(scenes)))
    bright = tuple(index for index in every if scenes[index].bright)
    fair = tuple(index for index in every if not scenes[index].saturated)
    found = [
        Group(ALL, "all pixels of all scenes", every, every),
        Group(BRIGHT, "clear pixels of scenes with bright ground, and the clouds of all scenes", bright, every),
        Group("bright scenes alone", "all pixels of scenes with bright ground", bright, bright),
    ]
    if len(fair) < len(every):
        says = "all pixels of scenes that are not white throughout"
        found.append(Group("without saturated scenes", says, fair, fair))
    return tuple(
        group
        for group in found
        if any(scenes[index].cover < 1 for index in group.ground)
        and any(scenes[index].cover > 0 for index in group.clouds)
    )


@dataclass(frozen=True)
class Overlap:
    """What a threshold makes of the pixels of a group or scene; shares from 0 to 1."""

    iou: float  # Intersection of what is outlined and what is cloud, over their union
    f1: float  # Harmonic mean of precision and recall
    recall: float | None  # Share of the cloud pixels that is outlined; None without any
    false_alarms: float | None  # Share of the clear pixels that is outlined; None without any
    iou_interval: Interval = None
    f1_interval: Interval = None


@dataclass(frozen=True)
class Measurement:
    """One method or trivial measure on one group or scene; intervals and further areas are of groups."""

    # Chance that a cloud pixel has a higher value than a clear one, ties half; None of a scene of one sort
    auroc: float | None
    # By rule, see RULES; `iou` and `f1` of a scene without clouds are 1 if nothing is outlined, else 0
    outlined: Mapping[str, Overlap]
    auroc_interval: Interval = None
    average_precision: float | None = None  # Of cloud pixels
    aupro: float | None = None  # Up to a false-alarm rate of 0.3; None where clouds and ground are of different scenes


@dataclass(frozen=True, eq=False)
class Tally:
    """What a resampling of scenes needs of each scene."""

    clouds: Counts  # Cloud pixels in each bin of the map's value, `[scenes, bins]`
    ground: Counts  # Clear pixels likewise
    hits: Counts  # Cloud pixels outlined, `[scenes, rules]`
    alarms: Counts  # Clear pixels outlined, likewise


def tally(one: SceneMaps, scenes: Sequence[Scene]) -> Tally:
    """Count the pixels of every scene."""
    edges = _edges(one, len(scenes))
    clouds, ground = (np.zeros((len(scenes), len(edges) + 1), np.int64) for _ in range(2))
    hits, alarms = (np.zeros((len(scenes), len(RULES)), np.int64) for _ in range(2))
    for index, scene in enumerate(scenes):
        values, mask = one.read(index), scene.clouds()
        bins = np.searchsorted(edges, values.ravel(), side="right")
        clouds[index] = np.bincount(bins[mask.ravel()], minlength=len(edges) + 1)
        ground[index] = np.bincount(bins[~mask.ravel()], minlength=len(edges) + 1)
        for column, rule in enumerate(RULES):
            above = values > one.thresholds[index][rule]
            hits[index, column], alarms[index, column] = int(above[mask].sum()), int(above[~mask].sum())
    return Tally(clouds, ground, hits, alarms)


def _edges(one: SceneMaps, count: int) -> Map:
    """Values that divide the pixels of all scenes into bins of nearly equal size."""
    maps = (one.read(index).ravel() for index in range(count))
    sampled = np.concatenate([values[:: max(1, values.size // _SAMPLED)] for values in maps])
    return np.unique(np.quantile(sampled, np.linspace(0, 1, _BINS), method="nearest")).astype(np.float32)


def measure(one: SceneMaps, counts: Tally, group: Group, scenes: Sequence[Scene], draws: Counts) -> Measurement:
    """Measure a group: areas exactly, their intervals from counts in bins."""
    exact = pixel_metrics(lambda: _pixels(one, group, scenes))
    outlined = {}
    for column, rule in enumerate(RULES):
        now = _overlap(*_numbers(counts, group, column, np.ones((1, len(scenes)), np.int64))[:, 0].tolist())
        ious, f1s = overlaps_of(counts, group, draws, rule)
        outlined[rule] = replace(now, iou_interval=interval(ious), f1_interval=interval(f1s))
    aupro = exact.aupro if group.ground == group.clouds else None
    return Measurement(exact.auroc, outlined, interval(areas_of(counts, group, draws)), exact.average_precision, aupro)


def _pixels(one: SceneMaps, group: Group, scenes: Sequence[Scene]) -> Iterator[tuple[Map, NDArray[np.bool_]]]:
    """Maps and masks of a group; a row of those pixels that count if its clouds are of other scenes than its ground."""
    for index in sorted({*group.ground, *group.clouds}):
        values, mask = one.read(index), scenes[index].clouds()
        if group.ground != group.clouds:
            counted = (mask & (index in group.clouds)) | (~mask & (index in group.ground))
            if not counted.any():
                continue
            values, mask = values[counted][None], mask[counted][None]
        yield values, mask


def draw_scenes(count: int, seed: int) -> Counts:
    """How often each of ``count`` scenes is in each resample, ``[resamples, count]``."""
    rng = np.random.default_rng(seed)
    return np.stack([np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(RESAMPLES)])


def interval(values: Values) -> Interval:
    """Percentiles of what resamples gave, of those in which it could be told; None if that is less than half."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < RESAMPLES:
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def areas_of(counts: Tally, group: Group, draws: Counts) -> Values:
    """AUROC of every resample, with values in one bin counted as equal; NaN without a cloud or without ground."""
    # In double precision, for which matrix products are fast; counts are far below what it holds exactly.
    clouds = counts.clouds[list(group.clouds)].astype(np.float64)
    ground = counts.ground[list(group.ground)].astype(np.float64)
    # Pairs won by the clouds of each scene over the ground of each: resamples only weigh them.
    won = clouds @ (np.cumsum(ground, axis=1) - ground / 2).T
    own, other = draws[:, list(group.clouds)], draws[:, list(group.ground)]
    pairs = (own @ clouds.sum(axis=1)) * (other @ ground.sum(axis=1))
    return _divide(((own @ won) * other).sum(axis=1), pairs, pairs > 0)


def overlaps_of(counts: Tally, group: Group, draws: Counts, rule: str) -> tuple[Values, Values]:
    """IoU and F1 of every resample at the threshold of a rule; NaN without a cloud or without ground."""
    hits, alarms, clouds, ground = _numbers(counts, group, RULES.index(rule), draws).astype(np.float64)
    known = (clouds > 0) & (ground > 0)
    return _divide(hits, clouds + alarms, known), _divide(2 * hits, hits + alarms + clouds, known)


def _divide(values: Values, by: Values, known: NDArray[np.bool_]) -> Values:
    result: Values = np.divide(values, by, out=np.full(len(values), np.nan), where=known)
    return result


def _numbers(counts: Tally, group: Group, column: int, draws: Counts) -> Counts:
    """Hits, alarms, cloud pixels and clear pixels of every resample, ``[4, resamples]``."""
    clouds, ground = list(group.clouds), list(group.ground)
    return np.stack(
        [
            draws[:, clouds] @ counts.hits[clouds, column],
            draws[:, ground] @ counts.alarms[ground, column],
            draws[:, clouds] @ counts.clouds[clouds].sum(axis=1),
            draws[:, ground] @ counts.ground[ground].sum(axis=1),
        ]
    )


def _overlap(hits: int, alarms: int, clouds: int, ground: int) -> Overlap:
    """What pixels of either sort come to; where there are neither clouds nor alarms, all is right."""
    return Overlap(
        iou=hits / (clouds + alarms) if clouds + alarms else 1.0,
        f1=2 * hits / (hits + alarms + clouds) if hits + alarms + clouds else 1.0,
        recall=hits / clouds if clouds else None,
        false_alarms=alarms / ground if ground else None,
    )


def measure_scenes(one: SceneMaps, counts: Tally, scenes: Sequence[Scene]) -> tuple[Measurement, ...]:
    """Measure every scene on its own."""
    found = []
    for index, scene in enumerate(scenes):
        mixed = 0 < scene.cover < 1
        auroc = pixel_metrics(lambda: [(one.read(index), scene.clouds())]).auroc if mixed else None  # noqa: B023
        sums = int(counts.clouds[index].sum()), int(counts.ground[index].sum())
        pairs = zip(counts.hits[index].tolist(), counts.alarms[index].tolist(), strict=True)
        found.append(Measurement(auroc, {rule: _overlap(*own, *sums) for rule, own in zip(RULES, pairs, strict=True)}))
    return tuple(found)
