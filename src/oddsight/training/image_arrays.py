"""Labelled images in one array, as networks learn from them. Needs no PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.collection import ImageFile
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent, track


@dataclass(frozen=True)
class Arrays:
    """Images with their classes.

    Attributes:
        images: uint8 ``[N, h, w, 3]``, in memory or mapped from a file.
        labels: Indices of classes, int64 ``[N]``.
        fingerprint: SHA-256 over the contents of the images and their labels, in order, hex.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)


def gather_arrays(
    images: Sequence[ImageFile],
    labels: NDArray[np.int64],
    size: int,
    file: Path | None = None,
    progress: Progress = silent,
) -> Arrays:
    """Read images into one array, in memory or mapped from a file, which is overwritten.

    Images that all have one shape no larger than ``size`` keep it, as they are enlarged while a network learns; all
    others are brought to ``size`` by ``size``.

    Raises:
        ImageError: If an image has gone or changed.
    """
    shapes = {(image.height, image.width) for image in images}
    height, width = shapes.pop() if len(shapes) == 1 else (size, size)
    if max(height, width) > size:
        height, width = size, size
    shape = (len(images), height, width, 3)
    array: NDArray[np.uint8]
    if file is None:
        array = np.empty(shape, np.uint8)
    else:  # it may be a link, and what that leads to is not ours
        Path(file).unlink(missing_ok=True)
        array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)

    def read(image: ImageFile) -> NDArray[np.uint8]:
        return read_at_size(image, (height, width))[0]

    for row, pixels in enumerate(track(ordered_map(read, images), "reading images", len(images), progress)):
        array[row] = pixels
    state = hashlib.sha256("".join(image.content for image in images).encode())
    state.update(labels.astype("<i8").tobytes())
    return Arrays(array, labels, state.hexdigest())


Box = tuple[float, float, float, float]  # Left, top, right and bottom of a part of an image, as shares of its sides


def read_at_size(
    image: ImageFile, size: tuple[int, int], boxes: Sequence[Box | None] = (None,)
) -> list[NDArray[np.uint8]]:
    """Parts of an image, by default the whole, brought to one height and width.

    Raises:
        ImageError: If it has gone or changed.
    """
    pixels = image.read()
    height, width = pixels.shape[:2]
    if (height, width) == size and not any(boxes):
        return [pixels] * len(boxes)
    whole = Image.fromarray(pixels)
    scale = np.array([width, height, width, height])
    return [
        np.asarray(whole.resize(size[::-1], Image.Resampling.BILINEAR, box and tuple(scale * box))) for box in boxes
    ]
