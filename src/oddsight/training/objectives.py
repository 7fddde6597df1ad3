"""What a backbone is adapted by: classes, rotations, or the sameness of two views of an image; and how it learns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer

from oddsight.backbones.exporting import TorchBackbone
from oddsight.errors import OddsightError
from oddsight.training.augmentation import augment
from oddsight.training.batches import FileBatches
from oddsight.training.learner import Learner, Outcome, parameter_groups
from oddsight.training.settings import AdaptationSettings
from oddsight.training.training_images import TrainingImages

Embed = Callable[[torch.Tensor], torch.Tensor]
"""From images float32 ``[N, 3, S, S]``, 0 to 255, to embeddings ``[N, C]``."""

_COLLAPSED = 0.1
_HEAD_RATE = 10.0
_WEIGHT_DECAY = 0.01
_WARM_UP = 0.05


class Objective(nn.Module, ABC):
    """A head on the embedding, and a loss. The head is left behind when the backbone is exported.

    Attributes:
        name: What users call it.
        paper: Authors, title, venue and year.
        views: How many random versions of each image it reads.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    views: ClassVar[int] = 1

    @abstractmethod
    def outcome(self, embed: Embed, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        """The loss of a batch.

        Args:
            embed: The backbone.
            images: float32 ``[N, views, 3, S, S]``.
            labels: Indices of classes, ``[N]``.
        """

    def check(self, means: Mapping[str, float]) -> None:
        """Refuse to go on after an epoch with these means."""


class Classes(Objective):
    """Learns the classes of the images: cross-entropy with smoothed labels."""

    name = "classes"
    paper = "Szegedy et al., Rethinking the Inception architecture, CVPR 2016 (label smoothing)"

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, classes)

    def outcome(self, embed: Embed, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        """See :meth:`Objective.outcome`."""
        return _classified(self.head(embed(images[:, 0])), labels, smoothing=0.1)


class Rotation(Objective):
    """Says by how many quarter turns an image was turned. Each image is shown in all four positions at once."""

    name = "rotation"
    paper = "Gidaris, Singh and Komodakis, Unsupervised representation learning by predicting rotations, ICLR 2018"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Linear(channels, 4)

    def outcome(self, embed: Embed, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        """See :meth:`Objective.outcome`."""
        turned = torch.cat([torch.rot90(images[:, 0], turns, (-2, -1)) for turns in range(4)])
        turns = torch.arange(4, device=labels.device).repeat_interleave(len(labels))
        return _classified(self.head(embed(turned)), turns, smoothing=0.0)


class SimSiam(Objective):
    """Foretells the projection of one view of an image from that of another; gradients flow on one side only.

    The head is lighter than the paper's, as the backbone is trained already.
    """

    name = "simsiam"
    paper = "Chen and He, Exploring simple siamese representation learning, CVPR 2021"
    views = 2

    def __init__(self, channels: int, width: int = 512) -> None:
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(channels, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width, affine=False),
        )
        self.predictor = nn.Sequential(
            nn.Linear(width, width // 4, bias=False),
            nn.BatchNorm1d(width // 4),
            nn.ReLU(),
            nn.Linear(width // 4, width),
        )

    def outcome(self, embed: Embed, images: torch.Tensor, labels: torch.Tensor) -> Outcome:
        """See :meth:`Objective.outcome`."""
        first, second = (self.projector(embed(images[:, view])) for view in range(2))
        forth = functional.cosine_similarity(self.predictor(first), second.detach()).mean()
        back = functional.cosine_similarity(self.predictor(second), first.detach()).mean()
        # Outputs in random directions of d dimensions have a standard deviation of 1 / sqrt(d) each.
        units = functional.normalize(first.detach().float())
        spread = units.std(0, correction=0).mean() * units.shape[1] ** 0.5
        return {"loss": -(forth + back) / 2, "spread": spread}

    def check(self, means: Mapping[str, float]) -> None:
        """See :meth:`Objective.check`.

        Raises:
            OddsightError: If the outputs collapsed: their spread is near 0, where random ones have about 1.
        """
        if means["spread"] < _COLLAPSED:
            raise OddsightError(
                "simsiam collapsed: it gave nearly the same for every image; use stronger augmentation (crop,colour), "
                "a lower learning rate, more varied images, or another objective"
            )


def _classified(logits: torch.Tensor, labels: torch.Tensor, *, smoothing: float) -> Outcome:
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}


def objective(name: str, channels: int, classes: int) -> Objective:
    """The objective of that name, with a fresh head.

    Args:
        name: Of :data:`oddsight.training.settings.OBJECTIVES`.
        channels: Of the embedding.
        classes: How many there are, if any.
    """
    if name == Classes.name:
        return Classes(channels, classes)
    return Rotation(channels) if name == Rotation.name else SimSiam(channels)


class Adapting(Learner):
    """A backbone, the objective on its deepest stage, and how both learn.

    The backbone stays in evaluation mode. The statistics of its batch normalisation are those of the millions of
    images that it was trained on, which some hundred cannot better; their scales and shifts do learn. So what is
    trained is also, bit for bit, the function that is exported.
    """

    network: TorchBackbone

    def __init__(
        self,
        network: TorchBackbone,
        objective: Objective,
        images: TrainingImages,
        settings: AdaptationSettings,
        workers: int,
    ) -> None:
        crop, views, count = "crop" in settings.augment, objective.views, len(images.training)
        super().__init__(
            # On processors convolutions are about twice as fast with the channels last.
            network.to(memory_format=torch.channels_last),
            FileBatches(images.training, settings.size, views=views, crop=crop),
            FileBatches(images.validation, settings.size, views=views, crop=crop and views > 1),
            settings,
            # Batches of one size, so that little is left out.
            batch_size=count // -(-count // settings.batch_size),
            workers=workers,
        )
        self.objective = objective
        self._stage = list(network.stages)[-1]
        # Parts of images are taken when they are read; turned by right angles, an image has no empty corners.
        self._changes = ["quarter turns" if name == "rotation" else name for name in settings.augment if name != "crop"]

    def train(self, mode: bool = True) -> Adapting:
        """Let the head learn, and keep the backbone as it will be used."""
        super().train(mode)
        self.network.eval()
        return self

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 ``[N, 3, S, S]``, 0 to 255, to means over the deepest stage ``[N, C]``."""
        pixels = images.contiguous(memory_format=torch.channels_last)
        embeddings: torch.Tensor = self.network(pixels)[self._stage].mean((2, 3))
        return embeddings

    def learn(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        """See :meth:`Learner.learn`."""
        changed = augment(images.flatten(0, 1), self._changes, lots).reshape(images.shape)
        return self.objective.outcome(self.embed, changed, labels)

    def validate(self, images: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> Outcome:
        """See :meth:`Learner.validate`: of images as they are, unless the objective compares versions."""
        if self.objective.views > 1:
            return self.learn(images, labels, lots)
        return self.objective.outcome(self.embed, images, labels)

    def check(self, means: Mapping[str, float]) -> None:
        """See :meth:`Learner.check`."""
        self.objective.check(means)

    def optimizer(self) -> Optimizer:
        """See :meth:`Learner.optimizer`: the head learns faster than the backbone."""
        rate = self.settings.learning_rate
        return AdamW(parameter_groups([(self.network, rate), (self.objective, _HEAD_RATE * rate)], _WEIGHT_DECAY))

    def rate(self, step: int, total: int) -> float:
        """See :meth:`Learner.rate`: after a short warm-up on a cosine to zero."""
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
