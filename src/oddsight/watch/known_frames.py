"""Frames that a model was made of, which say nothing of how it does on others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import seen
from oddsight.data.images import content_hash
from oddsight.errors import DataError
from oddsight.model.model import Model

_MOST = 10
"""Different frames from which on it is footage that the model learned from, and not a black frame or a test card."""


class KnownFrames:
    """Finds the frames of a source that a model was made of: a few, such as black ones, are left out.

    Attributes:
        count: How many there were.

    Args:
        model: The model.
        advice: What to do if there are more than a few.
    """

    def __init__(self, model: Model, advice: str) -> None:
        self._known, self._advice = seen(model.metadata.training.images_seen), advice
        self._contents = set[str]()
        self.count = 0

    def __call__(self, pixels: NDArray[np.uint8], name: str | None) -> bool:
        """Whether the model was made of this frame, uint8 ``[H, W, 3]``.

        Raises:
            DataError: It was made of too many of them.
        """
        content = content_hash(pixels)
        if not self._known(content):
            return False
        self.count += 1
        self._contents.add(content)
        if len(self._contents) >= _MOST:
            raise DataError(
                f"{name} and {_MOST - 1} other frames are among the images that the model was made of{self._advice}"
            )
        return True

    def __str__(self) -> str:
        return f"frames that the model was made of were left out: {self.count:,}"
