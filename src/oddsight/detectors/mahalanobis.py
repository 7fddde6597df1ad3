"""Mahalanobis distance of the whole image's embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import onnx

from oddsight.detectors import FeatureStream, Method, Reading, method, stacked
from oddsight.graphs.building import piece


@method
@dataclass
class Mahalanobis(Method):
    """One Gaussian over embeddings, its covariance shrunk as Ledoit and Wolf (2004) compute it."""

    name: ClassVar[str] = "mahalanobis"
    summary: ClassVar[str] = "Mahalanobis distance of the image's embedding, with Ledoit-Wolf shrinkage"
    paper: ClassVar[str] = (
        "Rippel et al., Modeling the Distribution of Normal Data in Pre-Trained Deep Features, ICPR 2020"
    )
    reads: ClassVar[Reading] = "embedding"
    localises: ClassVar[bool] = False

    def fit(self, features: FeatureStream, *, memory: int, seed: int) -> Self:
        """Estimate mean and covariance; see :meth:`Method.fit`. Nothing is random."""
        from sklearn.covariance import ledoit_wolf

        self.require(memory, features.shape, len(features))
        embeddings = stacked(features)
        self.mean_ = embeddings.mean(axis=0, dtype=np.float64)
        # Shrinking towards a multiple of the identity asks for channels of one scale.
        scale = embeddings.std(axis=0, dtype=np.float64) + 1e-6
        covariance, _ = ledoit_wolf((embeddings - self.mean_) / scale, assume_centered=True)
        covariance[np.diag_indices_from(covariance)] += 1e-6
        self.whitening_ = np.linalg.inv(np.linalg.cholesky(covariance)).T / scale[:, None]
        return self

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Method.graph`."""
        return piece(
            f"""
            mahalanobis (float[N, {len(self.mean_)}] embedding) => (float[N] score) <int64[1] last = {{1}}>
            {{
                x = Sub (embedding, mean)
                white = MatMul (x, whitening)
                squared = ReduceSumSquare <keepdims = 0> (white, last)
                score = Sqrt (squared)
            }}
            """,
            {"mean": self.mean_.astype(np.float32), "whitening": self.whitening_.astype(np.float32)},
        )

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Method.memory_needed`; grows with the number of images."""
        return 4 * shape[0] * (7 * count + 8 * shape[0])
