"""How a backbone is adapted, as Lightning's training loop wants it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from oddsight.backbones.exporting import TorchBackbone
from oddsight.errors import DataError, OddsightError
from oddsight.training import checkpoints
from oddsight.training.augmentation import Batch, Images, Order, loader, transform
from oddsight.training.bookkeeping import Learner, diverged, restore
from oddsight.training.objectives import Objective
from oddsight.training.settings import Settings
from oddsight.training.training_images import TrainingImages

_HEAD_RATE = 10.0
_WEIGHT_DECAY = 0.01
_WARM_UP = 0.05


class Adapting(Learner):
    """A backbone, the objective on its deepest stage, and how both learn.

    The backbone stays in evaluation mode. The statistics of its batch normalisation are those of the millions of
    images that it was trained on, which some hundred cannot better; their scales and shifts do learn. So what is
    trained is also, bit for bit, the function that is exported.
    """

    def __init__(
        self, network: TorchBackbone, objective: Objective, images: TrainingImages, settings: Settings, workers: int
    ) -> None:
        super().__init__()
        # On processors convolutions are about twice as fast with the channels last.
        self.network, self.objective = network.to(memory_format=torch.channels_last), objective
        self.images, self.settings, self.workers = images, settings, workers
        self.first = 0
        self.optimizer_state: checkpoints.Tensors = {}
        self._stage = list(network.stages)[-1]

    def train(self, mode: bool = True) -> Adapting:
        """Let the head learn, and keep the backbone as it will be used."""
        super().train(mode)
        self.network.eval()
        return self

    def kept(self) -> TorchBackbone:
        """The backbone; the head is left behind."""
        network: TorchBackbone = self.network
        return network

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Images uint8 ``[N, 3, S, S]`` to means over the deepest stage ``[N, C]``."""
        pixels = images.float().contiguous(memory_format=torch.channels_last)
        embeddings: torch.Tensor = self.network(pixels)[self._stage].mean((2, 3))
        return embeddings

    def training_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch.

        Raises:
            OddsightError: If it is not finite.
        """
        found = self._outcome(batch)
        if not torch.isfinite(found["loss"]):
            raise OddsightError(diverged(self.settings))
        return found

    def validation_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch; nothing is learned from it."""
        return self._outcome(batch)

    def _outcome(self, batch: Batch) -> dict[str, torch.Tensor]:
        if isinstance(batch, str):
            raise DataError(batch)
        found = self.objective.outcome(self.embed, *batch)
        count = torch.tensor(float(len(batch[0])), device=self.device)
        named = {"loss": found.loss, "accuracy": found.accuracy, "spread": found.spread, "count": count}
        return {name: value for name, value in named.items() if value is not None}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type says no more
        """AdamW, after a short warm-up on a cosine to zero; the head learns ten times as fast as the backbone."""
        rate = self.settings.learning_rate
        groups = []
        for part, share in ((self.network, rate), (self.objective, _HEAD_RATE * rate)):
            learning = [parameter for parameter in part.parameters() if parameter.requires_grad]
            # Scales, shifts and biases are left alone: pulling them to zero would undo the normalisation.
            for matrices, decay in ((True, _WEIGHT_DECAY), (False, 0.0)):
                chosen = [parameter for parameter in learning if (parameter.ndim > 1) == matrices]
                groups.append({"params": chosen, "lr": share, "weight_decay": decay})
        optimizer = AdamW(groups)
        if self.optimizer_state:
            restore(optimizer, self.optimizer_state)
        steps = int(self.trainer.estimated_stepping_batches) // (self.settings.epochs - self.first)
        total, passed = steps * self.settings.epochs, steps * self.first
        schedule = LambdaLR(optimizer, lambda step: _rate(passed + step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches to learn from."""
        change = transform(self.settings.size, self.settings.augment)
        return self._loader(Images(self.images.training, change, self.objective.views, self.settings.seed), True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches to validate on: the same in each epoch, and unchanged unless the objective compares versions."""
        augment = self.settings.augment if self.objective.views > 1 else ()
        change = transform(self.settings.size, augment)
        return self._loader(Images(self.images.validation, change, self.objective.views, self.settings.seed), False)

    def _loader(self, images: Images, shuffle: bool) -> DataLoader[Batch]:
        trainer = self.trainer
        order = Order(images, first=self.first, shuffle=shuffle, processes=trainer.world_size, rank=trainer.global_rank)
        return loader(order, images, self.settings.batch_size, workers=self.workers)


def _rate(step: int, total: int) -> float:
    """The learning rate at a step as a share of its maximum."""
    warm = max(1, round(_WARM_UP * total))
    return min(1.0, (step + 1) / warm) * (1 + math.cos(math.pi * min(step, total) / total)) / 2


def freeze(network: TorchBackbone, last: str | None) -> None:
    """Hold on to all parameters up to and including those of a stage.

    Raises:
        OddsightError: If there is no such stage or nothing is left to learn.
    """
    stages = list(network.stages)
    if last is not None and last not in stages:
        raise OddsightError(f"no stage {last!r} to freeze: {network.name} has {', '.join(stages)}")
    learning: Sequence[str] = stages[stages.index(last) + 1 :] if last is not None else stages
    network.requires_grad_(False)
    by_stage = network.parameters_by_stage()
    for name in learning:
        for parameter in by_stage[name]:
            parameter.requires_grad_(True)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise OddsightError(f"freezing up to {last} leaves nothing of {network.name} to train")
