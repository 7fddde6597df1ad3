"""PaDiM: a Gaussian of normal patches at each position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx

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
        positions = height * width
        count, pending = 0, []
        mean = np.zeros((positions, channels))
        moment = np.zeros((positions, channels, channels), np.float32)
        shift: np.ndarray | None = None
        for array in features:
            patches = array.reshape(channels, positions).T
            # Around the first image rather than zero, so that float32 sums keep their digits.
            shift = patches.copy() if shift is None else shift
            pending.append(patches - shift)
            count += 1
            if len(pending) == _BATCH:
                _accumulate(pending, mean, moment)
                pending = []
        if pending:
            _accumulate(pending, mean, moment)
        if count < 2 or shift is None:
            raise OddsightError("padim needs at least 2 images")
        mean /= count
        # The inverses take the place of the sums, one by one.
        for position in range(positions):
            outer = np.outer(mean[position], mean[position]) * count
            covariance = (moment[position] - outer) / (count - 1)
            average = np.trace(covariance) / channels
            covariance[np.diag_indices(channels)] += self.shrinkage * average + 1e-6
            moment[position] = _whitening(covariance)
        self.grid_ = (height, width)
        self.means_ = (mean + shift).astype(np.float32)
        self.whitening_ = moment

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
        return 4 * positions * channels * (9 * channels + 4 * _BATCH)


_BATCH = 16


def _whitening(covariance: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)).T)
    except np.linalg.LinAlgError:
        raise OddsightError("padim cannot invert its covariances: set a larger shrinkage, or add images") from None


def _accumulate(pending: list[np.ndarray], mean: np.ndarray, moment: np.ndarray) -> None:
    block = np.stack(pending, axis=1)
    mean += block.sum(axis=1)
    moment += np.matmul(block.transpose(0, 2, 1), block)
