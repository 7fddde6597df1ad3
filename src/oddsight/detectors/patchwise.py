"""Methods for vectors, applied to every patch: maps from what scores one vector."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import onnx

from oddsight.detectors.detector import Detector, Reading
from oddsight.detectors.features import FeatureStream, Rows
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.graphs.building import chain, piece, renamed
from oddsight.graphs.maps import anomaly_map
from oddsight.runtime.bounds import Count, Sigma


@dataclass
class Patchwise(Detector):
    """One method for vectors, learned from patches of all positions and applied to each: a patch's place is no matter.

    Attributes:
        sample_size: Patches to learn from, at most; beyond that, as many drawn at random.
        sigma: Smoothing of the map, in grid cells.
    """

    reads: ClassVar[Reading] = "patches"
    localises: ClassVar[bool] = True

    sample_size: Count = 10000
    sigma: Sigma = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.of_vectors()

    @abstractmethod
    def of_vectors(self) -> Detector:
        """The method for one vector, a reader of embeddings, with the settings of this one."""

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Draw patches and fit the method for vectors on them; see :meth:`Detector.fit`."""
        self.grid_ = (features.shape[1], features.shape[2])
        patches = sample(features, self.sample_size, seed)
        self.vectors_ = self.of_vectors().fit(Rows(patches), memory=memory, seed=seed)
        self.channels_ = features.shape[0]

    def graph(self) -> onnx.ModelProto:
        (height, width), channels = self.grid_, self.channels_
        rows = piece(
            f"""
            patches (float[N, {channels}, {height}, {width}] patches) => (float[M, {channels}] embedding)
            <int64[2] rows = {{-1, {channels}}}>
            {{
                ordered = Transpose <perm = [0, 2, 3, 1]> (patches)
                embedding = Reshape (ordered, rows)
            }}
            """
        )
        # The score of a patch is not yet that of the image.
        vectors = self.vectors_.graph()
        each = renamed(vectors, vectors.graph.name, {"score": "patch_score"})
        grid = piece(
            f"""
            grid (float[M] patch_score) => (float[N, {height}, {width}] distances)
            <int64[3] grid = {{-1, {height}, {width}}}>
            {{
                distances = Reshape (patch_score, grid)
            }}
            """
        )
        return chain([rows, each, grid, anomaly_map(height, width, self.sigma)], ["score", "anomaly_map"])

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing when there are ``sample_size`` patches."""
        patches = sample_count(shape, count, self.sample_size)
        return sample_bytes(shape, count, self.sample_size) + self.of_vectors().memory_needed(shape[:1], patches)
