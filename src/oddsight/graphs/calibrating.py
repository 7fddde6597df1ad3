"""From a score to its conformal p-value."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from oddsight.graphs.building import piece

SCORES = "calibration/scores"
"""The name of the constant that holds the calibration scores in a model file."""

CLASSES = "calibration/classes"
"""And of the one that holds their predicted classes, where each class is calibrated on its own."""


def calibrating(scores: NDArray[np.float32]) -> onnx.ModelProto:
    """``score`` float32 ``[N]`` to ``p_value`` float32 ``[N]``: (1 + calibration scores at least as high) / (1 + n)."""
    return piece(
        """
        calibration (float[N] score) => (float[N] p_value)
        <int64[1] column = {1}, float one = {1}>
        {
            own = Unsqueeze (score, column)
            reached = GreaterOrEqual (scores, own)
            counted = Cast <to = 1> (reached)
            higher = ReduceSum <keepdims = 0> (counted, column)
            rank = Add (higher, one)
            p_value = Div (rank, total)
        }
        """,
        {"scores": np.sort(scores).astype(np.float32), "total": np.array(len(scores) + 1, np.float32)},
    )


def calibrating_by_class(scores: NDArray[np.float32], classes: NDArray[np.int64], count: int) -> onnx.ModelProto:
    """``score`` float32 ``[N]`` and ``class_index`` int64 ``[N]`` to ``p_value``, within the class of each image.

    Scores of ``n`` held-out images ``[n]`` come with their predicted classes ``[n]``, of ``count`` in all.
    """
    order = np.argsort(scores, kind="stable")
    return piece(
        """
        calibration (float[N] score, int64[N] class_index) => (float[N] p_value)
        <int64[1] column = {1}, float one = {1}>
        {
            own = Unsqueeze (score, column)
            class = Unsqueeze (class_index, column)
            reached = GreaterOrEqual (scores, own)
            alike = Equal (classes, class)
            counts = And (reached, alike)
            counted = Cast <to = 1> (counts)
            higher = ReduceSum <keepdims = 0> (counted, column)
            rank = Add (higher, one)
            total = Gather (totals, class_index)
            p_value = Div (rank, total)
        }
        """,
        {
            "scores": scores[order].astype(np.float32),
            "classes": classes[order],
            "totals": (np.bincount(classes, minlength=count) + 1).astype(np.float32),
        },
    )


def recalibrate(
    model: onnx.ModelProto, scores: NDArray[np.float32], classes: NDArray[np.int64] | None = None, count: int = 0
) -> None:
    """Put other calibration scores ``[n]`` into a model that carries some, in place.

    If each class has its own calibration, they come with their predicted classes ``[n]``, of ``count`` in all.
    """
    new = calibrating(scores) if classes is None else calibrating_by_class(scores, classes, count)
    constants = {f"{new.graph.name}/{tensor.name}": tensor for tensor in new.graph.initializer}
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            name = tensor.name
            tensor.CopyFrom(constants[name])
            tensor.name = name


def calibration_classes(model: onnx.ModelProto) -> NDArray[np.int64] | None:
    """The classes of the calibration scores that a model carries ``[n]``, or None if it does not need them."""
    return _constant(model, CLASSES, np.dtype(np.int64))


def calibration_scores(model: onnx.ModelProto, name: str = SCORES) -> NDArray[np.float32] | None:
    """The calibration scores that a model carries, ascending ``[n]``, or None if it has none."""
    return _constant(model, name, np.dtype(np.float32))


def _constant(model: onnx.ModelProto, name: str, kind: np.dtype[Any]) -> NDArray[Any] | None:
    for constant in model.graph.initializer:
        if constant.name == name:
            if constant.data_type != onnx.helper.np_dtype_to_tensor_dtype(kind):
                raise ValueError(f"{name} is not {kind}")
            return np.asarray(numpy_helper.to_array(constant))
    return None
