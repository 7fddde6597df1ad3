"""How a backbone is adapted, and what became of it epoch by epoch. Needs no PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from oddsight.errors import OddsightError

OBJECTIVES = ("classes", "rotation", "simsiam")
AUGMENTATIONS = ("rotation", "flip", "crop", "colour")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")

DEFAULT_AUGMENT = ("flip", "crop", "colour")


@dataclass(frozen=True)
class Settings:
    """All that decides what is learnt, beside the images; see :func:`oddsight.networks.adapting.adapt`.

    Raises:
        OddsightError: If a setting cannot work.
    """

    backbone: str
    objective: str
    epochs: int
    learning_rate: float
    batch_size: int
    size: int
    freeze: str | None
    augment: tuple[str, ...]
    patience: int
    validation: float
    precision: str
    seed: int

    def __post_init__(self) -> None:
        _require_known("objective", self.objective, OBJECTIVES)
        _require_known("precision", self.precision, PRECISIONS)
        for name in self.augment:
            _require_known("augmentation", name, AUGMENTATIONS)
        for what, value, least in (
            ("number of epochs", self.epochs, 1),
            ("batch size", self.batch_size, 1),
            ("patience", self.patience, 1),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise OddsightError(f"the {what} must be {least} or more, not {value}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise OddsightError(f"the learning rate must be above 0, not {self.learning_rate:g}")
        if not 0 < self.validation < 1:
            raise OddsightError(f"the validation share must be above 0 and below 1, not {self.validation:g}")
        self._check_objective()

    def _check_objective(self) -> None:
        if self.objective == "rotation" and "rotation" in self.augment:
            raise OddsightError(
                "pictures that are turned at random cannot teach rotation: leave rotation out of the augmentation, or "
                "choose another objective"
            )
        if self.objective == "simsiam" and not {"crop", "colour"} & set(self.augment):
            raise OddsightError("simsiam compares two versions of a picture: its augmentation needs crop or colour")
        if self.objective == "simsiam" and self.batch_size < 2:
            raise OddsightError("simsiam takes a batch size of 2 or more")


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


class Bounds(Protocol):
    """How long a training lasts."""

    @property
    def epochs(self) -> int:
        """At most."""

    @property
    def patience(self) -> int:
        """Epochs without a lower validation loss."""


def best(curves: Sequence[Epoch]) -> Epoch:
    """The epoch of the least validation loss, the earliest of equals."""
    return min(curves, key=lambda row: row.validation_loss)


def finished(curves: Sequence[Epoch], settings: Bounds) -> bool:
    """Whether all epochs have passed, or as many as the patience allows without a better one."""
    if not curves:
        return False
    return len(curves) >= settings.epochs or len(curves) - best(curves).epoch >= settings.patience


def _require_known(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise OddsightError(f"no {what} {name!r}: there are {', '.join(names)}")
