"""Nearest neighbours among whole-image embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors import FeatureStream, Method, Reading, method, stacked
from oddsight.detectors.coreset import Coreset
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count


@method
@dataclass
class KNN(Method):
    """Embeddings on the unit sphere; an image scores its distance to the ``neighbours``-th nearest normal one.

    Attributes:
        neighbours: Which neighbour counts.
        bank_size: Embeddings kept at most; beyond that, a greedy k-centre coreset of them.
    """

    name: ClassVar[str] = "knn"
    summary: ClassVar[str] = "distance of the image's embedding to its nearest normal neighbour"
    paper: ClassVar[str] = "Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022"
    reads: ClassVar[Reading] = "embedding"
    localises: ClassVar[bool] = False

    neighbours: Count = 1
    bank_size: Count = 10000

    def fit(self, features: FeatureStream, *, memory: int, seed: int) -> Self:
        """Fill the bank; see :meth:`Method.fit`."""
        self.require(memory, features.shape, len(features))
        if len(features) <= self.bank_size:
            self.bank_ = _unit(stacked(features))
            return self
        coreset = Coreset(self.bank_size, features.shape[0], memory, seed)
        for embedding in features:
            coreset.add(_unit(embedding[None]))
        self.bank_ = coreset.result()
        return self

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Method.graph`."""
        size, channels = self.bank_.shape
        return piece(
            f"""
            knn (float[N, {channels}] embedding) => (float[N] score)
            <int64[1] last = {{1}}, int64[1] first = {{0}}, int64[1] two = {{2}},
             int64[1] k = {{{min(self.neighbours, size)}}}, float tiny = {{1e-12}}>
            {{
                length = ReduceL2 (embedding, last)
                positive = Max (length, tiny)
                x = Div (embedding, positive)
                likeness = MatMul (x, bank_columns)
                nearest, index = TopK <axis = 1> (likeness, k)
                neighbours = Gather <axis = 1> (bank_columns, index)
                columns = Transpose <perm = [1, 0]> (x)
                each = Unsqueeze (columns, two)
                difference = Sub (neighbours, each)
                distances = ReduceL2 <keepdims = 0> (difference, first)
                score = ReduceMax <keepdims = 0> (distances, last)
            }}
            """,
            {"bank_columns": np.ascontiguousarray(self.bank_.T)},
        )

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Method.memory_needed`; stops growing at ``bank_size`` images."""
        return Coreset.memory_needed(min(self.bank_size, count), shape[0])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
