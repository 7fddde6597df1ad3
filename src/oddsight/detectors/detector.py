"""What a detector is, and the registry of them.

A detector declares what it reads and what it learns from, fits on features, and returns a graph from those features to
``score`` (and ``anomaly_map`` where it can say where). It knows nothing of files, batches, thresholds or reports.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from oddsight.detectors.averaging import blocks
from oddsight.detectors.features import FeatureStream, Rows, Vectors, stacked
from oddsight.detectors.head import Head
from oddsight.errors import DataError, MemoryBudgetError, OddsightError
from oddsight.model.curves import Epoch
from oddsight.runtime.bounds import check_settings
from oddsight.training.libraries import require_training
from oddsight.training.workplace import Workplace

Reading = Literal["patches", "embedding", "levels", "pixels", "logits"]
Kind = Literal["normal", "classes"]
Labels = NDArray[np.int64]

MEMORY = 2 * 10**9
"""Bytes that learning may use where nothing else is said."""


class Detector(ABC):
    """A way to detect unusual images. Subclasses are dataclasses whose fields are their settings, with their bounds.

    A subclass implements :meth:`learn`, :meth:`learn_classes` or both, as :attr:`learns_from` says; :meth:`fit` checks
    what it is given and calls one of them.

    Attributes:
        name: What users call it.
        summary: One line.
        paper: Authors, title, venue and year.
        reads: ``patches`` ``[C, h, w]``, one ``embedding`` ``[C]`` an image, ``levels``: profiles of the image at
            several depths, and patches; ``pixels`` ``[3, S, S]``, 0 to 255; or the ``logits`` ``[K]`` of a classifier.
        learns_from: What it can learn from: ``normal`` images, images of known ``classes`` with a classifier's head, or
            both.
        localises: Whether its graph has an ``anomaly_map``.
        stride: For patches: how many pixels of the input a cell of the grid stands for.
        needs: The extra that learning takes, such as ``train``; empty if none. Scoring never needs any.
        trains_network: Whether learning trains a network by gradient.
        budget: Memory of the whole process that is enough by default.
        size: The side in pixels to which images are brought by default, if it is not the backbone's.
        grows: Whether it can learn new images on top of what it knows; see :meth:`grow`.
        detailed: Whether it gains from images of more pixels than the backbone's size: then it reads by default nearly
            as many as they have.
        positive: Whether it refuses embeddings with values below zero, which its paper does not provide for.
        channels_: Of an embedding, after fitting with classes: ``C``.
        classes_: Known ones, after fitting with classes: ``K``.
        curves_: Learning curves of a network that was trained, a row an epoch.
        workplace: Where and on what a network is trained; not a setting, as it must not change the model.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    reads: ClassVar[Reading] = "embedding"
    learns_from: ClassVar[tuple[Kind, ...]] = ("normal",)
    localises: ClassVar[bool] = False
    stride: ClassVar[int] = 8
    needs: ClassVar[str] = ""
    trains_network: ClassVar[bool] = False
    budget: ClassVar[str] = "1GB"
    size: ClassVar[int | None] = None
    detailed: ClassVar[bool] = False
    grows: ClassVar[bool] = False
    positive: ClassVar[bool] = False

    curves_: tuple[Epoch, ...] = ()
    workplace: Workplace

    def __post_init__(self) -> None:
        """Refuse settings that are not within the bounds that their types declare; see :mod:`oddsight.runtime.bounds`.

        Raises:
            OddsightError: Naming the detector, the setting, the value and what it may be.
        """
        if is_dataclass(self) and not isinstance(self, type):
            check_settings(self, owner=self.name)

    def fit(
        self,
        features: FeatureStream | Vectors,
        labels: Labels | None = None,
        head: Head | None = None,
        *,
        memory: int = MEMORY,
        seed: int,
    ) -> Self:
        """Learn from features of normal images or, given labels and a head, from those of known classes.

        Args:
            features: Of the training images. With labels they are embeddings, and may be negative.
            labels: Their classes, int64 ``[n]``, from 0 to ``K - 1``. A class may have one image, or none.
            head: From embeddings to logits; it stays as it is.
            memory: Bytes it may use beyond the features of one image. With labels, embeddings are in memory, and a
                detector may copy them once or twice.
            seed: Of every random choice.

        Raises:
            DataError: If labels, head and embeddings do not fit together, are empty, or not finite.
            MemoryBudgetError: If learning takes more memory.
            OddsightError: If this detector learns from something else.
        """
        if labels is None and head is None:
            self.require_kind("normal")
            stream = Rows(features) if isinstance(features, np.ndarray) else features
            self.require(memory, stream.shape, len(stream))
            # Threads that wait for each other make small matrix products several times slower.
            with nullcontext() if self.trains_network else threadpool_limits(1, "blas"):
                self.learn(stream, memory=memory, seed=seed)
            return self
        self.require_kind("classes")
        if labels is None or head is None:
            raise OddsightError(f"{self.name} takes labels and a head together, not one of them")
        embeddings = features if isinstance(features, np.ndarray) else stacked(features)
        _check_classes(embeddings, labels, head)
        if self.positive and (lowest := float(embeddings.min())) < 0:
            raise DataError(
                f"{self.name} takes embeddings that follow a ReLU, and these have values below zero (down to "
                f"{lowest:.3g}), with which it may be worse than chance: choose another score, such as energy"
            )
        self.channels_, self.classes_ = head.channels, head.classes
        self.learn_classes(embeddings, labels, head, seed)
        return self

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """As :meth:`fit` with normal images, after its checks."""
        raise NotImplementedError

    def learn_classes(  # noqa: B027 - some scores of logits learn nothing
        self, embeddings: Vectors, labels: Labels, head: Head, seed: int
    ) -> None:
        """As :meth:`fit` with known classes, after its checks. By default nothing is learned."""

    @abstractmethod
    def graph(self) -> onnx.ModelProto:
        """From the features named by ``reads``, ``[N, ...]``, to ``score`` ``[N]`` and perhaps ``anomaly_map``.

        Of known classes: from ``embedding`` ``[N, C]`` and ``logits`` ``[N, K]``, those it needs.
        """

    def grow(
        self, constants: Mapping[str, NDArray[np.generic]], features: FeatureStream, share: float, *, seed: int
    ) -> dict[str, NDArray[np.float32]]:
        """Add new normal images to what a fitted graph knows, so that no score of any image rises.

        Args:
            constants: Of the graph of a detector of these settings, by name.
            features: Of the new images.
            share: How many there are for each image that the graph knows.
            seed: Of every random choice.

        Returns:
            The constants that change, with their new values.

        Raises:
            OddsightError: If what it would know is too much.
        """
        raise NotImplementedError

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """The least bytes that :meth:`fit` takes for ``count`` normal images with features of ``shape``."""
        raise NotImplementedError

    def voices(self, layers: Sequence[str]) -> list[str]:
        """What decides separately inside the detector, by name; empty if it decides as one.

        With voices the graph also has ``evidence`` float32 ``[N, voices]`` (the highest one decided) and
        ``voice_p_values`` ``[N, voices]``.

        Args:
            layers: The stages that it reads.
        """
        return []

    def settings(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}

    def require(self, memory: int, shape: tuple[int, ...], count: int) -> None:
        """Refuse what would not fit.

        Raises:
            MemoryBudgetError: Saying how much it takes.
        """
        needed = self.memory_needed(shape, count)
        if needed > memory:
            raise MemoryBudgetError(
                f"{self.name} takes {needed / 1e6:,.0f} MB for {count:,} images with features of "
                f"{' x '.join(map(str, shape))}, and the budget leaves {memory / 1e6:,.0f} MB: raise the memory "
                "budget, or use fewer images, fewer layers or a smaller size"
            )

    def require_room(self, rows: int, size: int) -> None:
        """Refuse a memory bank that grows beyond twice its size.

        Raises:
            OddsightError: Saying what to do.
        """
        if rows > 2 * size:
            raise OddsightError(
                f"the memory bank of {self.name} would grow to {rows:,} entries, and at most twice its bank_size of "
                f"{size:,} are allowed: name the old images, too (--with), so that it is chosen anew"
            )

    def require_kind(self, kind: Kind) -> None:
        """Refuse to learn from what this detector does not learn from.

        Raises:
            OddsightError: Saying what it learns from.
        """
        if kind not in self.learns_from:
            images, instead = _KINDS[self.learns_from[0]]
            raise OddsightError(f"{self.name} learns from {images}: {instead}")

    def require_libraries(self) -> None:
        """Refuse to train a network without the libraries that this takes.

        Raises:
            OddsightError: Naming what is missing.
        """
        if self.trains_network:
            instead = ", or choose a method that needs nothing more, such as auto"
            require_training(f"{self.name} trains a network, which", pixels=True, instead=instead)


_KINDS: dict[Kind, tuple[str, str]] = {
    "normal": ("normal images", "give no labels and no head"),
    "classes": ("images of known classes", "give labels and the head of a classifier"),
}
"""What a detector learns from, in words, and what that asks for."""


def _check_classes(embeddings: Vectors, labels: Labels, head: Head) -> None:
    if embeddings.ndim != 2 or embeddings.shape[1] != head.channels:
        raise DataError(f"embeddings of {head.channels} channels are wanted, not an array of {embeddings.shape}")
    if not len(embeddings) or labels.shape != embeddings.shape[:1]:
        raise DataError(f"there are {len(embeddings)} embeddings and {labels.size} labels: as many are wanted, not 0")
    if labels.min() < 0 or labels.max() >= head.classes:
        raise DataError(f"labels go from {labels.min()} to {labels.max()}, and the head has {head.classes} classes")
    if not all(np.isfinite(embeddings[part]).all() for part in blocks(len(embeddings))):
        raise DataError("the embeddings are not all finite: the training has diverged")


DETECTORS: dict[Kind, dict[str, type[Detector]]] = {"normal": {}, "classes": {}}
"""The registry: what they learn from, and then by name."""

_Registered = TypeVar("_Registered", bound=type[Detector])


def detector(cls: _Registered) -> _Registered:
    """Register a detector under its name, for all that it learns from."""
    for kind in cls.learns_from:
        DETECTORS[kind][cls.name] = cls
    return cls
