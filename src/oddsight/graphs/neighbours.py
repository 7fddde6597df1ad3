"""Which normal image an image resembles most: not part of the score, but of its explanation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.graphs.building import piece

MOST = 2000  # Normal images that are compared with, at most

_MOST_NUMBERS = 1280 * MOST  # In what is kept of them

_THUMBNAIL = 8  # Side to which pixels are reduced before they are compared


def summary(reading: str, features: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """One vector for an image, ``[C]``: its embedding, the mean of its patches, or its pixels, much reduced.

    Args:
        reading: ``patches``, ``embedding``, ``levels`` or ``pixels``; these have a side that is a multiple of 8.
        features: Of one image.
        shape: Of its reading, as :attr:`oddsight.backbones.extraction.Extractor.shape` gives it.
    """
    if len(shape) == 1:
        return features
    if reading == "pixels":
        tile = shape[-1] // _THUMBNAIL
        tiles = features.reshape(shape[0], _THUMBNAIL, tile, _THUMBNAIL, tile)
        return np.asarray(tiles.mean(axis=(2, 4)).reshape(-1), np.float32)
    patches = features.reshape(-1)[-math.prod(shape[-3:]) :]
    return np.asarray(patches.reshape(shape[-3], -1).mean(axis=1), np.float32)


def most_compared(reading: str, shape: Sequence[int]) -> int:
    """With how many normal images an image is compared, at most: fewer than :data:`MOST` if summaries are long."""
    channels = shape[-3] if len(shape) > 1 else shape[0]
    return min(MOST, _MOST_NUMBERS // (channels * _THUMBNAIL**2 if reading == "pixels" else channels))


def nearest(reading: str, shape: Sequence[int], summaries: NDArray[np.float32]) -> onnx.ModelProto:
    """``reading`` to ``nearest`` int64 ``[N]``: the row of ``summaries`` ``[n, C]`` nearest to its :func:`summary`.

    Distances are Euclidean, each channel in units of its standard deviation over the normal images.
    """
    centre = summaries.mean(axis=0)
    scale = 1 / (summaries.std(axis=0) + 1e-6)
    bank = (summaries - centre) * scale
    if len(shape) == 1:
        source = f"float[N, {shape[0]}] {reading}"
        lines = f"vector = Identity ({reading})"
    elif reading == "pixels":
        source = f"float[N, {', '.join(map(str, shape))}] {reading}"
        tile = shape[-1] // _THUMBNAIL
        lines = f"""
            reduced = AveragePool <kernel_shape = [{tile}, {tile}], strides = [{tile}, {tile}]> ({reading})
            vector = Flatten (reduced)
        """
    else:
        size = math.prod(shape[-3:])
        length = sum(shape[:-3]) + size
        source = f"float[N, {', '.join(map(str, shape)) if reading == 'patches' else length}] {reading}"
        lines = f"""
            flat = Flatten ({reading})
            patches_only = Slice (flat, start, end, axis)
            grid = Reshape (patches_only, rows)
            vector = ReduceMean <keepdims = 0> (grid, places)
        """
    start = 0 if len(shape) == 1 else sum(shape[:-3])
    return piece(
        f"""
        neighbours ({source}) => (int64[N] nearest)
        <int64[1] start = {{{start}}}, int64[1] end = {{{2**31 - 1}}}, int64[1] axis = {{1}},
         int64[3] rows = {{-1, {bank.shape[1]}, {1 if len(shape) == 1 else shape[-2] * shape[-1]}}},
         int64[1] places = {{2}}>
        {{
            {lines}
            centred = Sub (vector, centre)
            x = Mul (centred, scale)
            nearness = Gemm (x, bank, half_squares)
            nearest = ArgMax <axis = 1, keepdims = 0> (nearness)
        }}
        """,
        {
            "centre": centre,
            "scale": scale.astype(np.float32),
            "bank": np.ascontiguousarray(bank.T, np.float32),
            "half_squares": (-0.5 * np.einsum("ij,ij->i", bank, bank)).astype(np.float32),
        },
    )
