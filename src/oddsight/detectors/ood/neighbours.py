"""Scores that look for the nearest training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from oddsight.detectors import Rows
from oddsight.detectors.ood.energy import energy_lines
from oddsight.detectors.ood.head import Head
from oddsight.detectors.ood.score import Labels, Score, Vectors, score
from oddsight.detectors.sampling import sample
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count

_TINY = 1e-12

_UNIT = """
    length = ReduceL2 (embedding, last)
    positive = Max (length, tiny)
    x = Div (embedding, positive)
"""


@score
@dataclass
class KNN(Score):
    """Embeddings on the unit sphere; an image scores its distance to the ``neighbours``-th nearest training image.

    Attributes:
        neighbours: Which neighbour counts; the farthest if there are fewer.
        bank_size: Training images kept at most, drawn at random as in the paper: the fewer, the nearer should be the
            neighbour that counts.
    """

    name = "knn"
    summary = "distance of the embedding's direction to that of a near training image"
    paper = "Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022"

    neighbours: Count = 10
    bank_size: Count = 10000

    def _learn(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        self.bank_ = _unit(sample(Rows(embeddings), self.bank_size, seed))

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Score.graph`."""
        rank = min(self.neighbours, len(self.bank_))
        return piece(
            f"""
            nearest_images (float[N, {self.channels_}] embedding) => (float[N] score)
            <int64[1] last = {{1}}, int64[1] before = {{{rank - 1}}}, int64[1] k = {{{rank}}}, float tiny = {{{_TINY}}}>
            {{
                {_UNIT}
                likeness = MatMul (x, bank_columns)
                nearest, indices = TopK <axis = 1> (likeness, k)
                last_index = Slice (indices, before, k, last)
                index = Squeeze (last_index, last)
                columns = Gather <axis = 1> (bank_columns, index)
                neighbour = Transpose <perm = [1, 0]> (columns)
                away = Sub (x, neighbour)
                score = ReduceL2 <keepdims = 0> (away, last)
            }}
            """,
            {"bank_columns": np.ascontiguousarray(self.bank_.T)},
        )


@score
@dataclass
class NNGuide(Score):
    """Minus the product of the image's energy confidence and the mean of its likeness to the training images nearest.

    Likeness is the cosine between embeddings times the confidence of the training image. Confidence is the logarithm of
    the sum of exponentials of the logits around their mean: positive for any head, where that of the logits themselves
    need not be, and the same where the head's logits have mean 0, which training with weight decay strives for.

    Attributes:
        neighbours: Training images that count.
        bank_size: Training images kept at most, drawn at random.
    """

    name = "nnguide"
    summary = "energy, guided by the likeness to confident training images"
    paper = "Park et al., Nearest Neighbor Guidance for Out-of-Distribution Detection, ICCV 2023"

    neighbours: Count = 10
    bank_size: Count = 10000

    def _learn(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        from scipy.special import logsumexp

        kept = sample(Rows(embeddings), self.bank_size, seed)
        logits = head.logits(kept).astype(np.float64)
        confidences = logsumexp(logits - logits.mean(axis=1, keepdims=True), axis=1, keepdims=True)
        self.bank_ = np.asarray(_unit(kept) * confidences, np.float32)

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Score.graph`."""
        return piece(
            f"""
            nnguide (float[N, {self.channels_}] embedding, float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}, int64[1] k = {{{min(self.neighbours, len(self.bank_))}}}, float tiny = {{{_TINY}}}>
            {{
                {_UNIT}
                likeness = MatMul (x, bank_columns)
                nearest, indices = TopK <axis = 1> (likeness, k)
                guidance = ReduceMean <keepdims = 0> (nearest, last)
                mean = ReduceMean (logits, last)
                centred = Sub (logits, mean)
                {energy_lines("centred")}
                guided = Mul (confidence, guidance)
                score = Neg (guided)
            }}
            """,
            {"bank_columns": np.ascontiguousarray(self.bank_.T)},
        )


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY), np.float32)
