"""From distances on a grid to an anomaly map and the score of the image."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.graphs.building import chain, piece, renamed


def anomaly_map(height: int, width: int, sigma: float) -> onnx.ModelProto:
    """``distances`` float32 ``[N, h, w]`` to ``anomaly_map`` (Gaussian-smoothed) and ``score``, its maximum.

    As the score is the map's maximum, an image is flagged exactly when some place of its map is beyond the threshold.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        sigma: Standard deviation of the Gaussian in grid cells; borders are extended by their edge values.
    """
    kernel, radius = _gaussian(sigma)
    return piece(
        f"""
        map (float[N, {height}, {width}] distances) => (float[N] score, float[N, {height}, {width}] anomaly_map)
        <int64[8] pads = {{0, 0, {radius}, {radius}, 0, 0, {radius}, {radius}}},
         int64[1] channel = {{1}}, int64[2] grid = {{1, 2}}>
        {{
            plane = Unsqueeze (distances, channel)
            padded = Pad <mode = "edge"> (plane, pads)
            rows = Conv (padded, down)
            smooth = Conv (rows, across)
            anomaly_map = Squeeze (smooth, channel)
            score = ReduceMax <keepdims = 0> (anomaly_map, grid)
        }}
        """,
        {"down": kernel.reshape(1, 1, -1, 1), "across": kernel.reshape(1, 1, 1, -1)},
    )


def scaled_map(height: int, width: int, sigma: float, by: str = "") -> onnx.ModelProto:
    """``errors`` float32 ``[N, h, w]``, none negative, to ``score`` and ``anomaly_map``.

    The score is the mean error, or what is given. The map has the errors, Gaussian-smoothed, in proportion so that its
    maximum is the score: where the whole image tells how much, and its places where, an image is still flagged
    exactly when some place of its map is beyond the threshold.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        sigma: Standard deviation of the Gaussian in grid cells.
        by: The name of an input ``[N]``, none negative, that is the score instead of the mean.
    """
    given, how = f"float[N] {by}, " * bool(by), f"Identity ({by})" if by else "ReduceMean <keepdims = 0> (errors, grid)"
    total = piece(
        f"""
        total ({given}float[N, {height}, {width}] errors)
        => (float[N] whole, float[N, {height}, {width}] distances)
        <int64[2] grid = {{1, 2}}>
        {{
            whole = {how}
            distances = Identity (errors)
        }}
        """
    )
    smooth = renamed(anomaly_map(height, width, sigma), "smooth", {"anomaly_map": "places", "score": "highest"})
    scaled = piece(
        f"""
        scaled (float[N] whole, float[N, {height}, {width}] places, float[N] highest)
        => (float[N] score, float[N, {height}, {width}] anomaly_map)
        <int64[2] grid = {{1, 2}}, float tiny = {{1e-12}}>
        {{
            most = Max (highest, tiny)
            factor = Div (whole, most)
            everywhere = Unsqueeze (factor, grid)
            anomaly_map = Mul (places, everywhere)
            score = ReduceMax <keepdims = 0> (anomaly_map, grid)
        }}
        """
    )
    return chain([total, smooth, scaled], ["score", "anomaly_map"])


def _gaussian(sigma: float) -> tuple[NDArray[np.float32], int]:
    """A kernel whose sum is 1, and how far it reaches from its middle."""
    radius = int(np.ceil(3 * sigma))
    with np.errstate(over="ignore"):  # far from the middle of a narrow one there is nothing
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32), radius
