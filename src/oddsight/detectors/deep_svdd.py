"""Deep SVDD: a network that draws normal embeddings to one point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.detectors.standardising import Standard
from oddsight.errors import OddsightError
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count, NonNegative, Positive, Whole

Matrix = NDArray[np.floating]
Weights = tuple[Matrix, Matrix]

_LEAK = 0.1
_BATCH = 128
_CHECK = 10
_PATIENCE = 20  # Checks, one in so many steps, without progress on the rows held out, after which training stops

_COLLAPSED = 1e-3
"""The standard deviation, in root mean squares of the centre, below which outputs count as one and the same."""


@detector
@dataclass
class DeepSVDD(Detector):
    """Distance from the centre in the output of a network without biases, in lengths of the centre.

    The centre is the mean of the first outputs, and Adam shrinks the distances of normal embeddings to it until those
    of a tenth of the images, held out, shrink no more. Channels are scaled but not centred: zero stays zero in a
    network without biases, so points on all sides of it cannot meet in a centre elsewhere. Another seed is another
    network: scores differ more from seed to seed than those of methods without random weights.

    Attributes:
        width: Units of the hidden layer.
        outputs: Dimensions of the space with the centre.
        steps: Of training, at most.
        learning_rate: Of Adam.
        weight_decay: Share of each weight that is added to its gradient.
        sample_size: Embeddings to learn from, at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "deep-svdd"
    summary: ClassVar[str] = "distance from the point to which a small network draws normal embeddings"
    paper: ClassVar[str] = "Ruff et al., Deep One-Class Classification, ICML 2018"
    reads: ClassVar[Reading] = "embedding"

    width: Count = 512
    outputs: Count = 128
    steps: Count = 1000
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 1e-6
    sample_size: Annotated[int, Whole(10)] = 10000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Train the network; see :meth:`Detector.fit`."""
        embeddings = sample(features, self.sample_size, seed)
        rng = np.random.default_rng(seed)
        self.standard_ = Standard.magnitudes(embeddings)
        x = self.standard_(embeddings)[rng.permutation(len(embeddings))]
        first = _initial(x.shape[1], self.width, self.outputs, rng)
        self.centre_ = _away_from_zero(forward(first, x).mean(axis=0))
        held = max(2, len(x) // 10)
        self.weights_ = self._trained(first, x[held:], x[:held], rng)
        if not forward(self.weights_, x).std(axis=0).max() > _COLLAPSED * np.sqrt((self.centre_**2).mean()):
            raise OddsightError(
                "deep-svdd collapsed: its network gives every image the same output; use a smaller learning_rate or "
                "weight_decay, fewer steps, or images that differ more"
            )

    def _trained(self, weights: Weights, x: Matrix, held: Matrix, rng: np.random.Generator) -> Weights:
        """The weights with the smallest distances of the rows held out, on the way that Adam takes."""
        momenta, squares = ([np.zeros_like(one) for one in weights] for _ in range(2))
        best, lowest, waited = weights, np.inf, 0
        for step in range(1, self.steps + 1):
            batch = x[rng.choice(len(x), _BATCH, replace=False)] if len(x) > _BATCH else x
            _, gradients = loss(weights, batch, self.centre_, self.weight_decay)
            momenta = [m + 0.1 * (g - m) for m, g in zip(momenta, gradients, strict=True)]
            squares = [s + 0.001 * (g**2 - s) for s, g in zip(squares, gradients, strict=True)]
            rate = self.learning_rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            into, out = (w - rate * m / (np.sqrt(s) + 1e-8) for w, m, s in zip(weights, momenta, squares, strict=True))
            weights = into, out
            if step % _CHECK == 0 or step == self.steps:
                distance = loss(weights, held, self.centre_, self.weight_decay)[0]
                best, lowest, waited = (weights, distance, 0) if distance < lowest else (best, lowest, waited + 1)
                if waited == _PATIENCE:
                    break
        if not np.isfinite(lowest):
            raise OddsightError(f"{self.name}: training diverged: use a smaller learning_rate")
        return best

    def graph(self) -> onnx.ModelProto:
        into, out = self.weights_
        return piece(
            f"""
            deep_svdd (float[N, {len(into)}] embedding) => (float[N] score) <int64[1] last = {{1}}>
            {{
                {Standard.LINES}
                sums = MatMul (x, into)
                hidden = LeakyRelu <alpha = {_LEAK}> (sums)
                output = MatMul (hidden, out)
                away = Sub (output, centre)
                distance = ReduceL2 <keepdims = 0> (away, last)
                score = Div (distance, length)
            }}
            """,
            {
                **self.standard_.weights,
                "into": into,
                "out": out,
                "centre": self.centre_,
                "length": np.array(np.linalg.norm(self.centre_), np.float32),
            },
        )

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``sample_size`` images."""
        rows, channels = sample_count(shape, count, self.sample_size), shape[0]
        parameters = self.width * (channels + self.outputs)
        layers = channels + 3 * self.width + 2 * self.outputs
        return sample_bytes(shape, count, self.sample_size) + 4 * (10 * parameters + 2 * rows * (channels + layers))


def forward(weights: Weights, x: Matrix) -> Matrix:
    """Outputs of the network, ``[n, outputs]``."""
    sums = x @ weights[0]
    return np.asarray(np.where(sums > 0, sums, _LEAK * sums) @ weights[1])


def loss(weights: Weights, x: Matrix, centre: Matrix, weight_decay: float) -> tuple[float, Weights]:
    """The mean squared distance to the centre plus half the decay times all squared weights, and its gradients."""
    into, out = weights
    sums = x @ into
    slopes = np.where(sums > 0, 1, _LEAK).astype(sums.dtype)
    hidden = sums * slopes
    away = hidden @ out - centre
    value = float((away**2).sum() / len(x) + 0.5 * weight_decay * ((into**2).sum() + (out**2).sum()))
    error = 2 / len(x) * away
    return value, (x.T @ (error @ out.T * slopes) + weight_decay * into, hidden.T @ error + weight_decay * out)


def _initial(channels: int, width: int, outputs: int, rng: np.random.Generator) -> Weights:
    """Random weights whose layers neither grow nor shrink what passes through."""
    into = rng.normal(0, np.sqrt(2 / channels), (channels, width)).astype(np.float32)
    return into, rng.normal(0, np.sqrt(2 / width), (width, outputs)).astype(np.float32)


def _away_from_zero(centre: Matrix) -> Matrix:
    """A centre none of whose coordinates a dead unit could meet, as in the paper's own code."""
    least = 0.1 * np.sqrt((centre**2).mean())
    return np.where(np.abs(centre) < least, np.where(centre < 0, -least, least), centre).astype(np.float32)
