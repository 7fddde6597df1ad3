"""Kernel density of whole-image embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.kernels import log_kernel_sum
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.detectors.standardising import Standard
from oddsight.runtime.bounds import Whole


@detector
@dataclass
class KDE(Detector):
    """Negative log density of standardised embeddings, relative to the highest a Gaussian kernel can give.

    The bandwidth is the one under which each normal image is most likely given all others. In as many dimensions as an
    embedding has, few kernels reach a point at all: the score is close to half the squared distance to the nearest
    normal image, in bandwidths.

    Attributes:
        bank_size: Embeddings kept at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "kde"
    summary: ClassVar[str] = "negative log density of the embedding, by Gaussian kernels on the normal ones"
    paper: ClassVar[str] = "Parzen, On Estimation of a Probability Density Function and Mode, AMS 1962"
    reads: ClassVar[Reading] = "embedding"

    bank_size: Annotated[int, Whole(2)] = 2000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Keep the embeddings and find the bandwidth; see :meth:`Detector.fit`. Nothing is random but the draw."""
        embeddings = sample(features, self.bank_size, seed)
        self.standard_ = Standard.deviations(embeddings)
        self.bank_ = self.standard_(embeddings)
        self.bandwidth_ = bandwidth(self.bank_)

    def graph(self) -> onnx.ModelProto:
        count = len(self.bank_)
        return log_kernel_sum("kde", self.standard_, self.bank_, np.full(count, 1 / count), 0.5 / self.bandwidth_**2)

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``bank_size`` images."""
        rows, channels = sample_count(shape, count, self.bank_size), shape[0]
        return sample_bytes(shape, count, self.bank_size) + 4 * rows * (5 * rows + 20 * channels)


def bandwidth(points: NDArray[np.float32]) -> float:
    """The standard deviation of Gaussian kernels on ``[n, C]`` that makes each point likeliest given the others.

    Sought within a factor of ten of what the distances of nearest neighbours suggest, so that copies, which would be
    likeliest under kernels without width, cannot make it vanish.
    """
    from scipy.optimize import minimize_scalar
    from sklearn.metrics.pairwise import euclidean_distances

    dimensions = points.shape[1]
    squared = euclidean_distances(points, squared=True)
    np.fill_diagonal(squared, np.inf)
    nearest = squared.min(axis=1, keepdims=True)
    squared -= nearest

    def surprise(logarithm: float) -> float:
        gamma = 0.5 * np.exp(-2 * logarithm)
        others = np.exp(-gamma * squared).sum(axis=1, dtype=np.float64)
        return float((gamma * nearest[:, 0] - np.log(others)).mean() + dimensions * logarithm)

    # For one neighbour at distance D the likeliest bandwidth is D / sqrt(dimensions).
    likely = max(float(np.sqrt(np.median(nearest) / dimensions)), 1e-3)
    bounds = (np.log(likely / 10), np.log(likely * 10))
    return float(np.exp(minimize_scalar(surprise, bounds=bounds, method="bounded").x))
