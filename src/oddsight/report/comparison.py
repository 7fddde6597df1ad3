"""A comparison as one self-contained HTML page, in the manner of the report of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from markupsafe import Markup

from oddsight.drawing import comparison_figures as figures
from oddsight.drawing.numbers import area, duration, p_text, percent, span
from oddsight.evaluation.compare import Comparison
from oddsight.evaluation.compare.standings import Ranking, Standing
from oddsight.evaluation.compare.trials import Trial
from oddsight.report.evaluation import mask_table
from oddsight.report.markdown import fill_template, table, write_page

_ERRORS_LISTED = 50


def write_comparison_report(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write what :func:`oddsight.compare` found as an HTML page, all at once or not at all.

    Raises:
        OddsightError: The page cannot be written.
    """
    names = [trial.name for trial in comparison.trials]
    where = ", ".join(names) if len(names) <= 3 else f"{len(names)} datasets"
    errors = [error for trial in comparison.trials for error in trial.errors]
    ranked, drawn = comparison.ranking, dict[str, Markup]()
    sections = [_section(number, trial, comparison, drawn) for number, trial in enumerate(comparison.trials, 1)]
    if ranked:
        drawn["ranks"] = figures.critical_differences(ranked)
    text = fill_template(
        "oddsight.report",
        "comparison.md.jinja",
        title=f"Methods compared on {where}",
        comparison=comparison,
        sections=sections,
        ranked=ranked,
        rank_text=_rank_text(ranked, comparison.confidence) if ranked else "",
        rank_table=_rank_table(ranked) if ranked else None,
        settings=len({cell.setting for cell in comparison.cells}),
        seeds=sorted({cell.seed for cell in comparison.cells}),
        errors=errors[:_ERRORS_LISTED],
        unread=len(errors),
        version=version("oddsight"),
    )
    write_page(text, drawn, path)


def _section(number: int, trial: Trial, comparison: Comparison, drawn: dict[str, Markup]) -> dict[str, Any]:
    """What the page says of one dataset; its figures are added to the others."""
    rows = comparison.on(trial.name)
    found = any(row.setting is not None and row.mean is not None for row in rows)
    drawn[f"areas-{number}"] = figures.areas(number, rows)
    if found:
        drawn[f"roc-{number}"] = figures.roc(number, trial, rows, comparison)
        drawn[f"times-{number}"] = figures.times(number, rows)
    return {
        "trial": trial,
        "text": standing_text(rows, comparison.confidence),
        "rows": rows,
        "table": _table(rows),
        "masks": mask_table(trial.test.coverage),
        "roc": found,
    }


def _table(rows: Sequence[Standing]) -> Markup:
    heads, lines = standing_cells(rows)
    best = {index for index, row in enumerate(rows) if row.verdict == "highest"}
    return table(heads, lines, words={heads.index("Against the highest")}, strong=best)


def standing_cells(rows: Sequence[Standing]) -> tuple[list[str], list[list[str | None]]]:
    """Headings and rows of a table of all settings and trivial properties, without columns that are empty."""
    lines = [_cells(row) for row in rows]
    optional = ("Seeds", "Pixel AUROC", "AUPRO")
    heads = [head for head in lines[0] if head not in optional or any(line[head] for line in lines)]
    return heads, [[line[head] for head in heads] for line in lines]


def _cells(row: Standing) -> dict[str, str | None]:
    """What a row of the table says, by column."""
    mean = row.mean
    label = f"{row.label} (trivial)" if row.setting is None else row.label

    def written(value: float | None, form: Callable[[float], str] = area) -> str | None:
        return None if value is None else form(value)

    columns = ("AUROC", "Interval", "Seeds", "p", "Against the highest", "AP", "FPR95", "Recall", "False alarms")
    if mean is None:
        empty = dict.fromkeys((*columns, "Pixel AUROC", "AUPRO", "Fit", "Answer", "Size"))
        return {"Method": label, **empty, "Against the highest": "failed"}
    return {
        "Method": label,
        "AUROC": area(mean.auroc),
        "Interval": span(*mean.auroc_interval),
        "Seeds": span(*row.spread) if row.spread and len(row.seeds) > 1 else None,
        "p": written(row.p_value, p_text),
        "Against the highest": row.verdict,
        "AP": area(mean.average_precision),
        "FPR95": area(mean.fpr95),
        "Recall": written(mean.recall, percent),
        "False alarms": written(mean.false_alarm_rate, percent),
        "Pixel AUROC": written(mean.pixel_auroc),
        "AUPRO": written(mean.aupro),
        "Fit": written(mean.fit_seconds, duration),
        "Answer": written(mean.answer_ms, lambda value: f"{value:.3g} ms"),
        "Size": written(mean.megabytes, lambda value: f"{value:.1f} MB"),
    }


def _rank_table(ranked: Ranking) -> Markup:
    rows = [
        (name, *(f"{value:g}" for value in ranks))
        for name, ranks in zip(ranked.data, ranked.table.tolist(), strict=True)
    ]
    mean = ("mean", *(f"{value:.2f}" for value in ranked.mean_ranks.tolist()))
    return table(("Dataset", *ranked.labels), [*rows, mean], strong={len(rows)})


def standing_text(rows: Sequence[Standing], confidence: float) -> str:
    """What the tests on one dataset support, in a sentence or two."""
    best = next((row for row in rows if row.verdict == "highest"), None)
    if best is None:
        return "No method could be fitted."
    assert best.mean is not None
    others = [row for row in rows if row.setting is not None and row.mean is not None and row is not best]
    alike = [row.label for row in others if row.verdict == "not distinguishable"]
    first = f"{best.label} has the highest AUROC, {area(best.mean.auroc)}"
    if not others:
        return f"{first}; there is no other method to compare it with."
    if any(row.verdict == "untested" for row in others):
        return f"{first}. The test images are too few to test whether that is more than chance."
    if not alike:
        return (
            f"{first}, and the tests distinguish it from every other method ({percent(confidence)} confidence for all)."
        )
    names = ", ".join(alike[:6]) + (f" and {len(alike) - 6} more" if len(alike) > 6 else "")
    if len(alike) == len(others):
        return f"{first}, but no other can be distinguished from it on these images: the tests support no winner."
    count = f"{len(alike)} of the {len(others)} others"
    return (
        f"{first}, but {count} cannot be distinguished from it on these images: {names}. The tests support no winner "
        "among these."
    )


def _rank_text(ranked: Ranking, confidence: float) -> str:
    if ranked.p_value is None:
        return "Two datasets are too few to test ranks. Here they are as they are."
    test = f"Friedman's test over {len(ranked.data)} datasets gives p = {p_text(ranked.p_value)}"
    if ranked.critical_difference is None:
        return (
            f"{test}: it does not show, with {percent(confidence)} confidence, that the methods differ at all. The "
            "order below may be chance."
        )
    return (
        f"{test}: the methods do not all rank alike. By Nemenyi's test two of them differ where their mean ranks are "
        f"more than {ranked.critical_difference:.2f} apart; bars join those that cannot be distinguished."
    )
