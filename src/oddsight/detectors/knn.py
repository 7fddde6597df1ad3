"""Nearest neighbours among whole-image embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.coreset import Coreset
from oddsight.detectors.detector import Detector, Kind, Labels, Reading, detector
from oddsight.detectors.features import FeatureStream, Rows, Vectors, stacked
from oddsight.detectors.head import Head
from oddsight.detectors.sampling import sample
from oddsight.detectors.standardising import UNIT_LINES, unit
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count, Whole

_NEIGHBOURS: dict[Kind, int] = {"normal": 1, "classes": 10}


@detector
@dataclass
class KNN(Detector):
    """Embeddings on the unit sphere; an image scores its distance to the ``neighbours``-th nearest training image.

    Attributes:
        neighbours: Which neighbour counts; the farthest if there are fewer. 0 is the first of normal images, and the
            tenth of images of known classes.
        bank_size: Training images kept at most. Beyond that, a greedy k-centre coreset of normal images, which leaves
            no region empty; of known classes as many drawn at random, as in the paper: the fewer, the nearer should be
            the neighbour that counts.
    """

    name: ClassVar[str] = "knn"
    summary: ClassVar[str] = "distance of the embedding's direction to that of a near training image"
    paper: ClassVar[str] = "Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022"
    reads: ClassVar[Reading] = "embedding"
    learns_from: ClassVar[tuple[Kind, ...]] = ("normal", "classes")
    grows: ClassVar[bool] = True

    neighbours: Annotated[int, Whole(0)] = 0
    bank_size: Count = 10000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Fill the bank; see :meth:`Detector.fit`."""
        self.neighbours_ = self.neighbours or _NEIGHBOURS["normal"]
        if len(features) <= self.bank_size:
            self.bank_ = unit(stacked(features))
            return
        coreset = Coreset(self.bank_size, features.shape[0], memory, seed)
        for embedding in features:
            coreset.add(unit(embedding[None]))
        self.bank_ = coreset.result()

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Fill the bank; see :meth:`Detector.fit`."""
        self.neighbours_ = self.neighbours or _NEIGHBOURS["classes"]
        self.bank_ = unit(sample(Rows(embeddings), self.bank_size, seed))

    def graph(self) -> onnx.ModelProto:
        size, channels = self.bank_.shape
        rank = min(self.neighbours_, size)
        return piece(
            f"""
            knn (float[N, {channels}] embedding) => (float[N] score)
            <int64[1] last = {{1}}, int64[1] before = {{{rank - 1}}}, int64[1] k = {{{rank}}}, float tiny = {{1e-12}}>
            {{
                {UNIT_LINES}
                likeness = MatMul (x, bank_columns)
                nearest, indices = TopK <axis = 1> (likeness, k)
                last_index = Slice (indices, before, k, last)
                index = Squeeze (last_index, last)
                columns = Gather <axis = 1> (bank_columns, index)
                neighbour = Transpose <perm = [1, 0]> (columns)
                away = Sub (x, neighbour)
                score = ReduceL2 <keepdims = 0> (away, last)
            }}
            """,
            {"bank_columns": np.ascontiguousarray(self.bank_.T)},
        )

    def grow(
        self, constants: Mapping[str, NDArray[np.generic]], features: FeatureStream, share: float, *, seed: int
    ) -> dict[str, NDArray[np.float32]]:
        """See :meth:`Detector.grow`; every image is added."""
        old = constants["bank_columns"].astype(np.float32)
        self.require_room(old.shape[1] + len(features), self.bank_size)
        return {"bank_columns": np.concatenate([old, unit(stacked(features)).T], axis=1)}

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``bank_size`` images."""
        return Coreset.memory_needed(min(self.bank_size, count), shape[0])

    def settings(self) -> dict[str, Any]:
        """The settings by name; once fitted, with the neighbour that counted."""
        return super().settings() | {"neighbours": getattr(self, "neighbours_", self.neighbours)}
