"""Frames that a model was made of, which say nothing of how it does on others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import unpacked
from oddsight.data.images import content_hash
from oddsight.errors import DataError
from oddsight.model.model import Model

_MOST, _SHARE = 10, 0.25
"""Different frames, and the share of the model's, from which on it is footage that it learned from, and not a black
frame or a test card."""


class KnownFrames:
    """Finds the frames of a source that a model was made of: a few, such as black ones, are left out.

    Attributes:
        count: How many there were.

    Args:
        model: The model.
        advice: What to do if there are more than a few.
    """

    def __init__(self, model: Model, advice: str) -> None:
        self._known, self._advice = set(unpacked(model.metadata.training.images_seen)), advice
        self._most = max(2, min(_MOST, int(_SHARE * len(self._known))))
        self._contents = set[str]()
        self.count = 0

    def __call__(self, pixels: NDArray[np.uint8], name: str | None) -> bool:
        """Whether the model was made of this frame, uint8 ``[H, W, 3]``.

        Raises:
            DataError: It was made of too many of them.
        """
        content = content_hash(pixels)[:16]
        if content not in self._known:
            return False
        self.count += 1
        self._contents.add(content)
        if len(self._contents) >= self._most:
            raise DataError(f"{name} is among the images that the model was made of, as are others: {self._advice}")
        return True

    def __str__(self) -> str:
        return f"frames that the model was made of were left out: {self.count:,}"
