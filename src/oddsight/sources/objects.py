"""Images in object stores: read and decoded where they are needed, such as by the workers of a cluster."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.data.formats import IMAGE_SUFFIXES
from oddsight.data.images import content_hash, read_valid_image
from oddsight.data.near_copies import sketch
from oddsight.data.opening import MAX_PIXELS
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, without_traceback
from oddsight.runtime.stores import check_uri, open_store, read_object
from oddsight.sources.frame import Frame

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, eq=False)
class ObjectFrame(Frame):
    """An image in an object store: its URI travels, and whoever decodes it reads it."""

    @property
    def path(self) -> Path | None:
        """None: it is no file."""
        return None

    def read_valid(
        self, reading: Reading = AS_DECLARED, *, max_pixels: int = MAX_PIXELS
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """See :meth:`Frame.read_valid`."""
        content = read_object(str(self.image))
        return read_valid_image(content, self.name, reading=reading, max_pixels=max_pixels)


@dataclass(frozen=True)
class ObjectImage(ImageFile):
    """An object that was read once. Its path only says where it comes from."""

    uri: str = field(default="", compare=False)

    def read(self) -> NDArray[np.uint8]:
        """The pixels, uint8 ``[H, W, 3]``."""
        image = ObjectFrame(self.uri).read(self.reading)
        if content_hash(image) != self.content:
            raise ImageError(self.uri, "changed while it was in use")
        return image


def look_at(uri: str, reading: Reading = AS_DECLARED) -> ImageFile | ImageError:
    """Read an object once; a job."""
    try:
        image = ObjectFrame(uri).read(reading)
    except ImageError as error:
        return without_traceback(error)
    height, width, _ = image.shape
    return ObjectImage(
        Path(uri), content_hash(image), width, height, reading=reading, sketch=sketch(image), uri=uri
    )  # fmt: skip


class Objects:
    """Images below prefixes of object stores, or that match patterns such as ``s3://bucket/2024/*/*.jpg``.

    They are listed anew each time that the source is iterated, in the order of their names, in bounded memory.

    Args:
        *uris: Prefixes, patterns or single objects.
    """

    def __init__(self, *uris: str) -> None:
        self.uris = tuple(map(check_uri, uris))

    def __iter__(self) -> Iterator[Frame]:
        for uri in self.uris:
            for name, _ in find_objects(uri):
                if is_image_name(name):
                    yield ObjectFrame(name)


def find_objects(uri: str) -> Iterator[tuple[str, int]]:
    """URI and bytes of each object below a prefix, of those that match a pattern, or of one object.

    Raises:
        DataError: There is none.
    """
    scheme, _, rest = check_uri(uri).partition("://")
    bucket, _, pattern = rest.partition("/")
    root = f"{scheme}://{bucket}"
    parts = pattern.split("/")
    fixed = next((at for at, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    below = "/".join(parts[:fixed]).strip("/")
    store, found = open_store(root), False
    alone = store.size(below) if fixed == len(parts) and PurePosixPath(below).suffix else None
    for name, size in [(below, alone)] if alone is not None else store.names(below):
        if fixed == len(parts) or fnmatch.fnmatchcase(name, pattern):
            found = True
            yield f"{root}/{name}", size
    if not found:
        raise DataError(f"nothing is stored at {uri}: check the name")


def is_image_name(name: str) -> bool:
    """Whether a name has the suffix of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
