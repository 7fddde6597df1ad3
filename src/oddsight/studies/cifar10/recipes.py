"""What a study of known classes trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """One way to a classifier."""

    name: str  # What users call it
    title: str  # For people
    description: str  # What it is, in a sentence or two
    # `probe` for a head on frozen features, otherwise as in
    # oddsight.training.classifier_settings.ClassifierSettings
    network: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # To the network's settings
    start: str | None = None  # The recipe whose trained network this one starts from
    # Recipes, all from one start, whose trained networks this one is the average of; it trains nothing
    members: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The recipes that have to be trained before."""
        return (*((self.start,) if self.start is not None else ()), *self.members)


PROBE = "probe"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "textbook",
            "Textbook network",
            "Three convolutions with pooling between them and one dense layer, trained by Adam without "
            "augmentation, as in many a tutorial: what the others gain is measured against it.",
            "textbook",
        ),
        Recipe(
            "compact",
            "Compact network from scratch",
            "Whitened 3 x 3 patches, then three stages of two convolutions each (64, 128 and 256 channels) with batch "
            "normalisation; AdamW on one cycle, label smoothing, flips, small shifts and cutout, smaller images in "
            "the first half of the epochs, averaged weights; its answers are averaged over an image and its "
            "mirror image.",
            "compact",
        ),
        Recipe(
            "wide",
            "Wider network from scratch",
            "The compact network with more channels (64, 256 and 256) and so almost twice the work, "
            "trained alike for fewer epochs.",
            "wide",
        ),
        Recipe(
            "wide-longer",
            "Wider network, trained for longer",
            "The wider network, trained for twelve more epochs on a cycle of their own, with larger shifts and a "
            "larger weight decay.",
            "wide",
            {"epochs": 12, "shift": 0.1, "weight_decay": 0.3},
            "wide",
        ),
        Recipe(
            "probe",
            "Linear probe",
            "Logistic regression on the frozen features of EfficientNet-Lite0 (ImageNet): the quick baseline, "
            "which needs no training of a network.",
            PROBE,
        ),
        Recipe(
            "fine-tuned",
            "Fine-tuned EfficientNet-Lite0",
            "The same network, fine-tuned with its batch statistics as they are: AdamW on one cycle, flips, shifts and "
            "cutout, small images in the first half of the epochs and larger ones in the last, averaged weights.",
            "efficientnet-lite0",
        ),
        Recipe(
            "longer",
            "Fine-tuned for longer",
            "The fine-tuned network, trained for five more epochs of larger images, on a cycle of their own; its "
            "answers are averaged over an image and its mirror image.",
            "efficientnet-lite0",
            {"epochs": 5, "first_size": 0, "learning_rate": 4e-4, "mirrored": True},
            "fine-tuned",
        ),
        Recipe(
            "varied",
            "Fine-tuned on varied images",
            "The fine-tuned network, trained for four more epochs of larger images, which are also turned a little "
            "and changed in colour; its answers are averaged over an image and its mirror image.",
            "efficientnet-lite0",
            {
                "epochs": 4,
                "first_size": 0,
                "learning_rate": 4e-4,
                "augment": ("flip", "crop", "cutout", "rotation", "colour"),
                "mirrored": True,
            },
            "fine-tuned",
        ),
        Recipe(
            "outliers",
            "Fine-tuned, then with outliers",
            "The fine-tuned network, trained for one more epoch in which it is also to be undecided about "
            "images that are mixed from training images of different classes (outlier exposure with surrogates; no "
            "other images are used).",
            "efficientnet-lite0",
            {"extras": ("outliers",), "epochs": 1, "first_size": 0, "learning_rate": 2e-4},
            "fine-tuned",
        ),
        Recipe(
            "rotation",
            "Fine-tuned, then with rotations",
            "The fine-tuned network, trained for one more epoch in which it also learns which way up images are.",
            "efficientnet-lite0",
            {"extras": ("rotation",), "epochs": 1, "first_size": 0, "learning_rate": 2e-4},
            "fine-tuned",
        ),
        Recipe(
            "logitnorm",
            "Fine-tuned, then with LogitNorm",
            "The fine-tuned network, trained for one more epoch on the cross-entropy of normalised logits.",
            "efficientnet-lite0",
            {"loss": "logitnorm", "epochs": 1, "first_size": 0, "learning_rate": 2e-4},
            "fine-tuned",
        ),
        Recipe(
            "soup",
            "Average of fine-tuned networks",
            "One network whose weights are the mean of those of the fine-tuned network and of what it became in a "
            "longer training (a model soup, Wortsman et al., ICML 2022); its answers are averaged over an image and "
            "its mirror image.",
            "efficientnet-lite0",
            {"mirrored": True},
            members=("fine-tuned", "longer"),
        ),
        Recipe(
            "soup-of-three",
            "Average of three fine-tuned networks",
            "The same, with what the fine-tuned network became on varied images as a third.",
            "efficientnet-lite0",
            {"mirrored": True},
            members=("fine-tuned", "longer", "varied"),
        ),
        Recipe(
            "larger",
            "Fine-tuned on larger images",
            "The average of three fine-tuned networks, trained for two more epochs on images of 128 pixels; its "
            "answers are averaged over an image and its mirror image.",
            "efficientnet-lite0",
            {"size": 128, "epochs": 2, "first_size": 0, "learning_rate": 3e-4, "mirrored": True},
            "soup-of-three",
        ),
    )
}
