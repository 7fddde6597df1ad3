"""What the report of an evaluation shows: charts as inline SVG, and example images as JPEG data URIs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.images import read_mask, read_valid_image
from oddsight.data.reading import Reading
from oddsight.drawing.charts import ANOMALOUS, FAINT, INK, NORMAL, chart, logarithmic_x, mark, square
from oddsight.drawing.numbers import short
from oddsight.drawing.overlays import overlay
from oddsight.errors import ImageError
from oddsight.evaluation.normal import Evaluation, ImageOutcome
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages
from oddsight.model.result import VERDICTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TYPES_APART = 6
"""Up to this many types of anomaly have a histogram each."""

EXAMPLES = 8
"""Images of each sort, at most."""

THUMBNAIL = 320
"""Pixels on the longer side of an image, at most."""

_OUTLINE = (0, 229, 255)
_BINS = 40


@dataclass(frozen=True)
class Example:
    """A test image to show.

    Attributes:
        judged: The image and what the model said.
        image: Data URI, with the outline of its mask where there is one; None if it could not be read again.
        heat: Data URI with the heat map, or None.
        outlined: Whether the image carries the outline of a mask.
        nearest: Data URI of the most similar normal image, or None.
        nearest_path: Where that image was found, or None.
    """

    judged: ImageOutcome
    image: str | None
    heat: str | None
    outlined: bool
    nearest: str | None
    nearest_path: str | None


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


def promised_and_seen(evaluation: Evaluation) -> Markup:
    """Share of normal test images whose p-value is at most each rate, with the band that chance allows.

    If the normal test images are like those of calibration, the number of ``m`` of them with a p-value of at most
    ``k / (n + 1)`` follows a beta-binomial distribution with parameters ``m``, ``k`` and ``n + 1 - k``, as the k-th
    of n uniform values has a beta distribution.
    """
    from scipy.stats import betabinom

    n = evaluation.metadata.calibration.scores
    p_values = np.sort([judged.p_value for judged in evaluation.judged if judged.kind is None])
    ranks = np.unique(np.rint(np.linspace(1, n, min(n, 200))))
    tail = (1 - evaluation.confidence) / 2
    low, high = (betabinom.ppf(q, len(p_values), ranks, n + 1 - ranks) / len(p_values) for q in (tail, 1 - tail))

    def draw(figure: Figure) -> None:
        axes = square(figure, "false-alarm rate asked for", "normal test images flagged")
        axes.fill_between(ranks / (n + 1), low, high, color=NORMAL, alpha=0.18, linewidth=0, step="post")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        seen = np.arange(len(p_values) + 1) / len(p_values)
        axes.step([0, *p_values, 1], [*seen, 1], color=NORMAL, linewidth=1.8, where="post")
        rate = evaluation.metadata.decision.false_alarm_rate
        if rate is not None:
            axes.plot(rate, evaluation.image["false_alarm_rate"], "o", color=INK, markersize=5, clip_on=False, zorder=5)

    return chart("p-values", (2.9, 2.85), draw, "False alarms promised and seen")


def _truth_and_scores(evaluation: Evaluation) -> tuple[list[bool], list[float]]:
    return [judged.kind is not None for judged in evaluation.judged], [judged.score for judged in evaluation.judged]


def found(evaluation: Evaluation) -> list[ImageOutcome]:
    """Flagged anomalies: the highest score of each type, then the second of each, and so on."""
    flagged = _ranked(evaluation, lambda judged: judged.kind is not None and judged.flagged)
    turns: dict[str | None, int] = {}
    keyed = []
    for judged in reversed(flagged):
        turns[judged.kind] = turns.get(judged.kind, 0) + 1
        keyed.append((turns[judged.kind], judged))
    return [judged for _, judged in sorted(keyed, key=lambda pair: pair[0])][:EXAMPLES]


def missed(evaluation: Evaluation) -> list[ImageOutcome]:
    """Anomalies that passed, lowest score first."""
    return _ranked(evaluation, lambda judged: judged.kind is not None and not judged.flagged)[:EXAMPLES]


def false_alarms(evaluation: Evaluation) -> list[ImageOutcome]:
    """Normal images that were flagged, highest score first."""
    return _ranked(evaluation, lambda judged: judged.kind is None and judged.flagged)[::-1][:EXAMPLES]


def typical(evaluation: Evaluation) -> list[ImageOutcome]:
    """Normal images that passed, those around the median of their scores."""
    passed = _ranked(evaluation, lambda judged: judged.kind is None and not judged.flagged)
    start = max(0, (len(passed) - EXAMPLES) // 2)
    return passed[start : start + EXAMPLES]


def _ranked(evaluation: Evaluation, wanted: Callable[[ImageOutcome], bool]) -> list[ImageOutcome]:
    return sorted(filter(wanted, evaluation.judged), key=lambda judged: judged.score)


def examples(model: Model, chosen: Sequence[ImageOutcome], normals: NormalImages | None, reading: Reading) -> list[Example]:
    """The test images to show, with heat maps if the model localises, and the normal images that they resemble."""
    return [_example(model, judged, normals, reading) for judged in chosen]


def _example(model: Model, judged: ImageOutcome, normals: NormalImages | None, reading: Reading) -> Example:
    nearest = _nearest(judged, normals)
    try:
        pixels, valid = read_valid_image(judged.path, reading=reading)
    except ImageError:
        return Example(judged, None, None, False, *nearest)
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    small = np.array(image)
    heat = None
    if model.metadata.map_size is not None:
        heat = _data_uri(overlay(small, model.score(pixels, valid=valid, source=judged.path)))
    outlined = _outlined(small, judged, (pixels.shape[1], pixels.shape[0]))
    image_uri = _data_uri(small if outlined is None else outlined)
    return Example(judged, image_uri, heat, outlined is not None, *nearest)


def _nearest(judged: ImageOutcome, normals: NormalImages | None) -> tuple[str | None, str | None]:
    """A copy (a data URI) and the path of the most similar normal image, as far as they are known."""
    if normals is None or judged.nearest is None:
        return None, None
    path = normals.path(judged.nearest)
    try:
        small = normals.thumbnail(judged.nearest)
    except ImageError:
        return None, path
    return None if small is None else _data_uri(np.asarray(small)), path


def _outlined(small: NDArray[np.uint8], judged: ImageOutcome, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """A thumbnail with a bright line with a dark rim just outside of what the mask marks, or None without a mask."""
    from scipy.ndimage import binary_dilation

    if judged.mask is None:
        return None
    try:
        marked = Image.fromarray(read_mask(judged.mask, size, turn=judged.mask_turn).astype(np.float32))
    except ImageError:
        return None
    # Averages over boxes, so that a mark of one pixel is not lost in the reduction.
    inside = np.asarray(marked.resize(small.shape[1::-1], Image.Resampling.BOX)) > 0
    if not inside.any():
        return None
    drawn = small.copy()
    line, rim = binary_dilation(inside), binary_dilation(inside, iterations=2)
    drawn[rim] = (20, 20, 20)
    drawn[line] = _OUTLINE
    drawn[inside] = small[inside]
    return drawn


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
