"""Labelled images, divided for learning, for probabilities and for thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oddsight.bounds import check_number
from oddsight.datasets.class_images import ClassImages, repeats, stratified
from oddsight.datasets.collection import ImageFile
from oddsight.errors import DataError, plain
from oddsight.result import NONE_OF_THESE

_LONGEST = 1000
"""Letters in the name of a class, at most."""


@dataclass(frozen=True)
class Parts:
    """Labelled images, divided class by class; each part is ordered by content.

    Attributes:
        training: Learnt from.
        validation: To watch a training by, and to fit the temperature of the probabilities.
        calibration: For thresholds and p-values, and nothing else.
        duplicates: Pictures that occurred again and were left out.
    """

    training: ClassImages
    validation: ClassImages
    calibration: ClassImages
    duplicates: int

    @property
    def images(self) -> tuple[ImageFile, ...]:
        """Of all parts."""
        return (*self.training.images, *self.validation.images, *self.calibration.images)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over classes, contents and labels of all parts, hex."""
        labels = np.concatenate([part.labels for part in (self.training, self.validation, self.calibration)])
        return ClassImages(self.images, labels, self.training.classes).fingerprint


def divided(data: ClassImages, fraction: float, seed: int) -> Parts:
    """Divide labelled images class by class: a share ``fraction`` for calibration and as many for validation.

    Raises:
        DataError: Too few images or classes for that, or one picture in two classes.
    """
    check_number(fraction, "the calibration fraction")
    if not 0 < fraction < 0.5:
        raise DataError(f"the calibration fraction must lie above 0 and below 0.5, not {fraction:g}")
    _check_names(data.classes)
    for repeat in repeats({"train": data}):
        if repeat.contradicts:
            where = " and ".join(place.name for place in repeat.places[:2])
            raise DataError(f"{where} are the same picture in different classes")
    firsts = {image.content: index for index, image in reversed(list(enumerate(data.images)))}
    distinct = data.subset([firsts[content] for content in sorted(firsts)])
    few = [name for name, count in distinct.counts().items() if count < 3]
    if len(distinct.classes) < 2 or few:
        what = f"the class {plain(few[0])} has fewer than 3 distinct images" if few else "there is only one class"
        raise DataError(f"{what}, and learning classes takes two or more with at least 3 each")
    rest, calibration = stratified(distinct, fraction, seed)
    training, validation = stratified(rest, fraction / (1 - fraction), seed)
    if min(training.counts().values(), default=0) < 1:
        raise DataError(f"a calibration fraction of {fraction:g} leaves nothing to learn from: choose a smaller one")
    return Parts(training, validation, calibration, len(data) - len(distinct))


def _check_names(classes: Sequence[str]) -> None:
    """Refuse names that a model file cannot hold, or that could be taken for another verdict."""
    for name in classes:
        if name.strip().lower() == NONE_OF_THESE:
            raise DataError(f"a class is called {plain(name)!r}, which is the verdict on images of no class: rename it")
        if not name.strip() or len(name) > _LONGEST or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(
                f"the name of a class, {plain(name)[:40]!r}, is empty, longer than {_LONGEST:,} letters, or no text: "
                "rename it"
            )
