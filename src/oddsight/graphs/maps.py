"""From distances on a grid to an anomaly map and the score of the image."""

from __future__ import annotations

import numpy as np
import onnx

from oddsight.graphs.building import piece


def anomaly_map(height: int, width: int, sigma: float) -> onnx.ModelProto:
    """``distances`` float32 ``[N, h, w]`` to ``anomaly_map`` (Gaussian-smoothed) and ``score``, its maximum.

    As the score is the map's maximum, an image is flagged exactly when some place of its map is beyond the threshold.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        sigma: Standard deviation of the Gaussian in grid cells; borders are extended by their edge values.
    """
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
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
