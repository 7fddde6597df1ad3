"""Mahalanobis distance of the whole image's embedding: to the mean of normal images, or to the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx

from oddsight.detectors.averaging import Matrix, blocks, class_means, spread
from oddsight.detectors.detector import Detector, Kind, Labels, Reading, detector
from oddsight.detectors.features import FeatureStream, Vectors, stacked
from oddsight.detectors.head import Head
from oddsight.graphs.building import piece

_FLOOR = 1e-3  # The least variation of a channel within classes, as a share of a typical channel's over all images

_WHITE = """
    x = Sub (embedding, mean)
    white = MatMul (x, whitening)
"""

# Which class mean is nearest is found by products; the distance to it by a difference, in which nothing cancels.
_AWAY = """
    nearness = Gemm (white, mean_columns, half_squares)
    nearest = ArgMax <axis = 1, keepdims = 0> (nearness)
    class_mean = Gather <axis = 0> (means, nearest)
    away = Sub (white, class_mean)
"""


@detector
@dataclass
class Mahalanobis(Detector):
    """Gaussians of one covariance: one over normal embeddings, or one for each known class.

    With normal images the score is the distance to their mean, the covariance shrunk as Ledoit and Wolf (2004) compute
    it. With known classes it is the squared distance to the nearest class mean; the covariance is that within classes.
    """

    name: ClassVar[str] = "mahalanobis"
    summary: ClassVar[str] = "Mahalanobis distance of the image's embedding to the mean, or to the nearest class mean"
    paper: ClassVar[str] = (
        "Rippel et al., Modeling the Distribution of Normal Data in Pre-Trained Deep Features, ICPR 2020; with known "
        "classes: Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial "
        "Attacks, NeurIPS 2018"
    )
    reads: ClassVar[Reading] = "embedding"
    learns_from: ClassVar[tuple[Kind, ...]] = ("normal", "classes")

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Estimate mean and covariance; see :meth:`Detector.fit`. Nothing is random."""
        from sklearn.covariance import ledoit_wolf

        embeddings = stacked(features)
        self.mean_ = embeddings.mean(axis=0, dtype=np.float64)
        # Shrinking towards a multiple of the identity asks for channels of one scale.
        scale = embeddings.std(axis=0, dtype=np.float64) + 1e-6
        covariance, _ = ledoit_wolf((embeddings - self.mean_) / scale, assume_centered=True)
        covariance[np.diag_indices_from(covariance)] += 1e-6
        self.whitening_ = _whitening(covariance, scale)
        self.means_: Matrix | None = None

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Estimate the class means and the covariance within classes; see :meth:`Detector.fit`. Nothing is random."""
        means, counts = class_means(embeddings, labels, head.classes)
        self.mean_ = means.T @ counts / counts.sum()
        self.whitening_ = tied_whitening(embeddings, labels, means)
        self.means_ = (means[counts > 0] - self.mean_) @ self.whitening_

    def graph(self) -> onnx.ModelProto:
        if self.means_ is None:
            lines = "squared = ReduceSumSquare <keepdims = 0> (white, last) score = Sqrt (squared)"
        else:
            lines = f"{_AWAY} score = ReduceSumSquare <keepdims = 0> (away, last)"
        return self._piece(lines)

    def _piece(self, lines: str, **constants: Matrix) -> onnx.ModelProto:
        """From ``embedding`` to the ``score`` that the lines find, which begin with ``white``, the whitened one."""
        constants |= {"mean": self.mean_, "whitening": self.whitening_}
        if self.means_ is not None:
            squares = np.square(self.means_).sum(axis=1)
            constants |= {"means": self.means_, "mean_columns": self.means_.T, "half_squares": -0.5 * squares}
        return piece(
            f"""
            mahalanobis (float[N, {len(self.mean_)}] embedding) => (float[N] score) <int64[1] last = {{1}}>
            {{
                {_WHITE}
                {lines}
            }}
            """,
            {name: np.ascontiguousarray(values, np.float32) for name, values in constants.items()},
        )

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; grows with the number of images."""
        return 4 * shape[0] * (7 * count + 8 * shape[0])


@detector
@dataclass
class RelativeMahalanobis(Mahalanobis):
    """:class:`Mahalanobis` of known classes, minus the squared distance under one Gaussian of all together."""

    name: ClassVar[str] = "relative-mahalanobis"
    summary: ClassVar[str] = (
        "distance to the nearest class mean, less the distance to the mean of all under their covariance"
    )
    paper: ClassVar[str] = (
        "Ren et al., A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection, arXiv 2106.09022, 2021"
    )
    learns_from: ClassVar[tuple[Kind, ...]] = ("classes",)

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Also estimate the covariance of all together; see :meth:`Mahalanobis.learn_classes`."""
        super().learn_classes(embeddings, labels, head, seed)
        self.background_ = tied_whitening(embeddings, np.zeros_like(labels), self.mean_[None])

    def graph(self) -> onnx.ModelProto:
        lines = f"""
            {_AWAY}
            to_class = ReduceSumSquare <keepdims = 0> (away, last)
            white_of_all = MatMul (x, background)
            to_all = ReduceSumSquare <keepdims = 0> (white_of_all, last)
            score = Sub (to_class, to_all)
        """
        return self._piece(lines, background=self.background_)


def tied_whitening(embeddings: Vectors, labels: Labels, means: Matrix) -> Matrix:
    """``[C, C]``: differences times it have the Mahalanobis distance as their length.

    The covariance of embeddings ``[n, C]`` is that within classes, whose means are ``[K, C]``, shrunk with each channel
    in units of its own deviation, so that it can be inverted however few images there are. OAS (Chen et al., Shrinkage
    Algorithms for MMSE Covariance Estimation, IEEE TSP 2010), as scikit-learn has it, needs nothing but the covariance.
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
    return _whitening(correlation, scale)


def _whitening(correlation: Matrix, scale: Matrix) -> Matrix:
    """What whitens vectors whose channels, divided by ``scale``, have this covariance, ``[C, C]``."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(correlation)).T / scale[:, None])
