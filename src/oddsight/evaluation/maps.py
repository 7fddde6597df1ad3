"""Anomaly maps of test images against their masks, read back from the file where scoring left them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.dataset import Dataset
from oddsight.data.mask_files import read_mask
from oddsight.metrics.pixel import PixelScores, pixel_metrics


def map_metrics(
    maps: IO[bytes], grid: tuple[int, int] | None, data: Dataset, *, limit: float = 0.3
) -> PixelScores | None:
    """Metrics of the maps of images, or None without maps or masks; anomalous images without a mask are left out.

    The file holds the maps of all images, float32 with ``grid`` rows and columns, one after the other.
    """
    if grid is None or data.coverage is None or not data.coverage.used:
        return None

    def pairs() -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        maps.seek(0)
        for image, anomalous, mask in zip(data.images, data.anomalous, data.masks, strict=True):
            values = np.frombuffer(maps.read(4 * grid[0] * grid[1]), np.float32).reshape(grid)
            size = (image.width, image.height)
            if not anomalous:
                yield upscaled(values, size), np.zeros(size[::-1], bool)
            elif mask is not None and mask.share > 0:
                yield upscaled(values, size), read_mask(mask.path, size, turn=mask.turn)

    return pixel_metrics(pairs, limit=limit)


def upscaled(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map ``[h, w]`` brought to ``size`` (width, height) bilinearly: ``[height, width]``."""
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR), np.float32)
