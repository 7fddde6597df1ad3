"""Energy after the embedding or the head has been simplified: ReAct, ASH and DICE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import onnx

from oddsight.detectors.detector import Detector, Labels, detector
from oddsight.detectors.energy import energy_lines
from oddsight.detectors.features import Vectors
from oddsight.detectors.head import Head
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Real, Share


def _energy_of(name: str, head: Head, lines: str, constants: str = "") -> onnx.ModelProto:
    """A piece from ``embedding`` to the energy of the head's logits of ``shaped``, which the lines find."""
    return piece(
        f"""
        {name} (float[N, {head.channels}] embedding) => (float[N] score) <int64[1] last = {{1}}{constants}>
        {{
            {lines}
            logits = Gemm (shaped, weights, bias)
            {energy_lines()}
            score = Neg (confidence)
        }}
        """,
        head.constants,
    )


@detector
@dataclass
class ReAct(Detector):
    """Energy of the logits of an embedding whose values are cut off above.

    Only large values are cut, as in the paper, so values below zero stay as they are.

    Attributes:
        quantile: Share of the values of all training embeddings, all channels together, that stay as they are. Should
            that be a value that nothing lies below, such as the zero of an embedding that is mostly zeros, it is the
            share of the values above it.
    """

    name = "react"
    summary = "energy, after large values of the embedding are cut off"
    paper = "Sun et al., ReAct: Out-of-distribution Detection With Rectified Activations, NeurIPS 2021"
    learns_from = ("classes",)

    quantile: Share = 0.9

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Find the value above which is cut; see :meth:`Detector.fit`."""
        self.head_ = head
        self.most_ = float(np.quantile(embeddings, self.quantile))
        lowest = float(embeddings.min())
        if self.most_ <= lowest < embeddings.max():
            self.most_ = float(np.quantile(embeddings[embeddings > lowest], self.quantile))

    def graph(self) -> onnx.ModelProto:
        return _energy_of("react", self.head_, "shaped = Min (embedding, most)", f", float most = {{{self.most_:.9g}}}")


@detector
@dataclass
class ASH(Detector):
    """Energy of the logits of an embedding of which only the largest values are left, scaled up (ASH-S).

    The factor is the exponential of the sum of all values over the sum of those left. The paper's sums are of values
    after a ReLU, so it cannot be fitted to embeddings with values below zero; when it scores, these count as zero.

    Attributes:
        pruned: Share of the channels set to zero; at most 0.95, as the factor grows without bounds beyond.
    """

    name = "ash"
    summary = "energy, after all but the largest values of the embedding are dropped and those scaled up"
    paper = "Djurisic et al., Extremely Simple Activation Shaping for Out-of-Distribution Detection, ICLR 2023"
    learns_from = ("classes",)
    positive = True

    pruned: Annotated[float, Real(above=0, most=0.95)] = 0.9

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Keep the head; see :meth:`Detector.fit`."""
        self.head_ = head

    def graph(self) -> onnx.ModelProto:
        left = self.channels_ - int(self.pruned * self.channels_)
        return _energy_of(
            "ash",
            self.head_,
            """
            positive = Relu (embedding)
            largest, index = TopK <axis = 1> (positive, left)
            least = ReduceMin (largest, last)
            is_left = GreaterOrEqual (positive, least)
            sparse = Where (is_left, positive, zero)
            sum = ReduceSum (positive, last)
            sparse_sum = ReduceSum (sparse, last)
            divisor = Max (sparse_sum, tiny)
            ratio = Div (sum, divisor)
            factor = Exp (ratio)
            shaped = Mul (sparse, factor)
            """,
            f", int64[1] left = {{{left}}}, float zero = {{0}}, float tiny = {{1e-12}}",
        )


@detector
@dataclass
class DICE(Detector):
    """Energy of the logits that a head gives with only those weights that contribute most on average.

    A weight contributes its product with the mean of its channel over the training images. The paper's embeddings
    follow a ReLU, so embeddings with values below zero are refused when it is fitted.

    Attributes:
        pruned: Share of the weights set to zero.
    """

    name = "dice"
    summary = "energy, with only those weights of the head that contribute most"
    paper = "Sun and Li, DICE: Leveraging Sparsification for Out-of-Distribution Detection, ECCV 2022"
    learns_from = ("classes",)
    positive = True

    pruned: Share = 0.9

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Prune the head; see :meth:`Detector.fit`."""
        contributions = embeddings.mean(axis=0, dtype=np.float64)[:, None] * head.weights
        kept = contributions > np.quantile(contributions, self.pruned)
        # Nothing is above the quantile where all contributions are alike, such as 0: no weight matters less.
        self.head_ = Head(np.where(kept, head.weights, np.float32(0)), head.bias) if kept.any() else head

    def graph(self) -> onnx.ModelProto:
        return _energy_of("dice", self.head_, "shaped = Identity (embedding)")
