"""A complete model file of some kilobytes, without a network: the score is the brightest pixel of the image."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import onnx

from oddsight.detectors.head import Head
from oddsight.graphs.building import chain, digest, piece
from oddsight.graphs.calibrating import calibrating, calibrating_by_class
from oddsight.graphs.naming import naming
from oddsight.graphs.neighbours import nearest
from oddsight.graphs.preprocessing import preprocessing
from oddsight.model.calibration import decide, decide_by_class
from oddsight.model.metadata import KEY, Metadata
from oddsight.model.model import Model
from oddsight.model.sections import (
    BackboneInfo,
    CalibrationInfo,
    ClassesInfo,
    DecisionInfo,
    ExplanationInfo,
    MethodInfo,
    TrainingInfo,
)

GRID = 8
CALIBRATION = np.arange(10, 200, 10, dtype=np.float32)
COLOURS = np.array([[200, 20, 20], [20, 200, 20], [20, 20, 200]], np.float32)
"""Mean colours of its normal images."""
NORMALS = ["11" * 8, "22" * 8, "33" * 8]
"""What it calls them."""
CLASSES = ["red", "green", "blue"]
"""The channel that is brightest on average, where it knows classes."""
TAKEN = np.arange(len(CALIBRATION)) % 3
"""The classes that its calibration images were predicted as."""


def tiny_proto(
    calibration: np.ndarray = CALIBRATION,
    *,
    rate: float = 0.1,
    sign: float = 1.0,
    localises: bool = True,
    images_seen: str = "",
) -> onnx.ModelProto:
    """The model before it is serialised, to be spoiled by tests.

    Args:
        calibration: Scores, ``[n]``.
        rate: False-alarm rate of its decision.
        sign: -1 makes dark images anomalous.
        localises: Whether it has an anomaly map, which is the mean of the channels on a grid of 8 x 8.
        images_seen: As in :class:`oddsight.model.sections.TrainingInfo`.
    """
    outputs = ["score", "p_value", *(["anomaly_map"] if localises else []), "nearest"]
    proto = chain([preprocessing(GRID), _mean(sign), calibrating(calibration), _neighbours()], outputs)
    metadata = Metadata(
        schema_version=2,
        map_size=(GRID, GRID) if localises else None,
        decision=DecisionInfo(threshold=decide(calibration, rate).threshold, false_alarm_rate=rate),
        **_described(proto, calibration, images_seen),
    )
    proto.metadata_props.add(key=KEY, value=metadata.to_json())
    return proto


def tiny_model(*args: Any, **options: Any) -> Model:
    """As :func:`tiny_proto`, loaded."""
    return Model.from_bytes(tiny_proto(*args, **options).SerializeToString(deterministic=True))


def tiny_class_proto(*, rate: float = 0.3, by_class: bool = True, images_seen: str = "") -> onnx.ModelProto:
    """The same for a model that knows :data:`CLASSES`; its logits are a hundredth of the channels' means.

    Args:
        rate: False-alarm rate of its decision.
        by_class: Whether it is calibrated for each class.
        images_seen: As in :class:`oddsight.model.sections.TrainingInfo`.
    """
    head = Head(np.eye(3, dtype=np.float32) / np.float32(100), np.zeros(3, np.float32))
    calibrated = calibrating_by_class(CALIBRATION, TAKEN, 3) if by_class else calibrating(CALIBRATION)
    pieces = [preprocessing(GRID), _mean(1.0), head.graph(), naming(3, 0.5), calibrated, _neighbours()]
    proto = chain(pieces, ["score", "p_value", "class_index", "class_probability", "nearest"])
    thresholds = list(decide_by_class(CALIBRATION, TAKEN, CLASSES, rate)) if by_class else None
    metadata = Metadata(
        schema_version=3,
        map_size=None,
        decision=DecisionInfo(threshold=decide(CALIBRATION, rate).threshold, false_alarm_rate=rate),
        classes=ClassesInfo(names=CLASSES, head={"classifier": "none"}, temperature=0.5, thresholds=thresholds),
        **_described(proto, CALIBRATION, images_seen),
    )
    proto.metadata_props.add(key=KEY, value=metadata.to_json())
    return proto


def tiny_class_model(**options: Any) -> Model:
    """As :func:`tiny_class_proto`, loaded."""
    return Model.from_bytes(tiny_class_proto(**options).SerializeToString(deterministic=True))


def _mean(sign: float) -> onnx.ModelProto:
    return piece(
        f"""
        mean (float[N, 3, {GRID}, {GRID}] pixels)
        => (float[N] score, float[N, {GRID}, {GRID}] anomaly_map, float[N, 3] embedding)
        <int64[1] channel = {{1}}, int64[2] grid = {{1, 2}}, int64[2] places = {{2, 3}}>
        {{
            embedding = ReduceMean <keepdims = 0> (pixels, places)
            grey = ReduceMean <keepdims = 0> (pixels, channel)
            anomaly_map = Mul (grey, sign)
            score = ReduceMax <keepdims = 0> (anomaly_map, grid)
        }}
        """,
        {"sign": np.array(sign, np.float32)},
    )


def _neighbours() -> onnx.ModelProto:
    return nearest("embedding", (3,), COLOURS)


def _described(proto: onnx.ModelProto, calibration: np.ndarray, images_seen: str) -> dict[str, Any]:
    """What metadata say of every model."""
    return {
        "oddsight": "0.1.0",
        "versions": {"python": "3.11"},
        "graph_sha256": digest(proto),
        "method": MethodInfo(name="brightest", paper="none", settings={}),
        "backbone": BackboneInfo(name="none", sha256="0" * 64, layers=[], size=GRID),
        "training": TrainingInfo(
            images=19, duplicates=0, unreadable=0, fingerprint="0" * 64, images_seen=images_seen, seed=0
        ),
        "calibration": CalibrationInfo(kind="split", images=len(calibration), folds=1),
        "explanation": ExplanationInfo(normals=base64.b64encode(bytes.fromhex("".join(NORMALS))).decode(), voices=[]),
    }
