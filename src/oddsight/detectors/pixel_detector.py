"""Methods that train a network of their own on the pixels of normal images, by gradient. Learning takes PyTorch."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.detector import Detector, Reading
from oddsight.detectors.features import FeatureStream
from oddsight.errors import DataError, OddsightError
from oddsight.graphs.building import chain, copied
from oddsight.runtime.bounds import Choice, Each, Positive, Whole
from oddsight.runtime.records import as_json
from oddsight.training.settings import AUGMENTATIONS, PixelSettings
from oddsight.training.workplace import Workplace

if TYPE_CHECKING:
    from oddsight.training.pixel_training import PixelNetwork, TrainedPixels

FEWEST = 16  # The fewest images that a network learns from

_LIBRARIES = 700 * 10**6  # Bytes that PyTorch and Lightning take, measured

_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 600, 20, 200
_PATIENCE, _PATIENT_STEPS = 5, 100
"""A training ends when a fifth of its epochs, and so many steps, have brought nothing better."""


@dataclass
class PixelDetector(Detector):
    """A network that is trained on pixels, brought to ``size``. Subclasses say which and what becomes of its outputs.

    A tenth of the images watches: the weights that do best on them are kept, and training ends when they gain no more.

    Attributes:
        multiple: What the side must be a multiple of.
        until_the_end: Whether all epochs pass and the last weights are kept, where no loss says which are best.
        epochs: How often each image is seen, at most; 0 for as many as make 600 steps, from 20 to 200.
        batch_size: Images a step.
        learning_rate: Of Adam.
        augment: Of :data:`oddsight.training.settings.AUGMENTATIONS`.
        sample_size: Images to learn from, at most; beyond that, as many drawn at random.
    """

    reads: ClassVar[Reading] = "pixels"
    needs: ClassVar[str] = "train"
    trains_network: ClassVar[bool] = True
    budget: ClassVar[str] = "3GB"
    size: ClassVar[int | None] = 64
    multiple: ClassVar[int] = 16
    until_the_end: ClassVar[bool] = False

    epochs: Annotated[int, Whole(0)] = 0
    batch_size: Annotated[int, Whole(2)] = 32
    learning_rate: Positive = 1e-3
    augment: Annotated[tuple[str, ...], Each(Choice("augmentation", AUGMENTATIONS))] = ()
    sample_size: Annotated[int, Whole(FEWEST)] = 20000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.workplace = Workplace()
        self.curves_ = ()

    @abstractmethod
    def network(self, side: int) -> PixelNetwork:
        """The network to train, with random weights, for images of ``side`` pixels. Called where PyTorch is there."""

    @abstractmethod
    def scoring(self, found: TrainedPixels, side: int) -> list[onnx.ModelProto]:
        """Pieces from the outputs of the trained network's graph to ``score`` (and ``anomaly_map``)."""

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Train the network; see :meth:`Detector.fit`.

        Raises:
            DataError: Fewer than 16 images.
            OddsightError: No PyTorch, a loss that diverged, or a network that says the same of all images.
        """
        self.require_libraries()
        if len(features) < FEWEST:
            raise DataError(
                f"{self.name} trains a network, which needs at least {FEWEST} images to train on, and there are "
                f"{len(features)}: add images, or choose a method for few images, such as knn"
            )
        from oddsight.training.pixel_training import train_pixels

        side = features.shape[-1]
        found = train_pixels(
            lambda: self.network(side), self.draw_images(features, seed), self.plan(len(features), seed), self.workplace
        )
        self.curves_ = found.curves
        self.look_again(found, features, memory=memory, seed=seed)
        outputs = ["score", *(["anomaly_map"] if self.localises else [])]
        self.graph_ = chain([found.graph, *self.scoring(found, side)], outputs)

    def look_again(self, found: TrainedPixels, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Learn what scoring takes beside the trained network; see :meth:`Detector.fit`."""

    def graph(self) -> onnx.ModelProto:
        return copied(self.graph_)

    def draw_images(self, features: FeatureStream, seed: int) -> NDArray[np.uint8]:
        """Images of the stream, uint8 ``[n, S, S, 3]``: all, or ``sample_size`` drawn at random."""
        count = min(len(features), self.sample_size)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(features))[:count])
        images = np.empty((count, *features.shape[1:], 3), np.uint8)
        at = 0
        for number, pixels in enumerate(features):
            if at < count and number == chosen[at]:
                images[at] = pixels.transpose(1, 2, 0)
                at += 1
        return images

    def plan(self, count: int, seed: int) -> PixelSettings:
        """How the network is trained on ``count`` images."""
        steps = max(1, min(count, self.sample_size) * 9 // 10 // self.batch_size)
        epochs = self.epochs or min(_MOST_EPOCHS, max(_LEAST_EPOCHS, -(-_STEPS // steps)))
        return PixelSettings(
            method=self.name,
            settings=self.settings(),
            epochs=epochs,
            patience=epochs if self.until_the_end else max(epochs // _PATIENCE, -(-_PATIENT_STEPS // steps)),
            keep_last=self.until_the_end,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            augment=self.augment,
            seed=seed,
        )

    def settings(self) -> dict[str, Any]:
        """The settings by name, as JSON can hold them."""
        return as_json(self)

    def require(self, memory: int, shape: tuple[int, ...], count: int) -> None:
        """Refuse what would not fit, and a size that the network cannot have; see :meth:`Detector.require`."""
        if shape[-1] % self.multiple or shape[-1] < self.multiple:
            raise OddsightError(f"the size for {self.name} must be a multiple of {self.multiple}, not {shape[-1]}")
        super().require(memory, shape, count)

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``sample_size`` images."""
        pixels = shape[-1] * shape[-2]
        # The images, and again divided into those that are learned from and those that watch.
        images = 2 * 3 * pixels * min(count, self.sample_size)
        return _LIBRARIES + images + self.batch_size * pixels * self.activations()

    def activations(self) -> int:
        """Bytes that a step of training takes for each pixel of each image of a batch."""
        return 2000
