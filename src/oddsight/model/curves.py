"""Learning curves of a trained network, as a model file keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """One row of the learning curves."""

    epoch: int  # From 1
    train_loss: float  # Mean over the epoch
    validation_loss: float  # At its end
    accuracy: float | None  # On the validation images, 0 to 1; None for an objective without right answers
    learning_rate: float  # Of the backbone, when the epoch ended
    seconds: float  # That it took; 0 where that is not kept, as in a model file
    # On the training images as they were shown, changed at random; None where it is not kept
    train_accuracy: float | None = None
    # Means over the epoch of the parts of the loss that have names, such as a generator's
    losses: Mapping[str, float] = field(default_factory=dict)


def best(curves: Sequence[Epoch]) -> Epoch:
    """The epoch of the least validation loss, the earliest of equals."""
    return min(curves, key=lambda row: row.validation_loss)
