"""fDBD: how near an image is to the boundaries at which its predicted class would change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from oddsight.detectors.averaging import spread
from oddsight.detectors.detector import Detector, Labels, detector
from oddsight.detectors.features import Vectors
from oddsight.detectors.head import Head
from oddsight.graphs.building import piece


@detector
@dataclass
class FDBD(Detector):
    """Minus the mean distance of the embedding to the boundaries of its class, over its distance to the mean image.

    Two classes with the same weights have no boundary; it counts as distance 0. An embedding at the very mean of the
    training images counts as a thousandth of their typical distance away from it.
    """

    name = "fdbd"
    summary = "how near the embedding is to the boundaries of its class, for its distance to the mean"
    paper = "Liu and Qin, Fast Decision Boundary based Out-of-Distribution Detector, ICML 2024"
    learns_from = ("classes",)

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Measure how far apart the boundaries are; see :meth:`Detector.fit`."""
        self.mean_ = embeddings.mean(axis=0, dtype=np.float64)
        self.least_ = max(1e-3 * spread(embeddings), 1e-6)
        weights = head.weights.T.astype(np.float64)
        squares = np.square(weights).sum(axis=1)
        lengths = np.sqrt(np.maximum(squares[:, None] + squares - 2 * weights @ weights.T, 0))
        # Below this, a length is nothing but rounding.
        apart = lengths > 1e-6 * np.sqrt(squares.max())
        # A mean over all other classes of the gap between logits, in lengths of the difference of their weights.
        self.inverses_ = np.divide(1, lengths, out=np.zeros_like(lengths), where=apart) / (head.classes - 1)

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            fdbd (float[N, {self.channels_}] embedding, float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}, float least = {{{self.least_:.9g}}}>
            {{
                predicted = ArgMax <axis = 1, keepdims = 0> (logits)
                highest = ReduceMax (logits, last)
                gaps = Sub (highest, logits)
                inverse = Gather <axis = 0> (inverses, predicted)
                distances = Mul (gaps, inverse)
                distance = ReduceSum <keepdims = 0> (distances, last)
                away = Sub (embedding, mean)
                length = ReduceL2 <keepdims = 0> (away, last)
                divisor = Max (length, least)
                ratio = Div (distance, divisor)
                score = Neg (ratio)
            }}
            """,
            {"mean": self.mean_.astype(np.float32), "inverses": self.inverses_.astype(np.float32)},
        )
