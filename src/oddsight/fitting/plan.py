"""How a fit divides its images, known before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oddsight.data.collection import Collection, ImageFile, count_groups, folds, one_of_each, split
from oddsight.data.memory import MemoryPlan
from oddsight.errors import DataError
from oddsight.model.calibration import DEFAULT_RATE, advised_rate, describe_rate, images_needed, smallest_rate

FEWEST = 8
"""The fewest distinct images that a fit takes."""

_LEFT = 5
"""And that any of its folds leaves to learn from."""

_FRACTION = 0.25
FOLDS = 5


@dataclass(frozen=True)
class FitPlan:
    """What a fit is about to do, known before it starts.

    Attributes:
        collection: The images.
        training: Those it learns from.
        calibration: Those it is calibrated on: of those kept out of training, or of all if ``kind`` is ``cross``, one
            of each group.
        held: How many images these groups hold, ``calibration`` among them.
        kind: ``split`` or ``cross``, see :class:`oddsight.model.metadata.CalibrationInfo`.
        rate: The false-alarm rate of the decision.
        confidence: With which it is to hold, if that was asked for.
        memory: How the budget is divided.
        near_copies: Whether groups are of near copies that were found, rather than named.
        adapted: How many of the calibration images the backbone was adapted to: on them it may do better than on new
            ones, and the false-alarm rate is then not guaranteed.
    """

    collection: Collection
    training: Sequence[ImageFile]
    calibration: Sequence[ImageFile]
    held: int
    kind: str
    rate: float
    confidence: float | None
    memory: MemoryPlan
    near_copies: bool
    adapted: int = 0

    @property
    def groups(self) -> int | None:
        """In how many groups the calibration images come; None if each stands alone."""
        return len(self.calibration) if self.held > len(self.calibration) else None


def make_plan(
    collection: Collection,
    asked: tuple[float | None, float | None],
    fraction: float | None,
    memory: MemoryPlan,
    seed: int,
    *,
    near_copies: bool,
) -> FitPlan:
    """Divide images for learning and calibration, as :func:`oddsight.fit` describes.

    Args:
        collection: The images, with their groups.
        asked: The rate and the confidence, if any.
        fraction: Of images, or groups, kept out of training; 0 for folds.
        memory: How the budget is divided.
        seed: Of the division.
        near_copies: Whether the groups are of near copies, for what is said.

    Raises:
        DataError: If the images or groups are too few.
    """
    images, (rate, confidence) = collection.images, asked
    wanted = DEFAULT_RATE if rate is None else rate
    if fraction is None:
        enough = int(np.ceil(_FRACTION * count_groups(images))) >= images_needed(wanted, confidence)
        fraction = _FRACTION if enough else 0.0
    training, held = split(images, fraction, seed) if fraction else (list(images), list(images))
    if len(training) < FEWEST:
        raise DataError(
            f"a calibration fraction of {fraction:g} leaves {len(training)} of {len(images)} images to train on, and "
            f"training needs at least {FEWEST}"
        )
    calibration = one_of_each(held, seed)
    grouped = "; groups are of near copies, and --group-by none counts images" if near_copies else ""
    if not fraction:
        _check_folds(training, seed, grouped)
    if len(calibration) < images_needed(wanted, confidence):
        least = advised_rate(len(calibration), confidence)
        if rate is not None:
            what, more = "calibration images", "normal images"
            if len(held) > len(calibration):
                what, more = "groups of calibration images", "normal images of other groups"
            raise DataError(
                f"{describe_rate(rate, confidence)} needs at least {images_needed(rate, confidence):,} {what}, and "
                f"there are {len(calibration):,}: add {more} or ask for {least:.3g} or more"
                + grouped
                * (len(held) > len(calibration))
            )
        wanted = smallest_rate(len(calibration), confidence)
    kind = "split" if fraction else "cross"
    return FitPlan(collection, training, calibration, len(held), kind, wanted, confidence, memory, near_copies)


def _check_folds(images: Sequence[ImageFile], seed: int, grouped: str) -> None:
    """Refuse folds that would leave next to nothing to learn from, which only few or very unequal groups cause."""
    groups = count_groups(images)
    if groups < len(images):
        parts = folds(images, min(FOLDS, groups), seed)
        left = len(images) - max(map(len, parts))
        if left < _LEFT:
            raise DataError(
                f"{len(images):,} images form {groups:,} group{'s' * (groups != 1)}: without one fold of them {left:,} "
                f"images are left to train on, which needs at least {_LEFT}: add images of other groups{grouped}"
            )
