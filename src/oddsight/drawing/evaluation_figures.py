"""Charts of the report of an evaluation on normal and anomalous images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from oddsight.drawing.charts import ANOMALOUS, FAINT, INK, NORMAL, chart, logarithmic_x, mark, square
from oddsight.drawing.numbers import short
from oddsight.evaluation.normal import Evaluation
from oddsight.model.result import VERDICTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TYPES_APART = 6
"""Up to this many types of anomaly have a histogram each."""

_BINS = 40


def histogram(evaluation: Evaluation) -> Markup:
    """Scores of normal and of anomalous images, by type if these are few, with the threshold through all."""
    kinds = list(evaluation.by_type)
    normal, anomalous = evaluation.metadata.verdicts or VERDICTS
    groups = [(normal, evaluation.scores(None))]
    if 1 < len(kinds) <= TYPES_APART:
        groups += [(kind, evaluation.scores(kind)) for kind in kinds]
    else:
        every = np.array([judged.score for judged in evaluation.judged if judged.kind is not None])
        groups.append((kinds[0] if len(kinds) == 1 else f"all {anomalous}", every))
    threshold = evaluation.metadata.decision.threshold

    def draw(figure: Figure) -> None:
        everything = np.concatenate([scores for _, scores in groups])
        logarithmic = bool(min(everything.min(), threshold) > 0 and everything.max() > 50 * np.median(groups[0][1]))
        edges, marked = _edges(everything, threshold, logarithmic)
        rows = figure.subplots(len(groups), sharex=True, squeeze=False)[:, 0]
        for axes, (name, scores) in zip(rows, groups, strict=True):
            axes.hist(scores, edges, color=NORMAL if axes is rows[0] else ANOMALOUS)
            axes.set_title(f"{short(name)} ({len(scores):,})", loc="left")
            axes.yaxis.get_major_locator().set_params(integer=True, nbins=2)
            if marked:
                axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        if logarithmic:
            logarithmic_x(rows[0])
        rows[-1].set_xlabel("score (higher is more anomalous)" + (", logarithmic scale" if logarithmic else ""))
        if marked and threshold < (edges[0] + edges[-1]) / 2 and not logarithmic:
            # Beside the line, where the normal images leave room for it.
            place = {"xytext": (4, -1), "textcoords": "offset points", "va": "top", "color": INK}
            rows[0].annotate(f"threshold {threshold:.4g}", (threshold, 1), xycoords=("data", "axes fraction"), **place)
        else:
            rows[0].set_title(f"threshold {threshold:.4g}{'' if marked else ', off the scale'}", loc="right")

    return chart("scores", (6.6, 0.62 + 0.82 * len(groups)), draw, "Histogram of scores")


def _edges(scores: NDArray[np.float64], threshold: float, logarithmic: bool) -> tuple[NDArray[np.float64], bool]:
    """Edges of bins, one of them at the threshold unless that lies far off; and whether it does not."""
    into, back = (np.log10, lambda x: 10.0**x) if logarithmic else (np.asarray, np.asarray)
    low, high, at = (float(into(value)) for value in (scores.min(), scores.max(), threshold))
    span = (high - low) or max(abs(high), 1.0) * 1e-3
    if not low - span <= at <= high + span:
        return np.asarray(back(np.linspace(low, low + span, _BINS + 1))), False
    step = (max(high, at) - min(low, at) or span) / _BINS
    first = min(int(np.floor((low - at) / step)), 0) - 1
    last = max(int(np.ceil((high - at) / step)), 0) + 1
    edges = np.asarray(back(at + step * np.arange(first, last + 1)))
    # An image is flagged strictly beyond the threshold, and a bin holds its left edge.
    edges[-first] = np.nextafter(threshold, np.inf)
    return edges, True


def roc(evaluation: Evaluation) -> Markup:
    """ROC curve with the operating point and its intervals."""
    from sklearn.metrics import roc_curve

    image = evaluation.image

    def draw(figure: Figure) -> None:
        axes = square(figure, "normal images flagged", "anomalous images found")
        alarms, found, _ = roc_curve(*_truth_and_scores(evaluation))
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        axes.plot(alarms, found, color=ANOMALOUS, linewidth=1.8)
        x, y = image["false_alarm_rate"], image["recall"]
        axes.hlines(y, *image["false_alarm_rate_ci"], color=INK, linewidth=1)
        axes.vlines(x, *image["recall_ci"], color=INK, linewidth=1)
        mark(axes, x, y)

    return chart("roc", (2.9, 2.85), draw, "ROC curve")


def precision_recall(evaluation: Evaluation) -> Markup:
    """Precision against recall with the operating point, if anything was flagged at all."""
    from sklearn.metrics import precision_recall_curve

    counts, image = evaluation.counts, evaluation.image

    def draw(figure: Figure) -> None:
        axes = square(figure, "anomalous images found (recall)", "alarms that are right (precision)")
        precision, recall, _ = precision_recall_curve(*_truth_and_scores(evaluation))
        share = counts["anomalous"] / (counts["anomalous"] + counts["normal"])
        axes.axhline(share, color=FAINT, linewidth=1)
        axes.step(recall, precision, color=ANOMALOUS, linewidth=1.8, where="post")
        if counts["flagged_normal"] + counts["flagged_anomalous"]:
            mark(axes, image["recall"], image["precision"])

    return chart("precision-recall", (2.9, 2.85), draw, "Precision-recall curve")


def promised_and_seen(
    p_values: Sequence[float], calibration: int, rate: float | None, confidence: float = 0.95, *, whose: str
) -> Markup:
    """Share of test images whose p-value is at most each rate, with the band that chance allows.

    If the test images are like those of calibration, the number of ``m`` of them with a p-value of at most
    ``k / (n + 1)`` follows a beta-binomial distribution with parameters ``m``, ``k`` and ``n + 1 - k``, as the k-th
    of n uniform values has a beta distribution.

    Args:
        p_values: Of images that ought to pass.
        calibration: Number of calibration scores.
        rate: What was asked for, if anything.
        confidence: Of the band.
        whose: What the images are.
    """
    from scipy.stats import betabinom

    m, n = len(p_values), calibration
    ranks = np.unique(np.rint(np.linspace(1, n, min(n, 200))))
    tail = (1 - confidence) / 2
    low, high = (betabinom.ppf(q, m, ranks, n + 1 - ranks) / m for q in (tail, 1 - tail))

    def draw(figure: Figure) -> None:
        axes = square(figure, "rate asked for", f"{whose} flagged")
        axes.fill_between(ranks / (n + 1), low, high, color=NORMAL, alpha=0.18, linewidth=0, step="post")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        axes.step([0, *sorted(p_values), 1], [*np.arange(m + 1) / m, 1], color=NORMAL, linewidth=1.8, where="post")
        if rate is not None:
            mark(axes, rate, float(np.mean(np.asarray(p_values) <= rate * (1 + 1e-9))))

    return chart("p-values", (2.9, 2.85), draw, "Flags promised and seen")


def _truth_and_scores(evaluation: Evaluation) -> tuple[list[bool], list[float]]:
    return [judged.kind is not None for judged in evaluation.judged], [judged.score for judged in evaluation.judged]
