"""Pieces of the graph of auto: levels to what each voice reads, and what the voices say to score and map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from oddsight.detectors.evidence import Scores
from oddsight.graphs.building import piece

_MAP, _EVIDENCE = "places_0", "places_evidence"


def split_levels(names: list[str], widths: Sequence[int], shape: Sequence[int]) -> onnx.ModelProto:
    """``levels`` to a profile for each name, and ``patches``."""
    channels, height, width = shape
    sizes = [*widths, math.prod(shape)]
    outputs = ", ".join(f"float[N, {size}] {name}" for name, size in zip(names, widths, strict=True))
    return piece(
        f"""
        levels (float[N, {sum(sizes)}] levels) => ({outputs}, float[N, {channels}, {height}, {width}] patches)
        <int64[{len(sizes)}] sizes = {{{", ".join(map(str, sizes))}}},
         int64[4] grid = {{-1, {channels}, {height}, {width}}}>
        {{
            {", ".join(names)}, flat = Split <axis = 1> (levels, sizes)
            patches = Reshape (flat, grid)
        }}
        """
    )


def divide_patches(shape: tuple[int, ...], spans: Mapping[str, slice]) -> onnx.ModelProto:
    """``patches`` to the channels of each span as ``NAME_patches``."""
    channels, height, width = shape
    outputs = [f"float[N, {span.stop - span.start}, {height}, {width}] {name}_patches" for name, span in spans.items()]
    lines = [f"{name}_patches = Slice (patches, {name}_start, {name}_stop, axis)" for name in spans]
    bounds = {f"{name}_start": np.array([span.start]) for name, span in spans.items()}
    bounds |= {f"{name}_stop": np.array([span.stop]) for name, span in spans.items()}
    return piece(
        f"""
        divided (float[N, {channels}, {height}, {width}] patches) => ({", ".join(outputs)}) <int64[1] axis = {{1}}>
        {{ {" ".join(lines)} }}
        """,
        bounds,
    )


def decide(names: Sequence[str], grid: str, normal: list[Scores], lift: float) -> onnx.ModelProto:
    """Evidence of whole images, what the detectors of places say together, and the evidence of that, to all outputs.

    The map is the evidence of places. What is missing to the strongest evidence, the score, is added: all of it at the
    peak of what the detectors of places say together, elsewhere less.
    """
    inputs = ", ".join(
        [*(f"float[N] {name}_evidence" for name in names), *(f"float[{grid}] {one}" for one in (_MAP, _EVIDENCE))]
    )
    columns = [*(f"column_{name}" for name in names), "column_places"]
    lines = [f"column_{name} = Unsqueeze ({name}_evidence, last)" for name in names]
    ranks, weights = [], {"lift": np.array(lift, np.float32)}
    for name, scores in zip([*names, "places"], normal, strict=True):
        ranks += [
            f"reached_{name} = GreaterOrEqual (normal_{name}, column_{name})",
            f"counted_{name} = Cast <to = 1> (reached_{name})",
            f"number_{name} = ReduceSum (counted_{name}, last)",
            f"rank_{name} = Add (number_{name}, one)",
            f"p_{name} = Div (rank_{name}, total_{name})",
        ]
        weights[f"normal_{name}"] = scores.astype(np.float32)
        weights[f"total_{name}"] = np.array(len(scores) + 1, np.float32)
    return piece(
        f"""
        deciding ({inputs})
        => (float[N] score, float[{grid}] anomaly_map, float[N, {len(normal)}] evidence,
            float[N, {len(normal)}] voice_p_values)
        <int64[1] last = {{1}}, int64[2] places = {{1, 2}}, float one = {{1}}>
        {{
            {" ".join(lines)}
            highest_places = ReduceMax ({_EVIDENCE}, places)
            column_places = Squeeze (highest_places, last)
            evidence = Concat <axis = 1> ({", ".join(columns)})
            strongest = ReduceMax (evidence, last)
            wide = Unsqueeze (strongest, last)
            peak = ReduceMax ({_MAP}, places)
            missing = Sub (wide, highest_places)
            part = Div ({_MAP}, peak)
            steep = Pow (part, lift)
            added = Mul (steep, missing)
            anomaly_map = Add ({_EVIDENCE}, added)
            score = ReduceMax <keepdims = 0> (anomaly_map, places)
            {" ".join(ranks)}
            voice_p_values = Concat <axis = 1> ({", ".join(f"p_{name}" for name in [*names, "places"])})
        }}
        """,
        weights,
    )
