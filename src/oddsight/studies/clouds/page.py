"""The report on clouds: one self-contained HTML page, the same in Markdown, and its numbers as CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from oddsight.detectors import METHODS
from oddsight.drawing.class_figures import bars, curves_figure
from oddsight.drawing.image_grids import image_grid, rows_of
from oddsight.drawing.numbers import area, duration, p_text, percent, span
from oddsight.model.promise import Promise, judge_promise
from oddsight.report.markdown import fill_template, joined, write_report
from oddsight.runtime.csv_tables import csv_files, csv_of
from oddsight.studies.clouds.conclusions import Conclusions, Standing, conclude
from oddsight.studies.clouds.page_parts import (
    Figures,
    Row,
    isolation_values,
    name_side,
    severity_values,
    threshold_values,
)
from oddsight.studies.clouds.results import CloudStudy, Measurement, ShippedScenes
from oddsight.studies.clouds.scenes import CLEAR, Side
from oddsight.studies.clouds.tables import ALL, RATES, cloud_tables

_DECISIONS = ("false_alarm_rate", "precision", "recall", "f1", "accuracy")
_MOST_BARS = 30
_FEW = 100


def write_clouds(study: CloudStudy, folder: Path) -> list[Path]:
    """Write the report of a study and its CSV files: the same study always gives the same bytes.

    Returns:
        The files, the page first; not those in ``figures``.
    """
    found = conclude(study, cloud_tables(study))
    tables = csv_files(found.tables)
    if study.isolation is not None:
        tables["isolation.csv"] = csv_of(study.isolation.rows())
    if study.severity is not None:
        tables["severity.csv"] = csv_of(study.severity.rows())
    text, figures = clouds_page(found)
    return write_report(text, figures, tables, folder)


def clouds_page(found: Conclusions) -> tuple[str, Figures]:
    """The report in Markdown, and its figures by name."""
    study, facts = found.study, found.study.data
    figures: Figures = {}
    isolation = None if study.isolation is None else isolation_values(study.isolation, figures)
    severity = None if study.severity is None else severity_values(study.severity, figures)
    names = dict.fromkeys([*(one.method for one in study.measured), *(one.method for one in study.failed)])
    known = {name: METHODS[name] for name in names if name in METHODS}
    values = {
        "study": study,
        "facts": facts,
        "version": version("oddsight"),
        "summary": list(_summary(found)),
        "spread": _spread(found) if len(study.seeds) > 1 else None,
        "few": [side.name for side in study.sides if len(found.shipped(side.name).normal) < _FEW],
        "fewer_seeds": _fewer_seeds(found),
        "sizes": {
            name: joined([f"{width} \u00d7 {height}" for width, height in sizes], 3)
            for name, sizes in facts.sizes.items()
        },
        "common": {name: max(sizes, key=lambda size: sizes[size]) for name, sizes in facts.sizes.items()},
        "examples": _draw_examples(found, figures),
        "roles": dict.fromkeys(row.role for row in study.splits),
        "methods": known,
        "trained": [name for name, method in known.items() if method.needs],
        "sides": [_side(found, side, figures) for side in study.sides],
        "not_run": _not_run(found),
        "files": [_file(found, file, number, figures) for number, file in enumerate(study.shipped, 1)],
        "thresholds": [
            threshold_values(found, side, runs, figures)
            for method in study.compared
            for side in study.sides
            if (runs := [one for one in study.of(side.name, method) if one.training is not None])
        ],
        "curves": _draw_learning_curves(found, figures),
        "confidence": found.tables.confidence,
        "seconds": {what: duration(seconds) for what, seconds in study.seconds.items()},
        "clear": CLEAR,
        "isolation": isolation,
        "severity": severity,
    }
    return fill_template("oddsight.studies.clouds", "page.md.jinja", **values), figures


def keep_promise(found: Conclusions, file: ShippedScenes) -> Promise:
    """The false alarms of a file beside those it promises."""
    flagged = int((file.normal > file.threshold).sum())
    return judge_promise(file.rate, file.calibration, len(file.normal), flagged, found.tables.confidence)


def _summary(found: Conclusions) -> Iterator[Row]:
    for side in found.study.sides:
        own, file = found.default(side.name), found.shipped(side.name)
        hardest = min(own.classes, key=lambda name: own.areas[name])
        promise = keep_promise(found, file)
        detected = (
            f"{percent(float((scores > file.threshold).mean()))} of {name}" for name, scores in file.anomalous.items()
        )
        standings = found.standings[side.name]
        yield (
            name_side(side, found.study.clouds),
            f"{area(own.areas[hardest])} ({hardest})",
            f"{[one.method for one in standings].index(found.study.default) + 1} of {len(standings)}",
            f"{percent(promise.share)} ({promise.rejected:,} of {promise.images:,})",
            percent(file.rate),
            promise.verdict,
            ", ".join(detected),
        )


def _spread(found: Conclusions) -> float:
    """The largest difference between seeds of the AUROC of the shipped method on any class."""
    spans = [own.span(name) for side in found.study.sides for own in [found.default(side.name)] for name in own.classes]
    return max(high - low for low, high in spans)


def _fewer_seeds(found: Conclusions) -> list[tuple[Markup, Markup]]:
    """Methods that have fewer seeds than others, and these."""
    own: dict[tuple[int, ...], set[str]] = {}
    for one in (one for standings in found.standings.values() for one in standings):
        if len(one.seeds) < len(found.study.seeds):
            own.setdefault(one.seeds, set()).add(one.method)
    return [(joined(sorted(names), most=len(names)), joined(seeds)) for seeds, names in own.items()]


def _draw_examples(found: Conclusions, figures: Figures) -> bool:
    shown = {name: images for name, images in found.study.examples.items() if images}
    if shown:
        figures["examples-scenes"] = image_grid(list(shown.values()), list(shown), side=64)
    return bool(shown)


def _side(found: Conclusions, side: Side, figures: Figures) -> dict[str, Any]:
    """The numbers of one side, and whether there is a figure."""
    standings, own = found.standings[side.name], found.default(side.name)
    number = found.study.sides.index(side) + 1
    if len(standings) > 1:
        figures[f"areas-{number}"] = _bars(found, side, f"areas-{number}")
    rates = _rates(standings)
    return {
        "name": name_side(side, found.study.clouds),
        "side": side.name,
        "number": number,
        "anomalous": list(side.anomalous),
        "several": len(side.anomalous) > 1,
        "bars": len(standings) > 1,
        "shipped": {index for index, one in enumerate(standings) if one is own},
        "areas": list(_areas(found, side)),
        "contests": list(_contests(found, side)),
        "rates": rates,
        "decisions": [(one.method, *_decisions(one, one.whole, rates)) for one in standings],
        "by_class": [(name if name != ALL else "all together", *_decisions(own, name, rates)) for name in own.rows],
    }


def _areas(found: Conclusions, side: Side) -> Iterator[Row]:
    standings, several, seeds = found.standings[side.name], len(side.anomalous) > 1, len(found.study.seeds) > 1
    width = 1 + len(side.anomalous) + several + seeds + 3

    def row(*cells: object) -> Row:
        return [*cells, *[None] * (width - len(cells))]

    for one in standings:
        bounds = {name: span(one.mean(name, "auroc_low"), one.mean(name, "auroc_high")) for name in one.classes}
        mean = [f"{one.area:.4f}"] if several else []
        mean += [span(*one.span(one.whole)) if len(one.seeds) > 1 else "one"] if seeds else []
        learning, answer, size = (one.mean(one.whole, field) for field in ("learn_seconds", "image_ms", "file_bytes"))
        cost = (duration(learning), f"{answer:.3g}", f"{size / 1e6:.1f}")
        yield row(one.method, *(f"{area(one.areas[name])} ({bounds[name]})" for name in one.classes), *mean, *cost)
    for name, kinds in _baselines(found, side):
        mean = [f"{sum(kinds.values()) / len(kinds):.4f}"] if several else []
        yield row(f"({name})", *(area(kinds[kind]) for kind in side.anomalous), *mean)
    failed = dict.fromkeys(one.method for one in found.study.failed if one.side == side.name)
    yield from (row(name, "not run") for name in failed if name not in {one.method for one in standings})


def _baselines(found: Conclusions, side: Side) -> list[tuple[str, dict[str, float]]]:
    """AUROC of trivial baselines by class, the mean over seeds; the best first."""
    rows: dict[str, dict[str, list[float]]] = {}
    for row in found.tables.baselines:
        if row.normal == side.name and row.anomalous in side.anomalous:
            rows.setdefault(row.baseline, {}).setdefault(row.anomalous, []).append(row.auroc)
    means = {name: {kind: sum(own) / len(own) for kind, own in kinds.items()} for name, kinds in rows.items()}
    return sorted(means.items(), key=lambda item: -sum(item[1].values()))


def _contests(found: Conclusions, side: Side) -> Iterator[Row]:
    """The shipped method against the best other method and the best trivial baseline, class by class."""
    for kind in side.anomalous:
        cells: list[object] = [kind, area(found.default(side.name).areas[kind])]
        for trivial in (False, True):
            rival = found.best_rival(side.name, kind, trivial=trivial)
            if rival is None:
                cells += [None, None, None, "none"]
            else:
                chance = None if rival.p_value is None else p_text(rival.p_value)
                cells += [rival.rival, area(rival.area), chance, rival.conclusion]
        yield cells


def _bars(found: Conclusions, side: Side, name: str) -> Markup:
    standings = found.standings[side.name][:_MOST_BARS]
    bounds = [one.interval for one in standings]
    best, kinds = _baselines(found, side)[0]
    trivial = sum(kinds.values()) / len(kinds)
    least = min([*(one.area for one in standings), trivial, *(low for low, _ in bounds)])
    return bars(
        [one.method for one in standings],
        [one.area for one in standings],
        bounds,
        axis="AUROC, mean over anomalous classes",
        start=0.5 if least < 0.9 else 0.9,
        references={f"{best} alone": trivial},
        name=name,
    )


def _rates(standings: Sequence[Standing]) -> list[int]:
    """The false-alarm rates in percent that some method can promise."""
    named = [round(100 * rate) for rate in RATES]
    return [rate for rate in named if any(one.knows(one.whole, f"false_alarm_rate_{rate}") for one in standings)]


def _decisions(one: Standing, name: str, rates: Sequence[int]) -> Iterator[str | None]:
    for rate in rates:
        for field in _DECISIONS:
            known = one.knows(name, f"{field}_{rate}")
            yield (area if field == "f1" else percent)(one.mean(name, f"{field}_{rate}")) if known else None


def _not_run(found: Conclusions) -> list[Row]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in found.study.failed:
        reasons.setdefault((one.method, one.reason), []).append(f"{one.side}, seed {one.seed}")
    return [(name, joined(where, 3), reason) for (name, reason), where in reasons.items()]


def _file(found: Conclusions, file: ShippedScenes, number: int, figures: Figures) -> dict[str, Any]:
    """A shipped file: its facts, and its images where there are some."""
    galleries = {"missed": file.missed, "alarms": file.alarms, "found": file.caught, "passed": file.passed}
    figures |= {f"{name}-{number}": image_grid(rows_of(images)) for name, images in galleries.items() if images}
    return {
        "number": number,
        "file": file,
        "promise": keep_promise(found, file),
        "detected": [
            (name, int((scores > file.threshold).sum()), len(scores)) for name, scores in file.anomalous.items()
        ],
        "shown": {name for name, images in galleries.items() if images},
    }


def _draw_learning_curves(found: Conclusions, figures: Figures) -> list[str]:
    """Learning curves of the methods that were trained, of their first seed; the names of the figures."""
    first: dict[tuple[str, str], Measurement] = {}
    for one in found.study.measured:
        if one.curves:
            first.setdefault((one.method, one.side), one)
    names = [f"curves-{number}" for number in range(1, len(first) + 1)]
    for name, one in zip(names, first.values(), strict=True):
        figures[name] = curves_figure(one.curves, f"{one.method}, {one.side} as normal, seed {one.seed}", name=name)
    return names
