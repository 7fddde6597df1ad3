"""What a source is, and how images that are given otherwise become one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import length_hint
from typing import Protocol

import numpy as np

from oddsight.errors import ImageError, OddsightError
from oddsight.sources.frame import KINDS, Frame, ImageLike, as_frame, is_image


class Source(Protocol):
    """Where images come from: anything that yields frames, and an error in place of each that it cannot give.

    A source is iterated once, in one thread; frames are decoded in others, so it does best to yield what is cheap to
    make (a path, encoded bytes). One that knows how many it will yield says so by ``__len__``.

    Example:
        >>> from pathlib import Path
        >>> class Folder:
        ...     def __iter__(self):
        ...         for index, path in enumerate(sorted(Path("new").iterdir())):
        ...             yield oddsight.Frame(path, index=index)
        >>> sum(result.anomalous for result in oddsight.load("parts.onnx").predict_many(Folder()))
        6
    """

    def __iter__(self) -> Iterator[Frame | ImageError]:
        """Yield the frames."""


ImagesLike = ImageLike | Frame | Iterable[ImageLike | Frame | ImageError]
"""One image or several: also a list or another iterable of images, an array ``[N, H, W, C]``, or a :class:`Source`.
Where a path is taken, it may name a folder or be a glob pattern, too, if the function says so."""


def as_source(images: object) -> Source:
    """A source of what is given: one image, an iterable of them, an array ``[N, H, W, C]``, or a source.

    Where an item is no image, the source yields an error.
    """
    return _Frames(listed(images))


def listed(images: object) -> Iterable[object]:
    """One image or several as something to iterate over."""
    if is_image(images):
        return [images]
    if isinstance(images, np.ndarray):
        return list(images)
    if isinstance(images, bytes | bytearray | memoryview | Mapping) or not isinstance(images, Iterable):
        raise OddsightError(f"images are given as {KINDS}, or as a list of them, not as a {type(images).__name__}")
    return images


def known_length(source: object) -> int | None:
    """How many frames a source will yield, if it says so."""
    length = length_hint(source, -1)
    return length if length >= 0 else None


class _Frames:
    """The frames of any iterable of images."""

    def __init__(self, images: Iterable[object]) -> None:
        self._images = images

    def __length_hint__(self) -> int:
        length = known_length(self._images)
        return length if length is not None else NotImplemented

    def __iter__(self) -> Iterator[Frame | ImageError]:
        for image in self._images:
            if isinstance(image, ImageError):
                yield image
                continue
            try:
                yield as_frame(image)
            except ImageError as error:
                yield error
