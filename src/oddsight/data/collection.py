"""A collection of readable, distinct images, known by their content."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.data.folder import find_images, others_ignored
from oddsight.data.images import content_hash, read_image
from oddsight.data.near_copies import sketch
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, without_traceback
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent, track


@dataclass(frozen=True)
class ImageFile:
    """A file that was read once."""

    path: Path  # Where it is
    content: str  # SHA-256 of its pixels, hex: the same image in another format has the same
    width: int  # In pixels, as shown
    height: int  # In pixels, as shown
    reading: Reading = field(default=AS_DECLARED, kw_only=True)  # How it was read
    # What images that belong together share, such as photos of one part; empty if it stands alone. See
    # `oddsight.data.grouping`.
    group: str = field(default="", kw_only=True)
    # A small grey copy, see `oddsight.data.near_copies.sketch`; empty if none was made
    sketch: bytes = field(default=b"", kw_only=True, repr=False, compare=False)

    @property
    def unit(self) -> str:
        """What is drawn as a whole: its group, or itself."""
        return self.group or self.content

    def read(self) -> NDArray[np.uint8]:
        """The pixels, uint8 ``[H, W, 3]``."""
        image = read_image(self.path, reading=self.reading)
        if content_hash(image) != self.content:
            raise ImageError(str(self.path), "changed while it was in use")
        return image


@dataclass(frozen=True)
class Collection:
    """Distinct images in a stable order, and what was left out."""

    images: tuple[ImageFile, ...]  # One for each distinct image, ordered by content
    duplicates: tuple[ImageFile, ...]  # Readable files whose image is already among `images`
    errors: tuple[ImageError, ...]  # Files that could not be read
    ignored: int  # Files that are no images by their names

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the contents of all images, hex: the same images have the same, wherever they lie."""
        return hashlib.sha256("".join(image.content for image in self.images).encode()).hexdigest()


def collect(
    *paths: str | os.PathLike[str],
    more: Sequence[ImageFile | ImageError] = (),
    reading: Reading = AS_DECLARED,
    progress: Progress = silent,
) -> Collection:
    """Find and read every image under the given files, folders and globs once.

    Images that are known already, and those that could not be read, are ``more`` and come first.
    """
    found = find_images(*paths)
    errors = list(found.problems)
    images: dict[str, ImageFile] = {}
    duplicates = []
    looks = chain(more, map_jobs(partial(look, reading=reading), found.images))
    for image in track(looks, "reading", len(more) + len(found.images), progress):
        if isinstance(image, ImageError):
            errors.append(image)
        elif image.content in images:
            duplicates.append(image)
        else:
            images[image.content] = image
    if not images:
        raise DataError(_nothing(paths, len(found.images), found.ignored, errors))
    return Collection(tuple(_by_content(images.values())), tuple(duplicates), tuple(errors), found.ignored)


def look(path: Path, reading: Reading = AS_DECLARED) -> ImageFile | ImageError:
    """Read a file once."""
    try:
        image = read_image(path, reading=reading)
    except ImageError as error:
        return without_traceback(error)
    height, width, _ = image.shape
    return ImageFile(path, content_hash(image), width, height, reading=reading, sketch=sketch(image))


def _nothing(paths: Sequence[str | os.PathLike[str]], found: int, ignored: int, errors: Sequence[ImageError]) -> str:
    where = ", ".join(str(path) for path in paths) or "what was given"
    if len(paths) > 1 and len(errors) >= len(paths) and not found:
        return f"no images in any of {where}; the first of {len(errors)} problems is {errors[0]}"
    if len(errors) == 1:
        return f"no images in {where}: {errors[0]}"
    if errors:
        return f"no images in {where}: none of {len(errors)} files could be read; the first is {errors[0]}"
    return f"no images in {where}{others_ignored(ignored)}"


def pack(images: Iterable[ImageFile]) -> str:
    """The contents of images in 64 bits each, base64: enough to recognise them, nothing to see them by."""
    return base64.b64encode(b"".join(sorted(bytes.fromhex(image.content)[:8] for image in images))).decode()


def seen(packed: str) -> Callable[[str], bool]:
    """A test whether a content is among those of :func:`pack`."""
    known = set(unpacked(packed))
    return lambda content: content[:16] in known


def merged(packed: str, more: str) -> str:
    """What is in either of two results of :func:`pack`."""
    known = sorted({*unpacked(packed), *unpacked(more)})
    return base64.b64encode(b"".join(map(bytes.fromhex, known))).decode()


def unpacked(packed: str) -> list[str]:
    """What :func:`pack` kept of each content, as 16 hexadecimal digits."""
    raw = base64.b64decode(packed)
    return [raw[at : at + 8].hex() for at in range(0, len(raw), 8)]


def split(images: Sequence[ImageFile], fraction: float, seed: int) -> tuple[list[ImageFile], list[ImageFile]]:
    """Divide images in two by their content, the second with a share ``fraction`` (rounded up) of them, or of groups.

    Which side an image falls on depends on its content, the seed and the other images' contents only: not on names or
    order. Images of one group fall on the same side.
    """
    units = _shuffled(images, seed)
    cut = len(units) - int(np.ceil(fraction * len(units) - 1e-9))
    return _by_content(chain(*units[:cut])), _by_content(chain(*units[cut:]))


def folds(images: Sequence[ImageFile], count: int, seed: int) -> list[list[ImageFile]]:
    """Divide images into ``count`` parts of nearly equally many images, or groups, by content; see :func:`split`."""
    units = _shuffled(images, seed)
    return [_by_content(chain(*units[start::count])) for start in range(count)]


def one_of_each(images: Iterable[ImageFile], seed: int) -> list[ImageFile]:
    """One image of each group, drawn by content and seed, and each that stands alone; ordered by content."""
    return _by_content(min(unit, key=lambda image: lot(image.content, seed)) for unit in _units(images))


def count_groups(images: Iterable[ImageFile]) -> int:
    """How many groups images form; one that stands alone is a group."""
    return len({image.unit for image in images})


def _units(images: Iterable[ImageFile]) -> list[list[ImageFile]]:
    units: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        units[image.unit].append(image)
    return [*units.values()]


def _shuffled(images: Iterable[ImageFile], seed: int) -> list[list[ImageFile]]:
    return sorted(_units(images), key=lambda unit: lot(min(image.content for image in unit), seed))


def lot(content: str, seed: int) -> str:
    """What decides by chance about an image: it depends on its content and the seed only."""
    return hashlib.sha256(f"{seed} {content}".encode()).hexdigest()


def _by_content(images: Iterable[ImageFile]) -> list[ImageFile]:
    return sorted(images, key=lambda image: image.content)
