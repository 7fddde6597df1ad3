"""How a classifier learns: a network, a linear head on the mean of its deepest stage, and a loss."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional
from torch.optim import Adam, AdamW, Optimizer

from oddsight.backbones.exporting import TorchBackbone
from oddsight.backbones.trunks import LiteStages
from oddsight.training.augmentation import augment, mix_images, resize, turn_images
from oddsight.training.batches import ArrayBatches, Batch
from oddsight.training.classifier_settings import ClassifierSettings
from oddsight.training.convolutions import quick_convolutions
from oddsight.training.image_arrays import Arrays
from oddsight.training.learner import Learner, Outcome, outcome_of, parameter_groups

_WARM_UP = 0.2
_LOGITNORM = 0.04  # The temperature of the paper for CIFAR-10


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

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, K]``."""
        logits: torch.Tensor = self.head(self.backbone.embed(pixels))
        return logits


class ClassifierLearner(Learner):
    """A classifier, and its losses."""

    network: Network
    settings: ClassifierSettings

    def __init__(self, network: Network, training: Arrays, validation: Arrays, settings: ClassifierSettings) -> None:
        super().__init__(network, ArrayBatches(training), ArrayBatches(validation), settings)
        self.turn_head = nn.Linear(network.head.in_features, 4) if "rotation" in settings.extras else None
        # Averaged over the last steps, weights do better than any of them (Izmailov et al., UAI 2018).
        self.average = copy.deepcopy(network).requires_grad_(False) if settings.averaging else None

    def train(self, mode: bool = True) -> ClassifierLearner:
        """Let all learn, but a pretrained network's batch statistics stay those of the millions it was trained on."""
        super().train(mode)
        if not self.settings.from_scratch:
            self.network.backbone.trunk.eval()
        return self

    def kept(self) -> Network:
        """The averaged network, or the last."""
        return self.average or self.network

    def learn(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        pixels = resize(augment(images, self.settings.augment, lots, shift=self.settings.shift), self._size())
        half = len(pixels) // 2
        more = []
        if self.turn_head is not None:
            turned, turns = turn_images(pixels[:half], lots)
            more.append(turned)
        if "outliers" in self.settings.extras:
            more.append(mix_images(pixels[-half:], labels[-half:], lots))
        with self._quick(pixels.device):
            embeddings = self.network.backbone.embed(torch.cat([pixels, *more]))
        counts = [len(some) for some in (pixels, *more)]
        parts = list(zip(embeddings.split(counts), self.network.head(embeddings).split(counts), strict=True))
        logits = parts[0][1].float()
        loss = self._loss(logits, labels)
        if self.turn_head is not None:
            answers = self.turn_head(parts[1][0]).float()
            loss = loss + self.settings.extra_weight * functional.cross_entropy(answers, turns)
        if "outliers" in self.settings.extras and counts[-1]:
            # The cross-entropy of an even guess among all classes, less its least possible value.
            undecided = -parts[-1][1].float().log_softmax(1).mean() - math.log(logits.shape[1])
            loss = loss + self.settings.extra_weight * undecided
        return outcome_of(loss, logits, labels)

    def _quick(self, device: torch.device) -> AbstractContextManager[None]:
        trunk = self.network.backbone.trunk
        if device.type == "cpu" and isinstance(trunk, LiteStages) and not trunk.training:
            return quick_convolutions(trunk.normalised_convolutions())
        return nullcontext()

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.settings.loss == "logitnorm":
            logits = functional.normalize(logits, dim=1) / _LOGITNORM
        return functional.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)

    def validate(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        """See :meth:`Learner.validate`; of what would be kept."""
        logits = self.kept()(resize(images, self._size())).float()
        return outcome_of(self._loss(logits, labels), logits, labels)

    def _size(self) -> int:
        return self.settings.size_in(self.first + self.current_epoch)

    def on_train_batch_end(self, outputs: Mapping[str, torch.Tensor] | None, batch: Batch, index: int) -> None:
        """Move the average."""
        if self.average is None:
            return
        step = (self.first + self.current_epoch) * len(self.order) + index
        decay = min(self.settings.averaging, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
                else:
                    mean.copy_(value)

    def optimizer(self) -> Optimizer:
        settings = self.settings
        heads = nn.ModuleList([self.network.head, *([self.turn_head] if self.turn_head is not None else [])])
        parts = [(self.network.backbone, settings.learning_rate), (heads, settings.head_rate * settings.learning_rate)]
        groups = parameter_groups(parts, settings.weight_decay)
        return (Adam if settings.optimizer == "adam" else AdamW)(groups, settings.learning_rate)

    def rate(self, step: int, total: int) -> float:
        """See :meth:`Learner.rate`: up in a line, down in a line (Smith, 2018); with plain Adam the same throughout."""
        if self.settings.optimizer == "adam":
            return 1.0
        peak = max(1.0, _WARM_UP * total)
        return min((step + 1) / peak, max(0.0, (total - step) / (total - peak + 1)))
