"""Streams of features, which detectors learn from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class FeatureStream(Protocol):
    """Features of images, one float32 array of ``shape`` an image; may be iterated again and again.

    ``shape`` is ``[C, h, w]`` for patches, ``[3, S, S]`` for pixels and ``[C]`` for embeddings. For levels, whose
    arrays are flat, it is the width of each level's profile, then ``C, h, w`` of the patches that follow them.

    A stream may also say which images belong together, see :func:`groups_of`, which channels of a patch come from one
    stage, see :func:`channels_of`, and what its images look like with small defects, see :func:`defects_of`.
    """

    shape: tuple[int, ...]

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[NDArray[np.float32]]: ...


class Rows:
    """Features in memory, such as vectors ``[n, C]``, as a stream."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        self.shape = vectors.shape[1:]

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.vectors)


def stacked(features: FeatureStream) -> Vectors:
    """All features of a stream in one array, ``[n, ...]``."""
    rows = np.empty((len(features), *features.shape), np.float32)
    for row, one in zip(rows, features, strict=True):
        row[...] = one
    return rows


def groups_of(features: FeatureStream) -> NDArray[np.intp]:
    """For each image of a stream a number that it shares with its group, ``[n]``.

    Images of one group say little more than one of them: a detector that holds images out holds out whole groups. It
    is the stream's ``groups``, if it has that, and otherwise each image stands alone.
    """
    return np.asarray(getattr(features, "groups", np.arange(len(features))), np.intp)


def channels_of(features: FeatureStream) -> tuple[int, ...]:
    """How many channels of a patch each stage of the backbone gave, from shallow to deep.

    It is the stream's ``channels``, if it has that, and otherwise all come from one stage.
    """
    return tuple(getattr(features, "channels", features.shape[-3:-2]))


def defects_of(features: FeatureStream) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Features of copies of some images with a small defect, and the numbers of these images.

    It is what the stream's ``defects()`` gives, if it has that, and otherwise nothing.
    """
    if hasattr(features, "defects"):
        yield from features.defects()
