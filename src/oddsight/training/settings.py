"""How a backbone is adapted, and what became of it epoch by epoch. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch, best
from oddsight.runtime.bounds import LARGEST_SEED, Choice, Each, Positive, Real, Text, Whole, check_settings

OBJECTIVES = ("classes", "rotation", "simsiam")
AUGMENTATIONS = ("rotation", "flip", "crop", "colour")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")

DEFAULT_AUGMENT = ("flip", "crop", "colour")


@dataclass(frozen=True)
class Settings:
    """All that decides what is learned, beside the images; see :func:`oddsight.training.adapting.adapt`.

    Raises:
        OddsightError: If a setting cannot work.
    """

    backbone: Annotated[str, Text()]
    objective: Annotated[str, Choice("objective", OBJECTIVES)]
    epochs: Annotated[int, Whole(label="number of epochs")]
    learning_rate: Positive
    batch_size: Annotated[int, Whole(label="batch size")]
    size: Annotated[int, Whole(label="size")]
    freeze: str | None
    augment: Annotated[tuple[str, ...], Each(Choice("augmentation", AUGMENTATIONS))]
    patience: Annotated[int, Whole(label="patience")]
    validation: Annotated[float, Real(above=0, below=1, label="validation share")]
    precision: Annotated[str, Choice("precision", PRECISIONS)]
    seed: Annotated[int, Whole(0, LARGEST_SEED, label="seed")]

    def __post_init__(self) -> None:
        check_settings(self, article="the ")
        self._check_objective()

    def _check_objective(self) -> None:
        if self.objective == "rotation" and "rotation" in self.augment:
            raise OddsightError(
                "images that are turned at random cannot teach rotation: leave rotation out of the augmentation, or "
                "choose another objective"
            )
        if self.objective == "simsiam" and not {"crop", "colour"} & set(self.augment):
            raise OddsightError("simsiam compares two versions of an image: its augmentation needs crop or colour")
        if self.objective == "simsiam" and self.batch_size < 2:
            raise OddsightError("simsiam takes a batch size of 2 or more")


class Bounds(Protocol):
    """How long a training lasts."""

    @property
    def epochs(self) -> int:
        """At most."""

    @property
    def patience(self) -> int:
        """Epochs without a lower validation loss."""


def finished(curves: Sequence[Epoch], settings: Bounds) -> bool:
    """Whether all epochs have passed, or as many as the patience allows without a better one."""
    if not curves:
        return False
    return len(curves) >= settings.epochs or len(curves) - best(curves).epoch >= settings.patience
