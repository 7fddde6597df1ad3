"""The same graph with smaller numbers."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray
from onnx import numpy_helper

from oddsight.errors import ModelError
from oddsight.graphs.calibrating import CLASSES, SCORES
from oddsight.runtime.sessions import import_onnxruntime

_READINGS = ("levels", "patches", "embedding")
"""What a backbone's stages become; the first of these in a graph is where the features are complete."""

_WEIGHTED = {"Conv", "Gemm", "MatMul"}

_FEWEST = 1024  # Numbers of a constant that is worth storing in half precision

_FEWEST_QUANTIZED = 8192
"""Weights of a layer that are worth 8 bits: smaller ones hold little and lose the most."""


def store_half(model: onnx.ModelProto) -> None:
    """Store the large constants of a graph in float16, in place. It still computes in float32.

    Constants that float16 cannot hold stay as they are, and so do calibration scores.
    """
    casts = []
    for tensor in model.graph.initializer:
        large = tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= _FEWEST
        if not large or tensor.name in (SCORES, CLASSES):
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    _put_first(model, casts)


def store_int8(model: onnx.ModelProto) -> None:
    """Store the large matrices that a graph multiplies by in int8 and other large constants in float16, in place.

    It still computes in float32. Each output channel has a scale of its own. Depthwise convolutions and the first one
    hold few weights, and what they lose grows through the layers behind them.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    layers = {node.input[1]: node for node in model.graph.node if _is_quantizable(node, shapes)}
    decoding = []
    for tensor in list(model.graph.initializer):
        if tensor.name not in layers or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        channel = _output_channel(layers[name], values.ndim)
        scale = np.abs(values).max(axis=tuple(axis for axis in range(values.ndim) if axis != channel), keepdims=True)
        scale = np.where(scale == 0, 1, scale / np.float32(127))  # A channel may have no weights
        tensor.CopyFrom(numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}/int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}/scale"))
        decoding += [
            onnx.helper.make_node("Cast", [f"{name}/int8"], [f"{name}/steps"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}/steps", f"{name}/scale"], [name]),
        ]
    _put_first(model, decoding)
    store_half(model)


def _output_channel(node: onnx.NodeProto, axes: int) -> int:
    """The axis of a layer's weights along which each number belongs to another output."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else axes - 1


def _put_first(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> None:
    others = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *others])


def quantize_backbone(model: onnx.ModelProto, images: Iterable[NDArray[np.uint8]]) -> onnx.ModelProto:
    """A graph from ``image`` whose backbone computes with integers of 8 bits; what follows it stays float32.

    Depthwise convolutions, small layers and the first one stay float32, too: they hold few weights, and what they lose
    grows through the layers behind them. Images uint8 ``[H, W, 3]`` show the ranges of the values between layers.
    """
    for number, node in enumerate(model.graph.node):
        node.name = f"{number}"
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    nodes = [node.name for node in _backbone_nodes(model) if _is_quantizable(node, shapes)]
    if not nodes:
        raise ModelError("the model has no backbone that could be quantized: export it to fp16 or openvino")
    tools = import_onnxruntime("onnxruntime.quantization")
    with TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "quantized.onnx"
        tools.quantize_static(
            model,
            path,
            _Reader(images),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        quantized = onnx.load_model(path)
    del quantized.graph.value_info[:]
    return quantized


class _Reader:
    """Images as ONNX Runtime's calibration takes them."""

    def __init__(self, images: Iterable[NDArray[np.uint8]]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def _backbone_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes that the features of a backbone need, from the last to the first; none if there is no backbone."""
    nodes = model.graph.node
    places = {name.split("/")[-1]: at for at, node in reversed(list(enumerate(nodes))) for name in node.output}
    last = next((places[name] for name in _READINGS if name in places), -1)
    needed = set(nodes[last].output) if last >= 0 else set()
    for node in reversed(nodes[: last + 1]):
        if needed.intersection(node.output):
            needed.update(node.input)
            yield node


def _is_quantizable(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a node multiplies by many weights, each of which belongs to all of several channels."""
    shape = shapes.get(node.input[1], ()) if node.op_type in _WEIGHTED else ()
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    first = node.op_type == "Conv" and len(shape) > 1 and shape[1] <= 3
    return len(shape) > 1 and math.prod(shape) >= _FEWEST_QUANTIZED and groups == 1 and not first


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that ONNX Runtime's tools log."""
    before: Any = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
