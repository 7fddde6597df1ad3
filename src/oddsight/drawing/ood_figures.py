"""What the report of a classifier shows of rejection: histograms of scores, and ROC, precision-recall and OSCR curves.

Everything is drawn from plain arrays of scores, higher is more anomalous; a page may hold several charts of a kind if
each has a ``name`` of its own, which keeps the identifiers in their SVG apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from oddsight import metrics
from oddsight.drawing.charts import ANOMALOUS, COLOURS, DASHES, FAINT, INK, NORMAL, chart, mark, square
from oddsight.drawing.numbers import area, percent, short
from oddsight.metrics.ood import oscr, oscr_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = NDArray[np.float64]
Curve = tuple[str, float, Scores, Scores]  # A name, the area below, and the points across and up


class Point(NamedTuple):
    """An operating point on a curve, with its intervals across and up."""

    x: float
    y: float
    across: tuple[float, float] | None = None
    up: tuple[float, float] | None = None


_FEW = 5
_POINTS = 400
_BINS = 50
_FAR = 0.002  # Share of the ID scores at each end that does not count for how far a histogram goes


def score_histograms(
    id_scores: Scores,
    ood_scores: Mapping[str, Scores],
    threshold: float,
    *,
    name: str = "scores",
    known: str = "known classes",
    verb: str = "rejected",
) -> Markup:
    """Scores of the known classes and below them of every sort of others, in the same bins, the threshold through all.

    The first scores ``[n]`` are of what is ``known``, others ``[m]`` go by name; ``verb`` says what happens to images
    above the threshold.
    """
    groups = [(known, id_scores), *ood_scores.items()]
    edges = _edges(id_scores, np.concatenate([scores for _, scores in groups]), threshold)
    rejected = [float(np.mean(scores > threshold)) for _, scores in groups]

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(groups), sharex=True, squeeze=False)[:, 0]
        for axes, (what, scores), share in zip(rows, groups, rejected, strict=True):
            shown = np.clip(scores, edges[0], edges[-1])
            axes.hist(shown, edges, color=NORMAL if axes is rows[0] else ANOMALOUS)
            axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
            axes.set_title(f"{short(what)} ({len(scores):,})", loc="left")
            axes.set_title(f"{percent(share)} {verb}", loc="right")
            axes.set_xlim(edges[0], edges[-1])
            axes.yaxis.get_major_locator().set_params(integer=True, nbins=2)
        beyond = sum(int(((scores < edges[0]) | (scores > edges[-1])).sum()) for _, scores in groups)
        far = f"; the outermost bins hold {beyond:,} beyond" if beyond else ""
        rows[-1].set_xlabel(f"score (higher is more anomalous), threshold {threshold:.4g}{far}")

    said = ", ".join(f"{what} {percent(share)}" for (what, _), share in zip(groups, rejected, strict=True))
    return chart(name, (6.6, 0.62 + 0.82 * len(groups)), draw, f"Histograms of scores. {verb.capitalize()}: {said}")


def _edges(known: Scores, everything: Scores, threshold: float) -> Scores:
    """Edges of bins, one of them at the threshold, so that no bin holds images of both decisions.

    The known classes and the threshold take a quarter of the width or more: other images may lie very far off.
    """
    low, high = (float(value) for value in np.quantile(known, [_FAR, 1 - _FAR]))
    low, high = min(low, threshold), max(high, threshold)
    reach = high - low or float(np.ptp(everything))
    low, high = max(everything.min(), low - reach), min(everything.max(), high + 2 * reach)
    low, high = min(low, threshold), max(high, threshold)
    step = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-12) / _BINS
    first, last = int(np.floor((low - threshold) / step)) - 1, int(np.ceil((high - threshold) / step)) + 1
    edges = threshold + step * np.arange(first, last + 1)
    edges[-first] = np.nextafter(threshold, np.inf)  # a bin holds its left edge, and the threshold itself is accepted
    return np.asarray(edges, np.float64)


def roc_curves(
    scores: Mapping[str, tuple[Scores, Scores]],
    *,
    name: str = "roc",
    axis: tuple[str, str] = ("known classes rejected", "others rejected"),
    point: Point | None = None,
) -> Markup:
    """ROC curves of ID scores ``[n]`` and OOD scores ``[m]`` by name, with OOD positive, and their AUROC."""
    from sklearn.metrics import roc_curve

    curves: list[Curve] = []
    for what, (known, unknown) in scores.items():
        false, true, _ = roc_curve(*_labelled(known, unknown))
        curves.append((what, metrics.auroc(known, unknown), false, true))
    chance = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    return _curves(name, "AUROC", curves, axis, chance, "lower right", point)


def pr_curves(
    scores: Mapping[str, tuple[Scores, Scores]],
    *,
    axis: tuple[str, str] = ("others rejected (recall)", "rejections that are right (precision)"),
    point: Point | None = None,
) -> Markup:
    """Precision and recall of ID scores ``[n]`` and OOD scores ``[m]`` by name, with OOD positive, and their AUPR."""
    from sklearn.metrics import precision_recall_curve

    curves: list[Curve] = []
    for what, (known, unknown) in scores.items():
        precision, recall, _ = precision_recall_curve(*_labelled(known, unknown))
        curves.append((what, metrics.average_precision(known, unknown), recall[::-1], precision[::-1]))
    shares = {len(unknown) / (len(known) + len(unknown)) for known, unknown in scores.values()}
    # Guessing has the precision of the share of OOD images, which is one line only if all curves have the same.
    chance = (np.array([0.0, 1.0]), np.full(2, shares.pop())) if len(shares) == 1 else None
    return _curves("precision-recall", "AUPR", curves, axis, chance, "lower left", point)


def oscr_curves(scores: Mapping[str, tuple[Scores, NDArray[np.bool_], Scores]]) -> Markup:
    """Images named correctly against others accepted (Dhamija et al., NeurIPS 2018), and the area below.

    ``scores`` holds, by name, ID scores ``[n]``, whether each is named correctly ``[n]``, and OOD scores ``[m]``.
    """
    curves = [(what, oscr(*parts), *oscr_curve(*parts)) for what, parts in scores.items()]
    axis = ("others accepted", "known classes named correctly")
    return _curves("oscr", "OSCR", curves, axis, None, "lower right")


def _curves(
    name: str,
    measure: str,
    curves: list[Curve],
    axis: tuple[str, str],
    chance: tuple[Scores, Scores] | None,
    free: Literal["lower left", "lower right"],
    point: Point | None = None,
) -> Markup:
    """Curves of two shares; the names of a few stand in a corner that is free, those of many beside the chart."""
    written = [f"{short(what)} {area(value)}".strip() for what, value, _, _ in curves]
    few = len(curves) <= _FEW

    def draw(figure: Figure) -> None:
        axes = square(figure, *axis)
        if chance is not None:
            axes.plot(*chance, color=FAINT, linewidth=1)
        dashes = [style for style in DASHES for _ in COLOURS]
        for (_, _, across, up), text, colour, dash in zip(curves, written, cycle(COLOURS), cycle(dashes), strict=False):
            # Older Matplotlib leaves out what starts with an underscore, as a name may.
            label = f"\u200b{text}" if text.startswith("_") else text
            points = _thinned(across, up)
            axes.plot(*points, color=colour, linestyle=dash, linewidth=1.6, clip_on=False, label=label)
        if point is not None:
            axes.hlines(point.y, *(point.across or (point.x, point.x)), color=INK, linewidth=1)
            axes.vlines(point.x, *(point.up or (point.y, point.y)), color=INK, linewidth=1)
            mark(axes, point.x, point.y)
        style: dict[str, Any] = {"frameon": False, "labelcolor": INK, "fontsize": 8, "title": measure}
        legend = axes.legend(loc=free, **style) if few else figure.legend(loc="outside right center", **style)
        legend.get_title().set_color(INK)

    # Wide enough that the height limits the square: otherwise its label would leave the chart.
    beside = 0 if few else 1.0 + 0.07 * max(len(text) for text in written)
    size = (3.4 + beside, max(3.3, 0 if few else 0.5 + 0.17 * len(curves)))
    return chart(name, size, draw, f"{measure}: {', '.join(written)}")


def _thinned(across: Scores, up: Scores) -> tuple[Scores, Scores]:
    """At most some hundred points of a curve, evenly along it: more could not be seen, and would weigh megabytes."""
    if across.size <= _POINTS:
        return across, up
    along = np.append(0.0, np.cumsum(np.abs(np.diff(across)) + np.abs(np.diff(up))))
    places = np.searchsorted(along, np.linspace(0, along[-1], _POINTS))
    kept = np.unique(np.append(np.clip(places, 0, across.size - 1), [0, across.size - 1]))
    return across[kept], up[kept]


def _labelled(known: Scores, unknown: Scores) -> tuple[NDArray[np.bool_], Scores]:
    return np.repeat([False, True], [len(known), len(unknown)]), np.concatenate([known, unknown])
