"""What the report on clouds says of thresholds, of isolating clouds, and of haze, smoke and dust: tables, figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from oddsight.detectors import METHODS
from oddsight.drawing.class_figures import bars
from oddsight.drawing.numbers import area, percent, signed, span
from oddsight.report.markdown import escape, table
from oddsight.studies.clouds.conclusions import Found
from oddsight.studies.clouds.figures import depth_curves, outlined_scenes, threshold_histogram
from oddsight.studies.clouds.isolation import Beaten, Isolation
from oddsight.studies.clouds.isolation_maps import MASKS, RATES, RULES, rate_rule
from oddsight.studies.clouds.isolation_measures import ALL, BRIGHT, CONFIDENCE
from oddsight.studies.clouds.isolation_scenes import BRIGHT as BRIGHTNESS
from oddsight.studies.clouds.isolation_scenes import SATURATED
from oddsight.studies.clouds.isolation_variants import VARIANTS
from oddsight.studies.clouds.protocol import CLEAR, Side
from oddsight.studies.clouds.results import Measured
from oddsight.studies.clouds.rows import ThresholdRow, Way
from oddsight.studies.clouds.severity import Seeing, Severity
from oddsight.studies.clouds.severity_curves import Point
from oddsight.studies.clouds.thresholds import rule_of_thumb, three_ways
from oddsight.studies.promise import promised

_DRAWN = 6
_RULES = {**{rate_rule(rate): f"{percent(rate)} of tiles" for rate in RATES}, MASKS: "from masks"}

_WAYS: tuple[Way, ...] = ("by hand", "mean + 3 sd", "conformal")

Figures = dict[str, Markup]


def name_side(side: Side, clouds: str) -> Markup:
    """What is normal on a side, in words."""
    return escape(f"all but {clouds} as normal" if side.name == CLEAR else f"{side.name} as normal")


def isolation_values(found: Isolation) -> tuple[dict[str, Any], Figures]:
    """What ``isolation.md.jinja`` prints, and its figures."""
    drawn = {f"isolation-{name.replace(' ', '-')}": _pixel_bars(found, name) for name in (ALL, BRIGHT)}
    figures = {name: svg for name, svg in drawn.items() if svg is not None}
    if found.shown:
        figures["isolation-scenes"] = outlined_scenes(found.shown)
    values = {
        "isolation": found,
        "verdicts": table(
            ("Pixels", "Best method", "AUROC", "Best baseline", "AUROC", "Difference", "Verdict"),
            _verdicts(found),
            words={1, 3, 6},
        ),
        "overlaps": table(
            ("Pixels", "Best method", "IoU", "Best baseline", "IoU", "Difference"), _overlaps(found), words={1, 3}
        ),
        "chosen": Counter(found.chosen).most_common(),
        "areas": [(group, _areas(found, group.name)) for group in found.groups],
        "thresholds": _thresholds(found),
        "scenes": _scenes(found),
        "composed": [one.name for one in found.judged if one.name in VARIANTS],
        "bright": [scene.name for scene in found.scenes if scene.bright],
        "saturated": [scene.name for scene in found.scenes if scene.saturated],
        "settings": [(one.name, one.settings) for one in found.judged if one.settings],
        "limits": {"bright": BRIGHTNESS, "saturated": SATURATED, "rates": " and ".join(map(percent, RATES))},
        "confidence": CONFIDENCE,
    }
    return values, figures


def verdict_of(best: Beaten) -> str:
    """What follows from the difference to the best trivial baseline and its interval."""
    if best.auroc <= 0:
        return "baseline wins" if best.lost else "no better than the baseline"
    if best.auroc_interval is None:
        return "better; too few scenes for an interval"
    return "beats the baseline" if best.surely else "better, but not significantly"


def _verdicts(found: Isolation) -> Iterator[tuple[object, ...]]:
    by_name = {one.name: one.groups for one in found.judged}
    for group in found.groups if found.best is not None else ():
        best = max((one for one in found.beaten if one.group == group.name), key=lambda one: one.auroc)
        own, trivial = (by_name[name][group.name].auroc for name in (best.method, best.trivial))
        apart = best.auroc_interval and _apart(*best.auroc_interval)
        yield group.name, best.method, area(own), best.trivial, area(trivial), apart, verdict_of(best)


def _overlaps(found: Isolation) -> Iterator[tuple[object, ...]]:
    by_name = {one.name: one.groups for one in found.judged}
    for group in found.groups if found.best is not None else ():
        best = max((one for one in found.beaten if one.group == group.name), key=lambda one: one.iou)
        own, trivial = (by_name[name][group.name].outlined[MASKS].iou for name in (best.method, best.overlap))
        apart = best.iou_interval and _apart(*best.iou_interval)
        yield group.name, best.method, area(own), best.overlap, area(trivial), apart


def _apart(low: float, high: float) -> str:
    return f"{signed(low)} to {signed(high)}"


def _pixel_bars(found: Isolation, group: str) -> Markup | None:
    if group not in {one.name for one in found.groups}:
        return None
    ranked = sorted(found.judged, key=lambda one: -one.groups[group].auroc)
    return bars(
        [f"{one.name} (trivial)" if one.trivial else one.name for one in ranked],
        [one.groups[group].auroc for one in ranked],
        [one.groups[group].auroc_interval for one in ranked],
        axis=f"pixel AUROC, {group}",
        start=0.5,
        end=1.0,
        name=f"isolation-{group.replace(' ', '-')}",
    )


def _areas(found: Isolation, group: str) -> Markup:
    rows = []
    for one in sorted(found.judged, key=lambda one: -one.groups[group].auroc):
        own = one.groups[group]
        sure = "" if own.auroc_interval is None else f" ({span(*own.auroc_interval)})"
        aupro = None if own.aupro is None else area(own.aupro)
        outlined = [f"{area(own.outlined[rule].iou)} / {area(own.outlined[rule].f1)}" for rule in RULES]
        sort = "baseline" if one.trivial else "method"
        rows.append((one.name, sort, f"{area(own.auroc)}{sure}", area(own.average_precision), aupro, *outlined))
    return table(("Method", "Sort", "AUROC", "AP", "AUPRO", *_RULES.values()), rows, words={1})


def _thresholds(found: Isolation) -> Markup:
    """What each threshold outlines, over all scenes and over bright ground."""
    hard = any(group.name == BRIGHT for group in found.groups)
    rows = []
    for one in sorted(found.judged, key=lambda one: -one.groups[ALL].auroc):
        for rule in RULES:
            whole = one.groups[ALL].outlined[rule]
            shares = [one.rates.get(rule), whole.recall, whole.false_alarms]
            shares += [one.groups[BRIGHT].outlined[rule].false_alarms or 0.0] if hard else []
            rows.append((one.name, _RULES[rule], *(None if share is None else percent(share) for share in shares)))
    heads = ("Method", "Threshold", "Rate kept", "Clouds", "Ground", *(("Bright ground",) if hard else ()))
    return table(heads, rows, words={1})


def _scenes(found: Isolation) -> Markup:
    """Every scene, by the best method and by trivial baselines."""
    shown = [one for one in found.judged if one.trivial or one.name == found.best]
    rows = []
    for index, scene in enumerate(found.scenes):
        cells = [percent(scene.cover), None if scene.ground is None else f"{scene.ground:.0f}"]
        for one in shown:
            own = one.scenes[index]
            cells += [None if own.auroc is None else area(own.auroc), area(own.outlined[MASKS].iou)]
        rows.append((scene.name, *cells))
    heads = [head for one in shown for head in (f"{one.name}: AUROC", "IoU")]
    bright = {index for index, scene in enumerate(found.scenes) if scene.bright}
    return table(("Scene", "Clouds", "Ground", *heads), rows, strong=bright)


def severity_values(found: Severity) -> tuple[dict[str, Any], Figures]:
    """What ``severity.md.jinja`` prints, and its figures."""
    figures: Figures = {}
    parts = []
    for kind in found.kinds:
        ranked = sorted(found.of(kind), key=_need)
        ways = [one for one in ranked if not one.trivial]
        # The methods and baselines that need least: more curves could not be distinguished.
        shown = ways[:_DRAWN] + [one for one in ranked if one.trivial][:2]
        mapped = [one for one in shown if _localises(one)]
        figures[f"severity-{kind}"] = depth_curves(
            shown, found.depths, "share detected", lambda point: point.share, name=f"severity-{kind}"
        )
        if mapped:
            figures[f"severity-pixels-{kind}"] = depth_curves(
                mapped, found.depths, "pixel AUROC", lambda point: point.pixel_auroc, name=f"severity-pixels-{kind}"
            )
        tables = {
            "onsets": _onsets(ranked, found.depths[-1]),
            "detected": _by_depth(ranked, found.depths, lambda one: f"{percent(one.share)} ({_shares(one)})"),
            "areas": _by_depth(ranked, found.depths, lambda one: None if one.auroc is None else area(one.auroc)),
            "pixels": _by_depth([one for one in ways if _localises(one)], found.depths, _pixels),
        }
        parts.append({"name": kind, "mapped": bool(mapped), **tables})
    rates = sorted({one.rate for one in found.seen})
    values = {
        "severity": found,
        "kinds": parts,
        "verdicts": table(
            ("Kind", "Method", "Half detected", "Detected from", "Best baseline", "Half detected", "Verdict"),
            [_verdict(found, kind) for kind in found.kinds],
            words={1, 4, 6},
        ),
        "kept": rates[-1] if rates and rates[-1] > found.rate * (1 + 1e-9) else None,
    }
    return values, figures


def _need(one: Seeing) -> tuple[float, float, float]:
    half, first = one.onset.half, one.onset.first
    most = float("inf")
    return (most if half is None else half, most if first is None else first, -one.curve.points[-1].share)


def _localises(one: Seeing) -> bool:
    return any(point.pixel_auroc is not None for point in one.curve.points)


def _verdict(found: Severity, kind: str) -> tuple[object, ...]:
    """Which method needs least of a kind, beside the best trivial baseline."""
    most = found.depths[-1]
    trivial = min((one for one in found.of(kind) if one.trivial), key=_need)
    best = min((one for one in found.of(kind) if not one.trivial), key=_need, default=None)
    if best is None:
        return kind, None, None, None, trivial.name, _depth(trivial.onset.half, most), "no method could be run"
    verdict = "baseline needs less" if _need(trivial) < _need(best) else "method needs less"
    if best.onset.half is None and best.onset.first is None:
        verdict = "not detected by any method"
    half, first = _depth(best.onset.half, most), _depth(best.onset.first, most, "g")
    return kind, best.name, half, first, trivial.name, _depth(trivial.onset.half, most), verdict


def _depth(depth: float | None, most: float, form: str = ".2g") -> str:
    return f"beyond {most:g}" if depth is None else format(depth, form)


def _title(one: Seeing) -> str:
    return f"{one.name}, {one.direction} (trivial)" if one.trivial else one.name


def _shares(point: Point) -> str:
    return span(*point.interval, percent)


def _pixels(point: Point) -> str | None:
    parts = [area(value) for value in (point.pixel_auroc, point.iou) if value is not None]
    return " / ".join(parts) or None


def _onsets(ranked: Sequence[Seeing], most: float) -> Markup:
    def to(ends: tuple[float | None, float | None], form: str) -> str:
        low, high = (_depth(end, most, form) for end in ends)
        return low if low == high else f"{low} to {high}"

    rows = [
        (
            _title(one),
            _depth(one.onset.half, most),
            to(one.onset.half_interval, ".2g"),
            _depth(one.onset.first, most, "g"),
            to(one.onset.first_interval, "g"),
            f"{percent(one.clear.share)} ({_shares(one.clear)})",
        )
        for one in ranked
    ]
    return table(("Method", "Half detected", "Interval", "Detected from", "Interval", "False alarms"), rows)


def _by_depth(ranked: Sequence[Seeing], depths: Sequence[float], cell: Callable[[Point], str | None]) -> Markup:
    rows = [(_title(one), *map(cell, one.curve.points)) for one in ranked]
    return table(("Method", *(f"{depth:g}" for depth in depths)), rows)


def threshold_values(found: Found, side: Side, runs: list[Measured], figures: Figures) -> dict[str, Any]:
    """Three ways to a threshold for the scores of one method on one side."""
    study, first = found.study, runs[0]
    name = f"thresholds-{study.compared.index(first.method) + 1}-{study.sides.index(side) + 1}"
    training = [one.training for one in runs if one.training is not None]
    ways = list(three_ways(training[0], first.calibration, study.hand, study.rate))
    figures[name] = threshold_histogram(first, ways, name)
    rows = [row for row in found.tables.thresholds if (row.method, row.normal) == (first.method, side.name)]
    heads = ("Threshold", "Value", "Rate promised", "False alarms", *(f"{kind} detected" for kind in side.anomalous))
    return {
        "method": first.method,
        "side": name_side(side, study.data.clouds),
        "figure": name,
        "seed": first.seed,
        "seeds": len(runs),
        "pixels": first.method not in METHODS or METHODS[first.method].reads == "pixels",
        "table": table((*heads, "Verdict"), _by_way(found, side, runs, rows), words={len(heads)}),
        **_describe_scores(runs, study.hand),
    }


def _by_way(found: Found, side: Side, runs: list[Measured], rows: list[ThresholdRow]) -> Iterator[tuple[object, ...]]:
    """False alarms, what is detected, and what follows, by way."""
    for way in _WAYS:
        own = [row for row in rows if row.way == way]
        first = [row for row in own if row.anomalous == side.anomalous[0]]
        asked = first[0].asked
        alarms = [row.false_alarm_rate for row in first]
        values = [row.threshold for row in first]
        verdict = "promises no rate" if np.mean(alarms) <= 0.5 else "flags most normal scenes"
        if asked is not None:
            verdict = _verdict_of_seeds(asked, runs, first, found.tables.confidence)
        shares = [[row.found for row in own if row.anomalous == kind] for kind in side.anomalous]
        yield (
            way,
            span(min(values), max(values), lambda value: f"{value:.4g}"),
            "none" if asked is None else percent(asked),
            *(span(min(each), max(each), percent) for each in (alarms, *shares)),
            verdict,
        )


def _verdict_of_seeds(asked: float, runs: Sequence[Measured], rows: Sequence[ThresholdRow], confidence: float) -> str:
    counts = [
        (len(one.calibration), row.normal_images, row.false_alarm_rate) for one, row in zip(runs, rows, strict=True)
    ]
    broken = sum(
        promised(asked, own, images, round(share * images), confidence).broken for own, images, share in counts
    )
    return f"promise broken in {broken} of {len(rows)} seeds" if broken else "compatible with the promise"


def _describe_scores(runs: list[Measured], hand: float) -> dict[str, float]:
    """What tells why a rule of thumb fails: where the scores lie, and how crooked they are."""
    from scipy.stats import skew

    calibration = np.concatenate([one.calibration for one in runs]).astype(np.float64)
    training = np.concatenate([one.training for one in runs if one.training is not None]).astype(np.float64)
    own = [(one.normal > rule_of_thumb(one.calibration)).mean() for one in runs]
    return {
        "median": float(np.median(calibration)),
        "below_hand": float((calibration <= hand).mean()),
        "training_lower": float(1 - training.mean() / calibration.mean()),
        "rule_on_calibration": float(np.mean(own)),
        "skewness": float(skew(calibration)),
    }
