"""Averages over many vectors, in 64 bits, widened a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Counts = NDArray[np.int64]

BLOCK = 4096  # Vectors that are widened at a time


def blocks(count: int) -> Iterator[slice]:
    """``count`` rows, :data:`BLOCK` at a time."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def class_sums(vectors: NDArray[np.floating[Any]], labels: Counts, classes: int) -> tuple[Matrix, Counts]:
    """The sum over each class ``[K, C]`` of vectors ``[n, C]``, and how many it has ``[K]``."""
    sums = np.zeros((classes, vectors.shape[1]))
    for part in blocks(len(vectors)):
        order = np.argsort(labels[part], kind="stable")
        present, first = np.unique(labels[part][order], return_index=True)
        sums[present] += np.add.reduceat(vectors[part][order].astype(np.float64), first, axis=0)
    return sums, np.bincount(labels, minlength=classes).astype(np.int64)


def class_means(vectors: NDArray[np.floating[Any]], labels: Counts, classes: int) -> tuple[Matrix, Counts]:
    """The mean of each class ``[K, C]``, 0 where it has no vectors, and how many it has ``[K]``."""
    sums, counts = class_sums(vectors, labels, classes)
    return sums / np.maximum(counts, 1)[:, None], counts


def spread(vectors: NDArray[np.floating[Any]]) -> float:
    """The root mean square distance of ``[n, C]`` from their mean."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    total = sum(float(np.square(vectors[part] - mean).sum()) for part in blocks(len(vectors)))
    return float(np.sqrt(total / len(vectors)))
