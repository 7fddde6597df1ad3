"""Reading and checking model files: nothing in one is run before it has passed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from oddsight.calibration import decide
from oddsight.errors import DataError, ModelError
from oddsight.graphs.building import digest
from oddsight.graphs.calibrating import calibration_scores
from oddsight.metadata import KEY, Metadata

_LARGEST = 2**31 - 1
"""Protobuf's own limit for a message, in bytes."""


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed every check.

    Attributes:
        content: Its bytes.
        metadata: What it says about itself.
        calibration: Its calibration scores, ascending float32 ``[n]``.
    """

    content: bytes
    metadata: Metadata
    calibration: NDArray[np.float32]


def read_model_file(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file; nothing in it is run.

    Raises:
        ModelError: In one sentence that names the file and what is wrong with it.
    """
    try:
        size = Path(path).stat().st_size
        if size > _LARGEST:
            raise ModelError(f"{path}: larger than an ONNX file can be ({size:,} bytes)")
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"{path}: cannot be read: {reason}") from error
    try:
        return parse_model(content)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def parse_model(content: bytes) -> ModelFile:
    """Check the bytes of a model file; nothing in them is run.

    Raises:
        ModelError: Saying what is wrong.
    """
    if not content:
        raise ModelError("an empty file")
    try:
        proto = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError("not an ONNX file, or a damaged one") from error
    entries = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    if len(entries) != 1:
        raise ModelError("not an Oddsight model: it has no Oddsight metadata")
    metadata = Metadata.from_json(entries[0])
    _check_safety(proto)
    if digest(proto) != metadata.graph_sha256:
        raise ModelError("its graph is not the one that was made and calibrated: the file is damaged or was edited")
    _check_interface(proto, metadata)
    return ModelFile(content, metadata, _checked_calibration(proto, metadata))


def _check_safety(proto: onnx.ModelProto) -> None:
    foreign = {entry.domain for entry in proto.opset_import} - {"", "ai.onnx", "ai.onnx.ml"}
    if foreign or proto.functions:
        raise ModelError(f"it needs operators of its own ({', '.join(sorted(foreign)) or 'functions'}): refused")
    if len(proto.graph.sparse_initializer) or proto.training_info:
        raise ModelError("it holds sparse constants or training graphs, which Oddsight does not write: refused")
    for node in _nodes(proto.graph):
        if node.domain not in {"", "ai.onnx", "ai.onnx.ml"}:
            raise ModelError(f"it needs the operator {node.domain}.{node.op_type} of its own: refused")
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError("it refers to data in another file: refused; a model is one file")


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, attribute.g):
                yield from _nodes(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (*attribute.graphs, attribute.g):
                yield from _tensors(inner)


def _check_interface(proto: onnx.ModelProto, metadata: Metadata) -> None:
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [_signature(value) for value in proto.graph.input if value.name not in constants]
    if inputs != [("image", onnx.TensorProto.UINT8, 4)]:
        raise ModelError("its input is not one image, uint8 [N, H, W, 3]")
    outputs = [_signature(value) for value in proto.graph.output]
    expected = [("score", onnx.TensorProto.FLOAT, 1), ("p_value", onnx.TensorProto.FLOAT, 1)]
    if metadata.map_size is not None:
        expected.append(("anomaly_map", onnx.TensorProto.FLOAT, 3))
    if outputs != expected:
        raise ModelError(f"its outputs are not {', '.join(name for name, _, _ in expected)} as float32")


def _signature(value: onnx.ValueInfoProto) -> tuple[str, int, int]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, len(tensor.shape.dim)


def _checked_calibration(proto: onnx.ModelProto, metadata: Metadata) -> NDArray[np.float32]:
    scores = calibration_scores(proto)
    if scores is None or scores.ndim != 1 or len(scores) != metadata.calibration.images:
        raise ModelError("its calibration scores are missing or not as many as it says")
    if not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
        raise ModelError("its calibration scores are not finite and ascending")
    rate = metadata.decision.false_alarm_rate
    try:
        if rate is not None and decide(scores, rate).threshold != metadata.decision.threshold:
            raise ModelError("its threshold does not follow from its calibration scores")
    except DataError as error:
        raise ModelError(f"its threshold cannot be right: {error}") from error
    return scores
