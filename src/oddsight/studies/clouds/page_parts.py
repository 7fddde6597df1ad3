"""What the report on clouds says of thresholds, of isolating clouds, and of haze, smoke and dust: tables, figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from markupsafe import Markup

from oddsight.detectors import METHODS
from oddsight.drawing.class_figures import bars
from oddsight.drawing.numbers import area, percent, signed, span
from oddsight.model.promise import judge_promise
from oddsight.report.markdown import escape
from oddsight.studies.clouds.conclusions import Conclusions
from oddsight.studies.clouds.figures import depth_curves, outlined_scenes, threshold_histogram
from oddsight.studies.clouds.isolation import Difference, Isolation
from oddsight.studies.clouds.isolation_maps import MASKS, RATES, RULES, rate_rule
from oddsight.studies.clouds.isolation_measures import ALL, BRIGHT, CONFIDENCE
from oddsight.studies.clouds.isolation_scenes import BRIGHT as BRIGHTNESS
from oddsight.studies.clouds.isolation_scenes import SATURATED
from oddsight.studies.clouds.results import Measurement
from oddsight.studies.clouds.scenes import CLEAR, Side
from oddsight.studies.clouds.severity import Point, Severity, Visibility
from oddsight.studies.clouds.tables import ThresholdRow, rule_of_thumb, three_ways
from oddsight.studies.clouds.variants import VARIANTS

_DRAWN = 6
_RULES = {**{rate_rule(rate): f"{percent(rate)} of tiles" for rate in RATES}, MASKS: "from masks"}

Figures = dict[str, Markup]
Row = Sequence[object]


def name_side(side: Side, clouds: str) -> Markup:
    """What is normal on a side, in words."""
    return escape(f"all but {clouds} as normal" if side.name == CLEAR else f"{side.name} as normal")


def isolation_values(found: Isolation, figures: Figures) -> dict[str, Any]:
    """What ``isolation.md.jinja`` prints; its figures are added to the others."""
    names = [group.name for group in found.groups]
    for group in (ALL, BRIGHT):
        if group in names:
            figures[f"isolation-{group.replace(' ', '-')}"] = _pixel_bars(found, group)
    if found.shown:
        figures["isolation-scenes"] = outlined_scenes(found.shown)
    return {
        "isolation": found,
        "verdicts": list(_differences(found.areas)),
        "overlaps": [row[:-1] for row in _differences(found.overlaps)],
        "chosen": Counter(found.chosen).most_common(),
        "rules": list(_RULES.values()),
        "areas": [(group, list(_areas(found, group.name))) for group in found.groups],
        "hard": BRIGHT in names,
        "thresholds": list(_thresholds(found, hard=BRIGHT in names)),
        "shown": [one.name for one in found.judged if one.trivial or one.name == found.best],
        "scenes": list(_scenes(found)),
        "bright_rows": [index for index, scene in enumerate(found.scenes) if scene.bright],
        "composed": [one.name for one in found.judged if one.name in VARIANTS],
        "bright": [scene.name for scene in found.scenes if scene.bright],
        "saturated": [scene.name for scene in found.scenes if scene.saturated],
        "settings": [(one.name, one.settings) for one in found.judged if not one.trivial],
        "limits": {"bright": BRIGHTNESS, "saturated": SATURATED, "rates": " and ".join(map(percent, RATES))},
        "confidence": CONFIDENCE,
    }


def _differences(differences: Sequence[Difference]) -> Iterator[Row]:
    for one in differences:
        apart = one.interval and " to ".join(map(signed, one.interval))
        yield one.group, one.method, area(one.own), one.trivial, area(one.other), apart, one.verdict


def _pixel_bars(found: Isolation, group: str) -> Markup:
    ranked = sorted(found.judged, key=lambda one: -one.area(group))
    return bars(
        [f"{one.name} (trivial)" if one.trivial else one.name for one in ranked],
        [one.area(group) for one in ranked],
        [one.groups[group].auroc_interval for one in ranked],
        axis=f"pixel AUROC, {group}",
        start=0.5,
        name=f"isolation-{group.replace(' ', '-')}",
    )


def _areas(found: Isolation, group: str) -> Iterator[Row]:
    for one in sorted(found.judged, key=lambda one: -one.area(group)):
        own = one.groups[group]
        sure = "" if own.auroc_interval is None else f" ({span(*own.auroc_interval)})"
        aupro = None if own.aupro is None else area(own.aupro)
        outlined = (f"{area(own.outlined[rule].iou)} / {area(own.outlined[rule].f1)}" for rule in RULES)
        sort = "baseline" if one.trivial else "method"
        precision = area(own.average_precision or 0.0)
        yield one.name, sort, f"{area(one.area(group))}{sure}", precision, aupro, *outlined


def _thresholds(found: Isolation, *, hard: bool) -> Iterator[Row]:
    for one in sorted(found.judged, key=lambda one: -one.area(ALL)):
        for rule in RULES:
            whole = one.groups[ALL].outlined[rule]
            shares = [one.rates.get(rule), whole.recall, whole.false_alarms]
            shares += [one.groups[BRIGHT].outlined[rule].false_alarms or 0.0] if hard else []
            yield one.name, _RULES[rule], *(None if share is None else percent(share) for share in shares)


def _scenes(found: Isolation) -> Iterator[Row]:
    shown = [one for one in found.judged if one.trivial or one.name == found.best]
    for index, scene in enumerate(found.scenes):
        own = [one.scenes[index] for one in shown]
        areas = [(None if one.auroc is None else area(one.auroc), area(one.outlined[MASKS].iou)) for one in own]
        yield scene.name, percent(scene.cover), None if scene.ground is None else f"{scene.ground:.0f}", *chain(*areas)


def severity_values(found: Severity, figures: Figures) -> dict[str, Any]:
    """What ``severity.md.jinja`` prints; its figures are added to the others."""
    rates = sorted({one.rate for one in found.seen})
    return {
        "severity": found,
        "depths": [f"{depth:g}" for depth in found.depths],
        "kinds": [_kind(found, kind, figures) for kind in found.kinds],
        "verdicts": [_verdict(found, kind) for kind in found.kinds],
        "kept": rates[-1] if rates and rates[-1] > found.rate * (1 + 1e-9) else None,
    }


def _kind(found: Severity, kind: str, figures: Figures) -> dict[str, Any]:
    """What was seen of one kind, by what needs least of it first."""
    ranked = sorted(found.of(kind), key=_need)
    methods = [one for one in ranked if not one.trivial]
    # The methods and baselines that need least: more curves could not be distinguished.
    shown = methods[:_DRAWN] + [one for one in ranked if one.trivial][:2]
    mapped = [one for one in shown if _localises(one)]
    figures[f"severity-{kind}"] = depth_curves(shown, found.depths, share=True, name=f"severity-{kind}")
    if mapped:
        name = f"severity-pixels-{kind}"
        figures[name] = depth_curves(mapped, found.depths, share=False, name=name)
    return {
        "name": kind,
        "mapped": bool(mapped),
        "onsets": list(_onsets(ranked, found.depths[-1])),
        "detected": _by_depth(ranked, lambda point: f"{percent(point.share)} ({_shares(point)})"),
        "areas": _by_depth(ranked, lambda point: point.auroc if point.auroc is None else area(point.auroc)),
        "pixels": _by_depth([one for one in methods if _localises(one)], _pixels),
    }


def _need(one: Visibility) -> tuple[float, float, float]:
    most = float("inf")
    half, first = (most if depth is None else depth for depth in (one.onset.half, one.onset.first))
    return half, first, -one.points[-1].share


def _localises(one: Visibility) -> bool:
    return any(point.pixel_auroc is not None for point in one.points)


def _verdict(found: Severity, kind: str) -> Row:
    """Which method needs least of a kind, beside the best trivial baseline."""
    most = found.depths[-1]
    trivial = min((one for one in found.of(kind) if one.trivial), key=_need)
    best = min((one for one in found.of(kind) if not one.trivial), key=_need, default=None)
    baseline = (trivial.name, _depth(trivial.onset.half, most))
    if best is None:
        return kind, None, None, None, *baseline, "no method could be run"
    verdict = "baseline needs less" if _need(trivial) < _need(best) else "method needs less"
    if best.onset.half is None and best.onset.first is None:
        verdict = "not detected by any method"
    return kind, best.name, _depth(best.onset.half, most), _depth(best.onset.first, most, "g"), *baseline, verdict


def _depth(depth: float | None, most: float, form: str = ".2g") -> str:
    return f"beyond {most:g}" if depth is None else format(depth, form)


def _title(one: Visibility) -> str:
    return f"{one.name}, {one.direction} (trivial)" if one.trivial else one.name


def _shares(point: Point) -> str:
    return span(*point.interval, percent)


def _pixels(point: Point) -> str | None:
    return " / ".join(area(value) for value in (point.pixel_auroc, point.iou) if value is not None) or None


def _onsets(ranked: Sequence[Visibility], most: float) -> Iterator[Row]:
    for one in ranked:
        cells = [_title(one)]
        depths = (one.onset.half, one.onset.half_interval, ".2g"), (one.onset.first, one.onset.first_interval, "g")
        for depth, interval, form in depths:
            low, high = (_depth(end, most, form) for end in interval)
            cells += [_depth(depth, most, form), low if low == high else f"{low} to {high}"]
        yield *cells, f"{percent(one.false_alarms.share)} ({_shares(one.false_alarms)})"


def _by_depth(ranked: Sequence[Visibility], cell: Callable[[Point], str | None]) -> list[Row]:
    return [(_title(one), *map(cell, one.points)) for one in ranked]


def threshold_values(found: Conclusions, side: Side, runs: list[Measurement], figures: Figures) -> dict[str, Any]:
    """Three ways to a threshold for the scores of one method on one side."""
    study, first = found.study, runs[0]
    name = f"thresholds-{study.compared.index(first.method) + 1}-{study.sides.index(side) + 1}"
    assert first.training is not None
    figures[name] = threshold_histogram(
        first, three_ways(first.training, first.calibration, study.hand, study.rate), name
    )
    rows = [row for row in found.tables.thresholds if (row.method, row.normal) == (first.method, side.name)]
    return {
        "method": first.method,
        "side": name_side(side, study.clouds),
        "kinds": [f"{kind} detected" for kind in side.anomalous],
        "figure": name,
        "seed": first.seed,
        "seeds": len(runs),
        "pixels": first.method not in METHODS or METHODS[first.method].reads == "pixels",
        "rows": list(_by_way(found, side, runs, rows)),
        **_describe_scores(runs, study.hand),
    }


def _by_way(found: Conclusions, side: Side, runs: list[Measurement], rows: list[ThresholdRow]) -> Iterator[Row]:
    """False alarms, what is detected, and what follows, by way."""
    for way in dict.fromkeys(row.way for row in rows):
        own = [row for row in rows if row.way == way]
        first = [row for row in own if row.anomalous == side.anomalous[0]]
        asked, alarms = first[0].asked, [row.false_alarm_rate for row in first]
        values = [row.threshold for row in first]
        verdict = "promises no rate" if np.mean(alarms) <= 0.5 else "flags most normal scenes"
        if asked is not None:
            verdict = _verdict_of_seeds(asked, runs, first, found.tables.confidence)
        shares = [alarms, *([row.found for row in own if row.anomalous == kind] for kind in side.anomalous)]
        yield (
            way,
            span(min(values), max(values), "{:.4g}".format),
            "none" if asked is None else percent(asked),
            *(span(min(each), max(each), percent) for each in shares),
            verdict,
        )


def _verdict_of_seeds(
    asked: float, runs: Sequence[Measurement], rows: Sequence[ThresholdRow], confidence: float
) -> str:
    broken = 0
    for one, row in zip(runs, rows, strict=True):
        images, alarms = row.normal_images, round(row.false_alarm_rate * row.normal_images)
        broken += judge_promise(asked, len(one.calibration), images, alarms, confidence).broken
    return f"promise broken in {broken} of {len(rows)} seeds" if broken else "compatible with the promise"


def _describe_scores(runs: list[Measurement], hand: float) -> dict[str, float]:
    """What tells why a rule of thumb fails: where the scores lie, and how crooked they are."""
    from scipy.stats import skew

    calibration = np.concatenate([one.calibration for one in runs]).astype(np.float64)
    training = np.concatenate([one.training for one in runs if one.training is not None]).astype(np.float64)
    return {
        "median": float(np.median(calibration)),
        "below_hand": float((calibration <= hand).mean()),
        "training_lower": float(1 - training.mean() / calibration.mean()),
        "rule_on_calibration": float(np.mean([(one.normal > rule_of_thumb(one.calibration)).mean() for one in runs])),
        "skewness": float(skew(calibration)),
    }
