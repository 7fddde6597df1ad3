"""Reading every image of sources once, for :func:`oddsight.fit` to learn from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from oddsight.data.collection import Collection, ImageFile, collect
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.stored import PixelFile, stored
from oddsight.errors import DataError, ImageError
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent, track
from oddsight.sources.frame import KINDS, Frame, as_frame, is_image
from oddsight.sources.objects import ObjectFrame, look_at
from oddsight.sources.source import ImagesLike, known_length, listed


def collect_sources(
    *sources: ImagesLike, reading: Reading = AS_DECLARED, progress: Progress = silent
) -> tuple[Collection, list[str]]:
    """Read every image once, as :func:`oddsight.data.collection.collect` does with files.

    Pixels that are given in memory are copied to a nameless temporary file, so that they can change afterwards, may
    come from a generator, and take no more memory however many they are.

    Returns:
        The collection, and what each source is called in it, in the order in which they were given.
    """
    paths: list[str | os.PathLike[str]] = []
    file, names, errors, order = None, list[str](), list[ImageError](), list[str]()
    objects: list[str] = []
    total = sum(known_length(given) or 0 for given in sources if not is_image(given))
    for number, frame in enumerate(_frames(sources), 1):
        if isinstance(frame, ImageError):
            errors.append(frame)
            continue
        if isinstance(frame, ObjectFrame):
            objects.append(str(frame.image))
            order.append(str(frame.image))
            continue
        if isinstance(frame.image, str | os.PathLike):
            paths.append(frame.image)
            order.append(os.fsdecode(frame.image))
            continue
        name = _name(frame, number)
        order.append(name)
        try:
            pixels = frame.read(reading)
        except ImageError as error:
            errors.append(ImageError(name, error.reason))
            continue
        file = file or PixelFile()
        file.add(pixels)
        names.append(name)
        progress("decoding", number, max(number, total))
    in_memory: list[ImageFile] = [*stored(file.arrays(), names)] if file is not None else []
    looks = map_jobs(partial(look_at, reading=reading), objects)
    stored_elsewhere = list(track(looks, "reading objects", len(objects), progress))
    return collect(*paths, more=[*in_memory, *stored_elsewhere, *errors], reading=reading, progress=progress), order


def described(sources: Sequence[ImagesLike]) -> str:
    """What was given, in words: the paths, if it was paths alone."""
    paths = [os.fsdecode(source) for source in sources if isinstance(source, str | os.PathLike)]
    return ", ".join(paths) if paths and len(paths) == len(sources) else "what was given"


def _frames(sources: Iterable[object]) -> Iterator[Frame | ImageError]:
    for given in sources:
        for image in listed(given):
            if isinstance(image, ImageError):
                yield image
            elif is_image(image):
                yield as_frame(image)
            else:
                raise DataError(f"each image of a list is given as {KINDS}, not as this: {type(image).__name__}")


def _name(frame: Frame, number: int) -> str:
    """What to call an image in memory: its name, or its file, if it came from one."""
    if frame.name is not None:
        return frame.name
    filename = getattr(frame.image, "filename", None)
    return os.fsdecode(filename) if isinstance(filename, str | bytes | os.PathLike) and filename else f"image {number}"
