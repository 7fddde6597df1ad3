"""Local outlier factor of whole-image embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.detectors.standardising import Standard
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count, Whole

_NOT_ZERO = 1e-10  # Added to distances by scikit-learn, so that copies have a density


@detector
@dataclass
class LOF(Detector):
    """How much sparser the surroundings of a standardised embedding are than those of its normal neighbours.

    About 1 inside a cluster of any density, and larger outside; far away it grows with the distance.

    Attributes:
        neighbours: That make up the surroundings; with few images, a third of them.
        bank_size: Embeddings kept at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "lof"
    summary: ClassVar[str] = "how much sparser normal images are around the embedding than around its neighbours"
    paper: ClassVar[str] = "Breunig et al., LOF: Identifying Density-Based Local Outliers, SIGMOD 2000"
    reads: ClassVar[Reading] = "embedding"

    neighbours: Count = 20
    bank_size: Annotated[int, Whole(2)] = 10000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Measure the density around each embedding; see :meth:`Detector.fit`. Nothing is random but the draw."""
        from sklearn.neighbors import LocalOutlierFactor

        embeddings = sample(features, self.bank_size, seed)
        self.standard_ = Standard.deviations(embeddings)
        self.bank_ = self.standard_(embeddings)
        # Where nearly all images are neighbours of each other, all have the same surroundings.
        neighbours = max(1, min(self.neighbours, (len(self.bank_) - 1) // 3))
        self.estimator_ = LocalOutlierFactor(n_neighbors=neighbours, algorithm="brute", novelty=True).fit(self.bank_)
        distances, nearest = self.estimator_.kneighbors()
        self.reach_ = distances[:, -1]
        self.density_ = 1 / (np.maximum(self.reach_[nearest], distances).mean(axis=1) + _NOT_ZERO)

    def graph(self) -> onnx.ModelProto:
        channels = self.bank_.shape[1]
        text = f"""
        lof (float[N, {channels}] embedding) => (float[N] score)
        <int64[1] last = {{1}}, int64[1] k = {{{self.estimator_.n_neighbors_}}}, int64[1] per_vector = {{2}},
         float not_zero = {{{_NOT_ZERO:g}}}>
        {{
            {Standard.LINES}
            nearness = Gemm <alpha = 2.0> (x, bank_columns, minus_squares)
            nearest, index = TopK <axis = 1> (nearness, k)
            neighbours = Gather <axis = 0> (bank, index)
            one = Unsqueeze (x, last)
            difference = Sub (neighbours, one)
            distances = ReduceL2 <keepdims = 0> (difference, per_vector)
            reaches = Gather <axis = 0> (reach, index)
            reachable = Max (distances, reaches)
            mean_reach = ReduceMean <keepdims = 0> (reachable, last)
            sparsity = Add (mean_reach, not_zero)
            densities = Gather <axis = 0> (density, index)
            density_around = ReduceMean <keepdims = 0> (densities, last)
            score = Mul (density_around, sparsity)
        }}
        """
        weights = {
            **self.standard_.weights,
            "bank": self.bank_,
            "bank_columns": np.ascontiguousarray(self.bank_.T),
            "minus_squares": -np.einsum("ij,ij->i", self.bank_, self.bank_),
            "reach": self.reach_.astype(np.float32),
            "density": self.density_.astype(np.float32),
        }
        return piece(text, weights)

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``bank_size`` images."""
        rows, channels = sample_count(shape, count, self.bank_size), shape[0]
        return sample_bytes(shape, count, self.bank_size) + 4 * rows * (16 * channels + 12 * self.neighbours)
