"""Anomaly maps of test images against their masks, read back from the file where scoring left them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.mask_files import read_mask
from oddsight.data.masks import MaskLook
from oddsight.metrics.pixel import PixelScores, pixel_metrics


class Mapped(NamedTuple):
    """A test image whose map was written: its ``(width, height)``, whether it is anomalous, and its mask, if any."""

    size: tuple[int, int]
    anomalous: bool
    mask: MaskLook | None

    @property
    def marked(self) -> MaskLook | None:
        """The mask, if it marks anything."""
        return self.mask if self.mask is not None and self.mask.share > 0 else None


def map_metrics(
    maps: IO[bytes], grid: tuple[int, int] | None, images: Sequence[Mapped], *, limit: float = 0.3
) -> PixelScores | None:
    """Metrics of the maps of images, or None without maps or masks; anomalous images without a mask are left out.

    Args:
        maps: The maps of all images, float32, one after the other.
        grid: Their height and width; None if there are none.
        images: In the order of the maps.
        limit: As for :func:`oddsight.metrics.pixel.pixel_metrics`.
    """
    if grid is None or not any(image.marked for image in images):
        return None

    def pairs() -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        maps.seek(0)
        for image in images:
            values = np.frombuffer(maps.read(4 * grid[0] * grid[1]), np.float32).reshape(grid)
            if not image.anomalous:
                yield upscaled(values, image.size), np.zeros(image.size[::-1], bool)
            elif image.marked is not None:
                yield upscaled(values, image.size), read_mask(image.marked.path, image.size, turn=image.marked.turn)

    return pixel_metrics(pairs, limit=limit)


def upscaled(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map ``[h, w]`` brought to ``size`` (width, height) bilinearly: ``[height, width]``."""
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR), np.float32)
