"""Channels brought to one scale and vectors to one length, in NumPy and in a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Standard:
    """What is taken from each channel, and what it is divided by."""

    mean: Vectors  # float32 `[C]`
    scale: Vectors  # float32 `[C]`, positive

    @classmethod
    def deviations(cls, vectors: Vectors) -> Self:
        """To mean 0 and standard deviation 1 over ``[n, C]``."""
        return cls(
            vectors.mean(axis=0, dtype=np.float64).astype(np.float32), _floored(vectors.std(axis=0, dtype=np.float64))
        )

    @classmethod
    def magnitudes(cls, vectors: Vectors) -> Self:
        """To root mean square 1 over ``[n, C]``, where zero stays zero."""
        squares = np.square(vectors, dtype=np.float64).mean(axis=0)
        return cls(np.zeros(vectors.shape[1], np.float32), _floored(np.sqrt(squares)))

    def __call__(self, vectors: Vectors) -> Vectors:
        """The same as :attr:`LINES` computes, ``[n, C]``."""
        return (vectors - self.mean) / self.scale

    LINES = "centred = Sub (embedding, mean) x = Div (centred, scale)"
    """In ONNX text, from ``embedding`` to ``x``."""

    @property
    def weights(self) -> dict[str, Vectors]:
        """What :attr:`LINES` uses, by name."""
        return {"mean": self.mean, "scale": self.scale}


def _floored(scale: NDArray[np.float64]) -> Vectors:
    """A channel that (nearly) never varied in training would otherwise drown all others at its first movement."""
    typical = float(np.sqrt(np.square(scale).mean()))
    return np.maximum(scale, max(1e-3 * typical, 1e-6)).astype(np.float32)


def unit(vectors: Vectors) -> Vectors:
    """Vectors ``[n, C]`` brought to length 1; zero stays zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


UNIT_LINES = """
    length = ReduceL2 (embedding, last)
    positive = Max (length, tiny)
    x = Div (embedding, positive)
"""
"""The same in ONNX text, from ``embedding`` to ``x``; ``tiny`` is 1e-12."""
