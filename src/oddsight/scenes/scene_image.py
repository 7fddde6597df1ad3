"""Any image, a few rows at a time."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.decoded import DecodedImage, RowImage
from oddsight.data.images import decode_image, open_raster
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import ImageError
from oddsight.scenes.georeference import Georeference, georeference
from oddsight.sources.frame import Frame, ImageLike, as_frame


class SceneImage:
    """An image to be read by rows: TIFF files from the file, others once they are decoded.

    Attributes:
        source: Its path or name, or None.
        width: In pixels.
        height: In pixels.
        georeference: Where it lies on Earth, or None.
    """

    def __init__(self, image: ImageLike | Frame, reading: Reading = AS_DECLARED) -> None:
        """Open an image; see :func:`oddsight.predict_scene`."""
        frame = as_frame(image)
        self.source = frame.name
        self.georeference: Georeference | None = None
        self._raster = None
        if isinstance(frame.image, str | os.PathLike):
            self._raster = open_raster(frame.image, reading)
            if self._raster is None:
                self._decoded: RowImage = decode_image(frame.image)
        else:
            if reading.chosen and not isinstance(frame.image, bytes):
                raise ImageError(frame.name or "an array", "bands and a scale are only for TIFF files")
            self._decoded = DecodedImage(Image.fromarray(frame.read(reading)), frame.name or "an array")
        if self._raster is None:
            self.width, self.height = self._decoded.size
            return
        self.width, self.height = self._raster.width, self._raster.height
        if self._raster.page.orientation == 1:
            with suppress(ValueError):  # where it is damaged, outlines are in pixels
                self.georeference = georeference(self._raster.page.places)

    @property
    def leaves_out(self) -> bool:
        """Whether pixels may hold nothing."""
        return self._raster is not None and self._raster.leaves_out

    def rows(self, top: int, bottom: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Rows of the image, uint8 ``[n, width, 3]``, and which pixels hold something, ``[n, width]``, or None."""
        if self._raster is not None:
            return self._raster.rows(top, bottom)
        return self._decoded.rows(top, bottom), None

    def reduced(self, side: int) -> NDArray[np.uint8]:
        """A copy of at most that many pixels on each side, uint8 ``[h, w, 3]``, averaged from the image."""
        if max(self.width, self.height) <= side:
            return self.rows(0, self.height)[0]
        scale = side / max(self.width, self.height)
        width, height = max(1, round(self.width * scale)), max(1, round(self.height * scale))
        copy = np.empty((height, width, 3), np.uint8)
        # A row at a time, so that the image is never whole in memory.
        for row in range(height):
            top, bottom = row * self.height // height, -(-(row + 1) * self.height // height)
            band = Image.fromarray(self.rows(top, bottom)[0])
            copy[row] = np.asarray(band.resize((width, 1), Image.Resampling.BOX))[0]
        return copy
