"""Opening image files: what they are, their content says, and what is too large is refused before it is decoded."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import ImageFile

from oddsight.data.decoding import bytes_to_decode, pixel_limit, reserve
from oddsight.data.failures import name_failures
from oddsight.data.formats import identify, refuse_camera_raw
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.tiff import Raster, is_tiff, raster
from oddsight.errors import ImageError

MAX_PIXELS = 2**27
"""The most pixels an image may have, unless the caller sets another limit: 134,217,728, or 11,585 x 11,585.
Decoding takes ten bytes of memory a pixel and more, so 1.3 GB for that many; see :mod:`oddsight.data.decoding`."""

MAX_SIDE = 2**16
"""The most pixels that a side may have where the whole image is scored: on its way to the model's size, a column of
that many pixels takes as much memory as an image of as many rows."""

MAX_PIXELS_BY_ROWS, MAX_SIDE_BY_ROWS = raster.MAX_PIXELS, raster.MAX_SIDE

Content = str | os.PathLike[str] | bytes
"""An image file: its path, or what is in it."""


@contextmanager
def open_image(
    source: Content, name: str, max_pixels: int | None, *, by_rows: bool = False
) -> Iterator[ImageFile.ImageFile]:
    """Open an image that is no TIFF, which is decoded in the block if there is a limit of pixels.

    With ``by_rows``, it is decoded as a whole, but brought to RGB a few rows at a time.
    """
    with name_failures(name, max_pixels), _stream(source, name) as file:
        image = identify(file, name)
        if max_pixels is not None:
            check_sides(*image.size, name, by_rows=by_rows)
            admit(image, name, max_pixels, by_rows=by_rows)
        yield image


def open_tiff(source: Content, name: str, reading: Reading = AS_DECLARED) -> Raster | None:
    """Open a TIFF file, known by its content; None if the file is something else."""
    with name_failures(name), _stream(source, name) as file:
        if not is_tiff(file.read(4)):
            return None
        refuse_camera_raw(name)
    return Raster(source, reading, name=name)


@contextmanager
def _stream(source: Content, name: str) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        if not source:
            raise ImageError(name, "empty file")
        yield io.BytesIO(source)
        return
    try:
        status = Path(source).stat()
    except ValueError as error:
        raise ImageError(name, "not a possible file name") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(name, "is a folder, not an image")
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device might never end
        raise ImageError(name, "is not a regular file")
    if status.st_size == 0:
        raise ImageError(name, "empty file")
    # Pillow gets the file, not its name, so that it never maps it into memory: reading a map of a file that is cut
    # short meanwhile kills the process.
    with Path(source).open("rb") as file:
        yield file


def admit(image: ImageFile.ImageFile | Raster, name: str, max_pixels: int, *, by_rows: bool = False) -> None:
    """Refuse an image that is too large to decode, or wait for the memory that decoding takes."""
    limit = pixel_limit(max_pixels, MAX_PIXELS)
    if image.width * image.height > limit:
        reason = f"{image.width:,} x {image.height:,} pixels are more than the limit of {limit:,}"
        if max_pixels == MAX_PIXELS:
            cut = "cut" if isinstance(image, Raster) else "save it as a tiled TIFF and cut"
            reason += f": raise the memory budget (--memory), or {cut} it into tiles (--tile)"
        raise ImageError(name, reason)
    reserve(image.bytes_to_read if isinstance(image, Raster) else bytes_to_decode(image, by_rows=by_rows), name)


def check_sides(width: int, height: int, name: str, *, by_rows: bool = False) -> None:
    """Refuse an image with a side that is too long to be scored whole, or to be read at all."""
    by_rows = by_rows or max(width, height) > MAX_SIDE_BY_ROWS  # Tiles are of no use
    limit = MAX_SIDE_BY_ROWS if by_rows else MAX_SIDE
    if max(width, height) > limit:
        advice = "" if by_rows else "; cut it into tiles (--tile)"
        reason = f"{width:,} x {height:,} pixels: a side is longer than the limit of {limit:,}{advice}"
        raise ImageError(name, reason)
