"""Learning curves of a trained network, as a model file keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curves.

    Attributes:
        epoch: From 1.
        train_loss: Mean over the epoch.
        validation_loss: At its end.
        accuracy: On the validation images, 0 to 1; None for an objective without right answers.
        learning_rate: Of the backbone, when the epoch ended.
        seconds: That it took; 0 where that is not kept, as in a model file.
        train_accuracy: On the training images as they were shown, changed at random; None where it is not kept.
        losses: Means over the epoch of the parts of the loss that have names, such as a generator's.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    accuracy: float | None
    learning_rate: float
    seconds: float
    train_accuracy: float | None = None
    losses: Mapping[str, float] = field(default_factory=dict)


def best(curves: Sequence[Epoch]) -> Epoch:
    """The epoch of the least validation loss, the earliest of equals."""
    return min(curves, key=lambda row: row.validation_loss)
