"""Changed copies of few normal images: as bright, and as turned, as the images themselves show that it is normal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.data.near_copies import SIDE, sketch

_LEAST_LIGHT, _MOST_LIGHT = 0.03, 0.2
"""By what share copies are lighter or darker, at least and at most."""

_STEPS = (-2, -1, 1, 2)

_LESS_ALIKE = 0.05
"""By how much less a turned image may correlate with the others than they do among themselves."""

_TURNS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 180": lambda image: image[::-1, ::-1],
    "turned by 90": np.rot90,
    "turned by 270": lambda image: np.rot90(image, 3),
    "transposed": lambda image: image.swapaxes(0, 1),
    "transposed and turned by 180": lambda image: image[::-1, ::-1].swapaxes(0, 1),
}
_SAME_SHAPE = 3
"""How many of them keep the shape of images that are not square."""


@dataclass(frozen=True, kw_only=True)
class ImageCopy(ImageFile):
    """A changed copy of an image, made when it is read.

    Attributes:
        original: The image.
        light: What its pixels are multiplied by.
        turn: A name of the turns and mirrorings, or empty.
    """

    original: ImageFile
    light: float = 1.0
    turn: str = ""

    def read(self) -> NDArray[np.uint8]:
        """The pixels, uint8 ``[H, W, 3]``."""
        image = self.original.read()
        turned = _TURNS[self.turn](image) if self.turn else image
        lit = np.clip(np.rint(turned.astype(np.float32) * np.float32(self.light)), 0, 255)
        return np.ascontiguousarray(lit, np.uint8)


def changed_copies(images: Sequence[ImageFile]) -> list[ImageCopy]:
    """Copies of each image that could be normal, too: lighter, darker, mirrored and turned.

    Light changes by as much as it differs among the images (the standard deviation of their means, from 3% to 20%),
    once and twice. Images are mirrored and turned in those ways in which they remain about as similar to each other: a
    texture in all, a part that always lies in the same way in none. A single image is so compared with itself.

    A copy shares the group of its image; those of a single one stand alone.
    """
    grey = [np.frombuffer(one.sketch or sketch(one.read()), np.uint8).reshape(SIDE, SIDE) for one in images]
    means = np.array([one.mean() for one in grey])
    light = float(np.clip(means.std() / max(float(means.mean()), 1.0), _LEAST_LIGHT, _MOST_LIGHT))
    changes = [(1 + step * light, "") for step in _STEPS] + [(1.0, turn) for turn in _turns(images, grey)]
    return [
        _copy(image, light, turn, image.unit if len(images) > 1 else "") for image in images for light, turn in changes
    ]


def _copy(image: ImageFile, light: float, turn: str, group: str) -> ImageCopy:
    content = hashlib.sha256(f"{image.content} light {light:.6f} {turn}".encode()).hexdigest()
    path = Path(f"{image.path} ({turn or f'light x {light:.2f}'})")
    return ImageCopy(
        path, content, image.width, image.height, group=group, reading=image.reading, original=image, light=light,
        turn=turn,
    )  # fmt: skip


def _turns(images: Sequence[ImageFile], grey: Sequence[NDArray[np.uint8]]) -> list[str]:
    """In which ways the images may be mirrored and turned."""
    square = all(image.width == image.height for image in images)
    names = list(_TURNS)[: None if square else _SAME_SHAPE]
    rows = [_standard(one) for one in grey]
    pairs = [(a, b) for a in range(len(rows)) for b in range(len(rows)) if a != b] or [(0, 0)]
    usual = float(np.median([rows[a] @ rows[b] for a, b in pairs]))
    allowed = []
    for name in names:
        turned = [_standard(_TURNS[name](one)) for one in grey]
        if np.median([turned[a] @ rows[b] for a, b in pairs]) >= usual - _LESS_ALIKE:
            allowed.append(name)
    return allowed


def _standard(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = grey.astype(np.float64).reshape(-1)
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)
