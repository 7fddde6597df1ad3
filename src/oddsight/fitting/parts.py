"""Labelled images, divided for learning, for probabilities and for thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oddsight.data.class_images import ClassImages, folds, repeats, stratified
from oddsight.data.collection import ImageFile, count_groups, one_of_each
from oddsight.errors import DataError, plain
from oddsight.fitting.plan import FOLDS
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
    # For thresholds and p-values, and nothing else: one image of each group that was kept out for that. If the kind is
    # "cross", one of each group of those learned from that a fold can do without
    calibration: ClassImages
    duplicates: int  # Images that occurred again and were left out
    held: int  # How many images these groups hold, `calibration` among them
    kind: Literal["split", "cross"] = "split"  # See `oddsight.model.sections.CalibrationInfo`
    fold: NDArray[np.int64] | None = None  # Of what is learned from, see `fold_of`; None if some is for validation

    @property
    def images(self) -> tuple[ImageFile, ...]:
        """The images of all parts, each once."""
        apart = self.calibration.images if self.kind == "split" else ()
        return (*self.training.images, *self.validation.images, *apart)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over classes, contents and labels of all parts, hex."""
        apart = [self.calibration.labels] if self.kind == "split" else []
        labels = np.concatenate([self.training.labels, self.validation.labels, *apart])
        return ClassImages(self.images, labels, self.training.classes).fingerprint

    @property
    def calibrated(self) -> NDArray[np.intp]:
        """If the kind is "cross": where among those learned from the images for calibration are."""
        places = {image.content: at for at, image in enumerate(self.training.images)}
        return np.array([places[image.content] for image in self.calibration.images], np.intp)


def divide_classes(data: ClassImages, fraction: float, seed: int, *, validated: bool = True) -> Parts:
    """Divide labelled images class by class: a share ``fraction`` for calibration and as many for validation.

    Without ``validated``, what would be for validation is for training, and the share may be 0: images are then
    calibrated on in folds, and learned from as well. Images of one group are not divided, and calibration takes one of
    each group.

    Raises:
        DataError: Too few images or classes for that, or one image in two classes.
    """
    check_number(fraction, "the calibration fraction")
    if not fraction and validated:
        raise DataError("a network that is trained needs images held out: choose a calibration fraction above 0")
    if not 0 <= fraction < 0.5:
        raise DataError(f"the calibration fraction must lie from 0 to below 0.5, not {fraction:g}")
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
    if not fraction:
        return _in_folds(distinct, len(data), seed)
    rest, held = stratified(distinct, fraction, seed)
    training, validation = stratified(rest, fraction / (1 - fraction) if validated else 0.0, seed)
    if count_groups(distinct.images) < len(distinct):
        _check_groups(training)
    if not min(training.counts().values()):
        raise DataError(f"a calibration fraction of {fraction:g} leaves no images to train on: choose a smaller one")
    fold = None if validated else fold_of(training, seed)
    return Parts(training, validation, _one_of_each(held, seed), len(data) - len(distinct), len(held), fold=fold)


def fold_of(training: ClassImages, seed: int) -> NDArray[np.int64]:
    """In which of five folds each image is ``[n]``; -1 if without its fold a class had no images."""
    fold = folds(training, FOLDS, seed)
    for number in range(FOLDS):
        if not min(training.subset(np.flatnonzero(fold != number)).counts().values()):
            fold[fold == number] = -1
    return fold


def _in_folds(training: ClassImages, count: int, seed: int) -> Parts:
    fold = fold_of(training, seed)
    held = training.subset(np.flatnonzero(fold >= 0))
    _check_groups(held)
    duplicates = count - len(training)
    return Parts(training, training.subset([]), _one_of_each(held, seed), duplicates, len(held), "cross", fold)


def _check_groups(part: ClassImages) -> None:
    for name, count in part.counts().items():
        if not count:
            raise DataError(
                f"the images of {plain(name)} are in too few groups to train on some and calibrate on others"
            )


def _one_of_each(images: ClassImages, seed: int) -> ClassImages:
    """One image of each group."""
    drawn = {image.content for image in one_of_each(images.images, seed)}
    return images.subset([at for at, image in enumerate(images.images) if image.content in drawn])


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
