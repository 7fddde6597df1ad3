"""Charts of the report of an evaluation on normal and anomalous images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from oddsight.drawing.charts import FAINT, NORMAL, chart, mark, square
from oddsight.drawing.ood_figures import Point, Scores, pr_curves, roc_curves, score_histograms
from oddsight.evaluation.normal import Evaluation
from oddsight.model.result import VERDICTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TYPES_APART = 6  # Up to this many types of anomaly have a histogram each


def histogram(evaluation: Evaluation) -> Markup:
    """Scores of normal and of anomalous images, by type if these are few, with the threshold through all."""
    kinds = list(evaluation.by_type)
    normal, anomalous = evaluation.metadata.verdicts or VERDICTS
    groups = {kind: evaluation.scores(kind) for kind in kinds}
    if len(kinds) > TYPES_APART:
        groups = {f"all {anomalous}": np.concatenate(list(groups.values()))}
    threshold = evaluation.metadata.decision.threshold
    return score_histograms(evaluation.scores(None), groups, threshold, name="histogram", known=normal, verb="flagged")


def roc(evaluation: Evaluation) -> Markup:
    """ROC curve with the operating point and its intervals."""
    image = evaluation.image
    point = Point(image["false_alarm_rate"], image["recall"], image["false_alarm_rate_ci"], image["recall_ci"])
    axis = ("normal images flagged", "anomalous images found")
    return roc_curves({"": _scores(evaluation)}, axis=axis, point=point)


def precision_recall(evaluation: Evaluation) -> Markup:
    """Precision against recall with the operating point, if anything was flagged at all."""
    counts, image = evaluation.counts, evaluation.image
    flagged = counts["flagged_normal"] + counts["flagged_anomalous"]
    point = Point(image["recall"], image["precision"]) if flagged else None
    axis = ("anomalous images found (recall)", "alarms that are right (precision)")
    return pr_curves({"": _scores(evaluation)}, axis=axis, point=point)


def _scores(evaluation: Evaluation) -> tuple[Scores, Scores]:
    anomalous = np.concatenate([evaluation.scores(kind) for kind in evaluation.by_type])
    return evaluation.scores(None), anomalous


def promised_and_seen(
    p_values: Sequence[float], calibration: int, rate: float | None, confidence: float = 0.95, *, whose: str
) -> Markup:
    """Share of images that ought to pass whose p-value is at most each rate, with the band that chance allows.

    If the images are like those of calibration, the number of ``m`` of them with a p-value of at most
    ``k / (n + 1)`` follows a beta-binomial distribution with parameters ``m``, ``k`` and ``n + 1 - k``, as the k-th
    of n uniform values has a beta distribution.
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
