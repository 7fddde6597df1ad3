"""One-class support vector machine on whole-image embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.kernels import log_kernel_sum
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.detectors.standardising import Standard
from oddsight.runtime.bounds import Share, Whole

_KERNEL_CACHE = 20  # Megabytes that training may keep of the kernel's matrix


@detector
@dataclass
class OneClassSVM(Detector):
    """A boundary around standardised embeddings, with Gaussian kernels of scale 1 / channels.

    The machine's decision function is ``sum_i a_i K(x, x_i) - offset``. It goes flat far from the normal images, where
    every kernel is zero and all scores would be the same. So the score is ``-log`` of that sum, divided by
    ``sum_i a_i``: in the same order, never below 0, and still rising far away.

    Attributes:
        nu: Share of the training images that may lie outside the boundary.
        bank_size: Embeddings to learn from, at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "one-class-svm"
    summary: ClassVar[str] = "how far outside a one-class support vector machine's boundary the embedding lies"
    paper: ClassVar[str] = (
        "Schölkopf et al., Estimating the Support of a High-Dimensional Distribution, Neural Computation 2001"
    )
    reads: ClassVar[Reading] = "embedding"

    nu: Share = 0.1
    bank_size: Annotated[int, Whole(2)] = 2000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Find the support vectors; see :meth:`Detector.fit`. Nothing is random but the draw."""
        from sklearn import svm

        embeddings = sample(features, self.bank_size, seed)
        self.standard_ = Standard.deviations(embeddings)
        # The same as gamma="scale", unless no channel varies.
        self.gamma_ = 1 / features.shape[0]
        self.estimator_ = svm.OneClassSVM(nu=self.nu, gamma=self.gamma_, cache_size=_KERNEL_CACHE)
        self.estimator_.fit(self.standard_(embeddings))

    def graph(self) -> onnx.ModelProto:
        weights = self.estimator_.dual_coef_[0].astype(np.float64)
        points = self.estimator_.support_vectors_.astype(np.float32)
        return log_kernel_sum("one_class_svm", self.standard_, points, weights / weights.sum(), self.gamma_)

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``bank_size`` images."""
        rows, channels = sample_count(shape, count, self.bank_size), shape[0]
        return sample_bytes(shape, count, self.bank_size) + _KERNEL_CACHE * 2**20 + 8 * rows * 12 * channels
