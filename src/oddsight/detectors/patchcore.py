"""PatchCore: distance to the nearest patch in a memory bank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.coreset import Coreset
from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.graphs.building import chain, piece
from oddsight.graphs.maps import anomaly_map
from oddsight.runtime.bounds import Count, Sigma
from oddsight.runtime.parallel import cores


@detector
@dataclass
class PatchCore(Detector):
    """A bank of patches of normal images; each patch scores its distance to the nearest one in the bank.

    Patches are compared by their principal components, which hold what patches differ in. The bank is a greedy
    k-centre coreset of all patches, built in memory that does not grow with their number.

    Attributes:
        bank_size: Patches in the bank, at most.
        components: Principal components that patches are compared by, at most.
        sigma: Smoothing of the map, in grid cells.
        basis_: The components, ``[C, components]``.
        centre_: The mean patch, in components.
        bank_: Patches, centred, in components ``[n, components]``.
        sources_: The number of the image that each is from, so that an image can be scored without its own.
    """

    name: ClassVar[str] = "patchcore"
    summary: ClassVar[str] = "distance of each patch to the nearest in a bank of normal patches"
    paper: ClassVar[str] = "Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022"
    reads: ClassVar[Reading] = "patches"
    localises: ClassVar[bool] = True
    detailed: ClassVar[bool] = True
    grows: ClassVar[bool] = True

    bank_size: Count = 4000
    components: Count = 64
    sigma: Sigma = 1.0

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Fill the bank; see :meth:`Detector.fit`."""
        self.start(*moments(features), features.shape, len(features), memory=memory, seed=seed)
        for number, array in enumerate(features):
            self.add(array, number)
        self.finish()

    def start(
        self,
        mean: NDArray[np.float64],
        covariance: NDArray[np.float64],
        shape: tuple[int, ...],
        images: int,
        *,
        memory: int,
        seed: int,
    ) -> None:
        """Begin to fill the bank with patches of that mean ``[C]`` and covariance ``[C, C]``.

        An image has ``shape`` of them, ``C, h, w``; ``memory`` is in bytes.
        """
        self.grid_ = shape[1:]
        _, vectors = np.linalg.eigh(covariance)
        self.basis_ = np.ascontiguousarray(vectors[:, ::-1][:, : self.components], np.float32)
        self.centre_ = mean.astype(np.float32) @ self.basis_
        expected = images * math.prod(self.grid_)
        self._coreset = Coreset(self.bank_size, self.basis_.shape[1], memory, seed, expected=expected)

    def add(self, patches: NDArray[np.float32], number: int) -> None:
        """Offer the patches of an image, ``[C, h, w]``, and its number."""
        self._coreset.add(self.projected(patches), number)

    def finish(self) -> None:
        """Keep the bank."""
        self.bank_, self.sources_ = self._coreset.result_with_sources()
        del self._coreset

    def projected(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches ``[C, h, w]`` in components, centred: ``[h * w, components]``."""
        return np.asarray(patches.reshape(len(patches), -1).T @ self.basis_ - self.centre_, np.float32)

    def graph(self) -> onnx.ModelProto:
        height, width = self.grid_
        channels = len(self.basis_)
        # A part of the bank at a time: all distances at once would take more memory than the network.
        parts = -(-len(self.bank_) * height * width // _DISTANCES)
        banks = {f"bank_{number}": part for number, part in enumerate(np.array_split(self.bank_, parts))}
        squares = {f"squares_{name}": np.einsum("ij,ij->i", part, part) for name, part in banks.items()}
        lines = [
            f"partly_{name} = Gemm <alpha = -2.0, transB = 1> (x, {name}, squares_{name}) "
            f"nearest_{name} = ReduceMin (partly_{name}, last)"
            for name in banks
        ]
        distances = piece(
            f"""
            patchcore (float[N, {channels}, {height}, {width}] patches) => (float[N, {height}, {width}] distances)
            <int64[2] rows = {{-1, {channels}}}, int64[3] grid = {{-1, {height}, {width}}},
             int64[1] last = {{1}}, float zero = {{0}}>
            {{
                ordered = Transpose <perm = [0, 2, 3, 1]> (patches)
                listed = Reshape (ordered, rows)
                x = Gemm (listed, basis, offset)
                squares = ReduceSumSquare (x, last)
                {" ".join(lines)}
                nearest = Min ({", ".join(f"nearest_{name}" for name in banks)})
                squared = Add (nearest, squares)
                positive = Max (squared, zero)
                distance = Sqrt (positive)
                distances = Reshape (distance, grid)
            }}
            """,
            {"basis": self.basis_, "offset": -self.centre_, **banks, **squares},
        )
        return chain([distances, anomaly_map(height, width, self.sigma)], ["score", "anomaly_map"])

    def grow(
        self, constants: Mapping[str, NDArray[np.generic]], features: FeatureStream, share: float, *, seed: int
    ) -> dict[str, NDArray[np.float32]]:
        """See :meth:`Detector.grow`; the bank grows by the same share if it may, with a coreset of the new patches."""
        self.basis_, self.centre_ = constants["basis"].astype(np.float32), -constants["offset"].astype(np.float32)
        names = [name for name in constants if name.startswith("bank_")]
        rows = sum(len(constants[name]) for name in names)
        self.require_room(rows + 1, self.bank_size)
        more, width = min(math.ceil(share * rows), 2 * self.bank_size - rows), self.basis_.shape[1]
        expected = len(features) * math.prod(features.shape[1:])
        coreset = Coreset(more, width, Coreset.memory_needed(more, width), seed, expected=expected)
        for array in features:
            coreset.add(self.projected(array))
        changed: dict[str, NDArray[np.float32]] = {}
        for name, part in zip(names, np.array_split(coreset.result(), len(names)), strict=True):
            bank = np.concatenate([constants[name].astype(np.float32), part])
            changed |= {name: bank, f"squares_{name}": np.einsum("ij,ij->i", bank, bank)}
        return changed

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; the same for any number of images."""
        components = min(self.components, shape[0])
        distances = 4 * min(_DISTANCES, self.bank_size * math.prod(shape[1:]))
        return Coreset.memory_needed(self.bank_size, components) + cores() * distances + 32 * shape[0] ** 2


_DISTANCES = 2**20  # From patches to the bank, in memory at once: what stays in the cache is quicker

_SAMPLE = 64  # Images whose patches say what the components are


def moments(features: FeatureStream) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean ``[C]`` and covariance ``[C, C]`` of the patches of the first images of a stream of ``[C, h, w]``."""
    channels = features.shape[-3]
    total, products, count = np.zeros(channels), np.zeros((channels, channels)), 0
    for array in islice(features, _SAMPLE):
        patches = array.reshape(channels, -1)
        total += patches.sum(axis=1, dtype=np.float64)
        products += patches @ patches.T
        count += patches.shape[1]
    mean = total / count
    return mean, products / count - np.outer(mean, mean)
