"""A Gaussian for each class, all of one covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from oddsight.detectors.ood.averaging import Matrix, blocks, class_means, spread
from oddsight.detectors.ood.head import Head
from oddsight.detectors.ood.score import Labels, Score, Vectors, score
from oddsight.graphs.building import piece

_FLOOR = 1e-3
"""A channel that hardly varies within classes counts as varying this share of a typical channel over all images."""


def tied_whitening(embeddings: Vectors, labels: Labels, means: Matrix) -> Matrix:
    """``[C, C]``: differences times it have the Mahalanobis distance as their length.

    The covariance is that within classes, shrunk with each channel in units of its own deviation, so that it can be
    inverted however few images there are. OAS (Chen et al., Shrinkage Algorithms for MMSE Covariance Estimation, IEEE
    TSP 2010), as scikit-learn has it, needs nothing but the covariance.

    Args:
        embeddings: ``[n, C]``.
        labels: ``[n]``.
        means: Of the classes, ``[K, C]``.
    """
    count, channels = embeddings.shape
    scatter = np.zeros((channels, channels))
    for part in blocks(count):
        around = embeddings[part] - means[labels[part]]
        scatter += around.T @ around
    deviations = np.sqrt(np.diagonal(scatter) / count)
    typical = spread(embeddings) / np.sqrt(channels)
    scale = np.maximum(deviations, max(_FLOOR * typical, 1e-6))
    correlation = scatter / count / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    squares = np.square(correlation).sum()
    over = (count + 1) * (squares - channels)
    amount = min(1.0, (squares + channels**2) / over) if over > 0 else 1.0
    correlation *= 1 - amount
    np.fill_diagonal(correlation, 1.0 + 1e-6)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(correlation)).T / scale[:, None])


@score
@dataclass
class Mahalanobis(Score):
    """Squared Mahalanobis distance of the embedding to the nearest class mean."""

    name = "mahalanobis"
    summary = "distance of the embedding to the nearest class mean, under one covariance for all"
    paper = (
        "Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks, "
        "NeurIPS 2018"
    )

    def _learn(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        means, counts = class_means(embeddings, labels, head.classes)
        self.centre_ = means.T @ counts / counts.sum()
        self.whitening_ = tied_whitening(embeddings, labels, means)
        self.means_ = (means[counts > 0] - self.centre_) @ self.whitening_

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Score.graph`."""
        return piece(
            f"""
            class_distance (float[N, {self.channels_}] embedding) => (float[N] score) <int64[1] last = {{1}}>
            {{
                {_NEAREST_MEAN}
                score = ReduceSumSquare <keepdims = 0> (away, last)
            }}
            """,
            self._constants(),
        )

    def _constants(self) -> dict[str, Vectors]:
        constants = {
            "centre": self.centre_,
            "whitening": self.whitening_,
            "means": self.means_,
            "mean_columns": self.means_.T,
            "half_squares": -0.5 * np.square(self.means_).sum(axis=1),
        }
        return {name: np.ascontiguousarray(values, np.float32) for name, values in constants.items()}


# Which mean is nearest is found by products; the distance to it by a difference, in which nothing cancels.
_NEAREST_MEAN = """
    centred = Sub (embedding, centre)
    white = MatMul (centred, whitening)
    nearness = Gemm (white, mean_columns, half_squares)
    nearest = ArgMax <axis = 1, keepdims = 0> (nearness)
    mean = Gather <axis = 0> (means, nearest)
    away = Sub (white, mean)
"""


@score
@dataclass
class RelativeMahalanobis(Mahalanobis):
    """:class:`Mahalanobis` minus the squared distance under one Gaussian of all classes together."""

    name = "relative-mahalanobis"
    summary = "distance to the nearest class mean, less the distance to the mean of all under their covariance"
    paper = "Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, arXiv 2106.09022, 2021"

    def _learn(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        super()._learn(embeddings, labels, head, seed)
        self.background_ = tied_whitening(embeddings, np.zeros_like(labels), self.centre_[None])

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Score.graph`."""
        return piece(
            f"""
            relative_distance (float[N, {self.channels_}] embedding) => (float[N] score) <int64[1] last = {{1}}>
            {{
                {_NEAREST_MEAN}
                to_class = ReduceSumSquare <keepdims = 0> (away, last)
                white_of_all = MatMul (centred, background)
                to_all = ReduceSumSquare <keepdims = 0> (white_of_all, last)
                score = Sub (to_class, to_all)
            }}
            """,
            {**self._constants(), "background": self.background_.astype(np.float32)},
        )
