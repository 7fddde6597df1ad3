"""One split of a dataset: images, and what is known about each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.data.masks import MaskCoverage, MaskLook
from oddsight.errors import DataError, ImageError, plain

NORMAL = ""  # What the class of normal images is called beside types of anomaly: as no folder can be


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images of one split, in the order of their source. The same image may occur more than once.

    Attributes:
        images: The images, each uint8 ``[H, W, 3]`` when read; sizes may differ. Each knows its group.
        labels: Index of each image's class, int64 ``[N]``.
        classes: Distinct names of the classes; a split need not have images of each. Where normal images are among
            anomalous ones of several types, the first class is :data:`NORMAL`.
        errors: Images and masks that could not be read. Such images are not among ``images``.
        masks: The mask of each image, or None where it has none; empty where masks mean nothing.
        coverage: What is known of the masks, or None if there are none.
        ignored: Number of other files where the images were found.

    Raises:
        DataError: There are not as many labels as images, a label is not the index of a class, or two classes share a
            name.
    """

    images: tuple[ImageFile, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    errors: tuple[ImageError, ...] = ()
    masks: tuple[MaskLook | None, ...] = ()
    coverage: MaskCoverage | None = None
    ignored: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64).reshape(-1))
        twice = [plain(name) for name, count in Counter(self.classes).items() if count > 1]
        if twice:
            raise DataError(f"two classes are called {twice[0]!r}")
        if len(self.labels) != len(self.images):
            raise DataError(f"there are {len(self.images):,} images but {len(self.labels):,} labels")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            outside = next(int(label) for label in self.labels if not 0 <= label < len(self.classes))
            raise DataError(f"a label is {outside}, but the {len(self.classes)} classes count from 0")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | NDArray[np.intp]) -> Dataset:
        """Select images, in the order of ``indices``; errors and masks are left out."""
        at = np.asarray(indices, np.intp).reshape(-1)
        return Dataset(tuple(self.images[index] for index in at.tolist()), self.labels[at], self.classes)

    def counts(self) -> dict[str, int]:
        """Number of images of each class, by name."""
        counted = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counted, strict=True))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over classes, contents and labels, in hex: the same for the same images in any order or form."""
        rows = sorted(f"{image.content} {label}" for image, label in zip(self.images, self.labels, strict=True))
        state = repr((self.classes, rows))
        return hashlib.sha256(state.encode("utf-8", "backslashreplace")).hexdigest()

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """Which images are not :data:`NORMAL`, ``[N]``."""
        return np.greater(self.labels, 0)

    @property
    def kinds(self) -> list[str | None]:
        """The type of anomaly of each image, or None for a normal one."""
        return [self.classes[label] or None for label in self.labels.tolist()]
