"""One graph of two: one finds anomalies, the other names their types."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from oddsight.graphs.building import append, copied, cut, pruned, renamed

PREFIX = "types/"
"""What the names inside the graph that names types begin with."""

OUTPUTS = {
    "class_index": "type_index",
    "class_probability": "type_probability",
    "score": "type_score",
    "p_value": "type_p_value",
}
"""Outputs of a graph that knows classes, and what they are called where the classes are types of anomalies."""


ATTENTION = "attention"
"""What the anomaly map is called where it says where to look."""


def looking(normal: onnx.ModelProto) -> onnx.ModelProto:
    """From an image to :data:`ATTENTION`: the anomaly map of a graph that has one."""
    return pruned(renamed(copied(normal), "looking", {"anomaly_map": ATTENTION}), [ATTENTION])


def join_types(normal: onnx.ModelProto, types: onnx.ModelProto, grid: Sequence[int] | None) -> onnx.ModelProto:
    """A graph with all outputs of ``normal``, followed by those that ``types`` gives for the same image.

    Args:
        normal: Finds anomalies.
        types: Names them.
        grid: Height and width of the anomaly map, where ``types`` looks at it: it is then computed once.
    """
    whole, part = copied(normal), renamed(pruned(copied(types), list(OUTPUTS)), "types", OUTPUTS)
    if grid is not None:
        part, attention = cut(part, ATTENTION, grid)
        part = renamed(part, "types", {attention: "anomaly_map"})
    append(whole, part, PREFIX)
    whole.graph.output.extend(part.graph.output)
    return whole
