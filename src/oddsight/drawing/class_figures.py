"""What the report of a classifier shows: classes confused, probabilities believed, learning curves, bars.

Everything is drawn from plain arrays; a page may hold several charts of a kind if each has a ``name`` of its own, which
keeps the identifiers in their SVG apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from oddsight.drawing.charts import ANOMALOUS, FAINT, INK, NORMAL, QUARTERS, chart
from oddsight.drawing.numbers import area, short
from oddsight.metrics.classification import ReliabilityBin, calibration_gap
from oddsight.model.curves import Epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED_CLASSES = 20  # Up to this many classes, a confusion matrix has their names and numbers

_DASHED = (0, (4, 2))


def confusion_figure(table: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """How often each class was predicted as each, ``[K, K]``: rows are the truth, coloured by the share of the row."""
    count = len(classes)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    named = count <= NAMED_CLASSES
    # Never narrower than other charts are: a page shows all in one width, and their letters in one size.
    high = 1.6 + 0.36 * count if named else 6.0

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        # The root, so that few mistakes can be seen beside many right answers; never opaque, so that numbers can.
        axes.imshow(_tinted(np.sqrt(shares)), interpolation="none", aspect="equal")
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.spines[:].set_visible(False)
        if not named:
            return
        labels = [short(one, 16) for one in classes]  # so that the matrix keeps its place
        axes.set_xticks(range(count), labels, rotation=90 if count > 3 else 0)
        axes.set_yticks(range(count), labels)
        axes.tick_params(length=0)
        size = 5.5 if table.max() >= 10_000 else 8.5 if count <= 12 else 7
        for row, column in np.argwhere(table > 0).tolist():
            axes.text(column, row, f"{table[row, column]:,}", ha="center", va="center", color=INK, fontsize=size)

    right = f"{int(np.trace(table)):,} of {int(table.sum()):,} images are right"
    return chart("confusion", (max(5.2, high), high), draw, f"Confusion matrix of {count} classes: {right}")


def _tinted(strength: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours ``[K, K, 4]`` of strengths from 0 to 1: right answers on the diagonal, mistakes off it."""
    from matplotlib.colors import to_rgb

    tints = np.empty((*strength.shape, 4))
    tints[..., :3] = to_rgb(ANOMALOUS)
    tints[np.diag_indices(len(strength))] = (*to_rgb(NORMAL), 0)
    tints[..., 3] = 0.75 * strength
    return tints


def reliability_figure(*panels: Sequence[ReliabilityBin], titles: Sequence[str]) -> Markup:
    """Accuracy against confidence, and how many images have which, such as before and after a calibration."""
    said = [f"{title}: ECE {calibration_gap(rows):.3f}" for title, rows in zip(titles, panels, strict=True)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, len(panels), sharex=True, squeeze=False, height_ratios=(4, 1))
        for column, rows in enumerate(panels):
            _believed(axes[0, column], rows)
            axes[0, column].set_title(short(said[column]), loc="left")
            total = sum(row.count for row in rows)
            held = [row.count / total for row in rows]
            axes[1, column].bar(*_spans(rows, held), align="edge", color=FAINT)
            axes[1, column].set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence: the highest probability")
            axes[1, column].set_xticks(*QUARTERS)
            axes[1, column].set_yticks([0, 1], ["0", "100%"])
        axes[0, 0].set_ylabel("accuracy")
        axes[1, 0].set_ylabel("images")

    return chart("reliability", (6.6, 3.9), draw, f"Accuracy against confidence. {'; '.join(said)}")


def _believed(axes: Axes, rows: Sequence[ReliabilityBin]) -> None:
    """Bars of accuracy, and from each a line to the confidence that it should have reached."""
    heights = [row.accuracy for row in rows]
    axes.bar(*_spans(rows, heights), align="edge", color=NORMAL, alpha=0.75)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=_DASHED)
    confidences = [row.confidence for row in rows]
    axes.vlines(confidences, heights, confidences, color=ANOMALOUS, linewidth=2)
    axes.plot(confidences, heights, "o", color=ANOMALOUS, markersize=3.5, clip_on=False)
    axes.set(ylim=(0, 1))
    axes.set_yticks(*QUARTERS)


def _spans(rows: Sequence[ReliabilityBin], heights: list[float]) -> tuple[list[float], list[float], list[float]]:
    """Bars over the ranges of confidence: left edges, heights, widths."""
    return [row.low for row in rows], heights, [row.high - row.low for row in rows]


def curves_figure(rows: Sequence[Epoch], title: str, *, name: str = "curves") -> Markup:
    """Learning curves of a network; see :func:`draw_curves`."""

    def draw(figure: Figure) -> None:
        draw_curves(figure, rows)
        figure.suptitle(short(title), color=INK, fontsize=9.5)

    last = rows[-1]
    reached = f", accuracy {area(last.accuracy)}" if last.accuracy is not None else ""
    label = f"Learning curves of {title}: after epoch {last.epoch} loss {last.validation_loss:.3g}{reached}"
    return chart(name, (6.6, 2.6), draw, label)


def draw_curves(figure: Figure, rows: Sequence[Epoch], kept: int | None = None, faint: str = FAINT) -> None:
    """Draw loss, accuracy and parts of the loss by epoch, where they are known, and mark the epoch that was kept."""
    epochs, first = [row.epoch for row in rows], rows[0]
    panels: dict[str, dict[str, list[float | None]]] = {
        "loss": {"training": [row.train_loss for row in rows], "validation": [row.validation_loss for row in rows]}
    }
    if any(row.accuracy is not None for row in rows):
        panels["accuracy"] = {
            "training": [row.train_accuracy for row in rows],
            "validation": [row.accuracy for row in rows],
        }
    if first.losses:
        panels["parts of the loss"] = {part: [row.losses.get(part) for row in rows] for part in first.losses}
    colours = {"training": faint, "validation": NORMAL}
    each = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (what, lines) in zip(each, panels.items(), strict=True):
        for label, values in lines.items():
            if any(value is not None for value in values):
                shown = [np.nan if value is None else value for value in values]
                axes.plot(epochs, shown, "o-", color=colours.get(label), markersize=3, linewidth=1.6, label=label)
        if kept is not None:
            axes.axvline(kept, color=ANOMALOUS, linewidth=1, linestyle=_DASHED, label=f"kept: epoch {kept}")
        axes.set(xlabel="epoch", title=what, xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(axis="y", color=faint, alpha=0.35, linewidth=0.5)
        axes.set_axisbelow(True)
    for axes in (each[0], *([each[-1]] if first.losses else [])):
        axes.legend(frameon=False, labelcolor=INK)


def bars(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    axis: str,
    start: float = 0.0,
    references: Mapping[str, float] | None = None,
    written: Callable[[float], str] = area,
    name: str = "bars",
) -> Markup:
    """Values side by side, each as a bar with its interval and in figures, the first on top.

    Args:
        names: What each is of, at least one.
        values: As many.
        intervals: Of each, or None.
        axis: What is measured.
        start: Where bars start: what means nothing, as 0, or 0.5 for AUROC. A value below it has a bar to the left.
        references: Values to compare with, by what they are, as lines through all bars.
        written: How a value is written.
        name: Apart from that of other charts on the page.
    """
    count, lines = len(names), references or {}
    known = [bound for interval in intervals if interval is not None for bound in interval]
    reach = (min([start, *values, *known, *lines.values()]), max([1.0, *values, *known, *lines.values()]))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.barh(range(count), np.subtract(values, start), left=start, height=0.62, color=NORMAL, alpha=0.75)
        for place, (value, interval) in enumerate(zip(values, intervals, strict=True)):
            if interval is not None:
                axes.hlines(place, *interval, color=INK, linewidth=1.4)
            # All in one column, where no line crosses them.
            column: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "annotation_clip": False}
            beside: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "color": INK}
            axes.annotate(written(value), (1, place), **column, **beside)
        for row, (what, value) in enumerate(lines.items()):
            # Names step upwards, as the lines may stand close together.
            height = -0.75 - 0.75 * (len(lines) - 1 - row)
            axes.vlines(value, height, count - 0.5, color=ANOMALOUS, linewidth=1, linestyle=_DASHED)
            side, shift = ("right", -4) if value > sum(reach) / 2 else ("left", 4)
            text = f"{short(what)} {written(value)}"
            axes.annotate(
                text, (value, height), (shift, 0), textcoords="offset points", ha=side, va="center", color=INK
            )
        axes.set_yticks(range(count), [short(one) for one in names])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set(xlabel=axis, xlim=reach)
        axes.xaxis.set_major_formatter(lambda value, _: written(value))
        axes.set_ylim(count - 0.4, -0.6 - 0.75 * len(lines))

    said = ", ".join(f"{one} {written(value)}" for one, value in zip(names, values, strict=True))
    return chart(name, (6.6, 0.7 + 0.24 * (count + 0.75 * len(lines))), draw, f"{axis}: {said}")
