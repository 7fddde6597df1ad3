"""Training a network on the pixels of normal images, and its graph."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

from oddsight.backbones.exporting import graph_of
from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch
from oddsight.training.augmentation import augment
from oddsight.training.batches import ArrayBatches
from oddsight.training.image_arrays import Arrays
from oddsight.training.learner import Learner, Outcome
from oddsight.training.loop import train
from oddsight.training.settings import PixelSettings
from oddsight.training.workplace import Workplace

_WATCHING = 10  # Every tenth image watches a training

_CONSTANT = 0.02
_COMPARED, _COARSE = 64, 16
"""Images from which it is told whether a network takes all for the same, and the side to which they are reduced."""

_ONE_AT_A_TIME = threading.Lock()  # PyTorch's random numbers belong to the process


class PixelNetwork(nn.Module, ABC):
    """What learns from pixels: float32 ``[N, 3, S, S]``, 0 to 1."""

    outputs: tuple[str, ...]  # The names of what `forward` returns
    momentum: float = 0.9  # Of Adam

    @abstractmethod
    def losses(self, pixels: torch.Tensor, lots: torch.Generator) -> dict[str, torch.Tensor]:
        """The ``loss`` of a batch to be made smaller, a scalar, and its parts by name if it has any."""

    @abstractmethod
    def validation_loss(self, pixels: torch.Tensor) -> torch.Tensor:
        """The loss on images that are not learned from, a scalar: the weights of the least are kept."""

    @abstractmethod
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What scoring reads, from pixels 0 to 255."""

    def likeness(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """What it takes images for, if it should be as varied as they are; compared after training."""
        return None

    def prepare(self, pixels: torch.Tensor) -> None:
        """Look at some images before training."""


@dataclass(frozen=True)
class TrainedPixels:
    """A trained network."""

    network: PixelNetwork  # In evaluation mode
    graph: onnx.ModelProto  # From `pixels` float32 `[N, 3, S, S]`, 0 to 255, to its outputs
    curves: tuple[Epoch, ...]  # What happened, one row an epoch


class _PixelLearner(Learner):
    """A network on pixels, which says its losses itself."""

    network: PixelNetwork

    def learn(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        return self.network.losses(augment(images, self.settings.augment, lots) / 255, lots)

    def validate(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        return {"loss": self.network.validation_loss(images / 255)}

    def optimizer(self) -> Optimizer:
        """See :meth:`Learner.optimizer`; one rate throughout."""
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return Adam(learning, self.settings.learning_rate, betas=(self.network.momentum, 0.999))


def train_pixels(
    make: Callable[[], PixelNetwork], images: NDArray[np.uint8], settings: PixelSettings, workplace: Workplace
) -> TrainedPixels:
    """Train the network that ``make`` gives on normal images uint8 ``[n, S, S, 3]``, or go on with a training.

    On a processor, the same images and settings give the same weights on the same machine.

    Raises:
        OddsightError: A loss that diverged, a network that says the same of all images, or no such accelerator.
    """
    watched = np.arange(len(images)) % _WATCHING == _WATCHING // 2
    training, watching = _arrays(images[~watched]), _arrays(images[watched])
    identity = {"images": training.fingerprint, "validation": watching.fingerprint, **settings.as_json()}
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = make()
        network.prepare(_tensor(images[:_COMPARED]))
        learner = _PixelLearner(network, ArrayBatches(training), ArrayBatches(watching), settings)
        patience, keep_last = settings.patience, settings.keep_last
        curves = train(learner, identity, workplace, patience=patience, keep_last=keep_last)
        network.eval().requires_grad_(False)
        _check_varied(network, _tensor(images[:_COMPARED]), settings)
        graph = graph_of(network, "network", {"pixels": (3, *images.shape[1:3])}, network.outputs)
    return TrainedPixels(network, graph, curves)


def _arrays(images: NDArray[np.uint8]) -> Arrays:
    return Arrays(images, np.zeros(len(images), np.int64), hashlib.sha256(images.tobytes()).hexdigest())


def _tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _check_varied(network: PixelNetwork, pixels: torch.Tensor, settings: PixelSettings) -> None:
    """Refuse a network that takes all images for nearly the same: its error is then their distance from a mean."""
    pairs = []
    with torch.no_grad():
        for some in pixels.split(settings.batch_size):
            likeness = network.likeness(some)
            if likeness is None:
                return
            pairs.append([functional.adaptive_avg_pool2d(values, _COARSE) for values in (some, likeness)])
    varied, ours = (float(torch.cat(values).std(0).mean()) for values in zip(*pairs, strict=True))
    if ours < _CONSTANT * varied:
        raise OddsightError(
            f"{settings.method} collapsed: it gives nearly the same image for every image ({ours / varied:.1%} of "
            f"their variation): train for more epochs, choose a learning rate below {settings.learning_rate:g}, a "
            "larger code, or another method"
        )
