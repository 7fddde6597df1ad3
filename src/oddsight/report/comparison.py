"""A comparison as one self-contained HTML page, in the manner of the report of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from markupsafe import Markup

from oddsight.comparison import Comparison
from oddsight.comparison.standings import Ranking, Standing
from oddsight.comparison.trials import Trial
from oddsight.files import write_bytes
from oddsight.report import standings_figures as figures
from oddsight.report.pages import area, percent, template

_ERRORS_LISTED = 50


def write_comparison_report(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write a comparison as an HTML page, all at once or not at all.

    Args:
        comparison: What :func:`oddsight.compare` found.
        path: The file to write.

    Raises:
        OddsightError: The page cannot be written.
    """
    errors = [error for trial in comparison.trials for error in trial.errors]
    page = template("comparison.html.jinja").render(
        title=_title(comparison),
        comparison=comparison,
        sections=[_section(number, trial, comparison) for number, trial in enumerate(comparison.trials, 1)],
        ranked=comparison.ranking,
        rank_text=_rank_text(comparison.ranking, comparison.confidence) if comparison.ranking else "",
        rank_plot=figures.critical_differences(comparison.ranking) if comparison.ranking else None,
        settings=len({cell.setting for cell in comparison.cells}),
        seeds=sorted({cell.seed for cell in comparison.cells}),
        errors=errors[:_ERRORS_LISTED],
        unread=len(errors),
        version=version("oddsight"),
        p_text=p_text,
        duration=duration,
    )
    write_bytes(path, page.encode("utf-8", errors="replace"))


def _title(comparison: Comparison) -> str:
    names = [trial.name for trial in comparison.trials]
    return "Methods compared on " + (", ".join(names) if len(names) <= 3 else f"{len(names)} data sets")


@dataclass(frozen=True)
class Section:
    """One data set on the page."""

    trial: Trial
    text: str
    rows: list[Standing]
    pixels: bool
    areas: Markup | None
    roc: Markup | None
    times: Markup | None


def _section(number: int, trial: Trial, comparison: Comparison) -> Section:
    rows = comparison.on(trial.name)
    found = any(row.setting is not None and row.mean is not None for row in rows)
    return Section(
        trial,
        standing_text(rows, comparison.confidence),
        rows,
        any(row.mean is not None and row.mean.pixel_auroc is not None for row in rows),
        figures.areas(number, rows),
        figures.roc(number, trial, rows, comparison) if found else None,
        figures.times(number, rows) if found else None,
    )


def standing_text(rows: Sequence[Standing], confidence: float) -> str:
    """What the tests on one data set support, in a sentence or two."""
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
        return f"{first}, and the tests tell it from every other method ({percent(confidence)} confidence for all)."
    names = ", ".join(alike[:6]) + (f" and {len(alike) - 6} more" if len(alike) > 6 else "")
    if len(alike) == len(others):
        return f"{first}, but none of the others can be told from it on these images: the tests support no winner."
    return (
        f"{first}, but {len(alike)} of the {len(others)} others cannot be told from it on these images: {names}. "
        "The tests support no winner among these."
    )


def _rank_text(ranked: Ranking, confidence: float) -> str:
    if ranked.p_value is None:
        return "Two data sets are too few to test ranks. Here they are as they are."
    test = f"Friedman's test over {len(ranked.data)} data sets gives p = {p_text(ranked.p_value)}"
    if ranked.critical_difference is None:
        return (
            f"{test}: it does not show, with {percent(confidence)} confidence, that the methods differ at all. The "
            "order below may be chance."
        )
    return (
        f"{test}: the methods do not all rank alike. By Nemenyi's test two of them differ where their mean ranks are "
        f"more than {ranked.critical_difference:.2f} apart; bars join those that cannot be told apart."
    )


def p_text(value: float) -> str:
    """A p-value with two digits, or that it is tiny."""
    return "<0.001" if value < 0.001 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
