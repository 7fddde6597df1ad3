"""Pieces of the graph of auto: levels to what each voice reads, and what the voices say to score and map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from oddsight.detectors.evidence import Scores
from oddsight.graphs.building import piece


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


def decide(names: Sequence[str], local: Sequence[str], grid: str, normal: list[Scores]) -> onnx.ModelProto:
    """Evidence of each voice, and of those that look at places as a map, to all outputs.

    The map is the geometric mean of the evidence at each place, so that it is high where all see something, scaled so
    that its maximum is the strongest evidence of all: the score.
    """
    inputs = ", ".join(
        [*(f"float[N] {name}_evidence" for name in names), *(f"float[{grid}] {name}_evidence" for name in local)]
    )
    columns = ", ".join(f"column_{name}" for name in [*names, *local])
    lines = [f"column_{name} = Unsqueeze ({name}_evidence, last)" for name in names]
    for name in local:
        lines.append(f"highest_{name} = ReduceMax ({name}_evidence, places)")
        lines.append(f"column_{name} = Squeeze (highest_{name}, last)")
    ranks, weights = [], {}
    for number, scores in enumerate(normal):
        name = [*names, *local][number]
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
        <int64[1] last = {{1}}, int64[2] places = {{1, 2}}, float one = {{1}}, float little = {{1e-3}}>
        {{
            {" ".join(lines)}
            {" ".join(f"floored_{name} = Max ({name}_evidence, little)" for name in local)}
            {" ".join(f"log_{name} = Log (floored_{name})" for name in local)}
            logs = Mean ({", ".join(f"log_{name}" for name in local)})
            places_evidence = Exp (logs)
            peak = ReduceMax (places_evidence, places)
            evidence = Concat <axis = 1> ({columns})
            strongest = ReduceMax (evidence, last)
            wide = Unsqueeze (strongest, last)
            scale = Div (wide, peak)
            anomaly_map = Mul (places_evidence, scale)
            score = ReduceMax <keepdims = 0> (anomaly_map, places)
            {" ".join(ranks)}
            voice_p_values = Concat <axis = 1> ({", ".join(f"p_{name}" for name in [*names, *local])})
        }}
        """,
        weights,
    )
