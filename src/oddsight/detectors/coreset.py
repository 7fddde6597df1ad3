"""Few vectors that stand for many: greedy k-centre, streamed in bounded memory.

Greedy k-centre (Gonzalez 1985; its use for memory banks: Roth et al., CVPR 2022) keeps the rare patches that sampling
loses. It composes: centres of parts, joined and reduced again, are still within a constant factor of the best choice
(Indyk et al., PODS 2014; Malkomes et al., NIPS 2015). So features are reduced block by block as they stream in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
_Part = tuple[Vectors, NDArray[np.int32]]

BLOCK = 4096
"""Vectors reduced at a time."""

_LEAST = 64
"""Vectors kept of a block, at least."""

_CANDIDATES = 16
"""Vectors from which one of the coreset is chosen in the end."""

_ACTIVE = 384
_MISSED = 512


def k_center(points: Vectors, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of up to ``count`` points, each the farthest from those before; the first is random.

    Stops early when every point coincides with a chosen one.

    Args:
        points: ``[n, d]``.
        count: How many.
        rng: Chooses the first.
    """
    n = len(points)
    norms = np.einsum("ij,ij->i", points, points)
    # Below this, a squared distance is nothing but rounding.
    floor = 1e-6 * float(norms.max(initial=0.0))
    chosen = [int(rng.integers(n))]
    distance = np.full(n, np.inf, np.float32)
    seen = np.zeros(n, np.intp)
    # Distances only shrink, so an old one is an upper bound. Only the most distant points are brought up to date, as a
    # matrix product, and chosen from for as long as none of the others could be farther: the exact greedy choice.
    active = min(n, _ACTIVE)
    while len(chosen) < min(count, n):
        order = np.argpartition(distance, n - active - 1) if active < n else np.arange(n)
        front, bound = order[n - active :], distance[order[n - active - 1]] if active < n else -np.inf
        near = points[front]
        fresh = distance[front]
        missed = chosen[int(seen[front].min()) :]
        for start in range(0, len(missed), _MISSED):
            some = missed[start : start + _MISSED]
            products = near @ points[some].T
            products *= -2
            products += norms[some]
            fresh = np.minimum(fresh, products.min(axis=1) + norms[front])
        while len(chosen) < min(count, n):
            farthest = int(fresh.argmax())
            if fresh[farthest] < bound or fresh[farthest] <= floor:
                break
            chosen.append(int(front[farthest]))
            squared = near @ (np.float32(-2) * near[farthest])
            squared += norms[front]
            squared += norms[front[farthest]]
            np.minimum(fresh, squared, out=fresh)
        distance[front] = fresh
        seen[front] = len(chosen)
        if max(bound, float(fresh.max())) <= floor:
            break
    return np.array(chosen, np.intp)


class Coreset:
    """Reduces a stream of vectors to at most ``size`` of them, in memory that does not grow with the stream.

    Distances are exact: comparing them after a random projection is faster, but loses rare patches (measured in
    ``docs/methods.md``).

    Args:
        size: Vectors to end with.
        dimensions: Of each vector.
        memory: Bytes it may use.
        seed: Of the starting points.
        expected: About how many vectors will be added, if that is known: the more, the fewer of each block are kept.
    """

    def __init__(self, size: int, dimensions: int, memory: int, seed: int, *, expected: int = 0) -> None:
        self.size = size
        self._rng = np.random.default_rng(seed)
        blocks = -(-expected // BLOCK)
        self._per_block = min(_per_block(size), max(_LEAST, _CANDIDATES * size // max(blocks, 1)))
        fitting = (memory - _block_bytes(dimensions)) // _candidate_bytes(dimensions)
        # More candidates than this make the last reduction slow, not better.
        self._capacity = min(max(fitting, 2 * size + self._per_block), _CANDIDATES * size)
        self._block: list[_Part] = []
        self._waiting = 0
        self._candidates: list[_Part] = []
        self._held = 0

    @staticmethod
    def memory_needed(size: int, dimensions: int) -> int:
        """The least bytes for a coreset of ``size`` vectors."""
        return _block_bytes(dimensions) + (2 * size + _per_block(size)) * _candidate_bytes(dimensions)

    def add(self, vectors: Vectors, source: int = 0) -> None:
        """Take more vectors, ``[n, d]``, of one source, such as the number of an image."""
        for start in range(0, len(vectors), BLOCK):
            part = vectors[start : start + BLOCK]
            if self._waiting + len(part) > BLOCK:
                self._reduce_block()
            self._block.append((part, np.full(len(part), source, np.int32)))
            self._waiting += len(part)

    def result(self) -> Vectors:
        """The coreset of everything added so far, ``[at most size, d]``."""
        return self.result_with_sources()[0]

    def result_with_sources(self) -> tuple[Vectors, NDArray[np.int32]]:
        """The coreset, and the source of each of its vectors."""
        self._reduce_block()
        return self._reduced(self._candidates, self.size)

    def _reduce_block(self) -> None:
        if not self._block:
            return
        kept = self._reduced(self._block, self._per_block)
        self._block, self._waiting = [], 0
        self._candidates.append(kept)
        self._held += len(kept[0])
        if self._held + self._per_block > self._capacity:
            # To twice the final size: little is lost by reducing again and again, and time grows with what is kept.
            self._candidates = [self._reduced(self._candidates, 2 * self.size)]
            self._held = len(self._candidates[0][0])

    def _reduced(self, parts: list[_Part], count: int) -> _Part:
        vectors, sources = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if len(vectors) <= count:
            return vectors, sources
        chosen = k_center(vectors, count, self._rng)
        return vectors[chosen], sources[chosen]


def _per_block(size: int) -> int:
    return max(_LEAST, size // 6)


def _block_bytes(dimensions: int) -> int:
    return 4 * BLOCK * (3 * dimensions + 4) + 4 * _MISSED * (2 * _ACTIVE + 2 * dimensions)


def _candidate_bytes(dimensions: int) -> int:
    return 4 * (2 * dimensions + 6)
