"""How networks are trained: what all trainings have in common, and what is special to some. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch, best
from oddsight.runtime.bounds import LARGEST_SEED, Choice, Each, Positive, Real, Text, Whole, check_settings
from oddsight.runtime.records import as_json

OBJECTIVES = ("classes", "rotation", "simsiam")
AUGMENTATIONS = ("flip", "crop", "cutout", "rotation", "colour")
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")

DEFAULT_AUGMENT = ("flip", "crop", "colour")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What every training has.

    Raises:
        OddsightError: If a setting cannot work.
    """

    epochs: Annotated[int, Whole(label="number of epochs")]  # How often each image is seen, at most
    batch_size: Annotated[int, Whole(label="batch size")]  # Images a step
    learning_rate: Positive  # The largest
    # How images are changed at random; see `oddsight.training.augmentation.augment`
    augment: Annotated[tuple[str, ...], Each(Choice("augmentation", AUGMENTATIONS))] = ()
    precision: Annotated[str, Choice("precision", PRECISIONS)] = "32-true"  # Lightning's name of it
    seed: Annotated[int, Whole(0, LARGEST_SEED, label="seed")] = 0  # Of every random choice

    def __post_init__(self) -> None:
        check_settings(self, article="the ")

    def as_json(self) -> dict[str, Any]:
        """The settings by name, as JSON can hold them."""
        return as_json(self)


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings(TrainingSettings):
    """How a backbone is adapted; see :func:`oddsight.training.adapting.adapt`."""

    backbone: Annotated[str, Text()]
    objective: Annotated[str, Choice("objective", OBJECTIVES)]
    size: Annotated[int, Whole(label="size")]
    freeze: str | None
    patience: Annotated[int, Whole(label="patience")]
    validation: Annotated[float, Real(above=0, below=1, label="validation share")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective == "rotation" and "rotation" in self.augment:
            raise OddsightError(
                "images that are turned at random cannot teach rotation: leave rotation out of the augmentation, or "
                "choose another objective"
            )
        if self.objective == "simsiam" and not {"crop", "colour"} & set(self.augment):
            raise OddsightError("simsiam compares two versions of an image: its augmentation needs crop or colour")
        if self.objective == "simsiam" and self.batch_size < 2:
            raise OddsightError("simsiam takes a batch size of 2 or more")


@dataclass(frozen=True, kw_only=True)
class PixelSettings(TrainingSettings):
    """How a network is trained on pixels."""

    method: str  # What it is for
    settings: dict[str, Any]  # All of the method's, which a training that goes on must share
    patience: int  # Epochs without a gain after which training ends
    keep_last: bool  # Whether the weights after the last epoch are kept, not those of the best


def is_finished(curves: Sequence[Epoch], epochs: int, patience: int | None) -> bool:
    """Whether all epochs have passed, or as many as the patience allows without a better one."""
    if len(curves) >= epochs:
        return True
    return bool(curves) and patience is not None and len(curves) - best(curves).epoch >= patience
