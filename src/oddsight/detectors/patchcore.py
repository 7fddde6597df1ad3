"""PatchCore: distance to the nearest patch in a memory bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx

from oddsight.detectors.coreset import Coreset
from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.graphs.building import chain, piece
from oddsight.graphs.maps import anomaly_map
from oddsight.runtime.bounds import Count, Sigma


@detector
@dataclass
class PatchCore(Detector):
    """A bank of patches of normal images; each patch scores its distance to the nearest one in the bank.

    The bank is a greedy k-centre coreset of all patches, built in memory that does not grow with their number.

    Attributes:
        bank_size: Patches in the bank, at most.
        sigma: Smoothing of the map, in grid cells.
    """

    name: ClassVar[str] = "patchcore"
    summary: ClassVar[str] = "distance of each patch to the nearest in a bank of normal patches"
    paper: ClassVar[str] = "Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022"
    reads: ClassVar[Reading] = "patches"
    localises: ClassVar[bool] = True

    bank_size: Count = 1000
    sigma: Sigma = 1.0

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Fill the bank; see :meth:`Detector.fit`."""
        channels, height, width = features.shape
        coreset = Coreset(self.bank_size, channels, memory, seed)
        total = np.zeros(channels, np.float64)
        for number, array in enumerate(features):
            patches = np.ascontiguousarray(array.reshape(channels, -1).T)
            total += patches.sum(axis=0, dtype=np.float64)
            coreset.add(patches, number)
        self.grid_ = (height, width)
        self.centre_ = (total / (len(features) * height * width)).astype(np.float32)
        # Which image each patch is from, so that an image can be scored without its own.
        self.bank_, self.sources_ = coreset.result_with_sources()

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Detector.graph`."""
        height, width = self.grid_
        channels = self.bank_.shape[1]
        # Distances do not change when both sides are moved; smaller numbers leave less to rounding.
        bank = self.bank_ - self.centre_
        distances = piece(
            f"""
            patchcore (float[N, {channels}, {height}, {width}] patches) => (float[N, {height}, {width}] distances)
            <int64[2] rows = {{-1, {channels}}}, int64[3] grid = {{-1, {height}, {width}}},
             int64[1] last = {{1}}, float zero = {{0}}>
            {{
                ordered = Transpose <perm = [0, 2, 3, 1]> (patches)
                listed = Reshape (ordered, rows)
                x = Sub (listed, centre)
                squares = ReduceSumSquare (x, last)
                partly = Gemm <alpha = -2.0> (x, bank, bank_squares)
                nearest = ReduceMin (partly, last)
                squared = Add (nearest, squares)
                positive = Max (squared, zero)
                distance = Sqrt (positive)
                distances = Reshape (distance, grid)
            }}
            """,
            {
                "centre": self.centre_,
                "bank": np.ascontiguousarray(bank.T),
                "bank_squares": np.einsum("ij,ij->i", bank, bank),
            },
        )
        return chain([distances, anomaly_map(height, width, self.sigma)], ["score", "anomaly_map"])

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; the same for any number of images."""
        return Coreset.memory_needed(self.bank_size, shape[0])
