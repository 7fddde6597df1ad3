"""What a backbone is adapted by: classes, rotations, or the sameness of two views of an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

Embed = Callable[[torch.Tensor], torch.Tensor]
"""From images uint8 ``[N, 3, S, S]`` to embeddings ``[N, C]``."""


@dataclass(frozen=True)
class Outcome:
    """What an objective says of one batch.

    Attributes:
        loss: The mean over the batch, to be made smaller.
        accuracy: Share of right answers, where there are right ones.
        spread: Where the outputs could collapse: how far apart they are, from 0 (all the same) to about 1.
    """

    loss: torch.Tensor
    accuracy: torch.Tensor | None = None
    spread: torch.Tensor | None = None


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
            images: uint8 ``[N, views, 3, S, S]``.
            labels: Indices of classes, ``[N]``.
        """


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
        return Outcome(-(forth + back) / 2, spread=spread)


def _classified(logits: torch.Tensor, labels: torch.Tensor, *, smoothing: float) -> Outcome:
    loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    return Outcome(loss, (logits.argmax(1) == labels).float().mean())


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
