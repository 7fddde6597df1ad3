"""What looks at places of images. Each can score an image without what it learned from the image's group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.evidence import Scores
from oddsight.detectors.padim import Sums
from oddsight.detectors.patchcore import PatchCore
from oddsight.graphs.building import piece
from oddsight.runtime.executor import map_jobs

DISTANCES = 2**19
"""From patches to the bank, in memory at once."""

_COMPONENTS, _POSITIONS, _SHRINKAGE, _SHARED = 100, 200, 0.01, 50
"""Of each Gaussian; how many there are, at most about; what keeps them from fitting their images too well."""


class Places(Protocol):
    """Learns from the patches of normal images, of which it looks at some channels.

    Attributes:
        span: These channels.
    """

    span: slice

    def add(self, patches: NDArray[np.float32], number: int) -> None:
        """Learn from the patches ``[C, h, w]`` of the image of that number."""

    def finish(self) -> None:
        """Learn no more."""

    def own_score(self, patches: NDArray[np.float32], number: int) -> float:
        """Score of patches ``[C, h, w]`` of the image of that number, without what was learned from its group."""

    def graph(self) -> onnx.ModelProto:
        """``patches [N, C, h, w]``, of the span's channels, to ``anomaly_map [N, h, w]`` and ``score``, its maximum."""


def own_scores(places: Sequence[Places], images: Iterable[tuple[int, NDArray[np.float32]]]) -> list[Scores]:
    """For each of them its scores of images, given the number and the patches ``[C, h, w]`` of each."""
    scores = np.array(list(map_jobs(partial(_own_scores, places), images)), np.float64).reshape(-1, len(places))
    return list(scores.T)


def _own_scores(places: Sequence[Places], image: tuple[int, NDArray[np.float32]]) -> list[float]:
    number, patches = image
    return [one.own_score(patches, number) for one in places]


class Bank:
    """A PatchCore that has been started; groups are those of all images, ``[n]``."""

    def __init__(self, fitted: PatchCore, span: slice, groups: NDArray[np.intp]) -> None:
        self.fitted, self.span, self.groups = fitted, span, groups

    def add(self, patches: NDArray[np.float32], number: int) -> None:
        """See :class:`Places`."""
        self.fitted.add(patches[self.span], number)

    def finish(self) -> None:
        """See :class:`Places`."""
        self.fitted.finish()
        self.sources = self.groups[self.fitted.sources_]

    def own_score(self, patches: NDArray[np.float32], number: int) -> float:
        """By those in the bank that are from other groups, or all if none is."""
        from scipy.ndimage import gaussian_filter

        rows, others = self.fitted.projected(patches[self.span]), self.sources != self.groups[number]
        bank = self.fitted.bank_[others if others.any() else ~others]
        squared = _nearest(rows, bank) + np.einsum("ij,ij->i", rows, rows)
        distances = np.sqrt(np.maximum(squared, 0)).reshape(patches.shape[1:])
        return float(gaussian_filter(distances, self.fitted.sigma, mode="nearest", truncate=3.0).max())

    def graph(self) -> onnx.ModelProto:
        """See :class:`Places`."""
        return self.fitted.graph()


def _nearest(rows: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distance of each row to the nearest in the bank, less the square of the row."""
    nearest = np.full(len(rows), np.inf, np.float32)
    # One product gives distances: the squares of the bank are a column of their own.
    columns = np.ascontiguousarray(np.column_stack([rows, np.ones(len(rows), np.float32)]).T)
    weights = np.column_stack([np.float32(-2) * bank, np.einsum("ij,ij->i", bank, bank)])
    step = max(1, DISTANCES // len(rows))
    for start in range(0, len(bank), step):
        np.minimum(nearest, (weights[start : start + step] @ columns).min(axis=0), out=nearest)
    return nearest


class Positions:
    """PaDiM on a coarse grid: a Gaussian of the patches at each position, and others that leave a fold of images out.

    Cells of the coarse grid are means of patches, which are compared by their principal components. The map is
    smoothed over the coarse grid and brought back to the finer one.

    Args:
        mean: Of the patches, ``[C]``.
        covariance: Of the patches, ``[C, C]``.
        shape: Of an image's patches, ``C, h, w``.
        folds: Of all images, ``[n]``; images of one group share it.
        sigma: Smoothing of the map, in cells of the coarse grid.
    """

    def __init__(
        self,
        mean: NDArray[np.float64],
        covariance: NDArray[np.float64],
        shape: tuple[int, ...],
        folds: NDArray[np.intp],
        sigma: float,
    ) -> None:
        self.span, self.folds = slice(0, shape[0]), folds
        variance = covariance.diagonal()
        scale = 1 / np.sqrt(np.maximum(variance, 1e-6 * max(variance.mean(), 1e-12)))
        _, vectors = np.linalg.eigh(covariance * np.outer(scale, scale))
        self.basis = np.asarray(scale[:, None] * vectors[:, ::-1][:, :_COMPONENTS], np.float32)
        self.centre = mean.astype(np.float32) @ self.basis
        step = _step(shape)
        self.down, self.across = (_averaging(side, step) for side in shape[1:])
        self.up, self.wide = (_interpolation(side, step, sigma) for side in shape[1:])
        self.sums = [Sums(len(self.down) * len(self.across), self.basis.shape[1]) for _ in range(int(folds.max()) + 1)]

    def add(self, patches: NDArray[np.float32], number: int) -> None:
        """See :class:`Places`."""
        self.sums[self.folds[number]].add(self._cells(patches))

    def finish(self) -> None:
        """See :class:`Places`."""
        whole = Sums.of(self.sums)
        others = [whole.without(one) if one.count < whole.count else Sums.of([whole]) for one in self.sums]
        (self.means, self.whitening), *self.without = (one.gaussians(_SHRINKAGE, _SHARED) for one in (whole, *others))
        del self.sums

    def own_score(self, patches: NDArray[np.float32], number: int) -> float:
        """By Gaussians that leave the image's fold out."""
        means, whitening = self.without[self.folds[number]]
        white = np.matmul((self._cells(patches) - means)[:, None], whitening)[:, 0]
        distances = np.sqrt(np.einsum("ij,ij->i", white, white)).reshape(len(self.down), len(self.across))
        return float((self.up @ distances @ self.wide.T).max())

    def _cells(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches ``[C, h, w]`` to the components of cells, ``[cells, components]``."""
        cells = self.down @ patches @ self.across.T
        return np.asarray(cells.reshape(len(cells), -1).T @ self.basis - self.centre, np.float32)

    def graph(self) -> onnx.ModelProto:
        """See :class:`Places`."""
        channels = len(self.basis)
        (rows, height), (columns, width) = self.down.shape, self.across.shape
        return piece(
            f"""
            positions (float[N, {channels}, {height}, {width}] patches)
            => (float[N] score, float[N, {height}, {width}] anomaly_map)
            <int64[3] columns = {{-1, {channels}, {rows * columns}}}, int64[3] grid = {{-1, {rows}, {columns}}},
             int64[1] last = {{2}}, int64[2] places = {{1, 2}}>
            {{
                low = MatMul (down, patches)
                cells = MatMul (low, across)
                flat = Reshape (cells, columns)
                listed = Transpose <perm = [2, 0, 1]> (flat)
                components = MatMul (listed, basis)
                x = Sub (components, means)
                white = MatMul (x, whitening)
                squared = ReduceSumSquare <keepdims = 0> (white, last)
                distance = Sqrt (squared)
                ordered = Transpose <perm = [1, 0]> (distance)
                coarse = Reshape (ordered, grid)
                tall = MatMul (up, coarse)
                anomaly_map = MatMul (tall, wide)
                score = ReduceMax <keepdims = 0> (anomaly_map, places)
            }}
            """,
            {
                "down": self.down,
                "across": np.ascontiguousarray(self.across.T),
                "basis": self.basis,
                "means": (self.means + self.centre)[:, None, :],
                "whitening": self.whitening,
                "up": self.up,
                "wide": np.ascontiguousarray(self.wide.T),
            },
        )

    @staticmethod
    def memory_needed(shape: tuple[int, ...], folds: int) -> int:
        """Bytes for patches of that shape: sums and Gaussians of each fold and of all, and the graph's."""
        components = min(_COMPONENTS, shape[0])
        cells = math.prod(-(-side // _step(shape)) for side in shape[1:])
        return 4 * (2 * folds + 8) * cells * components * (components + Sums.WAITING) + 64 * shape[0] ** 2


def _step(shape: tuple[int, ...]) -> int:
    """How many patches a side of a cell has."""
    return math.ceil(math.sqrt(math.prod(shape[1:]) / _POSITIONS))


def _averaging(side: int, step: int) -> NDArray[np.float32]:
    """From values along a side to means of ``step`` of them, or of those that are left at its end."""
    cell = np.arange(side) // step
    chosen = cell == np.arange(cell[-1] + 1)[:, None]
    return np.asarray(chosen / chosen.sum(axis=1, keepdims=True), np.float32)


def _interpolation(side: int, step: int, sigma: float) -> NDArray[np.float32]:
    """From means back to values: Gaussian-smoothed, then interpolated between the middles of cells."""
    from scipy.ndimage import gaussian_filter1d

    count = -(-side // step)
    smooth = gaussian_filter1d(np.eye(count), sigma, axis=0, mode="nearest", truncate=3.0)
    place = np.clip((np.arange(side) + 0.5) / step - 0.5, 0, count - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count))) @ smooth, np.float32)
