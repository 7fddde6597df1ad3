"""From the stages of a backbone to what methods read: patches, one embedding, or levels: both at several depths."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from oddsight.graphs.building import chain, piece

Shape = tuple[int, int, int]  # Channels, height and width


def patches(stages: Mapping[str, Shape], grid: str | None = None) -> onnx.ModelProto:
    """Stages, each float32 ``[N, C, h, w]``, to ``patches`` float32 ``[N, sum of C, h, w]`` on one grid.

    Each stage is averaged over 3x3 neighbours (zeros beyond the border, as in PatchCore, Roth et al., CVPR 2022).
    Coarser ones are then brought to the grid bilinearly, finer ones by averages over what a cell covers. The grid is
    that of the stage named, by default of the finest.
    """
    channels, height, width = patch_shape(stages, grid)
    lines = []
    for name, shape in stages.items():
        pool = "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>"
        if shape[1:] == (height, width):
            lines.append(f"patches_{name} = {pool} ({name})")
        elif shape[1] % height == 0 and shape[2] % width == 0:
            cells = f"{shape[1] // height}, {shape[2] // width}"
            cover = f"AveragePool <kernel_shape = [{cells}], strides = [{cells}]>"
            lines += [f"pooled_{name} = {pool} ({name})", f"patches_{name} = {cover} (pooled_{name})"]
        else:
            resize = 'Resize <mode = "linear", axes = [2, 3], coordinate_transformation_mode = "half_pixel">'
            lines += [f"pooled_{name} = {pool} ({name})", f"patches_{name} = {resize} (pooled_{name}, , , grid)"]
    return piece(
        f"""features ({_inputs(stages)}) => (float[N, {channels}, {height}, {width}] patches)
        <int64[2] grid = {{{height}, {width}}}>
        {{
            {" ".join(lines)}
            patches = Concat <axis = 1> ({", ".join(f"patches_{name}" for name in stages)})
        }}"""
    )


def embedding(stages: Mapping[str, Shape]) -> onnx.ModelProto:
    """Stages, each float32 ``[N, C, h, w]``, to ``embedding`` float32 ``[N, sum of C]``: averages over the image."""
    lines = [f"mean_{name} = ReduceMean <keepdims = 0> ({name}, spatial)" for name in stages]
    return piece(
        f"""features ({_inputs(stages)}) => (float[N, {sum(shape[0] for shape in stages.values())}] embedding)
        <int64[2] spatial = {{2, 3}}>
        {{
            {" ".join(lines)}
            embedding = Concat <axis = 1> ({", ".join(f"mean_{name}" for name in stages)})
        }}"""
    )


def attended(stages: Mapping[str, Shape], grid: tuple[int, int]) -> onnx.ModelProto:
    """Stages, each float32 ``[N, C, h, w]``, to ``embedding`` float32 ``[N, sum of C]``: weighted averages.

    A place counts by how far ``attention``, float32 ``[N, height, width]`` of that grid, rises there above its lowest
    value; where it is flat, all places count alike.
    """
    channels, height, width = patch_shape(stages)
    weighing = piece(
        f"""
        weighing (float[N, {channels}, {height}, {width}] patches, float[N, {grid[0]}, {grid[1]}] attention)
        => (float[N, {channels}] embedding)
        <int64[2] whole = {{1, 2}}, int64[1] one = {{1}}, int64[2] grid = {{{height}, {width}}},
         int64[2] spatial = {{2, 3}}, float flat = {{1e-12}}, float least = {{1e-6}}>
        {{
            lowest = ReduceMin <keepdims = 1> (attention, whole)
            rise = Sub (attention, lowest)
            highest = ReduceMax <keepdims = 1> (rise, whole)
            range = Add (highest, flat)
            relative = Div (rise, range)
            positive = Add (relative, least)
            image = Unsqueeze (positive, one)
            resized = Resize <antialias = 1, axes = [2, 3], mode = "linear",
                              coordinate_transformation_mode = "half_pixel"> (image, , , grid)
            total = ReduceSum <keepdims = 1> (resized, spatial)
            shares = Div (resized, total)
            weighted = Mul (patches, shares)
            embedding = ReduceSum <keepdims = 0> (weighted, spatial)
        }}
        """
    )
    return chain([patches(stages), weighing], ["embedding"])


def levels(stages: Mapping[str, Shape], local: Mapping[str, Shape], grid: str | None = None) -> onnx.ModelProto:
    """Stages to ``levels`` float32 ``[N, L]``: a profile of each of ``stages``, then the patches of ``local``, flat.

    A profile is the mean and the standard deviation of each channel over the image; ``grid`` is as in
    :func:`patches`.
    """
    lines = []
    for name in stages:
        lines += [
            f"mean_{name} = ReduceMean <keepdims = 1> ({name}, spatial)",
            f"centred_{name} = Sub ({name}, mean_{name})",
            f"squares_{name} = Mul (centred_{name}, centred_{name})",
            f"variance_{name} = ReduceMean <keepdims = 0> (squares_{name}, spatial)",
            f"spread_{name} = Sqrt (variance_{name})",
            f"flat_{name} = Squeeze (mean_{name}, spatial)",
        ]
    widths = sum(level_widths(stages))
    profiles = piece(
        f"""profiles ({_inputs(stages)}) => (float[N, {widths}] profiles)
        <int64[2] spatial = {{2, 3}}>
        {{
            {" ".join(lines)}
            profiles = Concat <axis = 1> ({", ".join(f"flat_{name}, spread_{name}" for name in stages)})
        }}"""
    )
    channels, height, width = patch_shape(local, grid)
    size = channels * height * width
    joined = piece(
        f"""
        levels (float[N, {widths}] profiles, float[N, {channels}, {height}, {width}] patches)
        => (float[N, {widths + size}] levels)
        {{
            flat = Flatten (patches)
            levels = Concat <axis = 1> (profiles, flat)
        }}
        """
    )
    return chain([profiles, patches(local, grid), joined], ["levels"])


def level_widths(stages: Mapping[str, Shape]) -> tuple[int, ...]:
    """How many numbers the profile of each stage has."""
    return tuple(2 * channels for channels, _, _ in stages.values())


def patch_shape(stages: Mapping[str, Shape], grid: str | None = None) -> Shape:
    """Shape of the patches of stages: all channels on the grid of one of them, by default the finest."""
    finest = max(stages.values(), key=lambda shape: shape[1] * shape[2])
    _, height, width = finest if grid is None else stages[grid]
    return sum(shape[0] for shape in stages.values()), height, width


def _inputs(stages: Mapping[str, Shape]) -> str:
    return ", ".join(f"float[N, {c}, {h}, {w}] {name}" for name, (c, h, w) in stages.items())
