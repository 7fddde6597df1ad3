"""What looks at places of images. Each can score an image without what it learned from the image's group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.padim import Sums
from oddsight.detectors.patchcore import PatchCore
from oddsight.graphs.building import piece
from oddsight.runtime.executor import map_jobs

DISTANCES = 2**19
"""From patches to the bank, in memory at once."""

_COMPONENTS, _POSITIONS, _SIDE, _SHRINKAGE, _SHARED = 100, 800, 2, 0.01, 50
"""Of each Gaussian; how many there are, at most about; the side of a block of them, which has one covariance; what
keeps that from fitting its images too well."""


class PlaceDetector(Protocol):
    """Learns from the patches of normal images, of which it looks at some channels.

    Attributes:
        span: These channels.
    """

    span: slice

    def add(self, patches: NDArray[np.float32], number: int) -> None:
        """Learn from the patches ``[C, h, w]`` of the image of that number."""

    def finish(self) -> None:
        """Learn no more."""

    def own_map(self, patches: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """Scores ``[h, w]`` of the patches ``[C, h, w]`` of the image of that number, without what its group taught."""

    def graph(self) -> onnx.ModelProto:
        """``patches [N, C, h, w]``, of the span's channels, to ``anomaly_map [N, h, w]`` and ``score``, its maximum."""


def own_maps(
    detectors: Sequence[PlaceDetector], images: Iterable[tuple[int, NDArray[np.float32]]]
) -> Iterator[NDArray[np.float32]]:
    """For images, of which each has a number and patches ``[C, h, w]``, its own maps: ``[detectors, h, w]``."""
    return map_jobs(partial(_own_maps, detectors), images)


def _own_maps(detectors: Sequence[PlaceDetector], image: tuple[int, NDArray[np.float32]]) -> NDArray[np.float32]:
    number, patches = image
    return np.stack([one.own_map(patches, number) for one in detectors])


class Bank:
    """A PatchCore that has been started; groups are those of all images, ``[n]``."""

    def __init__(self, fitted: PatchCore, span: slice, groups: NDArray[np.intp]) -> None:
        self.fitted, self.span, self.groups = fitted, span, groups

    def add(self, patches: NDArray[np.float32], number: int) -> None:
        """See :class:`PlaceDetector`."""
        self.fitted.add(patches[self.span], number)

    def finish(self) -> None:
        """See :class:`PlaceDetector`."""
        self.fitted.finish()
        self.sources = self.groups[self.fitted.sources_]

    def own_map(self, patches: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """By those in the bank that are from other groups, or all if none is."""
        from scipy.ndimage import gaussian_filter

        rows, others = self.fitted.projected(patches[self.span]), self.sources != self.groups[number]
        bank = self.fitted.bank_[others if others.any() else ~others]
        squared = _nearest(rows, bank) + np.einsum("ij,ij->i", rows, rows)
        distances = np.sqrt(np.maximum(squared, 0)).reshape(patches.shape[1:])
        return np.asarray(gaussian_filter(distances, self.fitted.sigma, mode="nearest", truncate=3.0), np.float32)

    def graph(self) -> onnx.ModelProto:
        """See :class:`PlaceDetector`."""
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

    Cells of the coarse grid are means of patches, which are compared by their principal components. Each has its own
    mean; four neighbours share a covariance, which takes a quarter of the memory and images. The map is smoothed over
    the coarse grid and brought back to the finer one.

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
        blocks, channels = len(self.down) * len(self.across) // _SIDE**2, self.basis.shape[1]
        self.sums = [Sums(blocks, _SIDE**2, channels) for _ in range(int(folds.max()) + 1)]

    def add(self, patches: NDArray[np.float32], number: int) -> None:
        """See :class:`PlaceDetector`."""
        self.sums[self.folds[number]].add(self._cells(patches))

    def finish(self) -> None:
        """See :class:`PlaceDetector`."""
        whole = Sums.of(self.sums)
        others = [whole.without(one) if one.count < whole.count else Sums.of([whole]) for one in self.sums]
        (self.means, self.whitening), *self.without = (one.gaussians(_SHRINKAGE, _SHARED) for one in (whole, *others))
        del self.sums

    def own_map(self, patches: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """By Gaussians that leave the image's fold out."""
        means, whitening = self.without[self.folds[number]]
        white = np.matmul(self._cells(patches) - means, whitening)
        height, width = len(self.down), len(self.across)
        blocks = np.sqrt(np.einsum("bij,bij->bi", white, white)).reshape(height // _SIDE, width // _SIDE, _SIDE, _SIDE)
        return np.asarray(self.up @ blocks.swapaxes(1, 2).reshape(height, width) @ self.wide.T, np.float32)

    def _cells(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Patches ``[C, h, w]`` to the components of cells, ``[blocks, cells, components]``."""
        cells = self.down @ patches @ self.across.T
        channels, height, width = cells.shape
        blocks = cells.reshape(channels, height // _SIDE, _SIDE, width // _SIDE, _SIDE).transpose(1, 3, 2, 4, 0)
        return np.asarray(blocks.reshape(-1, _SIDE**2, channels) @ self.basis - self.centre, np.float32)

    def graph(self) -> onnx.ModelProto:
        """See :class:`PlaceDetector`."""
        channels = len(self.basis)
        (rows, height), (columns, width) = self.down.shape, self.across.shape
        tall, wide, side = rows // _SIDE, columns // _SIDE, _SIDE
        return piece(
            f"""
            positions (float[N, {channels}, {height}, {width}] patches)
            => (float[N] score, float[N, {height}, {width}] anomaly_map)
            <int64[6] sides = {{-1, {channels}, {tall}, {side}, {wide}, {side}}},
             int64[4] blocks = {{{tall * wide}, -1, {side**2}, {channels}}},
             int64[3] listed = {{{tall * wide}, -1, {len(self.basis[0])}}},
             int64[5] apart = {{{tall}, {wide}, -1, {side}, {side}}}, int64[3] grid = {{-1, {rows}, {columns}}},
             int64[1] last = {{2}}, int64[2] places = {{1, 2}}>
            {{
                low = MatMul (down, patches)
                cells = MatMul (low, across)
                divided = Reshape (cells, sides)
                ordered = Transpose <perm = [2, 4, 0, 3, 5, 1]> (divided)
                own = Reshape (ordered, blocks)
                components = MatMul (own, basis)
                x = Sub (components, means)
                rows = Reshape (x, listed)
                white = MatMul (rows, whitening)
                squared = ReduceSumSquare <keepdims = 0> (white, last)
                distance = Sqrt (squared)
                squares = Reshape (distance, apart)
                back = Transpose <perm = [2, 0, 3, 1, 4]> (squares)
                coarse = Reshape (back, grid)
                tall = MatMul (up, coarse)
                anomaly_map = MatMul (tall, wide)
                score = ReduceMax <keepdims = 0> (anomaly_map, places)
            }}
            """,
            {
                "down": self.down,
                "across": np.ascontiguousarray(self.across.T),
                "basis": self.basis,
                "means": (self.means + self.centre)[:, None],
                "whitening": self.whitening,
                "up": self.up,
                "wide": np.ascontiguousarray(self.wide.T),
            },
        )

    @staticmethod
    def memory_needed(shape: tuple[int, ...], folds: int) -> int:
        """Bytes for patches of that shape: sums and Gaussians of each fold and of all, and the graph's."""
        components = min(_COMPONENTS, shape[0])
        blocks = math.prod(_count(side, _step(shape)) for side in shape[1:]) // _SIDE**2
        each = components * (components + _SIDE**2 * (Sums.WAITING + 2))
        return 4 * (2 * folds + 8) * blocks * each + 64 * shape[0] ** 2


def _step(shape: tuple[int, ...]) -> int:
    """How many patches a side of a cell has."""
    return math.ceil(math.sqrt(math.prod(shape[1:]) / _POSITIONS))


def _count(side: int, step: int) -> int:
    """How many cells a side has: whole blocks."""
    return -(-side // (step * _SIDE)) * _SIDE


def _averaging(side: int, step: int) -> NDArray[np.float32]:
    """From values along a side to means of ``step`` of them, or of those that are left at its end.

    The last is repeated until there are as many as fill whole blocks.
    """
    cells = np.minimum(np.arange(_count(side, step)), (side - 1) // step)
    chosen = np.arange(side) // step == cells[:, None]
    return np.asarray(chosen / chosen.sum(axis=1, keepdims=True), np.float32)


def _interpolation(side: int, step: int, sigma: float) -> NDArray[np.float32]:
    """From means back to values: Gaussian-smoothed, then interpolated between the middles of cells."""
    from scipy.ndimage import gaussian_filter1d

    count = -(-side // step)
    smooth = gaussian_filter1d(np.eye(count), sigma, axis=0, mode="nearest", truncate=3.0)
    place = np.clip((np.arange(side) + 0.5) / step - 0.5, 0, count - 1)
    back = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count))) @ smooth
    # Cells that only repeat the last one say nothing.
    return np.asarray(np.pad(back, ((0, 0), (0, _count(side, step) - count))), np.float32)
