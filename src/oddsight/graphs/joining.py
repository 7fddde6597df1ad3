"""One graph of two: one finds anomalies, the other names their types."""

from __future__ import annotations

import onnx

from oddsight.graphs.building import append, copied, pruned, renamed

PREFIX = "types/"
"""What the names inside the graph that names types begin with."""

OUTPUTS = {
    "class_index": "type_index",
    "class_probability": "type_probability",
    "score": "type_score",
    "p_value": "type_p_value",
}
"""Outputs of a graph that knows classes, and what they are called where the classes are types of anomalies."""


def join_types(normal: onnx.ModelProto, types: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with all outputs of ``normal``, followed by those that ``types`` gives for the same image."""
    whole, part = copied(normal), renamed(pruned(copied(types), list(OUTPUTS)), "types", OUTPUTS)
    append(whole, part, PREFIX)
    whole.graph.output.extend(part.graph.output)
    return whole
