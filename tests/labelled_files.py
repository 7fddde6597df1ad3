"""Small images of three classes and of none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from textures import texture

SIDE = 64
"""Of the images, in pixels."""

KINDS = {
    "bark": ("bark", (0, 1, 2)),
    "cloth": ("cloth", (0, 1, 2)),
    "rust": ("bark", (2, 1, 0)),
    "moss": ("cloth", (1, 2, 0)),
}
"""Materials of :mod:`textures`, in colours of their own."""

CLASSES = ("bark", "cloth", "rust")


def draw_image(kind: str, seed: int, side: int = SIDE) -> np.ndarray:
    """One piece of a kind, uint8 ``[side, side, 3]``."""
    material, channels = KINDS[kind]
    return np.ascontiguousarray(texture(seed, side, side, material=material)[..., list(channels)])


def write_images(folder: Path, kind: str, seeds: range) -> Path:
    """Save one image a seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        Image.fromarray(draw_image(kind, seed)).save(folder / f"{seed:04d}.png")
    return folder


def write_classes(folder: Path, seeds: range) -> Path:
    """A folder of class folders; the classes' images are not alike but for their colours."""
    for number, kind in enumerate(CLASSES):
        write_images(folder / kind, kind, range(seeds.start + 1000 * number, seeds.stop + 1000 * number))
    return folder
