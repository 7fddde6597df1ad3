"""What the report of an evaluation of a model that knows classes says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.drawing.class_figures import confusion_figure
from oddsight.drawing.evaluation_figures import promised_and_seen
from oddsight.drawing.examples import EXAMPLES, THUMBNAIL, Example, nearest_image, reduced
from oddsight.drawing.image_grids import image_uri
from oddsight.drawing.numbers import area, percent, span
from oddsight.drawing.ood_figures import oscr_curves, roc_curves, score_histograms
from oddsight.errors import ImageError
from oddsight.evaluation.classes import ClassEvaluation, scored
from oddsight.model.calibration import smallest_rate
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages
from oddsight.model.result import Result
from oddsight.report.class_figures import confused_pairs, rejected_by_probability, reliability
from oddsight.report.evaluation import common_folder
from oddsight.report.gallery import Card, Gallery, draw_key
from oddsight.report.markdown import table

_CONFUSIONS = 10


def class_content(
    evaluation: ClassEvaluation, model: Model, normals: NormalImages | None
) -> tuple[dict[str, Any], dict[str, Markup]]:
    """What fills ``classes.md.jinja``, and its figures."""
    numbers, metadata = evaluation.to_json(), evaluation.metadata
    galleries = list(_galleries(evaluation, normals))
    key = draw_key(galleries, masked=False)
    pairs = confused_pairs(evaluation)
    content = {
        "numbers": numbers,
        "by_class": model.by_class,
        "rejected": int(evaluation.rejected.sum()),
        "right": int((evaluation.right & ~evaluation.rejected).sum()),
        "unknown_rejected": sum(result.anomalous for found in evaluation.unknown.values() for result in found),
        "unknown_images": sum(map(len, evaluation.unknown.values())),
        "rows": _class_rows(numbers),
        "confusions": _confusions(evaluation.classes, np.array(numbers["confusion"])),
        "pairs": pairs is not None,
        "rejected_wrong": _share_wrong(evaluation, evaluation.rejected),
        "accepted_wrong": _share_wrong(evaluation, ~evaluation.rejected),
        "sets": _set_rows(numbers) if evaluation.unknown else None,
        "galleries": galleries,
        "key": bool(key),
        "root": common_folder([str(image.path) for image in evaluation.images]),
        "smallest_rate": smallest_rate(model.fewest, metadata.decision.confidence),
        "fewest": model.fewest,
    }
    drawn = {
        "confusion": confusion_figure(np.array(numbers["confusion"]), evaluation.classes),
        "reliability": reliability(model, evaluation),
        "rejected-by-probability": rejected_by_probability(evaluation),
        **({"pairs": pairs} if pairs is not None else {}),
        "key": key,
        **{gallery.name: gallery.draw("training image") for gallery in galleries},
        **_rejection_figures(evaluation, by_class=model.by_class),
    }
    return content, drawn


def _rejection_figures(evaluation: ClassEvaluation, *, by_class: bool) -> dict[str, Markup]:
    """Charts of scores; histograms and p-values only where one threshold holds for all classes."""
    known = scored(evaluation.known).astype(np.float64)
    unknown = {name: scored(results).astype(np.float64) for name, results in evaluation.unknown.items()}
    drawn = {}
    if not by_class:
        decision, scores = evaluation.metadata.decision, evaluation.metadata.calibration.scores
        p_values = [result.p_value for result in evaluation.known]
        drawn["histogram"] = score_histograms(known, unknown, decision.threshold, name="histogram")
        drawn["p-values"] = promised_and_seen(p_values, scores, evaluation.rate, whose="images of known classes")
    if unknown:
        drawn["roc"] = roc_curves({name: (known, scores) for name, scores in unknown.items()})
        drawn["oscr"] = oscr_curves({name: (known, evaluation.right, scores) for name, scores in unknown.items()})
    return drawn


def _share_wrong(evaluation: ClassEvaluation, chosen: NDArray[np.bool_]) -> float | None:
    """Which share of some test images is predicted as another class."""
    return float((~evaluation.right[chosen]).mean()) if chosen.any() else None


def _class_rows(numbers: dict[str, Any]) -> Markup:
    """Every class, the lowest recall first; those without test images last."""
    rows = sorted(numbers["classes"].items(), key=lambda item: (not item[1]["images"], item[1]["recall"]))
    lines = [
        (
            name,
            f"{row['images']:,}",
            *(area(row[key]) if row["images"] else None for key in ("precision", "recall", "f1")),
            percent(row["rejected"]) if row["images"] else None,
        )
        for name, row in rows
    ]
    return table(("Class", "Images", "Precision", "Recall", "F1", "Rejected"), lines)


def _confusions(classes: Sequence[str], counts: NDArray[np.int64]) -> Markup | None:
    """The most frequent mistakes."""
    totals = counts.sum(axis=1)
    mistakes = [(int(counts[a, b]), a, b) for a, b in np.argwhere(counts > 0).tolist() if a != b]
    rows = [
        (classes[true], classes[predicted], f"{count:,}", percent(count / totals[true]))
        for count, true, predicted in sorted(mistakes, key=lambda one: (-one[0], one[1:]))[:_CONFUSIONS]
    ]
    return table(("True class", "Predicted class", "Images", "Of its class"), rows, words={1}) if rows else None


def _set_rows(numbers: dict[str, Any]) -> Markup:
    columns = ("Set", "Images", "Rejected", "Interval", "AUROC", "Interval", "AUPR-in", "AUPR-out", "FPR95", "OSCR")
    rows = [
        (
            name,
            f"{row['images']:,}",
            percent(row["rejected"]),
            span(row["rejected_ci"][0], row["rejected_ci"][1], percent),
            area(row["auroc"]),
            span(*row["auroc_ci"]),
            *(area(row[key]) for key in ("aupr_in", "aupr_out", "fpr95", "oscr")),
        )
        for name, row in numbers["unknown"].items()
    ]
    return table(columns, rows)


def _galleries(evaluation: ClassEvaluation, normals: NormalImages | None) -> Iterator[Gallery]:
    known = list(zip(evaluation.images, evaluation.known, evaluation.labels.tolist(), strict=True))
    named = [(image, result, evaluation.classes[label]) for image, result, label in known]
    wrong = [entry for entry in named if not entry[1].anomalous and entry[1].label != entry[2]]
    wrong.sort(key=lambda entry: -(entry[1].label_probability or 0.0))
    rejected = sorted((entry for entry in named if entry[1].anomalous), key=lambda entry: -entry[1].score)
    accepted = [
        (image, result, f"none of the classes ({name})")
        for name, results in evaluation.unknown.items()
        for image, result in zip(evaluation.unknown_images[name], results, strict=True)
        if not result.anomalous
    ]
    accepted.sort(key=lambda entry: entry[1].score)
    sorts = [
        ("wrong", "Wrong classes", "the most confident first", "Every accepted image is predicted as its own class.",
         wrong),
        ("rejected", "Images of known classes that were rejected", "highest scores first",
         "No image of a known class was rejected.", rejected),
        ("accepted", "Images of no known class that were accepted", "lowest scores first",
         "Every image of no known class was rejected.", accepted),
    ]  # fmt: skip
    for name, heading, note, empty, entries in sorts if evaluation.unknown else sorts[:2]:
        cards = [_card(*entry, normals) for entry in entries[:EXAMPLES]]
        yield Gallery(name, heading, note, empty, len(entries), cards)


def _card(image: ImageFile, result: Result, truth: str, normals: NormalImages | None) -> Card:
    try:
        uri = image_uri(reduced(image.read()), THUMBNAIL)
    except ImageError:
        uri = None
    nearest, nearest_path = nearest_image(result.nearest, normals)
    probability = f" ({percent(result.label_probability)})" if result.label_probability is not None else ""
    lines = [
        f"truth: {truth}",
        f"predicted: {result.label}{probability}",
        f"score {result.score:.4g} · p = {result.p_value:.2g}",
    ]
    tag = "rejected" if result.anomalous else "accepted"
    return Card(Example(uri, nearest=nearest, nearest_path=nearest_path), str(image.path), lines, tag, result.anomalous)
