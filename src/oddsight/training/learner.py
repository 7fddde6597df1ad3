"""What is trained: a network, its images, its losses and its optimizer, as Lightning's training loop wants them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from oddsight.errors import DataError, OddsightError
from oddsight.training.batches import Batch, Images, Order, loader
from oddsight.training.checkpoints import Tensors
from oddsight.training.settings import TrainingSettings

Outcome = dict[str, torch.Tensor]
"""Of a batch: the ``loss``, perhaps the ``accuracy``, and more means by name, which are parts of the loss."""


class Learner(lightning.LightningModule, ABC):
    """A network, and how it learns from which images.

    Attributes:
        network: What is trained.
        settings: How.
        first: Epochs that had passed before the training (re)started.
        optimizer_state: The optimizer's from then.
    """

    def __init__(
        self,
        network: nn.Module,
        training: Images,
        validation: Images,
        settings: TrainingSettings,
        *,
        batch_size: int | None = None,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.training_images, self.validation_images = training, validation
        self.batch_size, self.workers = batch_size or settings.batch_size, workers
        self.first = 0
        self.optimizer_state: Tensors = {}

    @abstractmethod
    def learn(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        """What is to be made smaller, of a batch of images float32 ``[N, ..., 3, h, w]``, 0 to 255."""

    @abstractmethod
    def validate(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        """The same of images that are not learned from."""

    @abstractmethod
    def optimizer(self) -> Optimizer:
        """Of all that learns, at the largest rates."""

    def rate(self, step: int, total: int) -> float:
        """The learning rate at a step as a share of the largest."""
        return 1.0

    def check(self, means: Mapping[str, float]) -> None:
        """Refuse to go on after an epoch with these means of outcomes while training."""

    def kept(self) -> nn.Module:
        """What is kept when the training has ended."""
        return self.network

    def training_step(self, batch: Batch | str, index: int) -> Outcome:
        """The outcome of a batch."""
        outcome = self._outcome(batch, self.learn)
        if not torch.isfinite(outcome["loss"]):
            raise OddsightError(divergence(self.settings))
        return outcome

    def validation_step(self, batch: Batch | str, index: int) -> Outcome:
        """The outcome of a batch; nothing is learned from it."""
        return self._outcome(batch, self.validate)

    def _outcome(
        self, batch: Batch | str, step: Callable[[torch.Tensor, torch.Tensor, torch.Generator], Outcome]
    ) -> Outcome:
        if isinstance(batch, str):
            raise DataError(batch)
        images, labels, seed = batch
        outcome = step(images.float(), labels, torch.Generator().manual_seed(seed))
        return {**outcome, "count": torch.tensor(float(len(images)), device=images.device)}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type says no more
        """The optimizer where it stood, and its rates over all epochs."""
        optimizer = self.optimizer()
        if self.optimizer_state:
            _restore(optimizer, self.optimizer_state)
        steps = int(self.trainer.estimated_stepping_batches) // (self.settings.epochs - self.first)
        total, passed = steps * self.settings.epochs, steps * self.first
        schedule = LambdaLR(optimizer, lambda step: self.rate(passed + step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Batch | str]:
        """Batches to learn from."""
        self.order = self._order(len(self.training_images), shuffle=True)
        self.order.epoch = self.first
        return loader(self.training_images, self.order, self.workers)

    def on_train_epoch_start(self) -> None:
        """Another epoch has another order and other random changes."""
        self.order.epoch = self.first + self.current_epoch

    def val_dataloader(self) -> DataLoader[Batch | str]:
        """Batches to validate on, the same in each epoch."""
        return loader(self.validation_images, self._order(len(self.validation_images), shuffle=False), self.workers)

    def _order(self, count: int, *, shuffle: bool) -> Order:
        processes, rank = self.trainer.world_size, self.trainer.global_rank
        seed = self.settings.seed if shuffle else 0
        return Order(count, self.batch_size, shuffle=shuffle, seed=seed, processes=processes, rank=rank)


def outcome_of(loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> Outcome:
    """The outcome of a batch whose classes are known."""
    return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}


def parameter_groups(parts: Sequence[tuple[nn.Module, float]], decay: float) -> list[dict[str, Any]]:
    """What learns of modules, at the rate of each.

    Scales, shifts and biases do not decay: pulling them to zero would undo the normalisation.
    """
    groups = []
    for part, rate in parts:
        learning = [parameter for parameter in part.parameters() if parameter.requires_grad]
        for matrices in (True, False):
            chosen = [parameter for parameter in learning if (parameter.ndim > 1) == matrices]
            groups.append({"params": chosen, "lr": rate, "weight_decay": decay if matrices else 0.0})
    return groups


def divergence(settings: TrainingSettings) -> str:
    """What to say of a loss that is not finite."""
    return (
        f"the loss is no longer a finite number: choose a learning rate below {settings.learning_rate:g}"
        f"{', or the precision 32-true' * (settings.precision != '32-true')}"
    )


def _restore(optimizer: Optimizer, tensors: Tensors) -> None:
    """Give an optimizer its moments back; rates come from the schedule."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
