"""One image of a source: what to read, what to call it, and where it stands in time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.images import as_image, read_valid_image
from oddsight.data.opening import MAX_PIXELS
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import ImageError

ImageLike = str | os.PathLike[str] | NDArray[np.generic] | Image.Image
"""An image: a path, an array uint8 ``[H, W, 3]`` (or grey, or with alpha), or a Pillow image."""

KINDS = "a path, a NumPy array or a Pillow image"


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a source, decoded where and when it is read. It can be pickled, best with a path or encoded bytes.

    Attributes:
        image: A path, the content of an image file, an array or a Pillow image.
        name: What to call it in results; by default its path, if it has one.
        time: Seconds since the source began, or None.
        index: Its number in the source, from 0, or None.
    """

    image: ImageLike | bytes
    name: str | None = None
    time: float | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        if self.name is None and isinstance(self.image, str | os.PathLike):
            object.__setattr__(self, "name", os.fspath(self.image))

    @property
    def path(self) -> Path | None:
        """Its file, if it is one."""
        return Path(self.image) if isinstance(self.image, str | os.PathLike) else None

    def read(self, reading: Reading = AS_DECLARED, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """The pixels, uint8 RGB ``[H, W, 3]``.

        Args:
            reading: Which bands and values of a TIFF file to take.
            max_pixels: Width times height beyond which a file is refused before it is decoded.

        Raises:
            ImageError: If it cannot be read.
        """
        return self.read_valid(reading, max_pixels=max_pixels)[0]

    def read_valid(
        self, reading: Reading = AS_DECLARED, *, max_pixels: int = MAX_PIXELS
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """As :meth:`read`, with which pixels hold something, ``[H, W]``; None if all do."""
        if isinstance(self.image, str | os.PathLike):
            return read_valid_image(self.image, reading=reading, max_pixels=max_pixels)
        if isinstance(self.image, bytes):
            return read_valid_image(self.image, self.name, reading=reading, max_pixels=max_pixels)
        try:
            return as_image(self.image), None
        except ImageError as error:
            raise ImageError(self.name or error.path, error.reason) from None


def is_image(value: object) -> bool:
    """Whether something is one image: a frame, a path, an array of at most three axes, or a Pillow image."""
    if isinstance(value, np.ndarray):
        return value.ndim != 4
    return isinstance(value, str | os.PathLike | Image.Image | Frame)


def as_frame(image: object) -> Frame:
    """A frame of an image; a frame stays as it is."""
    if isinstance(image, Frame):
        return image
    if isinstance(image, str | os.PathLike | np.ndarray | Image.Image):
        return Frame(image)
    raise ImageError("an image", f"it is given as {KINDS}, not as a {type(image).__name__}")
