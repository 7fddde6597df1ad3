"""How a classifier is trained. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from oddsight.runtime.bounds import Choice, Each, Flag, NonNegative, Real, Text, Whole
from oddsight.training.settings import AUGMENTATIONS, PRECISIONS, TrainingSettings

NETWORKS = ("compact", "wide", "textbook")
"""Networks that start from scratch; any other name is a backbone's, which is fine-tuned."""

SHIFT = 0.125  # By how much `crop` moves an image at most where nothing else is said, as a share of its side

MOST_PIXELS = 4096  # The longest side of what a classifier reads

OPTIMIZERS = ("adam", "adamw")
LOSSES = ("cross-entropy", "logitnorm")
EXTRAS = ("rotation", "outliers")


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(TrainingSettings):
    """All that decides what a classifier learns, beside the images.

    Attributes:
        network: ``compact``, ``wide``, ``textbook``, or the name of a backbone.
        size: Side in pixels of what it reads.
        first_size: Side in the first half of the epochs, rounded down, which saves time; 0 for the same throughout.
        epochs: How often each image is seen.
        optimizer: ``adam`` or ``adamw``.
        learning_rate: The largest; one cycle leads up to it and down to zero, except for ``adam``, where it stays.
        head_rate: The rate of the linear head, as a multiple of the network's.
        weight_decay: Of the matrices; scales, shifts and biases have none.
        label_smoothing: From 0 to below 1.
        shift: By how much ``crop`` moves an image at most, as a share of its side: above 0, at most 0.5.
        averaging: Decay of the moving average of weights, which is what is kept; 0 keeps the last weights.
        loss: ``cross-entropy``, or ``logitnorm`` (Wei et al., Mitigating neural network overconfidence with logit
            normalization, ICML 2022).
        extras: What is learned besides. ``rotation``: which way up an image is (Hendrycks et al., Using self-supervised
            learning can improve model robustness and uncertainty, NeurIPS 2019). ``outliers``: to be undecided about
            images mixed from several classes (outlier exposure, Hendrycks et al., ICLR 2019, with surrogates that
            are made of the training images, as none but them is needed).
        extra_weight: Of the losses of the extras.
        mirrored: Whether answers are the mean of those to an image and to its mirror image; this takes twice as long.
        precision: ``auto`` is half precision where the device has units for it and the network gains by it.
    """

    network: Annotated[str, Text()]
    size: Annotated[int, Whole(8, MOST_PIXELS, label="size")]
    batch_size: Annotated[int, Whole(2, label="batch size")]
    optimizer: Annotated[str, Choice("optimizer", OPTIMIZERS)]
    weight_decay: NonNegative
    head_rate: Annotated[float, Real(above=0, label="rate of the head")] = 1.0
    first_size: Annotated[int, Whole(0, MOST_PIXELS, label="first size")] = 0
    label_smoothing: Annotated[float, Real(least=0, below=1)] = 0.0
    augment: Annotated[tuple[str, ...], Each(Choice("augmentation", AUGMENTATIONS))] = ("flip", "crop")
    shift: Annotated[float, Real(above=0, most=0.5)] = SHIFT
    averaging: Annotated[float, Real(least=0, below=1)] = 0.995
    loss: Annotated[str, Choice("loss", LOSSES)] = "cross-entropy"
    extras: Annotated[tuple[str, ...], Each(Choice("extra", EXTRAS))] = ()
    extra_weight: Annotated[float, Real(least=0, label="weight of the extras")] = 0.5
    mirrored: Annotated[bool, Flag()] = False
    precision: Annotated[str, Choice("precision", ("auto", *PRECISIONS))] = "auto"

    @property
    def from_scratch(self) -> bool:
        """Whether the network starts without knowledge."""
        return self.network in NETWORKS

    def size_in(self, epoch: int) -> int:
        """Side in pixels in an epoch, counted from 0."""
        return self.first_size if self.first_size and epoch < self.epochs // 2 else self.size


def classifier_settings(network: str, **changes: Any) -> ClassifierSettings:  # noqa: ANN401 - of any field
    """The recipe of a network (``compact``, ``wide``, ``textbook`` or a backbone), with changes that are not None."""
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(_RECIPES.get(network, _FINE_TUNING), network=network, **given)


_COMPACT = ClassifierSettings(
    network="compact",
    size=32,
    first_size=24,
    epochs=23,
    batch_size=256,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=0.1,
    label_smoothing=0.1,
    augment=("flip", "crop", "cutout"),
    shift=0.0625,
    mirrored=True,
)

_RECIPES = {
    "compact": _COMPACT,
    "wide": replace(_COMPACT, network="wide", epochs=18),
    # As in the tutorials of Keras and TensorFlow.
    "textbook": ClassifierSettings(
        network="textbook",
        size=32,
        epochs=10,
        batch_size=64,
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        augment=(),
        averaging=0.0,
        precision="32-true",
    ),
}

_FINE_TUNING = ClassifierSettings(
    network="efficientnet-lite0",
    size=96,
    first_size=64,
    epochs=8,
    batch_size=128,
    optimizer="adamw",
    learning_rate=5e-4,
    head_rate=5.0,
    weight_decay=0.02,
    augment=("flip", "crop", "cutout"),
)
