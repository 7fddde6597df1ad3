"""The tags of TIFF files (TIFF 6.0 and BigTIFF): what a page declares of its pixels.

Only the tags that are asked for are read, so that a tag of any size takes no memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
ASSOCIATED, UNASSOCIATED = 1, 2  # Kinds of extra samples that are alpha: colours are multiplied by it already, or not

_TYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4", 11: "f4"}
_TYPES |= {12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_RATIONAL = (5, 10)
_TEXT = 2
_PLACES = {33550, 33922, 34264, 34735, 34736, 34737}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u", 5: "c", 6: "c"}
_REDUCED, _IS_MASK = 1, 4

_MOST_PAGES = 100  # Pages that are searched for the first of full resolution
_MOST_ENTRIES = 2**16
_MOST_BYTES = 2**28
_FARTHEST = 2**62


def is_tiff(start: bytes) -> bool:
    """Whether a file that starts so is a TIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


_LOSSY = frozenset({6, 7, 34892, 50001})  # JPEG, and WebP, which need not be, but mostly is


@dataclass(frozen=True, eq=False)
class Page:
    """What a page declares."""

    order: str  # Of bytes, `<` or `>`
    width: int  # In pixels, as stored
    height: int  # In pixels, as stored
    samples: int  # Of each pixel
    bits: tuple[int, ...]  # Of each sample; several numbers only if they differ
    kind: str  # Of numbers: `u`, `i`, `f`, `c` (complex), or `V` for several or unknown kinds
    photometric: int  # What samples mean
    extra: tuple[int, ...]  # What the last samples mean, see `ASSOCIATED`; others are no alpha
    orientation: int  # 1 to 8, as in EXIF
    compression: int
    predictor: int
    fill_order: int
    depth: int
    segment: tuple[int, int]  # Height and width of a strip or tile
    tiled: bool  # Whether it is in tiles
    separate: bool  # Whether each sample has strips or tiles of its own
    offsets: NDArray[Any] = field(repr=False)  # Where strips or tiles are
    counts: NDArray[Any] = field(repr=False)  # Of their bytes
    nodata: float | None  # The value of pixels that hold nothing (GDAL_NODATA), or None
    colour_map: NDArray[Any] = field(repr=False)
    ink_set: int
    jpeg_tables: bytes = field(repr=False)
    subsampling: tuple[int, ...]
    coefficients: tuple[float, ...]
    reference: tuple[float, ...]
    fax_options: tuple[int, int]
    places: dict[int, Any] = field(repr=False)  # The tags that make a TIFF a GeoTIFF, by number

    @property
    def alpha(self) -> int | None:
        """Which sample is alpha, from 0, if one is."""
        first = self.samples - len(self.extra)
        return next((first + place for place, what in enumerate(self.extra) if what in (1, 2) and first > 0), None)

    @property
    def lossy(self) -> bool:
        """Whether its compression changes values."""
        return self.compression in _LOSSY

    @property
    def mode(self) -> str:
        """What Pillow calls such pixels: ``1``, ``L``, ``RGB``, ``RGBA``, ``I;16``, ``F``, ..."""
        names = {PALETTE: "P", CMYK: "CMYK", YCBCR: "YCbCr", CIELAB: "LAB", ICCLAB: "LAB"}
        if self.photometric in names:
            return names[self.photometric]
        if self.samples - (self.alpha is not None) > 1:
            return "RGB" if self.alpha is None else "RGBA"
        if self.alpha is not None:
            return "LA"
        if self.kind in ("f", "c"):
            return "F"
        if self.kind == "i" or self.bits[0] > 16:
            return "I"
        return "1" if self.bits[0] == 1 else "L" if self.bits[0] <= 8 else "I;16"


def read_page(file: IO[bytes]) -> Page:
    """Read what the first page of full resolution declares: not one that is a preview or a mask of another."""
    full = next((tags for tags in islice(_directories(file), _MOST_PAGES) if tags.is_full), None)
    if full is None:  # as in raw files of cameras, whose first page is a preview
        first = next(_directories(file))
        full = next((tags for tags in first.children() if tags.is_full), first)
    return _page(full)


def count_pages(file: IO[bytes]) -> int:
    """How many pages there are."""
    return sum(1 for _ in _directories(file))


class _Tags:
    """The tags of one page."""

    def __init__(self, file: IO[bytes], order: str, big: bool, start: int) -> None:
        self._file, self.order, self._big = file, order, big
        head, self._size, self._link = ("Q", 20, "Q") if big else ("H", 12, "I")
        (self._count,) = self._unpack(start, head)
        if self._count > _MOST_ENTRIES:
            raise ValueError("it has more tags than there can be")
        self._first = start + struct.calcsize(order + head)
        (self.next,) = self._unpack(self._first + self._count * self._size, self._link)

    @cached_property
    def entries(self) -> dict[int, tuple[int, int, int]]:
        """Type, count and place of each tag; of tags that are there twice the first counts."""
        entries: dict[int, tuple[int, int, int]] = {}
        table = self._bytes(self._first, self._count * self._size)
        for at in range(0, len(table), self._size):
            code, kind, length = struct.unpack_from(self.order + "HH" + self._link, table, at)
            entries.setdefault(code, (kind, length, self._first + at + self._size - struct.calcsize(self._link)))
        return entries

    def _bytes(self, start: int, length: int) -> bytes:
        if length > _MOST_BYTES:
            raise ValueError("a tag is larger than it can be")
        if start > _FARTHEST:
            raise ValueError("its tags are beyond its end")
        self._file.seek(start)
        content = self._file.read(length)
        if len(content) < length:
            raise ValueError("its tags end too early")
        return content

    def _unpack(self, start: int, letters: str) -> tuple[int, ...]:
        return struct.unpack(self.order + letters, self._bytes(start, struct.calcsize(self.order + letters)))

    def content(self, code: int) -> bytes:
        """The bytes of a tag; none if it is missing."""
        if code not in self.entries:
            return b""
        kind, count, place = self.entries[code]
        if kind not in _TYPES:
            raise ValueError(f"tag {code} has a type that TIFF does not have")
        length = count * int(_TYPES[kind][1]) * (2 if kind in _RATIONAL else 1)
        start = place if length <= struct.calcsize(self._link) else self._unpack(place, self._link)[0]
        return self._bytes(start, length)

    def array(self, code: int) -> NDArray[Any]:
        """The numbers of a tag; none if it is missing."""
        content = self.content(code)
        if not content:
            return np.zeros(0, np.int64)
        kind = self.entries[code][0]
        values = np.frombuffer(content, np.dtype(self.order + _TYPES[kind]))
        if kind in _RATIONAL:
            upper, lower = values.reshape(-1, 2).T.astype(np.float64)
            values = np.divide(upper, lower, out=np.zeros_like(upper), where=lower != 0)
        return values

    def integers(self, code: int, *default: int) -> tuple[int, ...]:
        """Whole numbers of a tag, or the default if it is missing."""
        return tuple(int(value) for value in self.array(code).tolist()) or default

    def integer(self, code: int, default: int) -> int:
        """The first number of a tag."""
        return self.integers(code, default)[0]

    def numbers(self, code: int, *default: float) -> tuple[float, ...]:
        """Numbers of a tag, or the default if it is missing."""
        return tuple(float(value) for value in self.array(code).tolist()) or default

    def text(self, code: int) -> str:
        """A text without its end."""
        return self.content(code).split(b"\0")[0].decode("latin-1")

    def place(self, code: int) -> str | tuple[float, ...] | tuple[int, ...] | None:
        """A tag of a GeoTIFF."""
        if code not in self.entries:
            return None
        if self.entries[code][0] == _TEXT:
            return self.text(code)
        return self.integers(code) if code == 34735 else self.numbers(code)

    @property
    def is_full(self) -> bool:
        """Whether it is of full resolution, and no mask of another page."""
        reduced = self.integer(254, _REDUCED if self.integer(255, 1) == 2 else 0)
        return not reduced & (_REDUCED | _IS_MASK)

    def children(self) -> Iterator[_Tags]:
        """Pages below this one."""
        for start in self.integers(330)[:_MOST_PAGES]:
            yield _Tags(self._file, self.order, self._big, start)


def _directories(file: IO[bytes]) -> Iterator[_Tags]:
    """The tags of each page. Damage beyond the first ends them."""
    file.seek(0)
    start = file.read(16)
    if not is_tiff(start):
        raise ValueError("it is not a TIFF file")
    order = "<" if start.startswith(b"II") else ">"
    big = start[2:4] in (b"+\0", b"\0+")
    link = struct.unpack_from(order + ("Q" if big else "I"), start.ljust(16, b"\0"), 8 if big else 4)[0]
    known = set()
    while link and link not in known:
        known.add(link)
        try:
            tags = _Tags(file, order, big, link)
        except ValueError:
            if len(known) > 1:
                return
            raise
        yield tags
        link = tags.next
    if not known:
        raise ValueError("it has no page")


def _page(tags: _Tags) -> Page:
    width, height = tags.integer(256, 0), tags.integer(257, 0)
    samples = tags.integer(277, 1)
    if min(width, height, samples) < 1:
        raise ValueError("its size is zero")
    bits = tags.integers(258, 1)
    bits = bits[:samples] if len(set(bits[:samples])) > 1 else bits[:1]
    kinds = {_KINDS.get(value, "V") for value in tags.integers(339, 1)[:samples]}
    extra = tags.integers(338)
    orientation = tags.integer(274, 1)
    return Page(
        order=tags.order,
        width=width,
        height=height,
        samples=samples,
        bits=bits,
        kind=kinds.pop() if len(kinds) == 1 else "V",
        photometric=tags.integer(262, RGB if samples >= 3 else BLACK_IS_ZERO),
        extra=extra if len(extra) < samples else (),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        compression=tags.integer(259, 1),
        predictor=tags.integer(317, 1),
        fill_order=tags.integer(266, 1),
        depth=tags.integer(32997, 1),
        **_segments(tags, width, height, samples),
        nodata=_number(tags.text(42113)),
        colour_map=tags.array(320),
        ink_set=tags.integer(332, 1),
        jpeg_tables=tags.content(347),
        subsampling=tags.integers(530, 2, 2),
        coefficients=tags.numbers(529),
        reference=tags.numbers(532),
        fax_options=(tags.integer(292, 0), tags.integer(293, 0)),
        places={code: value for code in sorted(_PLACES) if (value := tags.place(code)) is not None},
    )


def _segments(tags: _Tags, width: int, height: int, samples: int) -> dict[str, Any]:
    """What a page declares of its strips or tiles."""
    tiled = 322 in tags.entries
    if tiled:
        segment = tags.integer(323, 0), tags.integer(322, 0)
    else:
        segment = min(tags.integer(278, 0) or height, height), width
    if min(segment) < 1:
        raise ValueError("its strips or tiles are empty")
    separate = tags.integer(284, 1) == 2 and samples > 1
    offsets = tags.array(324 if 324 in tags.entries else 273)
    counts = tags.array(325 if 325 in tags.entries else 279)
    pieces = -(-height // segment[0]) * -(-width // segment[1]) * (samples if separate else 1)
    if tags.integer(259, 1) == 1 and not tiled and not len(counts):  # old files leave them out
        counts = np.ones(len(offsets), np.int64)
    if min(len(offsets), len(counts)) < pieces:
        raise ValueError("it lacks strips or tiles")
    return {"segment": segment, "tiled": tiled, "separate": separate, "offsets": offsets, "counts": counts}


def _number(text: str) -> float | None:
    try:
        return float(text.strip()) if text.strip() else None
    except ValueError:
        return None
