"""Scores that let a classifier say "none of these": a file for each family, registered by :func:`score`.

A score turns what a trained classifier makes of an image, its embedding and its logits, into one number that is higher
the less the image belongs to any known class. It is fitted on the embeddings of the training images and returns a
graph from ``embedding`` or ``logits``, or both, to ``score``. Where a paper gives a confidence, the score is minus it.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import asdict, is_dataclass
from typing import Any, Self, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors import METHODS
from oddsight.detectors.ood.averaging import blocks
from oddsight.detectors.ood.head import Head
from oddsight.errors import DataError, OddsightError
from oddsight.runtime.bounds import check_settings

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


class Score(ABC):
    """A way to see that an image is of no known class. Subclasses are dataclasses whose fields are their settings.

    Attributes:
        name: What users call it.
        summary: One line.
        paper: Authors, title, venue and year.
        channels_: Of an embedding, after :meth:`fit`: ``C``.
        classes_: Known ones, after :meth:`fit`: ``K``.
    """

    name: str
    summary: str
    paper: str

    def __post_init__(self) -> None:
        """Refuse settings that are not within the bounds that their types declare; see :mod:`oddsight.runtime.bounds`.

        Raises:
            OddsightError: Naming the score, the setting, the value and what it may be.
        """
        if is_dataclass(self) and not isinstance(self, type):
            check_settings(self, owner=self.name)

    def fit(self, embeddings: Vectors, labels: Labels, head: Head, *, seed: int) -> Self:
        """Learn from the training images of a classifier, which stay as they are.

        Args:
            embeddings: Of the training images, float32 ``[n, C]``; they may be negative.
            labels: Their classes, int64 ``[n]``, from 0 to ``K - 1``. A class may have one image, or none.
            head: From embeddings to logits.
            seed: Of every random choice.

        Raises:
            DataError: If these do not fit together, are empty, or not finite.
        """
        _check(embeddings, labels, head)
        self.channels_, self.classes_ = head.channels, head.classes
        self._learn(embeddings, labels, head, seed)
        return self

    @abstractmethod
    def _learn(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """As :meth:`fit`, after its checks."""

    @abstractmethod
    def graph(self) -> onnx.ModelProto:
        """From ``embedding`` float32 ``[N, C]`` and ``logits`` ``[N, K]``, those it needs, to ``score`` ``[N]``."""

    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}


def _check(embeddings: Vectors, labels: Labels, head: Head) -> None:
    if embeddings.ndim != 2 or embeddings.shape[1] != head.channels:
        raise DataError(f"embeddings of {head.channels} channels are wanted, not an array of {embeddings.shape}")
    if not len(embeddings) or labels.shape != embeddings.shape[:1]:
        raise DataError(f"there are {len(embeddings)} embeddings and {labels.size} labels: as many are wanted, not 0")
    if labels.min() < 0 or labels.max() >= head.classes:
        raise DataError(f"labels go from {labels.min()} to {labels.max()}, and the head has {head.classes} classes")
    if not all(np.isfinite(embeddings[part]).all() for part in blocks(len(embeddings))):
        raise DataError("the embeddings are not all finite: the training has diverged")


DEFAULT = "knn"
"""The best of the scores that need no training of their own where OpenOOD v1.5 compares them on CIFAR-10."""

SCORES: dict[str, type[Score]] = {}
"""The registry, by name; those of one class are made of :data:`oddsight.detectors.METHODS` by :func:`by_name`."""

_Registered = TypeVar("_Registered", bound=type[Score])


def score(cls: _Registered) -> _Registered:
    """Register a score under its name."""
    SCORES[cls.name] = cls
    return cls


def names() -> list[str]:
    """Of all scores: the registered ones, and ``one-class:NAME`` for each method that reads embeddings."""
    return [*SCORES, *(f"{PREFIX}{name}" for name, cls in METHODS.items() if cls.reads == "embedding")]


def by_name(name: str) -> Score:
    """The score of that name, with its default settings; names joined by ``+`` are of a sum.

    Raises:
        OddsightError: Naming those that exist.
    """
    if PLUS in name:
        return Sum(tuple(by_name(one) for one in name.split(PLUS)))
    if name not in names():
        raise OddsightError(f"no score {name!r}: there are {', '.join(names())}")
    return SCORES[name]() if name in SCORES else OneClass(METHODS[name.removeprefix(PREFIX)]())


for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

from oddsight.detectors.ood.one_class import PREFIX as PREFIX  # noqa: E402
from oddsight.detectors.ood.one_class import OneClass  # noqa: E402 - it is made of what is above
from oddsight.detectors.ood.summing import PLUS as PLUS  # noqa: E402
from oddsight.detectors.ood.summing import Sum  # noqa: E402
