"""Pieces of a graph in ONNX's text syntax, and chaining them by the names of their inputs and outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.compose
import onnx.helper
import onnx.parser
import onnx.utils
from numpy.typing import NDArray
from onnx import numpy_helper

OPSET = 18
IR_VERSION = 9


def piece(text: str, weights: Mapping[str, NDArray[np.generic]] | None = None) -> onnx.ModelProto:
    """A graph from ONNX text, such as ``p (float[N] a) => (float[N] b) { b = Mul(a, factor) }``.

    Args:
        text: The graph. Its name prefixes the names inside it when pieces are chained.
        weights: Constants used in the text, by name.
    """
    model = onnx.parser.parse_model(f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>\n{text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items())
    return model


def chain(pieces: Sequence[onnx.ModelProto], outputs: Sequence[str]) -> onnx.ModelProto:
    """Join pieces into one model: each input is fed by the earlier output of the same name.

    Args:
        pieces: The pieces in order. Inputs that no earlier piece provides become inputs of the whole. The pieces are
            changed and cannot be used again, so that large weights are copied only once.
        outputs: The outputs to keep, by name, in this order. Nodes that none of them needs are dropped.
    """
    merged = onnx.ModelProto(ir_version=IR_VERSION, producer_name="oddsight")
    merged.opset_import.add(domain="", version=OPSET)
    merged.graph.name = "oddsight"
    known: dict[str, onnx.ValueInfoProto] = {}
    for part in pieces:
        append(merged, part, f"{part.graph.name}/")
        merged.graph.input.extend(value for value in part.graph.input if value.name not in known)
        known |= {value.name: value for value in (*part.graph.input, *part.graph.output)}
    merged.graph.output.extend(known[name] for name in outputs)
    return pruned(merged, outputs)


def append(whole: onnx.ModelProto, part: onnx.ModelProto, prefix: str) -> None:
    """Put the nodes and constants of a part, which is used up, behind those of a whole; names inside get a prefix."""
    onnx.compose.add_prefix(
        part, prefix, rename_inputs=False, rename_outputs=False, rename_value_infos=True, inplace=True
    )
    # Such as ai.onnx.ml, for trees.
    imported = {entry.domain for entry in whole.opset_import}
    whole.opset_import.extend(entry for entry in part.opset_import if entry.domain not in imported)
    whole.graph.node.extend(part.graph.node)
    whole.graph.initializer.extend(part.graph.initializer)


def renamed(model: onnx.ModelProto, name: str, values: Mapping[str, str]) -> onnx.ModelProto:
    """``model`` itself under another name, with other names for some of its inputs and outputs."""
    graph = model.graph
    graph.name = name
    for node in graph.node:
        node.input[:] = [values.get(value, value) for value in node.input]
        node.output[:] = [values.get(value, value) for value in node.output]
    for value in (*graph.input, *graph.output):
        value.name = values.get(value.name, value.name)
    return model


def pruned(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """``model`` itself, without what the outputs named do not need."""
    graph, needed = model.graph, set(outputs)
    for index in range(len(graph.node) - 1, -1, -1):
        if needed.intersection(graph.node[index].output):
            needed.update(graph.node[index].input)
        else:
            del graph.node[index]
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
    kept = [value for name in outputs for value in graph.output if value.name == name]
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
    del graph.output[:]
    graph.output.extend(copies)
    return model


def cut(model: onnx.ModelProto, at: str, shape: Sequence[int]) -> tuple[onnx.ModelProto, str]:
    """``model`` itself without what only a value inside it needs, and the name of that value, a new input.

    Args:
        model: As :func:`chain` made it.
        at: The name of the value in the piece that provided it; the first of that name is meant.
        shape: Of the value, float32, without the batch.

    Raises:
        ValueError: If there is no such value.
    """
    nodes = model.graph.node
    found = [(index, name) for index, node in enumerate(nodes) for name in node.output if name.split("/")[-1] == at]
    if not found:
        raise ValueError(f"no value {at!r} in the graph")
    index, name = found[0]
    del nodes[index]
    pruned(model, [value.name for value in model.graph.output])
    needed = {value for node in nodes for value in node.input}
    inputs = [value for value in model.graph.input if value.name in needed]
    inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape]))
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
    del model.graph.input[:]
    model.graph.input.extend(copies)
    return model, name


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, for a model that is chained more than once."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def digest(model: onnx.ModelProto) -> str:
    """SHA-256 of what the model computes, as hex: of its serialised graph, followed by its operator sets."""
    state = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    for entry in model.opset_import:
        state.update(entry.SerializeToString(deterministic=True))
    return state.hexdigest()
