"""Images without labels: those that belong to none of the known classes."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from oddsight.data.classes import packed_form
from oddsight.data.collection import ImageFile, look, lot
from oddsight.data.folder import find_images
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.stored import stored
from oddsight.data.zipped import Unzipped
from oddsight.errors import DataError, ImageError, OddsightError, plain
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent, track

_UNSIGNED_BYTES = b"\0\0\x08"
_MOST_BYTES = 2**31


def read_unlabelled(
    path: str | os.PathLike[str],
    limit: int | None = None,
    seed: int = 0,
    *,
    reading: Reading = AS_DECLARED,
    on_error: Callable[[ImageError], object] = lambda error: None,
    progress: Progress = silent,
) -> tuple[ImageFile, ...]:
    """Read images and ignore their labels, if there are any.

    Args:
        path: An image or a folder of images, searched recursively; an IDX file of grey images as in MNIST (``*-ubyte``,
            gzipped or not); or CIFAR-10's files, Parquet files or a prepared folder, of which the test split is used if
            there is one, and otherwise the training split.
        limit: The largest number of images, chosen by content and seed only. None for all.
        seed: Seed of that choice.
        reading: Bands and scale of TIFF files.
        on_error: Called with each image that cannot be read.
        progress: Called with phase, done and total.

    Raises:
        DataError: No image can be read.
        OddsightError: The limit is below 1, or a form needs a package that is missing.
    """
    if limit is not None and limit < 1:
        raise OddsightError(f"the most images to take must be 1 or more, not {limit}")
    where = Path(path)
    form = packed_form(where)
    if form is not None:
        splits = form.read(where, progress)
        data = splits.get("test") or splits.get("train") or next(iter(splits.values()))
        images, errors = data.images, data.errors
    elif where.is_file() and _is_idx(where):
        images, errors = _idx(where), ()
    else:
        images, errors = _files(where, reading, progress)
    for error in errors:
        on_error(error)
    if not images:
        raise DataError(f"no images in {where}" + (f": {errors[0]}" if errors else ""))
    if limit is None or limit >= len(images):
        return images
    chosen = sorted(range(len(images)), key=lambda index: lot(images[index].content, seed))[:limit]
    return tuple(images[index] for index in sorted(chosen))


def _files(path: Path, reading: Reading, progress: Progress) -> tuple[tuple[ImageFile, ...], tuple[ImageError, ...]]:
    found = find_images(path)
    read = ordered_map(partial(look, reading=reading), found.images)
    looks = list(track(read, "reading", len(found.images), progress))
    errors = (*found.problems, *(one for one in looks if isinstance(one, ImageError)))
    return tuple(one for one in looks if isinstance(one, ImageFile)), errors


def _is_idx(path: Path) -> bool:
    try:
        with Unzipped(path, 3) as file:
            return file.read(3) == _UNSIGNED_BYTES
    except (OSError, EOFError, zlib.error):
        return False


def _idx(path: Path) -> tuple[ImageFile, ...]:
    """Images of an IDX file of unsigned bytes ``[N, H, W]``; the numbers in its header are big-endian."""
    try:
        with Unzipped(path, _MOST_BYTES + 17) as file:
            dimensions = file.read(4)[3:]
            if dimensions != b"\x03":
                raise DataError(f"{path} is an IDX file, but not one of grey images (it may hold their labels)")
            count, height, width = struct.unpack(">III", file.read(12))
            size = count * height * width
            if not 0 < size <= _MOST_BYTES:
                raise DataError(f"{path} is damaged: it says that it has {count:,} images of {width:,} x {height:,}")
            content = file.read(size + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged: {plain(str(error))}") from error
    if len(content) != size:
        raise DataError(f"{path} is truncated or damaged: it does not hold {count:,} images of {width:,} x {height:,}")
    grey = np.frombuffer(content, np.uint8).reshape(count, height, width, 1)
    return tuple(stored(np.repeat(grey, 3, axis=3), (f"{path.name}/{number}" for number in range(count))))
