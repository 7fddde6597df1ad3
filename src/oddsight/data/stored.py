"""Images whose pixels are in an array, in memory or mapped from a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.data.images import content_hash
from oddsight.errors import OddsightError


@dataclass(frozen=True)
class StoredImage(ImageFile):
    """An image that is part of an array. Its path only says where it comes from."""

    pixels: NDArray[np.uint8] = field(repr=False, compare=False)  # A view of the array, uint8 `[H, W, 3]`

    def read(self) -> NDArray[np.uint8]:
        """The pixels in an array of their own, uint8 ``[H, W, 3]``."""
        return np.array(self.pixels, np.uint8, order="C")


def stored(images: NDArray[np.uint8] | Iterable[NDArray[np.uint8]], names: Iterable[str | Path]) -> list[StoredImage]:
    """Make an image of each row of uint8 ``[N, H, W, 3]``, in memory or mapped, or of several of any sizes, with names.

    They must not change afterwards.
    """
    rows = np.asarray(images) if isinstance(images, np.ndarray) else images  # rows of a memmap are costly objects
    return [
        StoredImage(Path(name), content_hash(row), row.shape[1], row.shape[0], row)
        for row, name in zip(rows, names, strict=True)
    ]


class PixelFile:
    """Decoded images of any sizes in a nameless temporary file: their number is not bounded by memory."""

    def __init__(self) -> None:
        self._shapes: list[tuple[int, int, int]] = []
        with _room():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append an image, uint8 ``[H, W, 3]``."""
        height, width, channels = image.shape
        with _room():
            self._file.write(np.ascontiguousarray(image).data)
        self._shapes.append((height, width, channels))

    def arrays(self) -> list[NDArray[np.uint8]]:
        """All images, mapped from the file, which stays until none of them is in use. To be called once."""
        if not self._shapes:
            return []
        with _room(), self._file as file:
            file.flush()
            flat = np.asarray(np.memmap(file, np.uint8, "r"))
        ends = np.cumsum([height * width * channels for height, width, channels in self._shapes]).tolist()
        starts = [0, *ends[:-1]]
        return [flat[a:b].reshape(shape) for a, b, shape in zip(starts, ends, self._shapes, strict=True)]


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OddsightError(
            f"cannot keep images in the folder for temporary files, {tempfile.gettempdir()}: "
            f"{error.strerror or error}; set TMPDIR to a folder with more space"
        ) from error
