"""At most so many vectors of a stream, drawn at random."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from oddsight.detectors.features import FeatureStream


def sample(features: FeatureStream, size: int, seed: int) -> NDArray[np.float32]:
    """Vectors of a stream, ``[n, C]`` in their order: all of them, or ``size`` drawn without replacement.

    A vector is an embedding or the patch at one position. Methods that estimate a density draw, where memory banks
    choose for coverage (:mod:`oddsight.detectors.coreset`): a coreset has as many points where normal is rare as where
    it is common.
    """
    channels, positions = features.shape[0], math.prod(features.shape[1:])
    total = len(features) * positions
    # Drawing beforehand by number, rather than as the stream passes, is uniform and holds nothing but what is kept.
    drawn = np.arange(total) if total <= size else np.random.default_rng(seed).choice(total, size, replace=False)
    drawn.sort()
    vectors = np.empty((len(drawn), channels), np.float32)
    done = 0
    for number, array in enumerate(features):
        end = int(np.searchsorted(drawn, (number + 1) * positions))
        vectors[done:end] = array.reshape(channels, positions)[:, drawn[done:end] - number * positions].T
        done = end
    return vectors


def sample_count(shape: tuple[int, ...], count: int, size: int) -> int:
    """How many vectors :func:`sample` returns for ``count`` images with features of ``shape``."""
    return min(size, count * math.prod(shape[1:]))


def sample_bytes(shape: tuple[int, ...], count: int, size: int) -> int:
    """The bytes that :func:`sample` takes at its peak."""
    # NumPy numbers up to 50 times as many as it draws, to draw without replacement.
    return sample_count(shape, count, size) * (4 * shape[0] + 8 * 52) + 8 * math.prod(shape)
