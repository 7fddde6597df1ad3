"""PCA: what the principal components of normal features leave over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.patchwise import Patchwise
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.detectors.standardising import Standard
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Share, Whole


@detector
@dataclass
class PCA(Detector):
    """Reconstruction error: distance of the standardised embedding from the subspace of its principal components.

    Attributes:
        variance: Share of the variance of normal embeddings that the components explain.
        sample_size: Embeddings to learn from, at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "pca"
    summary: ClassVar[str] = "what the principal components of normal embeddings do not reconstruct"
    paper: ClassVar[str] = (
        "Ndiour et al., Out-Of-Distribution Detection With Subspace Techniques And Probabilistic Modeling Of Features, "
        "arXiv 2012.04250, 2020"
    )
    reads: ClassVar[Reading] = "embedding"

    variance: Share = 0.95
    sample_size: Annotated[int, Whole(2)] = 10000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Find the components; see :meth:`Detector.fit`. Nothing is random but the sample."""
        from sklearn import decomposition

        embeddings = sample(features, self.sample_size, seed)
        self.standard_ = Standard.deviations(embeddings)
        # Where nothing varies, shares of the variance are 0 / 0: any component leaves nothing over.
        with np.errstate(invalid="ignore"):
            self.estimator_ = decomposition.PCA(self.variance, svd_solver="full").fit(self.standard_(embeddings))

    def graph(self) -> onnx.ModelProto:
        components = self.estimator_.components_.astype(np.float32)
        return piece(
            f"""
            pca (float[N, {components.shape[1]}] embedding) => (float[N] score) <int64[1] last = {{1}}>
            {{
                {Standard.LINES}
                latent = MatMul (x, columns)
                reconstruction = MatMul (latent, rows)
                residual = Sub (x, reconstruction)
                score = ReduceL2 <keepdims = 0> (residual, last)
            }}
            """,
            {**self.standard_.weights, "columns": np.ascontiguousarray(components.T), "rows": components},
        )

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``sample_size`` images."""
        rows, channels = sample_count(shape, count, self.sample_size), shape[0]
        return sample_bytes(shape, count, self.sample_size) + 4 * channels * (6 * rows + 12 * channels)


@detector
@dataclass
class PatchPCA(Patchwise):
    """:class:`PCA` of patches.

    Attributes:
        variance: Share of the variance of normal patches that the components explain.
    """

    name: ClassVar[str] = "patch-pca"
    summary: ClassVar[str] = "what the principal components of normal patches do not reconstruct"
    paper: ClassVar[str] = PCA.paper

    variance: Share = 0.95

    def of_vectors(self) -> PCA:
        return PCA(self.variance, self.sample_size)
