"""TIFF files of any number of bands, read a few rows at a time.

tifffile reads the tags. Strips and tiles are decoded here, so that a file of any size takes little memory, and no more
than its own tags promised: deflate by Python, and LZW, PackBits, LZMA and Zstandard by Pillow.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from oddsight.errors import ImageError, OddsightError, plain
from oddsight.scenes.georeference import TAGS, Georeference, georeference

MAX_PIXELS, MAX_SIDE = 2**32, 2**18
"""The largest pictures that are read by rows."""

SUFFIXES = frozenset({".tif", ".tiff"})

_ORIENTATION, _NODATA = 274, 42113
_MAX_SEGMENT = 2**30
_NONE, _DEFLATE = 1, (8, 32946)
_BY_PILLOW = {5: "LZW", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
_MIN_IS_BLACK, _RGB = 1, 2
_HORIZONTAL, _FLOATING = 2, 3
_ALPHA = {1, 2}


def is_raster(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a TIFF, by its name."""
    return Path(path).suffix.lower() in SUFFIXES


def require_tifffile() -> Any:  # noqa: ANN401
    """The library, or how to get it."""
    try:
        import tifffile
    except ImportError as error:
        raise OddsightError("TIFF scenes take tifffile: pip install 'oddsight[geo]'") from error
    # It logs what is wrong with a file before it raises, and without a handler Python prints that.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    return tifffile


class Raster:
    """A TIFF file as a picture of 8 bits a channel, made of one band or three.

    Attributes:
        width: In pixels.
        height: In pixels.
        georeference: Where it lies, or None.
        nodata: The value of pixels that hold nothing, or None.
        unfit: Why it cannot be read by bands, or None; a decoder of pictures may still read it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        bands: Sequence[int] | None = None,
        scale: tuple[float, float] | None = None,
    ) -> None:
        self.path = os.fsdecode(path)
        with self._failures_named():
            self._read_tags()
        self.unfit = self._why_unfit(named=bands is not None)
        if self.unfit is None:
            self._bands = self._chosen(bands)
            self._table = self._lookup(scale)
        self._scale = scale
        self._decoded: dict[tuple[int, int], tuple[NDArray[np.uint8], NDArray[np.bool_] | None]] = {}

    @property
    def leaves_out(self) -> bool:
        """Whether pixels may hold nothing."""
        return self.unfit is None and (self.nodata is not None or self._type.kind == "f")

    def rows(self, top: int, bottom: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        """Rows of the picture, uint8 ``[n, width, 3]``, and which pixels hold something, ``[n, width]``, or None.

        Raises:
            ImageError: If it is truncated or damaged.
        """
        with self._failures_named():
            return self._rows(top, bottom)

    def _rows(self, top: int, bottom: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        pixels = np.empty((bottom - top, self.width, 3), np.uint8)
        valid = np.empty(pixels.shape[:2], bool) if self.leaves_out else None
        high, wide = self._segment
        if self._compression == _NONE and not self._tiled:
            # Parts of a strip can be read, and the only strip may be the whole picture.
            high = min(high, 64)
        kept = {}
        for row in range(top // high, -(-bottom // high)):
            for column in range(-(-self.width // wide)):
                part = self._decoded.get((row, column)) or self._converted(row, column, high)
                kept[row, column] = part
                first, last = max(top, row * high), min(bottom, row * high + len(part[0]))
                inside = slice(first - row * high, last - row * high)
                place = (slice(first - top, last - top), slice(column * wide, (column + 1) * wide))
                pixels[place] = part[0][inside, : self.width - column * wide]
                if valid is not None and part[1] is not None:
                    valid[place] = part[1][inside, : self.width - column * wide]
        self._decoded = kept
        return pixels, valid

    def _read_tags(self) -> None:
        with require_tifffile().TiffFile(self.path) as tiff:
            page = tiff.pages[0]
            tags = {tag.code: tag.value for tag in page.tags if tag.code in (*TAGS, _ORIENTATION, _NODATA)}
            self.width, self.height = int(page.imagewidth), int(page.imagelength)
            self._samples, self._depth = int(page.samplesperpixel), int(page.imagedepth)
            self._type = np.dtype(page.dtype).newbyteorder(tiff.byteorder) if page.dtype is not None else np.dtype("V")
            self._bits, self._photometric = page.bitspersample, int(page.photometric)
            self._compression, self._predictor = int(page.compression), int(page.predictor)
            self._tiled, self._separate = bool(page.is_tiled), int(page.planarconfig) == 2
            self._fill_order = int(page.fillorder)
            self._extra = {int(sample) for sample in page.extrasamples or ()}
            strip = min(int(page.rowsperstrip or self.height), self.height)
            self._segment = (page.tilelength, page.tilewidth) if self._tiled else (strip, self.width)
            self._offsets, self._counts = page.dataoffsets, page.databytecounts
        if min(self.width, self.height, self._samples, *self._segment) < 1:
            raise ValueError("its size is nothing")
        self._turned = tags.get(_ORIENTATION, 1) != 1
        self.georeference: Georeference | None = None if self._turned else georeference(tags)
        self.nodata = _number(tags.get(_NODATA))

    def _why_unfit(self, *, named: bool) -> str | None:
        high, wide = self._segment
        piece = high * wide * (1 if self._separate else self._samples) * self._type.itemsize
        whole = self._compression != _NONE or self._tiled
        numbers = self._type.kind in "uif" and self._type.itemsize * 8 == self._bits and self._fill_order == 1
        reasons = {
            "it is turned by its orientation tag": self._turned,
            "its pixels are no bands: a palette, CMYK, YCbCr or white for zero": (
                self._photometric not in (_MIN_IS_BLACK, _RGB)
            ),
            f"its pixels of {self._bits} bits are none of the usual numbers": not numbers,
            f"it is compressed by method {self._compression}; save it with deflate, LZW or none": (
                self._compression not in {_NONE, *_DEFLATE, *_BY_PILLOW}
            ),
            "it is stored in an unusual way": self._predictor not in (1, _HORIZONTAL, _FLOATING) or self._depth != 1,
            "it has an alpha channel; say which bands to read": not named and bool(self._extra & _ALPHA),
            f"{self.width:,} x {self.height:,} pixels are more than the limit of {MAX_PIXELS:,}": (
                max(self.width, self.height) > MAX_SIDE or self.width * self.height > MAX_PIXELS
            ),
            "it is in pieces of more than a gigabyte; save it in tiles": whole and piece > _MAX_SEGMENT,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def _chosen(self, bands: Sequence[int] | None) -> tuple[int, ...]:
        if bands is None:
            if self._samples == 2:
                raise ImageError(self.path, "has 2 bands: say which one to read, as in --bands 1")
            bands = (1,) if self._samples == 1 else (1, 2, 3)
        for band in bands:
            if not 1 <= band <= self._samples:
                raise ImageError(self.path, f"has {self._samples} bands, and band {band} was asked for")
        return tuple(band - 1 for band in bands)

    def _lookup(self, scale: tuple[float, float] | None) -> NDArray[np.uint8] | None:
        """What becomes of each value of up to 16 bits."""
        kind, size = self._type.kind, self._type.itemsize
        if scale is None and (kind != "u" or size > 2):
            name = self._type.newbyteorder("=").name
            raise ImageError(self.path, f"its {name} values have no fixed range: say which is black and white, "
                             "as in --scale 0,3000")  # fmt: skip
        if size > 2 or kind == "f":
            return None
        values = np.arange(2 ** (8 * size), dtype=f"u{size}")
        if scale is None and size == 2 and len(self._bands) == 3:
            # What pictures of 16-bit colour become everywhere else in Oddsight.
            return (values >> 8).astype(np.uint8)
        return _to_8_bits(values.view(f"{kind}{size}"), scale or (0, 255 if size == 1 else 65535))

    def _converted(self, row: int, column: int, high: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        if self._compression == _NONE and not self._tiled:
            values = self._rows_of_strips(row * high, min((row + 1) * high, self.height))
        else:
            values = self._values(row, column)
        if self._scale is None and values.dtype == np.uint8:
            pixels = values
        elif self._table is not None:
            unsigned = values.astype(values.dtype.newbyteorder("="), copy=False)
            pixels = self._table[unsigned.view(f"u{unsigned.dtype.itemsize}")]
        else:
            assert self._scale is not None
            pixels = _to_8_bits(values, self._scale)
        valid = None
        if self.leaves_out:
            finite = np.isfinite(values).all(axis=2)
            empty = (values == self.nodata).all(axis=2) if self.nodata is not None else False
            valid = finite & ~np.asarray(empty)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3)), valid

    def _rows_of_strips(self, top: int, bottom: int) -> NDArray[Any]:
        """Rows of an uncompressed picture in strips, of the chosen bands ``[n, width, bands]``."""
        high = self._segment[0]
        strips, samples = -(-self.height // high), 1 if self._separate else self._samples
        length = self.width * samples * self._type.itemsize
        planes = []
        with Path(self.path).open("rb") as file:
            for plane in self._bands if self._separate else (0,):
                parts = []
                for strip in range(top // high, -(-bottom // high)):
                    first, last = max(top, strip * high), min(bottom, (strip + 1) * high)
                    index = plane * strips + strip
                    if not self._counts[index]:
                        empty = np.full((last - first) * self.width * samples, self.nodata or 0, self._type)
                        parts.append(empty.tobytes())
                        continue
                    start = self._offsets[index] + (first - strip * high) * length
                    parts.append(_read(file, start, (last - first) * length))
                planes.append(np.frombuffer(b"".join(parts), self._type).reshape(bottom - top, self.width, samples))
        return self._only_chosen(planes)

    def _values(self, row: int, column: int) -> NDArray[Any]:
        """A strip or a tile, of the chosen bands ``[h, w, bands]``."""
        high, wide = self._segment
        down, across = -(-self.height // high), -(-self.width // wide)
        if not self._tiled:
            high = min(high, self.height - row * high)
        samples = 1 if self._separate else self._samples
        planes = []
        with Path(self.path).open("rb") as file:
            for plane in self._bands if self._separate else (0,):
                index = (plane * down + row) * across + column
                if not self._counts[index]:  # a part of which nothing was ever written
                    planes.append(np.full((high, wide, samples), self.nodata or 0, self._type))
                    continue
                content = _read(file, self._offsets[index], self._counts[index])
                line = wide * samples * self._type.itemsize
                content = _expanded(content, self._compression, high, line)
                planes.append(_unpredicted(content, self._predictor, self._type, (high, wide, samples)))
        return self._only_chosen(planes)

    def _only_chosen(self, planes: list[NDArray[Any]]) -> NDArray[Any]:
        if self._separate:
            return np.concatenate(planes, axis=2)
        return planes[0] if self._bands == tuple(range(self._samples)) else planes[0][..., list(self._bands)]

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except OddsightError:
            raise
        except FileNotFoundError as error:
            raise ImageError(self.path, "no such file") from error
        except OSError as error:
            reason = f"cannot be read: {error.strerror}" if error.strerror else f"damaged: {plain(str(error))[:120]}"
            raise ImageError(self.path, reason) from error
        # Damaged tags make tifffile raise nearly every built-in exception.
        except Exception as error:
            reason = " ".join(plain(str(error)).split())[:120] or type(error).__name__
            raise ImageError(self.path, f"truncated or damaged: {reason}") from error


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None


def _read(file: io.BufferedReader, start: int, length: int) -> bytes:
    file.seek(start)
    content = file.read(length)
    if len(content) < length:
        raise ValueError("it ends too early")
    return content


def _expanded(content: bytes, compression: int, high: int, line: int) -> bytes:
    """Decode ``high`` lines of bytes."""
    size = high * line
    if compression in _DEFLATE:
        content = zlib.decompressobj().decompress(content, size)
    elif compression != _NONE:
        # As the only strip of a grey picture; what the bytes mean is not libtiff's concern.
        entries = [(256, line), (257, high), (258, 8), (259, compression), (262, 1), (273, 8 + 2 + 9 * 12 + 4)]
        entries += [(277, 1), (278, high), (279, len(content))]
        head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        head += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries) + bytes(4)
        with TiffImageFile(io.BytesIO(head + content)) as picture:
            content = picture.tobytes()
    if len(content) < size:
        raise ValueError("a part of it ends too early")
    return content[:size]


def _unpredicted(content: bytes, predictor: int, kind: np.dtype[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Undo the differences that some files store for the sake of compression."""
    if predictor == _FLOATING:
        high, wide, samples = shape
        planes = np.frombuffer(content, np.uint8).reshape(high, -1, samples)
        planes = np.cumsum(planes, axis=1, dtype=np.uint8).reshape(high, kind.itemsize, wide * samples)
        # Bytes of a number are apart, the first of them the most significant.
        values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(kind.newbyteorder(">"))
        return values.reshape(shape)
    values = np.frombuffer(content, kind).reshape(shape)
    if predictor == _HORIZONTAL:
        whole = values.astype(kind.newbyteorder("=")).view(f"u{kind.itemsize}")
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(kind.newbyteorder("="))
    return values


def _to_8_bits(values: NDArray[Any], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """Bring the values of a scale to 0..255, clipped; what is no number becomes 0."""
    low, high = scale
    levels = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(np.clip(np.nan_to_num(levels, nan=0.0), 0, 255)).astype(np.uint8)
