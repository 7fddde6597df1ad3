"""Scores of image files by a finished model, on every core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.model.model import Model
from oddsight.model.regions import pixel_levels
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, track


@dataclass(frozen=True)
class Scores:
    """What a model says of images: scores ``[n]``, predicted classes if it knows any, levels of pixels of its maps."""

    values: NDArray[np.float32]
    labels: tuple[int | None, ...]
    levels: NDArray[np.float32]

    def decisions(self, model: Model) -> list[tuple[bool, int | None]]:
        """Whether each image is flagged at the thresholds of a model; if not, its class."""
        flags = [
            bool(value > model.threshold_for(label)) for value, label in zip(self.values, self.labels, strict=True)
        ]
        return [(flag, None if flag else label) for flag, label in zip(flags, self.labels, strict=True)]


@dataclass(frozen=True, eq=False)
class _Scoring:
    """A job: from an image to its score, its predicted class and the levels of its pixels."""

    model: Model

    def __call__(self, image: ImageFile) -> tuple[float, str | None, tuple[float, ...]]:
        result = self.model.score(image.read(), source=str(image.path), one_core=True)
        return result.score, result.label, () if result.map is None else pixel_levels(result.map)


def score(model: Model, images: Sequence[ImageFile], progress: Progress) -> Scores:
    """Score images."""
    rows = list(track(map_jobs(_Scoring(model), images), "scoring", len(images), progress))
    labels = tuple(None if name is None else model.classes.index(name) for _, name, _ in rows)
    scores, levels = ([row[column] for row in rows] for column in (0, 2))
    return Scores(np.array(scores, np.float32), labels, np.array(levels, np.float32))
