"""NNGuide: energy, guided by the nearest training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from oddsight.detectors.detector import Detector, Labels, detector
from oddsight.detectors.energy import energy_lines
from oddsight.detectors.features import Rows, Vectors
from oddsight.detectors.head import Head
from oddsight.detectors.sampling import sample
from oddsight.detectors.standardising import UNIT_LINES, unit
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count


@detector
@dataclass
class NNGuide(Detector):
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
    learns_from = ("classes",)

    neighbours: Count = 10
    bank_size: Count = 10000

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Fill the bank; see :meth:`Detector.fit`."""
        from scipy.special import logsumexp

        kept = sample(Rows(embeddings), self.bank_size, seed)
        logits = head.logits(kept).astype(np.float64)
        confidences = logsumexp(logits - logits.mean(axis=1, keepdims=True), axis=1, keepdims=True)
        self.bank_ = np.asarray(unit(kept) * confidences, np.float32)

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            nnguide (float[N, {self.channels_}] embedding, float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}, int64[1] k = {{{min(self.neighbours, len(self.bank_))}}}, float tiny = {{1e-12}}>
            {{
                {UNIT_LINES}
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
