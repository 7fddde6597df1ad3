"""Charts of a comparison: AUROC with intervals, ROC curves, time against AUROC, critical differences of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from oddsight.drawing.charts import FAINT, INK, NORMAL, chart, logarithmic_x
from oddsight.drawing.numbers import short
from oddsight.drawing.ood_figures import roc_curves
from oddsight.evaluation.compare import Comparison
from oddsight.evaluation.compare.standings import Ranking, Standing
from oddsight.evaluation.compare.trials import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = 5  # ROC curves in one chart, at most

_NAMED = 8  # Up to this many points are all named; of more, those that no other beats in both time and AUROC

_SUPPORTED = ("highest", "not distinguishable")


def areas(number: int, rows: Sequence[Standing]) -> Markup:
    """AUROC of every setting and baseline with its interval, and of each seed as a tick."""
    shown = [row for row in rows if row.mean is not None]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        lows = []
        for place, row in enumerate(shown):
            assert row.mean is not None
            low, high = row.mean.auroc_interval
            lows.append(low)
            colour = INK if row.setting is None else NORMAL if row.verdict in _SUPPORTED else FAINT
            axes.hlines(place, low, high, color=colour, linewidth=1.4, linestyle=":" if row.setting is None else "-")
            face = "none" if row.setting is None else colour
            axes.plot(row.mean.auroc, place, "o", color=colour, markerfacecolor=face, markersize=5, clip_on=False)
            for one in row.each if len(row.each) > 1 else ():
                axes.vlines(one.auroc, place - 0.28, place + 0.28, color=colour, linewidth=0.9)
        axes.set_yticks(range(len(shown)), [short(row.label) for row in shown])
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(shown) - 0.4, -0.6), xlim=(max(0.0, min(lows) - 0.02), 1.002), xlabel="AUROC")
        axes.grid(axis="x", color=FAINT, alpha=0.35, linewidth=0.5)
        axes.set_axisbelow(True)

    return chart(f"areas-{number}", (6.6, 0.7 + 0.21 * len(shown)), draw, "AUROC with intervals")


def roc(number: int, trial: Trial, rows: Sequence[Standing], comparison: Comparison) -> Markup:
    """ROC curves of the settings with the highest AUROC, each of its first seed."""
    truth, curves = trial.test.anomalous, {}
    for row in [row for row in rows if row.setting is not None and row.seeds][:CURVES]:
        scores = np.array(_scores(comparison, row))
        curves[row.label] = scores[~truth], scores[truth]
    return roc_curves(curves, name=f"roc-{number}", axis=("normal images flagged", "anomalous images found"))


def _scores(comparison: Comparison, row: Standing) -> tuple[float, ...]:
    return next(
        cell.measured.scores
        for cell in comparison.cells
        if (cell.data, cell.setting) == (row.data, row.setting) and cell.measured is not None
    )


def times(number: int, rows: Sequence[Standing]) -> Markup:
    """AUROC against the time of one answer."""
    points = [
        (row.mean.answer_ms, row.mean.auroc, row)
        for row in rows
        if row.mean is not None and row.mean.answer_ms is not None
    ]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for milliseconds, area, row in points:
            axes.plot(milliseconds, area, "o", color=NORMAL if row.verdict in _SUPPORTED else FAINT, markersize=5)
            beaten = any(t <= milliseconds and a >= area and (t, a) != (milliseconds, area) for t, a, _ in points)
            if len(points) <= _NAMED or not beaten:
                axes.annotate(
                    short(row.label), (milliseconds, area), (5, 3), textcoords="offset points", fontsize=7.5, color=INK
                )
        logarithmic_x(axes)
        axes.margins(x=0.25, y=0.15)
        axes.set(xlabel="milliseconds for an answer, one core, logarithmic scale", ylabel="AUROC")

    return chart(f"times-{number}", (3.9, 3.3), draw, "Time of an answer against AUROC")


def critical_differences(ranked: Ranking) -> Markup:
    """Mean ranks on a line, best left, with bars below that join those that cannot be distinguished."""
    count = len(ranked.labels)
    left = (count + 1) // 2

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axis("off")
        axes.hlines(0, 1, count, color=INK, linewidth=1)
        for tick in range(1, count + 1, -(-count // 12)):
            axes.vlines(tick, 0, 0.25, color=INK, linewidth=1)
            axes.text(tick, 0.4, str(tick), ha="center", va="bottom", color=INK)
        top = -0.55 - 0.35 * len(ranked.groups)
        for place, (label, rank) in enumerate(zip(ranked.labels, ranked.mean_ranks.tolist(), strict=True)):
            row, edge, side = (
                (place, 1 - 0.02 * count, "right") if place < left else (count - 1 - place, 1.02 * count, "left")
            )
            height = top - 0.75 * row
            axes.plot([rank, rank, edge], [0, height, height], color=FAINT, linewidth=1)
            text = f"{short(label)} ({rank:.2f})"
            space = -0.01 * count if side == "right" else 0.01 * count
            axes.text(edge + space, height, text, ha=side, va="center", color=INK)
        for number, (first, last) in enumerate(ranked.groups):
            ends, height = ranked.mean_ranks[[first, last]] + (-0.04, 0.04), -0.4 - 0.35 * number
            axes.plot(ends, [height, height], color=NORMAL, linewidth=3.5, solid_capstyle="round")
        if ranked.critical_difference is not None:
            axes.plot([1, 1 + ranked.critical_difference], [1.55, 1.55], color=INK, linewidth=1, marker="|")
            text = f"critical difference {ranked.critical_difference:.2f}"
            axes.text(1, 1.75, text, ha="left", va="bottom", color=INK)
        axes.set_ylim(top - 0.75 * left, 2.4 if ranked.critical_difference is not None else 1.2)
        axes.set_xlim(1 - 0.55 * count, 1.55 * count)

    return chart("ranks", (6.6, 1.1 + 0.2 * left + 0.1 * len(ranked.groups)), draw, "Mean ranks")
