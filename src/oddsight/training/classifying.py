"""How a classifier is trained: a network, a linear head on the mean of its deepest stage, and a loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from oddsight.backbones.exporting import TorchBackbone
from oddsight.errors import OddsightError
from oddsight.training import checkpoints
from oddsight.training.bookkeeping import Learner, diverged, restore
from oddsight.training.classifier_settings import ClassifierSettings
from oddsight.training.image_arrays import Arrays
from oddsight.training.image_batches import (
    Batch,
    Batches,
    augmented,
    brought_to,
    mixtures,
    quarter_turns,
)

_WARM_UP = 0.2
_LOGITNORM = 0.04
"""The temperature of the paper for CIFAR-10."""


class Network(nn.Module):
    """A feature network and what is linear on top of it.

    Attributes:
        backbone: From pixels 0..255 to stages.
        head: From the mean of the deepest stage to logits.
    """

    def __init__(self, backbone: TorchBackbone, classes: int) -> None:
        super().__init__()
        # On processors convolutions are about twice as fast with the channels last.
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.stage, (_, channels) = list(backbone.stages.items())[-1]
        self.head = nn.Linear(channels, classes)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels float32 ``[N, 3, S, S]``, 0 to 255, to embeddings ``[N, C]``."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        embeddings: torch.Tensor = self.backbone(pixels)[self.stage].mean((2, 3))
        return embeddings

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]``."""
        logits: torch.Tensor = self.head(self.embed(pixels))
        return logits


class Classifying(Learner):
    """A classifier as Lightning trains it."""

    def __init__(self, network: Network, training: Arrays, validation: Arrays, settings: ClassifierSettings) -> None:
        super().__init__()
        self.network, self.validation_arrays, self.settings = network, validation, settings
        self._batches = Batches(training, settings.batch_size, shuffle=True, seed=settings.seed)
        self.turn_head = nn.Linear(network.head.in_features, 4) if "rotation" in settings.extras else None
        # Averaged over the last steps, weights do better than any of them (Izmailov et al., UAI 2018).
        self.average = copy.deepcopy(network).requires_grad_(False) if settings.averaging else None
        self.first = 0
        self.optimizer_state: checkpoints.Tensors = {}

    def train(self, mode: bool = True) -> Classifying:
        """Let all learn, but a pretrained network's batch statistics stay those of the millions it was trained on."""
        super().train(mode)
        if not self.settings.from_scratch:
            self.network.backbone.trunk.eval()
        return self

    def kept(self) -> Network:
        """The averaged network, or the last."""
        return self.average or self.network

    def training_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch.

        Raises:
            OddsightError: If it is not finite.
        """
        images, labels, seed = batch
        lots = torch.Generator().manual_seed(seed)
        pixels = augmented(images.float(), self.settings.augment, lots, shift=self.settings.shift)
        pixels = brought_to(pixels, self._size())
        extra, counts = self._extra_pixels(pixels, labels, lots)
        embeddings = self.network.embed(torch.cat([pixels, *extra]) if extra else pixels)
        logits = self.network.head(embeddings)
        own = logits[: len(labels)].float()
        loss = self._loss(own, labels)
        at = len(labels)
        for name, count in counts.items():
            if name == "rotation":
                assert self.turn_head is not None
                turned = self.turn_head(embeddings[at : at + count])
                more = functional.cross_entropy(turned.float(), self._turns)
            else:
                # The cross-entropy of an even guess among all classes, less its least possible value.
                more = -logits[at : at + count].float().log_softmax(1).mean() - math.log(logits.shape[1])
            loss, at = loss + self.settings.extra_weight * more, at + count
        if not torch.isfinite(loss):
            raise OddsightError(diverged(self.settings))
        return _row(loss, own, labels)

    def _extra_pixels(
        self, pixels: torch.Tensor, labels: torch.Tensor, lots: torch.Generator
    ) -> tuple[list[torch.Tensor], dict[str, int]]:
        """More images to learn from, half as many as the batch has at most, and how many for which extra."""
        half, extra, counts = len(pixels) // 2, [], {}
        if "rotation" in self.settings.extras:
            turned, self._turns = quarter_turns(pixels[:half], lots)
            extra.append(turned)
            counts["rotation"] = len(turned)
        if "outliers" in self.settings.extras:
            mixed = mixtures(pixels[-half:], labels[-half:], lots)
            if len(mixed):
                extra.append(mixed)
                counts["outliers"] = len(mixed)
        return extra, counts

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.settings.loss == "logitnorm":
            logits = functional.normalize(logits, dim=1) / _LOGITNORM
        return functional.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)

    def validation_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch by what would be kept; nothing is learned from it."""
        images, labels, _ = batch
        logits = self.kept()(brought_to(images, self._size())).float()
        return _row(self._loss(logits, labels), logits, labels)

    def _size(self) -> int:
        return self.settings.size_in(self.first + self.current_epoch)

    def on_train_batch_end(self, outputs: Mapping[str, torch.Tensor] | None, batch: Batch, index: int) -> None:
        """Move the average."""
        if self.average is None:
            return
        step = (self.first + self.current_epoch) * len(self._batches) + index
        decay = min(self.settings.averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type says no more
        """One cycle of the learning rate over all epochs."""
        settings = self.settings
        heads = [self.network.head, *([self.turn_head] if self.turn_head is not None else [])]
        groups = []
        for parts, rate in (([self.network.backbone], 1.0), (heads, settings.head_rate)):
            learning = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
            for matrices, decay in ((True, settings.weight_decay), (False, 0.0)):
                chosen = [parameter for parameter in learning if (parameter.ndim > 1) == matrices]
                groups.append({"params": chosen, "lr": rate * settings.learning_rate, "weight_decay": decay})
        optimizer = _optimizer(settings, groups)
        if self.optimizer_state:
            restore(optimizer, self.optimizer_state)
        if settings.optimizer == "adam":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches) // (settings.epochs - self.first)
        total, passed = steps * settings.epochs, steps * self.first
        schedule = LambdaLR(optimizer, lambda step: _cycle(passed + step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> Batches:
        """Batches to learn from."""
        return self._batches

    def on_train_epoch_start(self) -> None:
        """Another epoch has another order and other random changes."""
        self._batches.epoch = self.first + self.current_epoch

    def val_dataloader(self) -> Batches:
        """Batches to validate on."""
        return Batches(self.validation_arrays, self.settings.batch_size, shuffle=False, seed=0)


def _optimizer(settings: ClassifierSettings, groups: list[dict[str, Any]]) -> Optimizer:
    return (Adam if settings.optimizer == "adam" else AdamW)(groups, settings.learning_rate)


def _row(loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    right = (logits.argmax(1) == labels).float().mean()
    return {"loss": loss, "accuracy": right, "count": torch.tensor(float(len(labels)), device=loss.device)}


def _cycle(step: int, total: int) -> float:
    """The learning rate at a step as a share of its maximum: up in a line, down in a line (Smith, 2018)."""
    peak = max(1.0, _WARM_UP * total)
    return min((step + 1) / peak, max(0.0, (total - step) / (total - peak + 1)))
