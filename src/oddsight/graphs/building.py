"""Pieces of a graph in ONNX's text syntax, and chaining them by the names of their inputs and outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.compose
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
        pieces: In order; inputs that no earlier piece provides become inputs of the whole.
        outputs: The outputs to keep, by name, in this order. Nodes that none of them needs are dropped.
    """
    merged = onnx.ModelProto(ir_version=IR_VERSION, producer_name="oddsight")
    merged.opset_import.add(domain="", version=OPSET)
    merged.graph.name = "oddsight"
    known: dict[str, onnx.ValueInfoProto] = {}
    for number, part in enumerate(pieces):
        renamed = onnx.compose.add_prefix(
            part, f"{part.graph.name or number}/", rename_inputs=False, rename_outputs=False, rename_value_infos=True
        )
        for value in renamed.graph.input:
            if value.name not in known:
                merged.graph.input.append(value)
                known[value.name] = value
        merged.graph.node.extend(renamed.graph.node)
        merged.graph.initializer.extend(renamed.graph.initializer)
        known |= {value.name: value for value in renamed.graph.output}
    merged.graph.output.extend(known[name] for name in outputs)
    return pruned(merged)


def pruned(model: onnx.ModelProto, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """A copy of ``model`` with only what its outputs (or those named in ``outputs``) need."""
    keep = list(outputs) if outputs is not None else [value.name for value in model.graph.output]
    needed, nodes = set(keep), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for field, kept in (
        (graph.node, nodes[::-1]),
        (graph.initializer, [i for i in graph.initializer if i.name in needed]),
        (graph.output, [v for name in keep for v in graph.output if v.name == name]),
    ):
        copies = list(kept)
        del field[:]
        field.extend(copies)
    return result


def digest(model: onnx.ModelProto) -> str:
    """SHA-256 of what the model computes: its graph and operator sets, without metadata, as hex."""
    bare = onnx.ModelProto(ir_version=model.ir_version, graph=model.graph)
    bare.opset_import.extend(model.opset_import)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
