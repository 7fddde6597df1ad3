"""From the stages of a backbone to what methods read: patches or one embedding."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from oddsight.graphs.building import piece

Shape = tuple[int, int, int]
"""Channels, height and width."""


def patches(stages: Mapping[str, Shape]) -> onnx.ModelProto:
    """Stages, each float32 ``[N, C, h, w]``, to ``patches`` float32 ``[N, sum of C, h, w]`` on the finest grid.

    Each stage is averaged over 3x3 neighbours (zeros beyond the border, as in PatchCore, Roth et al., CVPR 2022),
    coarser ones are brought to the finest grid bilinearly.

    Args:
        stages: Shapes by name.
    """
    _, height, width = max(stages.values(), key=lambda shape: shape[1] * shape[2])
    lines = []
    for name, shape in stages.items():
        pool = "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>"
        if shape[1:] == (height, width):
            lines.append(f"patches_{name} = {pool} ({name})")
        else:
            resize = 'Resize <mode = "linear", axes = [2, 3], coordinate_transformation_mode = "half_pixel">'
            lines += [f"pooled_{name} = {pool} ({name})", f"patches_{name} = {resize} (pooled_{name}, , , grid)"]
    channels = sum(shape[0] for shape in stages.values())
    return piece(
        f"""features ({_inputs(stages)}) => (float[N, {channels}, {height}, {width}] patches)
        <int64[2] grid = {{{height}, {width}}}>
        {{
            {" ".join(lines)}
            patches = Concat <axis = 1> ({", ".join(f"patches_{name}" for name in stages)})
        }}"""
    )


def embedding(stages: Mapping[str, Shape]) -> onnx.ModelProto:
    """Stages, each float32 ``[N, C, h, w]``, to ``embedding`` float32 ``[N, sum of C]``: averages over the image.

    Args:
        stages: Shapes by name.
    """
    lines = [f"mean_{name} = ReduceMean <keepdims = 0> ({name}, spatial)" for name in stages]
    return piece(
        f"""features ({_inputs(stages)}) => (float[N, {sum(shape[0] for shape in stages.values())}] embedding)
        <int64[2] spatial = {{2, 3}}>
        {{
            {" ".join(lines)}
            embedding = Concat <axis = 1> ({", ".join(f"mean_{name}" for name in stages)})
        }}"""
    )


READINGS = {"patches": patches, "embedding": embedding}


def _inputs(stages: Mapping[str, Shape]) -> str:
    return ", ".join(f"float[N, {c}, {h}, {w}] {name}" for name, (c, h, w) in stages.items())
