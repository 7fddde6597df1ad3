"""The report of an evaluation as one self-contained HTML page: the results, their uncertainty, and their limits.

The page loads nothing from anywhere: charts are inline SVG, images are small JPEGs inside it. It reads well on a phone,
in print, and in the dark.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oddsight.drawing import evaluation_figures as figures
from oddsight.drawing.numbers import percent
from oddsight.drawing.overlays import SCALE
from oddsight.errors import DataError
from oddsight.evaluation.normal import Evaluation
from oddsight.metrics.image import binomial_interval
from oddsight.model.calibration import smallest_rate
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages
from oddsight.model.result import VERDICTS
from oddsight.report.pages import template
from oddsight.runtime.files import write_bytes

_FEW_OF_A_TYPE = 10
_RARE = 0.01
_ERRORS_LISTED = 50


def write_report(
    evaluation: Evaluation,
    model: Model,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    normals: NormalImages | None = None,
) -> None:
    """Write an evaluation as an HTML page, all at once or not at all.

    A few test images are read and scored again to show them with their heat maps; the report says which are missing by
    then.

    Args:
        evaluation: The result of :func:`oddsight.evaluate`.
        model: The evaluated model.
        path: The file to write.
        title: Title of the page; by default the method and the folder of the test images.
        normals: Small copies of normal images, to show beside the test images that resemble them; see
            :meth:`oddsight.NormalImages.beside`.

    Raises:
        DataError: The evaluation is of another model or threshold.
        OddsightError: The page cannot be written.
    """
    if evaluation.metadata != model.metadata:
        raise DataError("this evaluation is of another model, or was made with another threshold: evaluate again")
    page = template("page.html.jinja").render(_content(evaluation, model, title, normals))
    write_bytes(path, page.encode("utf-8", errors="replace"))


def _content(evaluation: Evaluation, model: Model, title: str | None, normals: NormalImages | None) -> dict[str, Any]:
    root = _common_folder(evaluation)
    metadata = evaluation.metadata
    galleries = list(_galleries(evaluation, model, normals))
    return {
        "title": title or f"{metadata.method.name} on {_folder_name(root)}",
        "evaluation": evaluation,
        "meta": metadata,
        "words": metadata.verdicts or VERDICTS,
        "counts": evaluation.counts,
        "masks": evaluation.masks,
        "root": root,
        "brief": lambda name: "/".join(Path(name).parts[-2:]),
        "agreement": _agreement(evaluation),
        "metrics": list(_image_rows(evaluation)),
        "pixels": list(_pixel_rows(evaluation)),
        "types": sorted(_type_rows(evaluation), key=lambda row: row.auroc),
        "baselines": sorted(evaluation.baselines.items(), key=lambda item: -item[1]),
        "histogram": figures.histogram(evaluation),
        "roc": figures.roc(evaluation),
        "precision_recall": figures.precision_recall(evaluation),
        "promised": figures.promised_and_seen(evaluation),
        "voices": metadata.explanation.voices if metadata.explanation is not None else [],
        "deciders": [(kind, shares) for kind in (*evaluation.by_type, None) if (shares := evaluation.decided_by(kind))],
        "galleries": galleries,
        "compared": any(example.nearest for gallery in galleries for example in gallery.examples),
        "heat_scale": _heat_scale(),
        "smallest_rate": smallest_rate(metadata.calibration.scores, metadata.decision.confidence),
        "limits": list(_limits(evaluation)),
        "errors": evaluation.errors[:_ERRORS_LISTED],
    }


def _common_folder(evaluation: Evaluation) -> str:
    """The deepest folder that holds all test images, or nothing if they are on different drives."""
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(one.path)) for one in evaluation.judged])  # noqa: PTH100, PTH120
    except ValueError:
        return ""


def _folder_name(root: str) -> str:
    """The name of the folder of test images, or of the dataset where that is just ``test``."""
    folder = Path(root)
    return (folder.parent.name if folder.name == "test" else folder.name) or "test images"


def _agreement(evaluation: Evaluation) -> str:
    """How the false alarms seen compare with those asked for."""
    rate = evaluation.metadata.decision.false_alarm_rate
    if rate is None:
        return "The threshold was set by hand, so no false-alarm rate was promised."
    low, high = evaluation.image["false_alarm_rate_ci"]
    if low > rate:
        return "That is more than was asked for, and more than chance explains."
    if high < rate:
        return "That is less than was allowed for, and less than chance explains."
    return "That is consistent with the rate asked for."


@dataclass(frozen=True)
class Row:
    """A line of a table of metrics: all in [0, 1], with an interval if there is one."""

    name: str
    value: float
    interval: tuple[float, float] | None
    meaning: str


def _image_rows(evaluation: Evaluation) -> Iterator[Row]:
    image = evaluation.image
    rate = evaluation.metadata.decision.false_alarm_rate
    asked = "; none was asked for" if rate is None else f"; at most {percent(rate)} was asked for"
    yield Row("AUROC", image["auroc"], image["auroc_ci"], "how often an anomalous image scores above a normal one")
    yield Row(
        "Average precision",
        image["average_precision"],
        None,
        "precision over all thresholds; depends on the share of anomalous images in this test",
    )
    yield Row(
        "FPR95, anomalous found",
        image["fpr95"],
        None,
        "normal images flagged when 95% of the anomalous are found (as OpenOOD v1.5 counts); lower is better",
    )
    yield Row(
        "FPR95, normal passed",
        image["fpr95_normal_positive"],
        None,
        "anomalous images missed when 95% of the normal pass (as ODIN and OpenOOD v1 count); lower is better",
    )
    yield Row("Recall", image["recall"], image["recall_ci"], "anomalous images flagged at the threshold")
    yield Row(
        "False-alarm rate",
        image["false_alarm_rate"],
        image["false_alarm_rate_ci"],
        f"normal images flagged at the threshold{asked}",
    )
    yield Row("Precision", image["precision"], None, "right alarms at the threshold, in the mixture of this test")
    yield Row("F1", image["f1"], None, "harmonic mean of precision and recall at the threshold")
    yield Row("Best possible F1", image["f1_max"], None, "uses the labels: an upper bound, not a setting")


def _pixel_rows(evaluation: Evaluation) -> Iterator[Row]:
    pixel = evaluation.pixel
    if pixel is None:
        return
    limit = percent(pixel["aupro_limit"])
    yield Row("AUROC", pixel["auroc"], None, "how often an anomalous pixel scores above a normal one")
    yield Row("Average precision", pixel["average_precision"], None, "precision over all thresholds, by pixel")
    yield Row("AUPRO", pixel["aupro"], None, f"overlap with each marked region, up to a false-positive rate of {limit}")
    yield Row("Best possible F1", pixel["f1_max"], None, "uses the labels: an upper bound, not a setting")


@dataclass(frozen=True)
class TypeRow:
    """What was found of one type of anomaly."""

    name: str
    images: int
    flagged: int
    auroc: float
    auroc_ci: tuple[float, float]
    average_precision: float
    recall: float
    recall_ci: tuple[float, float]


def _type_rows(evaluation: Evaluation) -> Iterator[TypeRow]:
    for kind, values in evaluation.by_type.items():
        flagged = sum(judged.flagged for judged in evaluation.judged if judged.kind == kind)
        recall_ci = binomial_interval(flagged, values["images"], evaluation.confidence)
        yield TypeRow(kind, flagged=flagged, recall_ci=recall_ci, **values)


@dataclass(frozen=True)
class Gallery:
    """Images of one sort, or what to say when there are none."""

    heading: str
    note: str
    empty: str
    total: int
    examples: list[figures.Example]


def _galleries(evaluation: Evaluation, model: Model, normals: NormalImages | None) -> Iterator[Gallery]:
    counts = evaluation.counts
    missed = counts["anomalous"] - counts["flagged_anomalous"]
    passed = counts["normal"] - counts["flagged_normal"]
    for heading, note, empty, total, chosen in (
        (
            "Anomalies found",
            "the highest scores of each type",
            "No anomaly was found.",
            counts["flagged_anomalous"],
            figures.found(evaluation),
        ),
        ("Anomalies missed", "lowest scores first", "No anomaly was missed.", missed, figures.missed(evaluation)),
        (
            "False alarms",
            "highest scores first",
            "No normal image was flagged.",
            counts["flagged_normal"],
            figures.false_alarms(evaluation),
        ),
        (
            "Normal images that passed",
            "those with the most typical scores",
            "No normal image passed.",
            passed,
            figures.typical(evaluation),
        ),
    ):
        yield Gallery(heading, note, empty, total, figures.examples(model, chosen, normals, evaluation.reading))


def _heat_scale() -> str:
    """The colours of heat maps as stops of a CSS gradient."""
    start, end = SCALE[0][0], SCALE[-1][0]
    stops = (
        f"rgb({red} {green} {blue} / {opacity}) {100 * (value - start) / (end - start):.1f}%"
        for value, (red, green, blue), opacity in SCALE
    )
    return ", ".join(stops)


def _limits(evaluation: Evaluation) -> Iterator[str]:
    """What these numbers do not say, a sentence or two each."""
    counts, image, calibration = evaluation.counts, evaluation.image, evaluation.metadata.calibration
    rate = evaluation.metadata.decision.false_alarm_rate
    if rate is None:
        yield "The threshold was set by hand. If these test images helped to choose it, its rates are too good."
    else:
        yield "The threshold was set before, from other images; these test images had no part in it."
    low, high = image["false_alarm_rate_ci"]
    yield (
        f"{counts['normal']:,} normal test images leave the false-alarm rate anywhere from {percent(low)} to "
        f"{percent(high)}, and {counts['anomalous']:,} anomalous ones the recall from "
        f"{percent(image['recall_ci'][0])} to {percent(image['recall_ci'][1])}."
    )
    if rate is not None:
        yield (
            f"The promise of {percent(rate)} holds for normal images like those of calibration. Another camera, "
            "light or product is a change that it does not cover."
        )
    if calibration.kind == "cross":
        yield (
            "Each calibration image was scored by a model that had seen fewer images than the final one. The rate "
            "is therefore close to the promise rather than strictly below it; more normal images would allow a split."
        )
    few = [kind for kind, values in evaluation.by_type.items() if values["images"] < _FEW_OF_A_TYPE]
    if few:
        yield (
            f"Fewer than {_FEW_OF_A_TYPE} images each: {', '.join(few[:10])}{' and more' if few[10:] else ''}. One "
            "image more or less visibly changes the numbers of these types."
        )
    yield from _limits_of_precision(evaluation)
    if image["auroc"] > 0.999:
        yield "Nearly every pair is ranked correctly: the test is too easy to compare good methods."
    yield "Kinds of anomaly that are not in this test were not tested, and may be harder or easier to find."


def _limits_of_precision(evaluation: Evaluation) -> Iterator[str]:
    counts, image = evaluation.counts, evaluation.image
    rate = evaluation.metadata.decision.false_alarm_rate
    share = counts["anomalous"] / (counts["anomalous"] + counts["normal"])
    alarms = max(image["false_alarm_rate"], rate or 0.0)
    if share > 2 * _RARE and image["recall"] and alarms:
        right = image["recall"] * _RARE / (image["recall"] * _RARE + alarms * (1 - _RARE))
        yield (
            f"{percent(share)} of these test images are anomalous. Where only {percent(_RARE)} are, about "
            f"{right:.0%} of the alarms would be right, at this recall and {percent(alarms)} false alarms."
        )
    if evaluation.pixel is not None and counts["pixel_images"] < counts["anomalous"]:
        yield (
            f"The pixel metrics rest on {counts['pixel_images']:,} of {counts['anomalous']:,} anomalous images: the "
            "others have no mask that can be used."
        )
