"""Computing beforehand what in a graph does not depend on its input."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from oddsight.runtime.sessions import session


def fold_constants(proto: onnx.ModelProto) -> None:
    """Replace what is computed from constants alone by its values, in place.

    PyTorch's exporter writes even the widths of a border as a small computation, from which no shapes can be inferred.
    """
    graph = proto.graph
    known = {tensor.name for tensor in graph.initializer}
    constant = []
    for node in graph.node:
        nested = any(a.HasField("g") or a.graphs for a in node.attribute)
        random = node.op_type.startswith("Random") or node.op_type in {"Bernoulli", "Dropout", "Multinomial"}
        if not nested and not random and known.issuperset(filter(None, node.input)):
            constant.append(node)
            known.update(node.output)
    if not constant:
        return
    made = {name for node in constant for name in node.output}
    others = [node for node in graph.node if not made.intersection(node.output)]
    wanted = sorted(made.intersection(name for node in others for name in _inputs(node)))
    used = {name for node in constant for name in node.input}
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    part.graph.name = "constants"
    part.graph.node.extend(constant)
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in used)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    values = session(part.SerializeToString(), threads=1).run(wanted, {}) if wanted else []
    kept = [node.SerializeToString() for node in others]
    del graph.node[:]
    graph.node.extend(onnx.NodeProto.FromString(node) for node in kept)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in zip(wanted, values, strict=True)
    )
    _drop_unused(graph)


def share_weights(proto: onnx.ModelProto) -> None:
    """Keep weights that are the same once, in place.

    A network that runs twice, as for an image and its mirror image, has weights of its own for each run where
    PyTorch's exporter merges batch normalisation into convolutions.
    """
    graph = proto.graph
    first: dict[bytes, str] = {}
    again: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims:
            unnamed = onnx.TensorProto.FromString(tensor.SerializeToString())
            unnamed.ClearField("name")
            again[tensor.name] = first.setdefault(unnamed.SerializeToString(deterministic=True), tensor.name)
    for node in graph.node:
        node.input[:] = [again.get(name, name) for name in node.input]
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in _inputs(node)}
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def _inputs(node: onnx.NodeProto) -> set[str]:
    """What a node and the graphs inside it read."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in (*attribute.graphs, attribute.g):
            names.update(name for deeper in inner.node for name in _inputs(deeper))
            names.update(value.name for value in inner.output)
    return names
