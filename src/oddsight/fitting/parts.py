"""Labelled images, divided for learning, for probabilities and for thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oddsight.data.class_images import ClassImages, repeats, stratified
from oddsight.data.collection import ImageFile, count_groups, one_of_each
from oddsight.errors import DataError, plain
from oddsight.model.result import NONE_OF_THESE
from oddsight.runtime.bounds import check_number

_LONGEST = 1000
"""Letters in the name of a class, at most."""


@dataclass(frozen=True)
class Parts:
    """Labelled images, divided class by class; each part is ordered by content."""

    training: ClassImages  # Learned from
    # To watch a training by, and to fit the temperature of the probabilities; a probe needs none
    validation: ClassImages
    # For thresholds and p-values, and nothing else: one image of each group that was kept out for that
    calibration: ClassImages
    duplicates: int  # Images that occurred again and were left out
    held: int  # How many images these groups hold, `calibration` among them

    @property
    def images(self) -> tuple[ImageFile, ...]:
        """The images of all parts."""
        return (*self.training.images, *self.validation.images, *self.calibration.images)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over classes, contents and labels of all parts, hex."""
        labels = np.concatenate([part.labels for part in (self.training, self.validation, self.calibration)])
        return ClassImages(self.images, labels, self.training.classes).fingerprint


def divide_classes(data: ClassImages, fraction: float, seed: int, *, validated: bool = True) -> Parts:
    """Divide labelled images class by class: a share ``fraction`` for calibration and as many for validation.

    Without ``validated``, what would be for validation is for training. Images of one group are not divided, and
    calibration takes one of each group.

    Raises:
        DataError: Too few images or classes for that, or one image in two classes.
    """
    check_number(fraction, "the calibration fraction")
    if not 0 < fraction < 0.5:
        raise DataError(f"the calibration fraction must lie above 0 and below 0.5, not {fraction:g}")
    _check_names(data.classes)
    for repeat in repeats({"train": data}):
        if repeat.contradicts:
            where = " and ".join(place.name for place in repeat.places[:2])
            raise DataError(f"{where} are the same image in different classes")
    firsts = {image.content: index for index, image in reversed(list(enumerate(data.images)))}
    distinct = data.subset([firsts[content] for content in sorted(firsts)])
    few = [name for name, count in distinct.counts().items() if count < 3]
    if len(distinct.classes) < 2 or few:
        what = f"the class {plain(few[0])} has fewer than 3 distinct images" if few else "there is only one class"
        raise DataError(f"{what}, and training needs two or more with at least 3 each")
    rest, calibration = stratified(distinct, fraction, seed)
    training, validation = stratified(rest, fraction / (1 - fraction) if validated else 0.0, seed)
    for name, count in training.counts().items():
        if not count and count_groups(distinct.images) < len(distinct):
            raise DataError(
                f"the images of {plain(name)} are in too few groups to train on some and calibrate on others"
            )
        if not count:
            raise DataError(
                f"a calibration fraction of {fraction:g} leaves no images to train on: choose a smaller one"
            )
    drawn = {image.content for image in one_of_each(calibration.images, seed)}
    chosen = calibration.subset([at for at, image in enumerate(calibration.images) if image.content in drawn])
    return Parts(training, validation, chosen, len(data) - len(distinct), len(calibration))


def _check_names(classes: Sequence[str]) -> None:
    """Refuse names that a model file cannot hold, or that look like another verdict."""
    for name in classes:
        if name.strip().lower() == NONE_OF_THESE:
            raise DataError(f"a class is called {plain(name)!r}, which is the verdict on images of no class: rename it")
        if not name.strip() or len(name) > _LONGEST or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(
                f"the name of a class, {plain(name)[:40]!r}, is empty, longer than {_LONGEST:,} letters, or not text: "
                "rename it"
            )
