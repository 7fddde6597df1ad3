"""How a backbone is adapted: by classes, by rotations, or by the sameness of two views of an image."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer

from oddsight.backbones.exporting import TorchBackbone
from oddsight.errors import OddsightError
from oddsight.training.augmentation import augment
from oddsight.training.batches import FileBatches
from oddsight.training.learner import Learner, Outcome, outcome_of, parameter_groups
from oddsight.training.settings import AdaptationSettings
from oddsight.training.training_images import TrainingImages

_COLLAPSED = 0.1
_HEAD_RATE = 10.0
_WEIGHT_DECAY = 0.01
_WARM_UP = 0.05
_WIDTH = 512  # Of SimSiam's head, which is lighter than the paper's, as the backbone is trained already


class Adapter(Learner):
    """A backbone, and a head on its deepest stage that is left behind when the backbone is exported.

    The backbone stays in evaluation mode. The statistics of its batch normalisation are those of the millions of
    images that it was trained on, which some hundred cannot better; their scales and shifts do learn. So what is
    trained is also, bit for bit, the function that is exported.
    """

    network: TorchBackbone
    views: ClassVar[int] = 1  # How many random versions of each image it reads

    def __init__(
        self, network: TorchBackbone, images: TrainingImages, settings: AdaptationSettings, workers: int
    ) -> None:
        crop, count = "crop" in settings.augment, len(images.training)
        super().__init__(
            # On processors convolutions are about twice as fast with the channels last.
            network.to(memory_format=torch.channels_last),
            FileBatches(images.training, settings.size, views=self.views, crop=crop),
            FileBatches(images.validation, settings.size, views=self.views, crop=crop and self.views > 1),
            settings,
            # Batches of one size, so that little is left out.
            batch_size=count // -(-count // settings.batch_size),
            workers=workers,
        )
        _, channels = list(network.stages.values())[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.head = self.make_head(channels, len(images.classes))
        # Parts of images are taken when they are read; turned by right angles, an image has no empty corners.
        self._changes = ["quarter turns" if name == "rotation" else name for name in settings.augment if name != "crop"]

    @abstractmethod
    def make_head(self, channels: int, classes: int) -> nn.Module:
        """A head with random weights on an embedding of ``channels`` numbers."""

    @abstractmethod
    def outcome(self, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        """The loss of images ``[N, views, 3, S, S]``."""

    def train(self, mode: bool = True) -> Adapter:
        """Let the head learn, and keep the backbone as it will be used."""
        super().train(mode)
        self.network.eval()
        return self

    def learn(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        changed = augment(images.flatten(0, 1), self._changes, lots).reshape(images.shape)
        return self.outcome(changed, labels)

    def validate(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        """See :meth:`Learner.validate`: of images as they are, unless versions are compared."""
        return self.learn(images, labels, lots) if self.views > 1 else self.outcome(images, labels)

    def optimizer(self) -> Optimizer:
        """See :meth:`Learner.optimizer`: the head learns faster than the backbone."""
        rate = self.settings.learning_rate
        return AdamW(parameter_groups([(self.network, rate), (self.head, _HEAD_RATE * rate)], _WEIGHT_DECAY))

    def rate(self, step: int, total: int) -> float:
        """See :meth:`Learner.rate`: after a short warm-up on a cosine to zero."""
        warm = max(1, round(_WARM_UP * total))
        return min(1.0, (step + 1) / warm) * (1 + math.cos(math.pi * min(step, total) / total)) / 2

    def _classify(self, images: torch.Tensor, labels: torch.Tensor, *, smoothing: float = 0.0) -> Outcome:
        logits = self.head(self.network.embed(images))
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        return outcome_of(loss, logits, labels)


class Classes(Adapter):
    """Learns the classes of the images: cross-entropy with smoothed labels.

    Szegedy et al., Rethinking the Inception architecture, CVPR 2016 (label smoothing).
    """

    def make_head(self, channels: int, classes: int) -> nn.Module:
        return nn.Linear(channels, classes)

    def outcome(self, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        return self._classify(images[:, 0], labels, smoothing=0.1)


class Rotation(Adapter):
    """Says by how many quarter turns an image was turned. Each image is shown in all four positions at once.

    Gidaris, Singh and Komodakis, Unsupervised representation learning by predicting rotations, ICLR 2018.
    """

    def make_head(self, channels: int, classes: int) -> nn.Module:
        return nn.Linear(channels, 4)

    def outcome(self, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        turned = torch.cat([torch.rot90(images[:, 0], turns, (-2, -1)) for turns in range(4)])
        return self._classify(turned, torch.arange(4, device=labels.device).repeat_interleave(len(labels)))


class SimSiam(Adapter):
    """Foretells the projection of one view of an image from that of another; gradients flow on one side only.

    Chen and He, Exploring simple siamese representation learning, CVPR 2021.
    """

    views = 2
    head: nn.ModuleDict

    def make_head(self, channels: int, classes: int) -> nn.Module:
        projector = nn.Sequential(
            nn.Linear(channels, _WIDTH, bias=False),
            nn.BatchNorm1d(_WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, _WIDTH, bias=False),
            nn.BatchNorm1d(_WIDTH, affine=False),
        )
        predictor = nn.Sequential(
            nn.Linear(_WIDTH, _WIDTH // 4, bias=False),
            nn.BatchNorm1d(_WIDTH // 4),
            nn.ReLU(),
            nn.Linear(_WIDTH // 4, _WIDTH),
        )
        return nn.ModuleDict({"projector": projector, "predictor": predictor})

    def outcome(self, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        """See :meth:`Adapter.outcome`; ``spread`` says how far apart outputs are, from 0 (all the same) to about 1."""
        projector, predictor = self.head["projector"], self.head["predictor"]
        first, second = (projector(self.network.embed(images[:, view])) for view in range(2))
        forth = functional.cosine_similarity(predictor(first), second.detach()).mean()
        back = functional.cosine_similarity(predictor(second), first.detach()).mean()
        # Outputs in random directions of d dimensions have a standard deviation of 1 / sqrt(d) each.
        units = functional.normalize(first.detach().float())
        spread = units.std(0, correction=0).mean() * units.shape[1] ** 0.5
        return {"loss": -(forth + back) / 2, "spread": spread}

    def check(self, means: Mapping[str, float]) -> None:
        """See :meth:`Learner.check`.

        Raises:
            OddsightError: If the outputs collapsed.
        """
        if means["spread"] < _COLLAPSED:
            raise OddsightError(
                "simsiam collapsed: it gave nearly the same for every image; use stronger augmentation (crop,colour), "
                "a lower learning rate, more varied images, or another objective"
            )


ADAPTERS: dict[str, type[Adapter]] = {"classes": Classes, "rotation": Rotation, "simsiam": SimSiam}
"""By objective, see :data:`oddsight.training.settings.OBJECTIVES`."""


def freeze(network: TorchBackbone, last: str | None) -> None:
    """Hold on to all parameters up to and including those of a stage."""
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
