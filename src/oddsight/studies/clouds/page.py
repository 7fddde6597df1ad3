"""The report on clouds: one self-contained HTML page, the same in Markdown, and its numbers as CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from oddsight.detectors import METHODS
from oddsight.drawing.class_figures import bars, curves_figure
from oddsight.drawing.image_grids import image_grid, rows_of
from oddsight.drawing.numbers import area, duration, p_text, percent, span
from oddsight.report.markdown import fill_template, joined, table, write_report
from oddsight.studies.clouds.conclusions import Contest, Found, Standing, conclude
from oddsight.studies.clouds.page_parts import Figures, isolation_values, name_side, severity_values, threshold_values
from oddsight.studies.clouds.protocol import CLEAR, Side
from oddsight.studies.clouds.results import CloudStudy, Measured, ShippedScenes
from oddsight.studies.clouds.rows import ALL, RATES
from oddsight.studies.clouds.tables import cloud_tables
from oddsight.studies.csv_files import csv_files, csv_of
from oddsight.studies.promise import Promise, promised

_PACKAGE = "oddsight.studies.clouds"
_DECIDED = {
    "False alarms": "false_alarm_rate", "Precision": "precision", "Recall": "recall", "F1": "f1", "Accuracy": "accuracy"
}  # fmt: skip
_MOST_BARS = 30
_FEW = 100


def write_clouds(study: CloudStudy, folder: Path, *, confidence: float = 0.95) -> list[Path]:
    """Write the report of a study of clouds: the same study always gives the same bytes.

    Args:
        study: What was measured.
        folder: Where ``report.html``, ``report.md`` with its ``figures``, and the CSV files of
            :class:`oddsight.studies.clouds.rows.CloudTables` go; it is made if it is not there.
        confidence: Of all intervals.

    Returns:
        The files, the page first; not those in ``figures``.

    Raises:
        OddsightError: If the confidence is not between 0 and 1, or something cannot be written.
    """
    found = conclude(study, cloud_tables(study, confidence=confidence))
    tables = csv_files(found.tables)
    if study.isolation is not None:
        tables["isolation.csv"] = csv_of(study.isolation.rows())
    if study.severity is not None:
        tables["severity.csv"] = csv_of(study.severity.rows())
    text, figures = clouds_page(found)
    return write_report(text, figures, tables, folder)


def clouds_page(found: Found) -> tuple[str, Figures]:
    """The report in Markdown, and its figures by name."""
    study, facts = found.study, found.study.data
    figures: Figures = {}
    isolation = severity = None
    if study.isolation is not None:
        isolation, drawn = isolation_values(study.isolation)
        figures |= drawn
    if study.severity is not None:
        severity, drawn = severity_values(study.severity)
        figures |= drawn
    run = [one.method for one in study.measured]
    names = list(dict.fromkeys([*run, *(one.method for one in study.failed)]))
    curves = _draw_learning_curves(found, figures)
    examples = {name: [image for image in facts.examples if image.caption == name] for name in facts.classes}
    shown = {name: images for name, images in examples.items() if images}
    if shown:
        plain = [[type(image)(image.pixels) for image in images] for images in shown.values()]
        figures["examples-scenes"] = image_grid(plain, list(shown), side=64)
    text = fill_template(
        _PACKAGE,
        "page.md.jinja",
        study=study,
        facts=facts,
        version=version("oddsight"),
        summary=_summary(found),
        spread=_spread(found) if len(study.seeds) > 1 else None,
        few=[side.name for side in study.sides if len(found.shipped(side.name).normal) < _FEW],
        fewer_seeds=_fewer_seeds(found),
        classes=_classes(found),
        common={name: max(sizes, key=lambda size: sizes[size]) for name, sizes in facts.sizes.items()},
        examples=bool(shown),
        protocol=_protocol(found),
        methods=_methods(names),
        trained=[name for name in names if name in METHODS and METHODS[name].needs],
        sides=[_side(found, side, figures) for side in study.sides],
        not_run=_not_run(found),
        files=[_file(found, file, number, figures) for number, file in enumerate(study.shipped, 1)],
        thresholds=[
            threshold_values(found, side, runs, figures)
            for method in study.compared
            for side in study.sides
            if (runs := [one for one in study.of(side.name, method) if one.training is not None])
        ],
        curves=curves,
        confidence=found.tables.confidence,
        seconds={what: duration(seconds) for what, seconds in study.seconds.items()},
        clear=CLEAR,
        isolation=isolation,
        severity=severity,
    )
    return text, figures


def keep_promise(found: Found, file: ShippedScenes) -> Promise:
    """The false alarms of a file beside those it promises."""
    flagged = int((file.normal > file.threshold).sum())
    return promised(file.rate, file.calibration, len(file.normal), flagged, found.tables.confidence)


def _summary(found: Found) -> Markup:
    """The most important numbers of each side."""
    rows = []
    for side in found.study.sides:
        own, file = found.default(side.name), found.shipped(side.name)
        hardest = min(own.classes, key=lambda name: own.mean(name, "auroc") or 0.0)
        kept = keep_promise(found, file)
        detected = [f"{percent(share)} of {name}" for name, share in _detected(file).items()]
        rank = [one.method for one in found.standings[side.name]].index(found.study.default) + 1
        rows.append(
            (
                name_side(side, found.study.data.clouds),
                f"{area(own.mean(hardest, 'auroc') or 0.0)} ({hardest})",
                f"{rank} of {len(found.standings[side.name])}",
                f"{percent(kept.share)} ({kept.rejected:,} of {kept.images:,})",
                percent(file.rate),
                kept.verdict,
                ", ".join(detected),
            )
        )
    heads = ("Side", "AUROC, hardest class", "Rank", "False alarms", "Asked for", "Verdict", "Detected by the file")
    return table(heads, rows, words={5, 6})


def _detected(file: ShippedScenes) -> dict[str, float]:
    return {name: float((scores > file.threshold).mean()) for name, scores in file.anomalous.items()}


def _spread(found: Found) -> float:
    """The largest difference between seeds of the AUROC of the shipped method on any class."""
    spans = [own.span(name) for side in found.study.sides for own in [found.default(side.name)] for name in own.classes]
    return max(high - low for low, high in spans)


def _fewer_seeds(found: Found) -> list[tuple[Markup, Markup]]:
    """Methods that have fewer seeds than others, and these."""
    own: dict[tuple[int, ...], set[str]] = {}
    for one in (one for standings in found.standings.values() for one in standings):
        if len(one.seeds) < len(found.study.seeds):
            own.setdefault(one.seeds, set()).add(one.method)
    return [(joined(sorted(names), most=len(names)), joined(seeds)) for seeds, names in own.items()]


def _classes(found: Found) -> Markup:
    facts = found.study.data
    rows = [
        (
            name,
            *(f"{number:,}" for number in (facts.found[name], facts.duplicates[name], count)),
            joined([f"{width} \u00d7 {height}" for width, height in facts.sizes[name]], 3),
        )
        for name, count in facts.classes.items()
    ]
    return table(("Class", "Read", "Duplicates", "Distinct", "Size in pixels"), rows, words={4})


def _protocol(found: Found) -> Markup:
    def cell(counts: Mapping[str, int]) -> str:
        each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        return f"{sum(counts.values()):,}" + (f" ({each})" if len(counts) > 1 else "")

    study, rows = found.study, []
    for side in study.sides:
        one = next(split for split in study.splits if split.side == side.name)
        parts = (one.training, one.calibration, one.normal, one.anomalous)
        rows.append((name_side(side, study.data.clouds), *map(cell, parts)))
    return table(("Side", "Training", "Calibration", "Normal test", "Anomalous test"), rows, words={1, 2, 3, 4})


def _methods(names: Sequence[str]) -> Markup:
    known = {name: METHODS[name] for name in names if name in METHODS}
    rows = [(name, one.summary, one.reads, "yes" if one.localises else "no", one.paper) for name, one in known.items()]
    return table(("Method", "What it scores", "Reads", "Map", "Paper"), rows, words={1, 2, 3, 4})


def _side(found: Found, side: Side, figures: Figures) -> dict[str, Any]:
    """The tables of one side, and whether there is a figure."""
    standings = found.standings[side.name]
    number, several = found.study.sides.index(side) + 1, len(side.anomalous) > 1
    if len(standings) > 1:
        figures[f"areas-{number}"] = _bars(found, side, f"areas-{number}")
    rates = _rates(standings)
    own = found.default(side.name)
    shipped = {next(index for index, one in enumerate(standings) if one is own)}
    heads = [f"{name}, {rate}%" for rate in rates for name in _DECIDED]
    return {
        "name": name_side(side, found.study.data.clouds),
        "number": number,
        "anomalous": side.anomalous,
        "bars": len(standings) > 1,
        "areas": _areas(found, side, shipped),
        "contests": _contests(found, side),
        "rates": rates,
        "decisions": table(
            ("Method", *heads), [(one.method, *_decided(one, one.whole, rates)) for one in standings], strong=shipped
        ),
        "by_class": table(
            ("Class", *heads),
            [(name if name != ALL else "all together", *_decided(own, name, rates)) for name in own.rows],
        )
        if several
        else None,
    }


def _areas(found: Found, side: Side, shipped: set[int]) -> Markup:
    """AUROC of every method and every trivial baseline."""
    standings, several, seeds = found.standings[side.name], len(side.anomalous) > 1, len(found.study.seeds) > 1
    middle = [*(["Mean"] if several else []), *(["Seeds"] if seeds else [])]
    heads = ["Method", *side.anomalous, *middle, "Learning", "ms", "MB"]
    rows: list[list[object]] = []
    for one in standings:
        cells: list[object] = [one.method, *(_with_interval(one, name) for name in one.classes)]
        cells += [f"{one.area:.4f}"] if several else []
        cells += [span(*one.span(one.whole)) if len(one.seeds) > 1 else "one"] if seeds else []
        cost = [one.mean(one.whole, field) or 0.0 for field in ("learn_seconds", "image_ms", "file_bytes")]
        rows.append([*cells, duration(cost[0]), f"{cost[1]:.3g}", f"{cost[2] / 1e6:.1f}"])
    for name, kinds in _baselines(found, side):
        cells = [f"({name})", *(area(kinds[kind]) for kind in side.anomalous)]
        rows.append(cells + ([f"{sum(kinds.values()) / len(kinds):.4f}"] if several else []))
    failed = dict.fromkeys(one.method for one in found.study.failed if one.side == side.name)
    rows += [[name, "not run"] for name in failed if name not in {one.method for one in standings}]
    return table(heads, [row + [None] * (len(heads) - len(row)) for row in rows], strong=shipped)


def _with_interval(one: Standing, name: str) -> str:
    low, high, mean = (one.mean(name, field) or 0.0 for field in ("auroc_low", "auroc_high", "auroc"))
    return f"{area(mean)} ({span(low, high)})"


def _baselines(found: Found, side: Side) -> list[tuple[str, dict[str, float]]]:
    """AUROC of trivial baselines by class, the mean over seeds; the best first."""
    rows: dict[str, dict[str, list[float]]] = {}
    for row in found.tables.baselines:
        if row.normal == side.name and row.anomalous in side.anomalous:
            rows.setdefault(row.baseline, {}).setdefault(row.anomalous, []).append(row.auroc)
    means = {name: {kind: sum(own) / len(own) for kind, own in kinds.items()} for name, kinds in rows.items()}
    return sorted(means.items(), key=lambda item: -sum(item[1].values()))


def _contests(found: Found, side: Side) -> Markup:
    """The shipped method against the best other method and the best trivial baseline, class by class."""
    rows = []
    for kind in side.anomalous:
        cells: list[object] = [kind, area(found.default(side.name).mean(kind, "auroc") or 0.0)]
        for trivial in (False, True):
            rival = found.best_rival(side.name, kind, trivial=trivial)
            named = (None, None, None, "none") if rival is None else (rival.rival, area(rival.area), _p(rival))
            cells += named if rival is None else [*named, rival.conclusion]
        rows.append(cells)
    heads = ("Class", found.study.default, "Best other", "AUROC", "p", "Verdict")
    return table((*heads, "Best baseline", "AUROC", "p", "Verdict"), rows, words={2, 5, 6, 9})


def _p(one: Contest) -> str | None:
    return None if one.p_value is None else p_text(one.p_value)


def _bars(found: Found, side: Side, name: str) -> Markup:
    """The mean AUROC of every method, with the best trivial baseline as a line."""
    standings = found.standings[side.name][:_MOST_BARS]
    bounds = [_mean_interval(one) for one in standings]
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


def _mean_interval(one: Standing) -> tuple[float, float]:
    low, high = ([one.mean(kind, end) or 0.0 for kind in one.classes] for end in ("auroc_low", "auroc_high"))
    return sum(low) / len(low), sum(high) / len(high)


def _rates(standings: Sequence[Standing]) -> list[int]:
    """The false-alarm rates in percent that some method can promise."""
    named = [round(100 * rate) for rate in RATES]
    return [
        rate for rate in named if any(one.mean(one.whole, f"false_alarm_rate_{rate}") is not None for one in standings)
    ]


def _decided(one: Standing, name: str, rates: Sequence[int]) -> Iterator[str | None]:
    for rate in rates:
        for field in _DECIDED.values():
            value = one.mean(name, f"{field}_{rate}")
            yield None if value is None else area(value) if field == "f1" else percent(value)


def _not_run(found: Found) -> Markup | None:
    """Methods that could not be run, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in found.study.failed:
        reasons.setdefault((one.method, one.reason), []).append(f"{one.side}, seed {one.seed}")
    rows = [(name, joined(where, 3), reason) for (name, reason), where in reasons.items()]
    return table(("Method", "Side and seed", "Reason"), rows, words={1, 2}) if rows else None


def _file(found: Found, file: ShippedScenes, number: int, figures: Figures) -> dict[str, Any]:
    """A shipped file: its facts, and its images where there are some."""
    galleries = {"missed": file.missed, "alarms": file.alarms, "found": file.caught, "passed": file.passed}
    for name, images in galleries.items():
        if images:
            figures[f"{name}-{number}"] = image_grid(rows_of(images))
    return {
        "number": number,
        "file": file,
        "promise": keep_promise(found, file),
        "detected": [
            (name, int((scores > file.threshold).sum()), len(scores)) for name, scores in file.anomalous.items()
        ],
        "shown": {name for name, images in galleries.items() if images},
    }


def _draw_learning_curves(found: Found, figures: Figures) -> list[str]:
    """Learning curves of the methods that were trained, of their first seed; the names of the figures."""
    first: dict[tuple[str, str], Measured] = {}
    for one in found.study.measured:
        if one.curves:
            first.setdefault((one.method, one.side), one)
    for number, one in enumerate(first.values(), 1):
        title = f"{one.method}, {one.side} as normal, seed {one.seed}"
        figures[f"curves-{number}"] = curves_figure(one.curves, title, name=f"curves-{number}")
    return [f"curves-{number}" for number in range(1, len(first) + 1)]
