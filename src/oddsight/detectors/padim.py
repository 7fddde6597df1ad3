"""PaDiM: a Gaussian of normal patches at each position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.errors import OddsightError
from oddsight.graphs.building import chain, piece
from oddsight.graphs.maps import anomaly_map
from oddsight.runtime.bounds import Real, Sigma


@detector
@dataclass
class PaDiM(Detector):
    """A Gaussian at each position of the grid; each patch scores its Mahalanobis distance.

    All channels are kept rather than a random choice of them: the map is coarser instead. Serves images that show the
    same thing in the same place.

    Attributes:
        shrinkage: Share of the mean variance that is added to each covariance's diagonal.
        sigma: Smoothing of the map, in grid cells.
    """

    name: ClassVar[str] = "padim"
    summary: ClassVar[str] = "Mahalanobis distance of each patch to the normal patches at its position"
    paper: ClassVar[str] = "Defard et al., PaDiM: a Patch Distribution Modeling Framework, ICPR 2021"
    reads: ClassVar[Reading] = "patches"
    localises: ClassVar[bool] = True
    stride: ClassVar[int] = 16

    shrinkage: Annotated[float, Real(least=0, most=1000)] = 0.001
    sigma: Sigma = 1.0

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Accumulate means and covariances in one pass; see :meth:`Detector.fit`. Nothing is random."""
        channels, height, width = features.shape
        sums, shift = Sums(height * width, 1, channels), None
        for array in features:
            patches = array.reshape(channels, -1).T[:, None]
            # Around the first image rather than zero, so that float32 sums keep their digits.
            shift = patches.copy() if shift is None else shift
            sums.add(patches - shift)
        if sums.count < 2 or shift is None:
            raise OddsightError("padim needs at least 2 images")
        means, self.whitening_ = sums.gaussians(self.shrinkage)
        self.grid_ = (height, width)
        self.means_ = (means + shift)[:, 0]

    def graph(self) -> onnx.ModelProto:
        height, width = self.grid_
        positions, channels = self.means_.shape
        distances = piece(
            f"""
            padim (float[N, {channels}, {height}, {width}] patches) => (float[N, {height}, {width}] distances)
            <int64[3] columns = {{-1, {channels}, {positions}}}, int64[3] grid = {{-1, {height}, {width}}},
             int64[1] last = {{2}}>
            {{
                flat = Reshape (patches, columns)
                listed = Transpose <perm = [2, 0, 1]> (flat)
                x = Sub (listed, means)
                white = MatMul (x, whitening)
                squared = ReduceSumSquare <keepdims = 0> (white, last)
                distance = Sqrt (squared)
                ordered = Transpose <perm = [1, 0]> (distance)
                distances = Reshape (ordered, grid)
            }}
            """,
            {"means": self.means_[:, None, :], "whitening": self.whitening_},
        )
        return chain([distances, anomaly_map(height, width, self.sigma)], ["score", "anomaly_map"])

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; the same for any number of images."""
        channels, height, width = shape
        positions = height * width
        # The matrices while they are learned, then in the graph, the file and the sessions that score with it.
        return 4 * positions * channels * (9 * channels + 4 * Sums.WAITING)


_ROUNDING = 2e-7
"""Of a sum in single precision, as a share of it."""


class Sums:
    """Sums over images of the patches at each position and of their products.

    Args:
        blocks: How many groups of positions there are, each with one covariance.
        positions: In each of them, each with its own mean.
        channels: Of a patch.
    """

    WAITING = 16
    """Images that wait to be added together, at most."""

    def __init__(self, blocks: int, positions: int, channels: int) -> None:
        self.count = 0
        self.total = np.zeros((blocks, positions, channels))
        self.products = np.zeros((blocks, channels, channels), np.float32)
        self._waiting: list[NDArray[np.float32]] = []

    @classmethod
    def of(cls, parts: Sequence[Sums]) -> Sums:
        """The sum of several, at least one."""
        whole = cls(*parts[0].total.shape)
        for part in parts:
            whole._include(part, 1)
        return whole

    def without(self, part: Sums) -> Sums:
        """What is left if a part is taken away."""
        rest = Sums.of([self])
        rest._include(part, -1)
        return rest

    def add(self, patches: NDArray[np.float32]) -> None:
        """Include an image's patches ``[blocks, positions, channels]``."""
        self._waiting.append(patches)
        self.count += 1
        if len(self._waiting) == self.WAITING:
            self._settle()

    def gaussians(self, shrinkage: float, shared: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Means ``[blocks, positions, channels]`` and the matrices that whiten ``[blocks, channels, channels]``.

        The sums are used up.

        Args:
            shrinkage: Share of the mean variance that is added to each covariance's diagonal.
            shared: As how many images the mean of all covariances counts in each: with few images, a covariance of its
                own says more about these images than about others.
        """
        self._settle()
        mean, freedom = self.total / self.count, max(1, self.count - 1) * self.total.shape[1]
        flat = mean.reshape(-1, mean.shape[2])
        of_all = self.products.sum(axis=0) - flat.T @ flat * self.count
        of_all /= freedom * len(mean)
        # Of one image, or where all are alike, single precision may leave less than nothing of their differences. Sums
        # of their own for each position are around its first image, and keep their digits.
        rounding = max(1e-6, _ROUNDING * float(self.products.max()) / freedom) if shared else 1e-6
        # The matrices take the place of the sums, one by one.
        for products, own in zip(self.products, mean, strict=True):
            covariance = (products - own.T @ own * self.count) / freedom
            covariance = (self.count * covariance + shared * of_all) / (self.count + shared)
            average = np.trace(covariance) / len(covariance)
            covariance[np.diag_indices(len(covariance))] += shrinkage * average + rounding
            products[...] = _whitening(covariance)
        return mean.astype(np.float32), self.products

    def _include(self, part: Sums, sign: int) -> None:
        part._settle()
        self.count += sign * part.count
        self.total += sign * part.total
        self.products += np.float32(sign) * part.products

    def _settle(self) -> None:
        if self._waiting:
            block = np.stack(self._waiting, axis=1)
            self.total += block.sum(axis=1)
            rows = block.reshape(len(block), -1, block.shape[-1])
            self.products += np.matmul(rows.transpose(0, 2, 1), rows)
            self._waiting = []


def _whitening(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)).T)
    except np.linalg.LinAlgError:
        raise OddsightError("padim cannot invert its covariances: set a larger shrinkage, or add images") from None
