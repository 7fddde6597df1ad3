"""What a score is, and the registry of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, is_dataclass
from typing import Any, Self, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.ood.averaging import blocks
from oddsight.detectors.ood.head import Head
from oddsight.errors import DataError
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
        raise DataError(f"embeddings must have the shape [N, {head.channels}], not {embeddings.shape}")
    if not len(embeddings) or labels.shape != embeddings.shape[:1]:
        raise DataError(f"there are {labels.size} labels for {len(embeddings)} embeddings: there must be one for each")
    if labels.min() < 0 or labels.max() >= head.classes:
        raise DataError(f"labels go from {labels.min()} to {labels.max()}, and the head has {head.classes} classes")
    if not all(np.isfinite(embeddings[part]).all() for part in blocks(len(embeddings))):
        raise DataError("the embeddings are not all finite: the training has diverged")


SCORES: dict[str, type[Score]] = {}
"""The registry, by name; see also :func:`oddsight.detectors.ood.by_name`."""

_Registered = TypeVar("_Registered", bound=type[Score])


def score(cls: _Registered) -> _Registered:
    """Register a score under its name."""
    SCORES[cls.name] = cls
    return cls
