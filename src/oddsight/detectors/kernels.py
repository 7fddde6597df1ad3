"""Sums of Gaussian kernels in the logarithm, as a graph."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.standardising import Standard
from oddsight.graphs.building import piece


def log_kernel_sum(
    name: str, standard: Standard, points: NDArray[np.float32], weights: NDArray[np.float64], gamma: float
) -> onnx.ModelProto:
    """``embedding`` ``[N, C]`` to ``score`` ``[N]``: ``-log sum_i weights_i exp(-gamma |x - points_i|^2)``.

    Computed without leaving the logarithm, so that a point far from all others scores gamma times its squared distance
    where the sum itself would be zero in floating point. Points ``[n, C]`` are standardised, as ``standard`` makes
    ``x`` of the embedding. With weights of sum 1 the score is never below 0.
    """
    # With points and x times the square root of twice gamma, a term is exp(-|x - point|^2 / 2). Its parts cancel near a
    # point, so they are computed in 64 bits.
    root = np.sqrt(2 * gamma)
    scaled = root * points.astype(np.float64)
    return piece(
        f"""
        {name} (float[N, {points.shape[1]}] embedding) => (float[N] score)
        <int64[1] last = {{1}}, double half = {{0.5}}>
        {{
            {Standard.LINES}
            wide = Cast <to = 11> (x)
            scaled = Mul (wide, root)
            products = MatMul (scaled, columns)
            exponents = Add (products, offsets)
            highest = ReduceMax (exponents, last)
            below = Sub (exponents, highest)
            shares = Exp (below)
            total = ReduceSum (shares, last)
            more = Log (total)
            logarithm = Add (highest, more)
            squares = ReduceSumSquare (scaled, last)
            own = Mul (squares, half)
            each = Sub (own, logarithm)
            narrow = Cast <to = 1> (each)
            score = Squeeze (narrow, last)
        }}
        """,
        {
            **standard.weights,
            "root": np.array(root, np.float64),
            "columns": np.ascontiguousarray(scaled.T),
            "offsets": np.log(weights) - 0.5 * np.square(scaled).sum(axis=1),
        },
    )
