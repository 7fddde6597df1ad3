"""Decoded images whose rows are brought to RGB when they are asked for, so that no copy of the whole is made."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.failures import name_failures
from oddsight.data.pixels import orientation_of, to_rgb


class RowImage(Protocol):
    """An image that is read by rows.

    Attributes:
        size: Width and height in pixels, upright.
        bytes_held: What it takes in memory.
    """

    size: tuple[int, int]
    bytes_held: int

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Some rows of what :func:`oddsight.data.images.read_image` returns, ``[bottom - top, width, 3]``."""
        ...


class DecodedImage:
    """What Pillow decoded; a :class:`RowImage`."""

    def __init__(self, image: Image.Image, name: str) -> None:
        self._image, self._name = image, name
        self._orientation = orientation_of(image.getexif)
        self.size = image.size if self._orientation < 5 else (image.height, image.width)
        self.bytes_held = image.width * image.height * (1 if image.mode in ("1", "L", "P") else 4)

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """See :class:`RowImage`."""
        width, height = self.size
        if self._orientation in (3, 4, 7, 8):  # its last rows, or columns, are the first
            top, bottom = height - bottom, height - top
        box = (0, top, width, bottom) if self._orientation < 5 else (top, 0, bottom, width)
        with name_failures(self._name):
            return to_rgb(self._image.crop(box), self._name)  # which turns it, as a part keeps what the image declares
