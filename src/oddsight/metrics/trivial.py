"""Trivial features of an image: what a method must beat to be worth running."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BASELINES = ("brightness", "contrast", "saturation", "gradient energy", "image size")
"""Names of what :func:`trivial_scores` returns."""

_SIDE = 256


def trivial_scores(image: NDArray[np.uint8]) -> tuple[float, ...]:
    """Mean brightness, its standard deviation, mean saturation, mean squared gradient, and the number of pixels.

    All but the last are taken on the image uint8 ``[H, W, 3]`` reduced to at most 256 pixels a side.
    """
    height, width, _ = image.shape
    small = Image.fromarray(image)
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32)
    grey = pixels.mean(axis=2)
    saturation = pixels.max(axis=2) - pixels.min(axis=2)
    energy = sum(float(np.square(np.diff(grey, axis=axis)).mean()) for axis in (0, 1) if grey.shape[axis] > 1)
    return float(grey.mean()), float(grey.std()), float(saturation.mean()), energy, float(height * width)
