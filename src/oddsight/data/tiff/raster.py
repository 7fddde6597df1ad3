"""A TIFF file as an image of 8 bits a channel, read a few rows at a time."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from oddsight.data.failures import name_failures
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.tiff.colours import Colours, colour_samples, reason_not_converted
from oddsight.data.tiff.segments import decode, reason_not_decoded, rows_are_apart, sample_type
from oddsight.data.tiff.tags import YCBCR, count_pages, read_page
from oddsight.errors import ImageError

MAX_PIXELS, MAX_SIDE = 2**32, 2**18  # The largest images that are read by rows

MAX_TURNED = 2**27  # The most pixels of an image that is turned by its orientation, which takes all of it at once

NO_DATA = "holds no data: its pixels are marked as empty"
"""What is said of images without any pixel that holds something."""

_ROWS = 64
_CONVERTED = 3 * 2 * 8 + 4  # Bytes a pixel that bringing samples to 8 bits takes
_FARTHEST = 2**62

_Pixel = TypeVar("_Pixel", bound=np.generic)
_Part = tuple[NDArray[np.uint8], NDArray[np.bool_] | None]


class Raster:
    """A TIFF file as an image.

    Attributes:
        path: The file's name.
        page: What its first page of full resolution declares.
        width: In pixels, upright.
        height: In pixels, upright.
    """

    def __init__(
        self, source: str | os.PathLike[str] | bytes, reading: Reading = AS_DECLARED, *, name: str | None = None
    ) -> None:
        """Read the tags.

        Args:
            source: A path, or the content of a file.
            reading: Which bands and values to take.
            name: What to call it in errors; by default its path.
        """
        self.reading = reading
        self._open: Callable[[], IO[bytes]]
        if isinstance(source, bytes):
            self.path, self._open = name or "image", partial(io.BytesIO, source)
        else:
            path = Path(source)
            self.path, self._open = name or os.fsdecode(source), lambda: path.open("rb")
        with name_failures(self.path), self._open() as file:
            self.page = read_page(file)
        reason = reason_not_converted(self.page) or reason_not_decoded(self.page) or self._reason_too_large()
        if reason is not None:
            raise ImageError(self.path, reason)
        turned = self.page.orientation >= 5
        self.width = self.page.height if turned else self.page.width
        self.height = self.page.width if turned else self.page.height
        self._decoded: dict[tuple[int, int], _Part] = {}

    @property
    def leaves_out(self) -> bool:
        """Whether pixels may hold nothing."""
        return self.page.nodata is not None or self.page.kind == "f"

    @property
    def bytes_to_read(self) -> int:
        """What :meth:`read` takes at its peak: the image and a copy, and a strip or tile in all its forms."""
        pixels, decoded = self.page.width * self.page.height, self._high * self._wide
        sample = sample_type(self.page).itemsize
        copies = 2 if self.page.orientation == 1 else 4
        converted = min(decoded, _ROWS * self._wide)
        parts = decoded * (2 * self.page.samples * sample + 3) + converted * _CONVERTED
        return pixels * (3 * copies + self.leaves_out) + parts

    def check(self) -> None:
        """Refuse what cannot become RGB by this reading."""
        assert self._colours is not None

    def rows(self, top: int, bottom: int) -> _Part:
        """Rows of the image, uint8 ``[n, width, 3]``, and which pixels hold something, ``[n, width]``, or None."""
        if self.page.orientation == 1:
            return self._stored_rows(top, bottom)
        pixels, valid = self._upright
        return pixels[top:bottom], None if valid is None else valid[top:bottom]

    def read(self) -> _Part:
        """All rows; pixels that hold nothing have the mean colour of the others, which catches no eye."""
        pixels, valid = self.rows(0, self.height)
        if valid is None or valid.all():
            return np.ascontiguousarray(pixels), None
        if not valid.any():
            raise ImageError(self.path, NO_DATA)
        return fill(pixels, valid), valid

    def read_samples(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Samples of colour or grey at full depth ``[H, W, n]``, and of alpha ``[H, W]`` or None, as stored."""
        page, samples = self.page, tuple(range(self.page.samples))
        colours: NDArray[Any] | None = None
        alpha: NDArray[Any] | None = None
        with name_failures(self.path):
            for key in self._keys(0, page.height):
                rows, columns = self._place(key)
                values = self._piece(key, samples)[: rows.stop - rows.start, : columns.stop - columns.start]
                part = colour_samples(values, page)
                if colours is None:
                    colours = np.empty((page.height, page.width, part.shape[2]), part.dtype)
                    alpha = np.empty((page.height, page.width), values.dtype) if page.alpha is not None else None
                colours[rows, columns] = part
                if alpha is not None:
                    alpha[rows, columns] = values[..., page.alpha]
        assert colours is not None
        return colours, alpha

    def count_pages(self) -> int:
        """How many pages there are, previews and masks included."""
        with name_failures(self.path), self._open() as file:
            return count_pages(file)

    def _reason_too_large(self) -> str | None:
        width, height = self.page.width, self.page.height
        most = MAX_PIXELS if self.page.orientation == 1 else MAX_TURNED
        if max(width, height) <= MAX_SIDE and width * height <= most:
            return None
        turned = "" if self.page.orientation == 1 else " of an image that its orientation turns"
        return f"{width:,} x {height:,} pixels are more than the limit of {most:,}{turned}"

    @cached_property
    def _colours(self) -> Colours:
        try:
            return Colours(self.page, self.reading)
        except ValueError as error:
            raise ImageError(self.path, str(error)) from error

    @cached_property
    def _upright(self) -> _Part:
        pixels, valid = self._stored_rows(0, self.page.height)
        orientation = self.page.orientation
        return turn_upright(pixels, orientation), None if valid is None else turn_upright(valid, orientation)

    def _stored_rows(self, top: int, bottom: int) -> _Part:
        pixels = np.empty((bottom - top, self.page.width, 3), np.uint8)
        valid = np.empty(pixels.shape[:2], bool) if self.leaves_out else None
        colours = self._colours
        kept: dict[tuple[int, int], _Part] = {}
        with name_failures(self.path):
            for key in self._keys(top, bottom):
                part = self._decoded.get(key) or self._convert(key, colours)
                kept[key] = part
                rows, columns = self._place(key)
                first, last = max(top, rows.start), min(bottom, rows.stop)
                place = slice(first - top, last - top), columns
                inside = slice(first - rows.start, last - rows.start), slice(columns.stop - columns.start)
                pixels[place] = part[0][inside]
                if valid is not None and part[1] is not None:
                    valid[place] = part[1][inside]
        # Neighbouring rows are asked for next, and may be of the same strips or tiles.
        self._decoded = kept
        return pixels, valid

    def _convert(self, key: tuple[int, int], colours: Colours) -> _Part:
        values = self._piece(key, colours.samples)
        pixels = np.empty((*values.shape[:2], 3), np.uint8)
        valid = np.empty(values.shape[:2], bool) if self.leaves_out else None
        # Some rows at a time, since what is computed on the way takes several times as much memory.
        for top in range(0, len(values), _ROWS):
            block = slice(top, top + _ROWS)
            pixels[block] = colours.rgb(values[block])
            if valid is not None:
                valid[block] = colours.holds_data(values[block])
        return pixels, valid

    def _keys(self, top: int, bottom: int) -> list[tuple[int, int]]:
        down, across = range(top // self._high, -(-bottom // self._high)), range(-(-self.page.width // self._wide))
        return [(row, column) for row in down for column in across]

    def _place(self, key: tuple[int, int]) -> tuple[slice, slice]:
        """Where a strip, a part of one or a tile is in the image."""
        top, left = key[0] * self._high, key[1] * self._wide
        return slice(top, min(top + self._high, self.page.height)), slice(left, min(left + self._wide, self.page.width))

    @cached_property
    def _high(self) -> int:
        """Rows that are decoded at once. Parts of a simple strip can be, and the only strip may be the whole image."""
        return min(self.page.segment[0], _ROWS) if rows_are_apart(self.page) else self.page.segment[0]

    @cached_property
    def _wide(self) -> int:
        return self.page.segment[1]

    def _piece(self, key: tuple[int, int], samples: Sequence[int]) -> NDArray[Any]:
        """Some samples of a strip, of a part of one or of a tile, ``[h, w, samples]``."""
        with self._open() as file:
            if rows_are_apart(self.page):
                rows, _ = self._place(key)
                read: Callable[[int], NDArray[Any]] = partial(self._rows_of_strips, file, rows.start, rows.stop)
            else:
                read = partial(self._segment, file, *key)
            if self.page.separate:
                return np.concatenate([read(plane) for plane in samples], axis=2)
            values = read(0)
        return values if tuple(samples) == tuple(range(values.shape[2])) else values[..., list(samples)]

    def _rows_of_strips(self, file: IO[bytes], top: int, bottom: int, plane: int) -> NDArray[Any]:
        """Rows of uncompressed strips of a plane, ``[n, width, samples]``."""
        page, high = self.page, self.page.segment[0]
        strips, samples, kind = -(-page.height // high), 1 if page.separate else page.samples, sample_type(page)
        length = page.width * samples * kind.itemsize
        parts = []
        for strip in range(top // high, -(-bottom // high)):
            first, last = max(top, strip * high), min(bottom, (strip + 1) * high)
            index = plane * strips + strip
            if page.counts[index]:
                start = int(page.offsets[index]) + (first - strip * high) * length
                parts.append(_read(file, start, (last - first) * length))
            else:
                parts.append(self._empty((last - first, page.width, samples)).tobytes())
        return np.frombuffer(b"".join(parts), kind).reshape(bottom - top, page.width, samples)

    def _segment(self, file: IO[bytes], row: int, column: int, plane: int) -> NDArray[Any]:
        """A strip or a tile of a plane, ``[h, w, samples]``."""
        page, (high, wide) = self.page, self.page.segment
        down, across = -(-page.height // high), -(-page.width // wide)
        if not page.tiled:
            high = min(high, page.height - row * high)
        index = (plane * down + row) * across + column
        if not page.counts[index]:  # a part of which nothing was ever written
            return self._empty((high, wide, 1 if page.separate else page.samples))
        return decode(self._content(file, index, high), page, high, wide)

    def _content(self, file: IO[bytes], index: int, high: int) -> bytes:
        page, count = self.page, int(self.page.counts[index])
        if page.compression == 1 and page.photometric != YCBCR:  # of which old files do not say how long strips are
            count = high * -(-page.segment[1] * (1 if page.separate else page.samples) * page.bits[0] // 8)
        return _read(file, int(page.offsets[index]), count)

    def _empty(self, shape: tuple[int, int, int]) -> NDArray[Any]:
        return np.full(shape, self.page.nodata or 0, sample_type(self.page))


def fill(pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Give pixels without data the mean colour of the others."""
    return np.where(valid[..., None], pixels, np.rint(pixels[valid].mean(axis=0)).astype(np.uint8))


def turn_upright(pixels: NDArray[_Pixel], orientation: int) -> NDArray[_Pixel]:
    """Turn and flip ``[H, W, ...]`` as an orientation of EXIF or TIFF asks, into an array of its own."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.array(pixels, order="C")


def _read(file: IO[bytes], start: int, length: int) -> bytes:
    file.seek(min(start, _FARTHEST))
    content = file.read(length)
    if len(content) < length:
        raise ValueError("it ends too early")
    return content
