"""A complete model file of some kilobytes, without a network: the score is the brightest pixel of the image."""

from __future__ import annotations

import base64

import numpy as np
import onnx

from oddsight.calibration import decide
from oddsight.graphs.building import chain, digest, piece
from oddsight.graphs.calibrating import calibrating
from oddsight.graphs.neighbours import nearest
from oddsight.graphs.preprocessing import preprocessing
from oddsight.metadata import (
    KEY,
    BackboneInfo,
    CalibrationInfo,
    DecisionInfo,
    ExplanationInfo,
    Metadata,
    MethodInfo,
    TrainingInfo,
)
from oddsight.model import Model

GRID = 8
CALIBRATION = np.arange(10, 200, 10, dtype=np.float32)
COLOURS = np.array([[200, 20, 20], [20, 200, 20], [20, 20, 200]], np.float32)
"""Mean colours of its normal images."""
NORMALS = ["11" * 8, "22" * 8, "33" * 8]
"""What it calls them."""


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
        images_seen: As in :class:`oddsight.metadata.TrainingInfo`.
    """
    mean = piece(
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
    outputs = ["score", "p_value", *(["anomaly_map"] if localises else []), "nearest"]
    neighbours = nearest("embedding", (3,), COLOURS)
    proto = chain([preprocessing(GRID), mean, calibrating(calibration), neighbours], outputs)
    metadata = Metadata(
        schema_version=2,
        oddsight="0.1.0",
        versions={"python": "3.11"},
        graph_sha256=digest(proto),
        method=MethodInfo(name="brightest", paper="none", settings={}),
        backbone=BackboneInfo(name="none", sha256="0" * 64, layers=[], size=GRID),
        map_size=(GRID, GRID) if localises else None,
        training=TrainingInfo(
            images=19, duplicates=0, unreadable=0, fingerprint="0" * 64, images_seen=images_seen, seed=0
        ),
        calibration=CalibrationInfo(kind="split", images=len(calibration), folds=1),
        decision=DecisionInfo(threshold=decide(calibration, rate).threshold, false_alarm_rate=rate),
        explanation=ExplanationInfo(normals=base64.b64encode(bytes.fromhex("".join(NORMALS))).decode(), voices=[]),
    )
    proto.metadata_props.add(key=KEY, value=metadata.to_json())
    return proto


def tiny_model(*args, **options) -> Model:
    """As :func:`tiny_proto`, loaded."""
    return Model.from_bytes(tiny_proto(*args, **options).SerializeToString(deterministic=True))
