"""From what a model's graph gives for an image to a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.model.file import ModelFile
from oddsight.model.outputs import read_index, read_map, read_p_value, read_probability, read_score, read_voices
from oddsight.model.result import VERDICTS, AnomalyType, Result, Voice

Values = Mapping[str, Any]
"""The outputs of a graph by name, as they are."""


def interpret(file: ModelFile, values: Values, *, width: int, height: int, source: str | None, name: str) -> Result:
    """The result of an image of some path, which errors call by a name.

    Raises:
        ImageError: An output is out of range; see :meth:`oddsight.Model.score`.
    """
    metadata = file.metadata
    known, grid = metadata.classes, metadata.map_size
    score = read_score(values["score"], name)
    label = chance = None
    if known is not None:
        label = read_index(values["class_index"], len(known.names), "class", name)
        chance = read_probability(values["class_probability"], "class probability", name)
    return Result(
        source=source,
        width=width,
        height=height,
        score=score,
        p_value=read_p_value(values["p_value"], score, _calibration_for(file, label), name),
        threshold=file.threshold_for(label),
        false_alarm_rate=metadata.decision.false_alarm_rate,
        map=read_map(values["anomaly_map"], grid, score, name) if grid is not None else None,
        voices=_voices(file, values, score, name),
        nearest=_nearest(file, values, name),
        label=known.names[label] if known is not None and label is not None else None,
        label_probability=chance,
        verdicts=metadata.verdicts or VERDICTS,
        levels=metadata.pixels,
        calibration=file.calibration if grid is not None else None,
        most_like=_most_like(file, values, name),
    )


def _calibration_for(file: ModelFile, label: int | None) -> NDArray[np.float32]:
    """Scores of the calibration images that an image with this predicted class is compared with."""
    classes = file.calibration_classes
    return file.calibration if classes is None else file.calibration[classes == label]


def _voices(file: ModelFile, values: Values, score: float, name: str) -> tuple[Voice, ...]:
    explanation = file.metadata.explanation
    if explanation is None or not explanation.voices:
        return ()
    count = len(explanation.voices)
    evidence, shares = read_voices(values["evidence"], values["voice_p_values"], count, score, name)
    rows = zip(explanation.voices, evidence.tolist(), shares.tolist(), strict=True)
    return tuple(sorted((Voice(*row) for row in rows), key=lambda voice: -voice.evidence))


def _nearest(file: ModelFile, values: Values, name: str) -> str | None:
    if not file.normals:
        return None
    return file.normals[read_index(values["nearest"], len(file.normals), "nearest normal image", name)]


def _most_like(file: ModelFile, values: Values, name: str) -> AnomalyType | None:
    types, calibration = file.metadata.types, file.types_calibration
    if types is None or calibration is None:
        return None
    names, score = types.classes.names, read_score(values["type_score"], name)
    return AnomalyType(
        name=names[read_index(values["type_index"], len(names), "type", name)],
        probability=read_probability(values["type_probability"], "type probability", name),
        score=score,
        p_value=read_p_value(values["type_p_value"], score, calibration, name),
        known=score <= types.decision.threshold,
    )
