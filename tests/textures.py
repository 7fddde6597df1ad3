"""Realistic textured images for tests: noise of many octaves, lit from one side, in the colours of one material."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MATERIALS = {
    # Colour, its variation, weight of each octave (of cells of 4, 8, 16, 32 pixels), share of stripes.
    "cloth": ((110, 95, 70), (40, 38, 30), (0.5, 0.3, 0.2, 0.1), 0.0),
    "bark": ((60, 120, 170), (70, 30, 20), (0.1, 0.1, 0.3, 0.5), 0.8),
}

SIZE = 64
"""Side to which tests bring images: small, to be quick."""

LARGE = 128 * 128
"""Pixels beyond which an image is drawn anew each time, as many would fill the memory."""


def texture(seed: int, width: int = 96, height: int = 96, *, material: str = "cloth", blot: bool = False) -> np.ndarray:
    """An image uint8 ``[height, width, 3]``, the same for the same arguments.

    Args:
        seed: Of everything random in it, so that another seed is another piece of the same material.
        width: In pixels.
        height: In pixels.
        material: A name of :data:`MATERIALS`.
        blot: Whether a patch of another material covers a ninth of it.
    """
    if width * height > LARGE:
        return _texture(seed, width, height, material, blot)
    return _small_texture(seed, width, height, material, blot).copy()


def _texture(seed: int, width: int, height: int, material: str, blot: bool) -> np.ndarray:
    random = np.random.default_rng([seed, width, height])
    colour, spread, octaves, stripes = MATERIALS[material]
    grain = np.zeros((height, width, 3))
    for octave, weight in enumerate(octaves, 2):
        cells = random.normal(size=(height // 2**octave + 2, width // 2**octave + 2))
        tint = random.normal(1, 0.15, 3)
        grain += weight * tint * _enlarged(cells, width, height)[:, :, None]
    y, x = np.mgrid[:height, :width]
    angle, turn = random.uniform(0, 2 * np.pi, 2)
    light = random.uniform(0, 20) * (np.cos(angle) * x / width + np.sin(angle) * y / height)
    grain += stripes * np.sin(x / 3 + turn)[:, :, None]
    values = np.array(colour) + np.array(spread) * grain + light[:, :, None] + random.normal(0, 3, (height, width, 3))
    image: np.ndarray = np.clip(values, 0, 255).astype(np.uint8)
    if blot:
        top, left = int(random.uniform(0, 2 / 3) * height), int(random.uniform(0, 2 / 3) * width)
        inside = (slice(top, top + max(1, height // 3)), slice(left, left + max(1, width // 3)))
        image[inside] = texture(seed, width, height, material="bark")[inside]
    return image


_small_texture = lru_cache(2048)(_texture)
"""The same seeds are drawn again for every method; to draw one takes longer than to score it."""


def write_textures(folder: Path, seeds: Sequence[int], **options: Any) -> list[Path]:
    """Save ``texture(seed, **options)`` for each seed as a PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:05d}.png" for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        Image.fromarray(texture(seed, **options)).save(path, compress_level=1)
    return paths


def _enlarged(cells: np.ndarray, width: int, height: int) -> np.ndarray:
    image = Image.fromarray(cells.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float64)
