"""OpenMax: how likely a distance to the class means is at their rims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.averaging import blocks, class_means
from oddsight.detectors.detector import Detector, Labels, detector
from oddsight.detectors.energy import energy_lines
from oddsight.detectors.features import Vectors
from oddsight.detectors.head import Head
from oddsight.detectors.templates import typical
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count, Whole

_FEWEST = 5  # Distances that a Weibull distribution is fitted to, at least


@detector
@dataclass
class OpenMax(Detector):
    """Log-odds of the class "unknown", to which the highest logits lose what their distances make doubtful.

    Each class has the mean of the logits of its correctly classified training images, and a Weibull distribution of the
    largest distances of these to the mean. A high logit of an image hands the share that this distribution gives to its
    distance, less for the second highest and so on, to the class "unknown". Log-odds order images as the probability
    does, without ending at 0 and 1.

    Logits are taken from the lowest of the image on: below zero, to hand over a share would add to a logit. A class
    whose images tell no distribution (fewer than five, or all at one distance) has that of all classes together; one
    without images keeps its logit.

    Attributes:
        tail: Distances that the distribution is fitted to: so many of the largest.
        revised: Logits that may lose, at most: so many of the highest.
    """

    name = "openmax"
    summary = "the odds that the logits, by their distance to the class means, are of none"
    paper = "Bendale and Boult, Towards Open Set Deep Networks, CVPR 2016"
    reads = "logits"
    learns_from = ("classes",)

    tail: Annotated[int, Whole(_FEWEST)] = 20
    revised: Count = 3

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Fit the distributions of distances; see :meth:`Detector.fit`."""
        logits = head.logits(embeddings)
        logits -= logits.min(axis=1, keepdims=True)
        chosen = typical(logits, labels)
        logits, labels = logits[chosen], labels[chosen]
        self.means_, counts = class_means(logits, labels, head.classes)
        distances = np.empty(len(logits))
        for part in blocks(len(logits)):
            distances[part] = np.linalg.norm(logits[part] - self.means_[labels[part]], axis=1)
        tails = [np.sort(distances[labels == one])[-self.tail :] for one in range(head.classes)]
        # Where not even all together vary, what lies farther away than they do is unknown at once.
        together = _weibull(np.concatenate(tails)) or (1.0, max(float(distances.max()), 1e-6))
        fitted = np.array([_weibull(one) or together for one in tails])
        self.shapes_ = fitted[:, 0]
        self.rates_ = np.where(counts > 0, 1 / fitted[:, 1], 0.0)

    def graph(self) -> onnx.ModelProto:
        count = min(self.revised, self.classes_)
        return piece(
            f"""
            openmax (float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}, int64[1] middle = {{1}}, int64[1] inner = {{2}}, int64[1] count = {{{count}}},
             float one = {{1}}>
            {{
                lowest = ReduceMin (logits, last)
                activations = Sub (logits, lowest)
                top, index = TopK <axis = 1> (activations, count)
                centres = Gather <axis = 0> (means, index)
                each = Unsqueeze (activations, middle)
                away = Sub (each, centres)
                distances = ReduceL2 <keepdims = 0> (away, inner)
                rate = Gather <axis = 0> (rates, index)
                shape = Gather <axis = 0> (shapes, index)
                ratio = Mul (distances, rate)
                power = Pow (ratio, shape)
                exponent = Neg (power)
                nearer = Exp (exponent)
                doubt = Sub (one, nearer)
                share = Mul (doubt, by_rank)
                lost = Mul (top, share)
                left = Sub (top, lost)
                known = ScatterElements <axis = 1> (activations, index, left)
                unknown = ReduceSum <keepdims = 0> (lost, last)
                {energy_lines("known")}
                score = Sub (unknown, confidence)
            }}
            """,
            {
                "means": self.means_.astype(np.float32),
                "rates": self.rates_.astype(np.float32),
                "shapes": self.shapes_.astype(np.float32),
                "by_rank": (1 - np.arange(count) / count).astype(np.float32),
            },
        )


def _weibull(distances: NDArray[np.float64]) -> tuple[float, float] | None:
    """Shape and scale of the likeliest Weibull distribution, or None if the distances tell none."""
    from scipy.stats import weibull_min

    typical_distance = float(distances.mean()) if len(distances) else 0.0
    if len(distances) < _FEWEST or distances.min() <= 0 or np.ptp(distances) < 1e-3 * typical_distance:
        return None
    shape, _, scale = weibull_min.fit(distances / typical_distance, floc=0)
    return float(shape), float(scale) * typical_distance
