"""What the report of an evaluation on normal and anomalous images says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from oddsight.data.masks import MaskCoverage
from oddsight.drawing import evaluation_figures as figures
from oddsight.drawing.class_figures import bars
from oddsight.drawing.examples import EXAMPLES, by_score, draw_example, highest_by_type
from oddsight.drawing.numbers import percent
from oddsight.evaluation.normal import Evaluation, ImageOutcome
from oddsight.model.calibration import smallest_rate
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages
from oddsight.model.result import UNKNOWN_TYPE, VERDICTS
from oddsight.report.gallery import Card, Gallery, draw_key
from oddsight.report.markdown import joined, table

_FEW_OF_A_TYPE = 10
_RARE = 0.01


def evaluation_content(
    evaluation: Evaluation, model: Model, normals: NormalImages | None
) -> tuple[dict[str, Any], dict[str, Markup]]:
    """What fills ``evaluation.md.jinja``, and its figures."""
    metadata, image, counts = evaluation.metadata, evaluation.image, evaluation.counts
    rate = metadata.decision.false_alarm_rate
    galleries = list(_galleries(evaluation, model, normals))
    key = draw_key(galleries, masked=counts["masks"] > counts["empty_masks"])
    share = counts["anomalous"] / (counts["anomalous"] + counts["normal"])
    alarms = max(image["false_alarm_rate"], rate or 0.0)
    recall = image["recall"] * _RARE
    content = {
        "words": metadata.verdicts or VERDICTS,
        "counts": counts,
        "agreement": agreement(evaluation.metadata.decision.false_alarm_rate, *evaluation.image["false_alarm_rate_ci"]),
        "masks": mask_table(evaluation.masks),
        "types": sorted(_type_rows(evaluation), key=lambda row: row["auroc"]),
        "deciders": _deciders(evaluation),
        "verdicts": _verdicts(evaluation),
        "galleries": galleries,
        "key": bool(key),
        "root": common_folder([outcome.path for outcome in evaluation.judged]),
        "smallest_rate": smallest_rate(metadata.calibration.scores, metadata.decision.confidence),
        "few": [kind for kind, values in evaluation.by_type.items() if values["images"] < _FEW_OF_A_TYPE],
        "least": _FEW_OF_A_TYPE,
        "anomalous_share": share,
        "rare": _RARE,
        "alarms": alarms,
        # What share of the alarms is right where anomalies are rare, if that is not what this test shows.
        "right": recall / (recall + alarms * (1 - _RARE)) if share > 2 * _RARE and recall and alarms else None,
    }
    p_values = [outcome.p_value for outcome in evaluation.judged if outcome.kind is None]
    scores, confidence = metadata.calibration.scores, evaluation.confidence
    baselines = dict(sorted(evaluation.baselines.items(), key=lambda item: -item[1]))
    drawn = {
        "histogram": figures.histogram(evaluation),
        "roc": figures.roc(evaluation),
        "precision-recall": figures.precision_recall(evaluation),
        "p-values": figures.promised_and_seen(p_values, scores, rate, confidence, whose="normal images"),
        "baselines": baseline_bars(image["auroc"], image["auroc_ci"], baselines),
        "key": key,
        **{gallery.name: gallery.draw("normal") for gallery in galleries},
    }
    return content, drawn


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that holds all files, or nothing if they are on different drives."""
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])  # noqa: PTH100, PTH120
    except ValueError:
        return ""


def folder_name(root: str) -> str:
    """The name of the folder of test images, or of the dataset where that is just ``test``."""
    folder = Path(root)
    return (folder.parent.name if folder.name == "test" else folder.name) or "test images"


def mask_table(coverage: MaskCoverage | None) -> Markup | None:
    """What must be known of the masks, if there is anything."""
    remarks = coverage.remarks() if coverage is not None else []
    if not remarks:
        return None
    rows = [(what, f"{len(paths):,}", joined(paths, len(paths))) for what, paths, _ in remarks]
    return table(("What", "Number", "Files"), rows, words={2})


def _verdicts(evaluation: Evaluation) -> Markup | None:
    """How often the images of each type got each verdict, where the model names types."""
    types = evaluation.metadata.types
    if types is None:
        return None
    normal, _ = evaluation.metadata.verdicts or VERDICTS
    columns = [normal, *types.classes.names, UNKNOWN_TYPE]
    rows = []
    for kind, counts in evaluation.named.items():
        name = f"{normal} images" if kind is None else kind if kind in columns else f"{kind} (not a named type)"
        rows.append((name, f"{sum(counts.values()):,}", *(f"{counts.get(verdict, 0):,}" for verdict in columns)))
    return table(("Images", "Number", *columns), rows, words={0})


def agreement(asked: float | None, low: float, high: float | None) -> str:
    """How the interval of the false alarms seen compares with the rate asked for; ``high`` is None if unbounded."""
    if asked is None:
        return "none"
    return "more" if low > asked else "less" if high is not None and high < asked else "consistent"


def baseline_bars(
    own: float, interval: tuple[float, float] | None, baselines: Mapping[str, float], *, axis: str = "AUROC"
) -> Markup:
    """AUROC of the model, with its interval, and of trivial baselines."""
    areas, intervals = [own, *baselines.values()], [interval, *[None] * len(baselines)]
    return bars(["this model", *baselines], areas, intervals, axis=axis, start=0.5, name="baselines")


def _type_rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """What was found of each type of anomaly."""
    for kind, values in evaluation.by_type.items():
        flagged = sum(outcome.flagged for outcome in evaluation.judged if outcome.kind == kind)
        yield {"name": kind, "flagged": flagged, **values}


def _deciders(evaluation: Evaluation) -> Markup | None:
    """How often each detector inside the method decided, for each type and for normal images."""
    explanation, words = evaluation.metadata.explanation, evaluation.metadata.verdicts or VERDICTS
    voices = explanation.voices if explanation is not None else []
    rows = [
        (words[0] if kind is None else kind, *(percent(shares[voice]) if shares[voice] else None for voice in voices))
        for kind in (*evaluation.by_type, None)
        if (shares := evaluation.decided_by(kind))
    ]
    return table(("Type", *voices), rows) if rows else None


def _galleries(evaluation: Evaluation, model: Model, normals: NormalImages | None) -> Iterator[Gallery]:
    missed = by_score(evaluation, lambda one: one.kind is not None and not one.flagged)
    alarms = by_score(evaluation, lambda one: one.kind is None and one.flagged)[::-1]
    passed = by_score(evaluation, lambda one: one.kind is None and not one.flagged)
    typical = passed[max(0, (len(passed) - EXAMPLES) // 2) :]
    for name, heading, note, empty, total, chosen in (
        ("found", "Anomalies found", "the highest scores of each type", "No anomaly was found.",
         evaluation.counts["flagged_anomalous"], highest_by_type(evaluation)),
        ("missed", "Anomalies missed", "lowest scores first", "No anomaly was missed.", len(missed), missed),
        ("alarms", "False alarms", "highest scores first", "No normal image was flagged.", len(alarms), alarms),
        ("passed", "Normal images that passed", "those with the most typical scores", "No normal image passed.",
         len(passed), typical),
    ):  # fmt: skip
        cards = [_card(evaluation, model, outcome, normals) for outcome in chosen[:EXAMPLES]]
        yield Gallery(name, heading, note, empty, total, cards)


def _card(evaluation: Evaluation, model: Model, outcome: ImageOutcome, normals: NormalImages | None) -> Card:
    words = evaluation.metadata.verdicts
    kind = (words or VERDICTS)[0] if outcome.kind is None else outcome.kind
    lines = [f"{kind} · score {outcome.score:.4g} · p = {outcome.p_value:.2g}"]
    if outcome.voices:
        spoke, first = ("decided by" if outcome.flagged else "loudest:"), outcome.voices[0]
        lines.append(f"{spoke} {first.name}, its own p = {first.p_value:.2g}")
    tag = "flagged" if outcome.flagged else "passed"
    if words is not None:
        tag += f" as {words[outcome.flagged]}"
    example = draw_example(model, outcome, normals, evaluation.reading)
    return Card(example, outcome.path, lines, tag, outcome.flagged)
