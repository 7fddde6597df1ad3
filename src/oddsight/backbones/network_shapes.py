"""What can be known of a feature network's shapes without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from oddsight.graphs.preprocessing import Size, sides

_SMALL = 1024
"""Constants of at most so many values may be shapes and indices; of larger ones, weights, the values do not matter."""


def inferred_shapes(proto: onnx.ModelProto, size: Size) -> dict[str, tuple[int, ...]]:
    """Shapes of the values in a graph for one image of ``size`` pixels, as far as ONNX can infer them.

    Weights are not copied and nothing is computed, so that it costs little at any size.
    """
    skeleton = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    graph = skeleton.graph
    graph.name = "skeleton"
    graph.node.extend(proto.graph.node)
    graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in proto.graph.output)
    constants = {tensor.name for tensor in proto.graph.initializer}
    for tensor in proto.graph.initializer:
        if np.prod(tensor.dims, dtype=float) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for value in proto.graph.input:
        if value.name not in constants:
            element = value.type.tensor_type.elem_type
            graph.input.append(onnx.helper.make_tensor_value_info(value.name, element, [1, 3, *sides(size)]))
    try:
        known = onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph
    except Exception:  # the inference raises what it likes on graphs that it does not understand
        return {}
    return dict(_static([*known.input, *known.value_info, *known.output]))


def activation_bytes(proto: onnx.ModelProto, size: int) -> int:
    """What running it takes beside its weights, in bytes for each pixel of the input.

    Twice what is inferred to be alive at once, as ONNX Runtime's allocator keeps more than that: EfficientNet-Lite0 and
    VGG-16 were measured to take up to 1.3 times.
    """
    shapes = inferred_shapes(proto, size)
    nodes = list(proto.graph.node)
    outputs = {value.name for value in proto.graph.output}
    last = {name: index for index, node in enumerate(nodes) for name in node.input}
    held, most, taken = 0, 0, dict[str, int]()
    for index, node in enumerate(nodes):
        for name in node.output:
            taken[name] = 4 * _count(shapes, name)
            held += taken[name]
        most = max(most, held)
        for name in {*node.input, *node.output}:
            if name not in outputs and last.get(name, index) <= index:
                held -= taken.pop(name, 0)
    return -(-2 * most // size**2)


def _count(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    return int(np.prod(shapes[name], dtype=float)) if name in shapes else 0


def _static(values: list[onnx.ValueInfoProto]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for value in values:
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.dim_value > 0 for dim in tensor.shape.dim):
            yield value.name, tuple(dim.dim_value for dim in tensor.shape.dim)
