"""Training a network on the pixels of normal images, and its graph."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from oddsight.backbones.exporting import graph_of
from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch
from oddsight.runtime.files import make_folder
from oddsight.training import checkpoints
from oddsight.training.bookkeeping import Bookkeeping, Learner, diverged, restore
from oddsight.training.image_arrays import Arrays
from oddsight.training.image_batches import Batch, Batches, augmented
from oddsight.training.trainer import learn

if TYPE_CHECKING:
    from oddsight.training.workplace import PixelPlan, Workplace

_WATCHING = 10
"""Every tenth image watches a training."""

_CONSTANT = 0.02
_COMPARED, _COARSE = 64, 16
"""Images from which it is told whether a network takes all for the same, and the side to which they are reduced."""

_ONE_AT_A_TIME = threading.Lock()
"""PyTorch's random numbers belong to the process."""


class PixelNetwork(nn.Module, ABC):
    """What learns from pixels: float32 ``[N, 3, S, S]``, 0 to 1.

    Attributes:
        outputs: The names of what :meth:`forward` returns.
        momentum: Of Adam.
    """

    outputs: tuple[str, ...]
    momentum: float = 0.9

    @abstractmethod
    def losses(self, pixels: torch.Tensor, lots: torch.Generator) -> dict[str, torch.Tensor]:
        """The ``loss`` to be made smaller, a scalar, and its parts by name if it has any.

        Args:
            pixels: Of a batch.
            lots: Where randomness comes from.
        """

    @abstractmethod
    def watched(self, pixels: torch.Tensor) -> torch.Tensor:
        """The loss on images that are not learned from, a scalar: the weights of the least are kept."""

    @abstractmethod
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What scoring reads, from pixels 0 to 255."""

    def likeness(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """What it takes images for, if it should be as varied as they are; compared after training."""
        return None

    def prepared(self, pixels: torch.Tensor) -> None:
        """Look at some images before training."""


@dataclass(frozen=True)
class TrainedPixels:
    """A trained network.

    Attributes:
        network: In evaluation mode.
        graph: From ``pixels`` float32 ``[N, 3, S, S]``, 0 to 255, to its outputs.
        curves: What happened, one row an epoch.
    """

    network: PixelNetwork
    graph: onnx.ModelProto
    curves: tuple[Epoch, ...]


class _Learning(Learner):
    """A network on pixels as Lightning trains it."""

    def __init__(self, network: PixelNetwork, training: Arrays, watching: Arrays, plan: PixelPlan) -> None:
        super().__init__()
        self.network, self.watching, self.plan = network, watching, plan
        self.batches = Batches(training, plan.batch_size, shuffle=True, seed=plan.seed)
        self.first = 0
        self.optimizer_state: checkpoints.Tensors = {}

    def kept(self) -> PixelNetwork:
        """The network."""
        network: PixelNetwork = self.network
        return network

    def training_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch.

        Raises:
            OddsightError: If it is not finite.
        """
        images, _, seed = batch
        lots = torch.Generator().manual_seed(seed)
        pixels = augmented(images.float(), self.plan.augment, lots) / 255
        found = self.network.losses(pixels, lots)
        if not torch.isfinite(found["loss"]):
            raise OddsightError(diverged(self.plan))
        return {**found, "count": _count(pixels)}

    def validation_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch; nothing is learned from it."""
        pixels = batch[0].float() / 255
        return {"loss": self.network.watched(pixels), "count": _count(pixels)}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type says no more
        """Adam at one rate."""
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(learning, self.plan.learning_rate, betas=(self.network.momentum, 0.999))
        if self.optimizer_state:
            restore(optimizer, self.optimizer_state)
        return optimizer

    def train_dataloader(self) -> Batches:
        """Batches to learn from."""
        return self.batches

    def on_train_epoch_start(self) -> None:
        """Another epoch has another order and other random changes."""
        self.batches.epoch = self.first + self.current_epoch

    def val_dataloader(self) -> Batches:
        """Batches to watch."""
        return Batches(self.watching, self.plan.batch_size, shuffle=False, seed=0)


def _count(pixels: torch.Tensor) -> torch.Tensor:
    return torch.tensor(float(len(pixels)), device=pixels.device)


def train_pixels(
    make: Callable[[], PixelNetwork], images: NDArray[np.uint8], plan: PixelPlan, workplace: Workplace
) -> TrainedPixels:
    """Train a network, or go on with a training that was interrupted.

    On a processor, the same images and settings give the same weights on the same machine.

    Args:
        make: Makes the network, with random weights.
        images: Of normal images, uint8 ``[n, S, S, 3]``.
        plan: How.
        workplace: Where and on what.

    Raises:
        OddsightError: A loss that diverged, a network that says the same of all images, or no such accelerator.
    """
    watched = np.arange(len(images)) % _WATCHING == _WATCHING // 2
    training, watching = _arrays(images[~watched]), _arrays(images[watched])
    identity = {"images": training.fingerprint, "validation": watching.fingerprint, **_identity(plan)}
    if workplace.folder is not None:
        make_folder(workplace.folder)
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        network = make()
        network.prepared(_tensor(images[:_COMPARED]))
        module = _Learning(network, training, watching, plan)
        books = Bookkeeping(
            plan,
            workplace.folder,
            identity,
            workplace.progress,
            workplace.on_epoch,
            phase=f"training: {workplace.phase}",
            keep_last=plan.keep_last,
        )
        books.resume(module)
        learn(module, books, accelerator=workplace.accelerator)
        network.load_state_dict(books.weights)
        network.eval().requires_grad_(False)
        _check_varied(network, _tensor(images[:_COMPARED]), plan)
        graph = graph_of(network, "network", {"pixels": (3, *images.shape[1:3])}, network.outputs)
    return TrainedPixels(network, graph, tuple(books.curves))


def _identity(plan: PixelPlan) -> dict[str, Any]:
    known = asdict(plan)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}


def _arrays(images: NDArray[np.uint8]) -> Arrays:
    return Arrays(images, np.zeros(len(images), np.int64), hashlib.sha256(images.tobytes()).hexdigest())


def _tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _check_varied(network: PixelNetwork, pixels: torch.Tensor, plan: PixelPlan) -> None:
    """Refuse a network that takes all images for nearly the same: its error is then their distance from a mean.

    Raises:
        OddsightError: With advice.
    """
    pairs = []
    with torch.no_grad():
        for some in pixels.split(plan.batch_size):
            likeness = network.likeness(some)
            if likeness is None:
                return
            pairs.append([functional.adaptive_avg_pool2d(values, _COARSE) for values in (some, likeness)])
    varied, ours = (float(torch.cat(values).std(0).mean()) for values in zip(*pairs, strict=True))
    if ours < _CONSTANT * varied:
        raise OddsightError(
            f"{plan.method} collapsed: it gives nearly the same image for every image ({ours / varied:.1%} of their "
            f"variation): train for more epochs, choose a learning rate below {plan.learning_rate:g}, a larger code, "
            "or another method"
        )
