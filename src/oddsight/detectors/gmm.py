"""A mixture of Gaussians over features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.patchwise import Patchwise
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.detectors.standardising import Standard
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count, Whole

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

_ROWS_PER_DIMENSION = 4
_ROWS_PER_COMPONENT = 10
"""Fewer rows than these for each dimension, and for each dimension of each component, do not tell a covariance."""

_REGULARISATION = 0.01  # Added to the variances in the subspace, which are 1 over all components together


@detector
@dataclass
class GMM(Detector):
    """Negative log density, relative to the highest the model could give, so that it is never below 0.

    Standardised embeddings are split into the subspace of their principal components, where a mixture of Gaussians with
    full covariances is fitted and the Bayesian information criterion chooses how many, and the rest, which is modelled
    as Gaussian noise of one variance in all directions. Without that second part, anomalies outside the subspace would
    be missed.

    Attributes:
        components: Gaussians to try, at most.
        dimensions: Of the subspace, at most; fewer where there are few images.
        sample_size: Embeddings to learn from, at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "gmm"
    summary: ClassVar[str] = (
        "negative log density of a Gaussian mixture in the embedding's principal subspace, and beside it"
    )
    paper: ClassVar[str] = "Moghaddam and Pentland, Probabilistic Visual Learning for Object Representation, TPAMI 1997"
    reads: ClassVar[Reading] = "embedding"

    components: Count = 5
    dimensions: Count = 32
    sample_size: Annotated[int, Whole(2)] = 10000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Find the subspace, fit mixtures, keep the best; see :meth:`Detector.fit`."""
        from sklearn import decomposition

        embeddings = sample(features, self.sample_size, seed)
        self.standard_ = Standard.deviations(embeddings)
        x = self.standard_(embeddings)
        rows, channels = x.shape
        dimensions = max(1, min(self.dimensions, rows // _ROWS_PER_DIMENSION, channels))
        # Where nothing varies, shares of the variance, which are not used here, are 0 / 0.
        with np.errstate(invalid="ignore"):
            self.subspace_ = decomposition.PCA(dimensions, svd_solver="full").fit(x)
        latent = self.subspace_.transform(x)
        self.spread_ = np.sqrt(np.maximum(self.subspace_.explained_variance_.astype(np.float64), 1e-6))
        self.estimator_ = self._best(latent / self.spread_, seed)
        beside = x - self.subspace_.inverse_transform(latent)
        # The components were fitted to these very rows: what they leave over has lost as many degrees of freedom.
        freedom = max(1, rows - 1 - dimensions) * max(1, channels - dimensions)
        self.noise_ = max(float(np.square(beside, dtype=np.float64).sum() / freedom), 1e-6)

    def _best(self, latent: NDArray[np.float64], seed: int) -> GaussianMixture:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        rows, dimensions = latent.shape
        most = max(1, min(self.components, rows // (_ROWS_PER_COMPONENT * dimensions)))
        # Threads that wait for each other make small matrix products many times slower.
        with warnings.catch_warnings(), threadpool_limits(1):
            # A mixture that still moves a little is as good a candidate as any: the criterion decides.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixtures = [
                GaussianMixture(count, reg_covar=_REGULARISATION, random_state=seed % 2**32).fit(latent)
                for count in range(1, most + 1)
            ]
        return min(mixtures, key=lambda mixture: mixture.bic(latent))

    def graph(self) -> onnx.ModelProto:
        count, dimensions = self.estimator_.means_.shape
        whitening = self.estimator_.precisions_cholesky_
        heights = np.log(self.estimator_.weights_) + np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
        # The density is nowhere above the sum of the peaks.
        heights -= np.logaddexp.reduce(heights)
        basis = self.subspace_.components_.astype(np.float64)
        into = basis.T / self.spread_
        text = f"""
        gmm (float[N, {basis.shape[1]}] embedding) => (float[N] score)
        <int64[1] last = {{1}}, int64[1] inner = {{2}}, int64[3] split = {{-1, {count}, {dimensions}}},
         float half = {{0.5}}, float beside_weight = {{{0.5 / self.noise_:.9g}}}>
        {{
            {Standard.LINES}
            latent = MatMul (x, columns)
            reconstruction = MatMul (latent, rows)
            residual = Sub (x, reconstruction)
            residual_squared = ReduceSumSquare <keepdims = 0> (residual, last)
            beside = Mul (residual_squared, beside_weight)
            white = Gemm (x, whitening, offsets)
            each = Reshape (white, split)
            squared = ReduceSumSquare <keepdims = 0> (each, inner)
            halved = Mul (squared, half)
            exponents = Sub (heights, halved)
            highest = ReduceMax (exponents, last)
            below = Sub (exponents, highest)
            shares = Exp (below)
            total = ReduceSum <keepdims = 0> (shares, last)
            more = Log (total)
            most = Squeeze (highest, last)
            inside = Add (most, more)
            score = Sub (beside, inside)
        }}
        """
        weights = {
            "columns": np.ascontiguousarray(basis.T),
            "rows": basis,
            "whitening": np.concatenate([into @ one for one in whitening], axis=1),
            "offsets": -np.concatenate(list(np.einsum("kd,kde->ke", self.estimator_.means_, whitening))),
            "heights": heights,
        }
        return piece(text, {**self.standard_.weights, **{k: v.astype(np.float32) for k, v in weights.items()}})

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``sample_size`` images."""
        rows, channels = sample_count(shape, count, self.sample_size), shape[0]
        mixtures = 8 * (6 * rows * self.dimensions + 8 * self.components**2 * self.dimensions**2)
        linear = 4 * channels * (7 * rows + 12 * channels + 4 * self.components * self.dimensions)
        return sample_bytes(shape, count, self.sample_size) + linear + mixtures


@detector
@dataclass
class PatchGMM(Patchwise):
    """:class:`GMM` of patches.

    Attributes:
        components: Gaussians to try, at most.
        dimensions: Of the subspace, at most.
    """

    name: ClassVar[str] = "patch-gmm"
    summary: ClassVar[str] = "negative log density of each patch under a mixture of Gaussians"
    paper: ClassVar[str] = GMM.paper

    components: Count = 5
    dimensions: Count = 32

    def of_vectors(self) -> GMM:
        return GMM(self.components, self.dimensions, self.sample_size)
