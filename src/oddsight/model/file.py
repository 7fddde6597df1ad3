"""Reading and checking model files: nothing in one is run before it has passed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from oddsight.data.collection import unpacked
from oddsight.errors import DataError, ModelError, plain
from oddsight.graphs.building import digest
from oddsight.graphs.calibrating import SCORES, calibration_classes, calibration_scores
from oddsight.graphs.joining import OUTPUTS, PREFIX
from oddsight.graphs.naming import BIAS, head_classes
from oddsight.model.calibration import alarms, decide, decide_by_class, rate_range
from oddsight.model.metadata import KEY, Metadata
from oddsight.model.onnx_structure import check_structure
from oddsight.model.sections import CalibrationInfo, DecisionInfo

_LARGEST = 2**31 - 1  # Protobuf's own limit for a message, in bytes

_MOST_METADATA = 2**25  # Characters of metadata: enough for millions of images that were learned from

_OF_VOICES = ("evidence", "voice_p_values")

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}  # Sets of operators that ONNX Runtime has built in


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed every check."""

    content: bytes  # Its bytes
    metadata: Metadata  # What it says about itself
    calibration: NDArray[np.float32]  # Its calibration scores, ascending float32 `[n]`
    # The predicted classes of these images, `[n]`, where each has a calibration of its own
    calibration_classes: NDArray[np.int64] | None = None
    # Scores of the calibration images of types of anomalies, ascending float32 `[n]`, where it names types
    types_calibration: NDArray[np.float32] | None = None

    @property
    def fewest(self) -> int:
        """Calibration images, or groups, that a rate rests on: all, or the fewest of a class where each has its own."""
        if self.calibration_classes is None or self.metadata.classes is None:
            return len(self.calibration)
        return int(np.bincount(self.calibration_classes, minlength=len(self.metadata.classes.names)).min())

    @cached_property
    def normals(self) -> list[str]:
        """The images that ``nearest`` counts, by content."""
        explanation = self.metadata.explanation
        return unpacked(explanation.normals) if explanation is not None else []

    def threshold_for(self, label: int | None) -> float:
        """See :meth:`oddsight.Model.threshold_for`."""
        known = self.metadata.classes
        if known is None or known.thresholds is None or label is None:
            return self.metadata.decision.threshold
        return known.thresholds[label]

    @property
    def true_rate_range(self) -> tuple[float, float] | None:
        """See :attr:`oddsight.Model.true_rate_range`."""
        decision = self.metadata.decision
        if decision.false_alarm_rate is None:
            return None
        return rate_range(self.fewest, alarms(self.fewest, decision.false_alarm_rate, decision.confidence))


def read_model_file(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file; nothing in it is run."""
    content = read_content(path)
    try:
        return parse_model(content)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def read_content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file that may be an ONNX file."""
    if not isinstance(path, str | os.PathLike):
        raise ModelError(f"a model file is given as a path, not as a {type(path).__name__}")
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise ModelError(f"{path}: not a regular file")
        if status.st_size > _LARGEST:
            raise ModelError(f"{path}: larger than an ONNX file can be ({status.st_size:,} bytes)")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"{path}: cannot be read: {reason}") from error


def parse_model(content: bytes) -> ModelFile:
    """Check the bytes of a model file; nothing in them is run."""
    proto = parse_proto(content)
    entries = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    if len(entries) != 1:
        raise ModelError("not an Oddsight model: it has no Oddsight metadata")
    if len(entries[0]) > _MOST_METADATA:
        raise ModelError(f"its metadata are larger than {_MOST_METADATA >> 20} MiB: refused")
    metadata = Metadata.from_json(entries[0])
    check_safety(proto)
    if digest(proto) != metadata.graph_sha256:
        raise ModelError("its graph is not the one that was made and calibrated: the file is damaged or was edited")
    _check_interface(proto, metadata)
    scores = _checked_calibration(proto, metadata.calibration, metadata.decision)
    return ModelFile(
        content, metadata, scores, _checked_classes(proto, metadata, scores), _checked_types(proto, metadata)
    )


def parse_proto(content: bytes) -> onnx.ModelProto:
    """The message in the bytes of an ONNX file, not checked further."""
    if not content:
        raise ModelError("an empty file")
    check_structure(content)
    try:
        return onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError("not an ONNX file, or a damaged one") from error


def check_safety(proto: onnx.ModelProto) -> None:
    """Refuse what reaches beyond the file or beyond ONNX Runtime's own operators."""
    foreign = sorted({entry.domain for entry in proto.opset_import} - _DOMAINS)
    if foreign or proto.functions:
        raise ModelError(f"it needs operators of its own ({plain(', '.join(foreign)) or 'functions'}): refused")
    if proto.training_info:
        raise ModelError("it holds training graphs, which Oddsight does not write: refused")
    for graph in _graphs(proto.graph):
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        if graph.sparse_initializer or any(a.HasField("sparse_tensor") or a.sparse_tensors for a in attributes):
            raise ModelError("it holds sparse constants, which Oddsight does not write: refused")
        for node in graph.node:
            if node.domain not in _DOMAINS:
                raise ModelError(f"it needs the operator {plain(f'{node.domain}.{node.op_type}')} of its own: refused")
        tensors = [*graph.initializer, *(a.t for a in attributes), *(t for a in attributes for t in a.tensors)]
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
            raise ModelError("it refers to data in another file: refused; a model is one file")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, attribute.g):
                yield from _graphs(inner)


def _check_interface(proto: onnx.ModelProto, metadata: Metadata) -> None:
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [_signature(value) for value in proto.graph.input if value.name not in constants]
    if inputs != [("image", onnx.TensorProto.UINT8, 4)]:
        raise ModelError("its input is not one image, uint8 [N, H, W, 3]")
    outputs = [_signature(value) for value in proto.graph.output]
    expected = [("score", onnx.TensorProto.FLOAT, 1), ("p_value", onnx.TensorProto.FLOAT, 1)]
    if metadata.map_size is not None:
        expected.append(("anomaly_map", onnx.TensorProto.FLOAT, 3))
    if metadata.classes is not None:
        expected += [("class_index", onnx.TensorProto.INT64, 1), ("class_probability", onnx.TensorProto.FLOAT, 1)]
    explanation = metadata.explanation
    if explanation is not None:
        expected.append(("nearest", onnx.TensorProto.INT64, 1))
        if explanation.voices:
            expected += [(name, onnx.TensorProto.FLOAT, 2) for name in _OF_VOICES]
    if metadata.types is not None:
        kinds = onnx.TensorProto.INT64, *[onnx.TensorProto.FLOAT] * 3
        expected += [(name, kind, 1) for name, kind in zip(OUTPUTS.values(), kinds, strict=True)]
    if outputs != expected:
        raise ModelError(f"its outputs are not {', '.join(name for name, _, _ in expected)}")
    if metadata.map_size is not None:
        grid = tuple(dim.dim_value for dim in proto.graph.output[2].type.tensor_type.shape.dim[1:])
        if grid != tuple(metadata.map_size):
            raise ModelError("the size of its anomaly map is not what its metadata says")
    if explanation is not None and explanation.voices:
        voices = [value for value in proto.graph.output if value.name in _OF_VOICES]
        widths = {value.type.tensor_type.shape.dim[1].dim_value for value in voices}
        if widths != {len(explanation.voices)}:
            raise ModelError("the number of its voices is not what its metadata says")


def _signature(value: onnx.ValueInfoProto) -> tuple[str, int, int]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, len(tensor.shape.dim)


def _checked_calibration(
    proto: onnx.ModelProto, calibration: CalibrationInfo, decision: DecisionInfo, name: str = SCORES
) -> NDArray[np.float32]:
    try:
        scores = calibration_scores(proto, name)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError("its calibration scores are damaged") from error
    if scores is None or scores.ndim != 1 or len(scores) != calibration.scores:
        raise ModelError("its calibration scores are missing or not as many as it says")
    if not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
        raise ModelError("its calibration scores are not finite and ascending")
    if calibration.scores > calibration.images:
        raise ModelError("its calibration images are fewer than their groups")
    rate, confidence = decision.false_alarm_rate, decision.confidence
    if rate is None and confidence is not None:
        raise ModelError("its threshold was set by hand, which has no confidence")
    try:
        if rate is not None and decide(scores, rate, confidence).threshold != decision.threshold:
            raise ModelError("its threshold does not follow from its calibration scores")
    except DataError as error:
        raise ModelError(f"its threshold cannot be right: {error}") from error
    return scores


def _checked_types(proto: onnx.ModelProto, metadata: Metadata) -> NDArray[np.float32] | None:
    types = metadata.types
    if types is None:
        return None
    if head_classes(proto, PREFIX + BIAS) != len(types.classes.names):
        raise ModelError("its graph does not have as many types of anomalies as it names")
    if types.flagged > types.calibration.scores:
        raise ModelError("it flags more calibration images of types than there are")
    return _checked_calibration(proto, types.calibration, types.decision, PREFIX + SCORES)


def _checked_classes(
    proto: onnx.ModelProto, metadata: Metadata, scores: NDArray[np.float32]
) -> NDArray[np.int64] | None:
    known, rate = metadata.classes, metadata.decision.false_alarm_rate
    confidence = metadata.decision.confidence
    try:
        classes = calibration_classes(proto)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError("the classes of its calibration images are damaged") from error
    if known is None:
        if classes is not None:
            raise ModelError("its calibration images have classes, and it knows none")
        return None
    if head_classes(proto) != len(known.names):
        raise ModelError("its graph does not have as many classes as it names")
    if classes is not None and (classes.shape != scores.shape or not np.isin(classes, range(len(known.names))).all()):
        raise ModelError("the classes of its calibration images do not match its metadata")
    expected = None
    if classes is not None and rate is not None:
        try:
            expected = list(decide_by_class(scores, classes, known.names, rate, confidence))
        except DataError as error:
            raise ModelError(f"its thresholds cannot be right: {error}") from error
    if known.thresholds != expected:
        raise ModelError("the thresholds of its classes do not follow from its calibration scores")
    return classes
