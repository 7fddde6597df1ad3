"""Limits of reading images: how much memory they may take together, and how long one may take.

Before an image is decoded, the bytes that its format takes are reserved from those that all images share, and given
back when its pixels are gone. So as many images are decoded at once as fit, and one that can never fit is refused by
what its header says.

A file that is cheap to read by its structure is read here. Any other is read by a process of its own, which is ended
when the time is over.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np
from PIL import Image

from oddsight.data.file_structure import seconds_to_read
from oddsight.errors import ImageError, MemoryBudgetError, OddsightError

Arguments = ParamSpec("Arguments")
Outcome = TypeVar("Outcome")

IMAGE_TIMEOUT = 30.0
"""Seconds that reading an image may take, and scoring it, unless another limit is set."""

IMAGE_MEMORY = 1_740_000_000
"""Bytes that images may take together while they are read and in use, unless another limit is set."""

_PROCESS = 40_000_000
"""Bytes that a process that reads images takes besides these."""

_CHEAP = 0.1
"""The share of the time limit within which a file is trusted to be read without being watched."""

_LONGEST_WAIT = 10.0
"""Seconds after which pixels that nobody gives back are not waited for any longer."""


class Room:
    """Bytes that images share. A thread waits until there is room for its image.

    Attributes:
        total: All of them.
        final: Whether an image that can never fit ends the whole work, instead of being that image's error.
        largest: The most that an image took so far.
    """

    def __init__(self, total: int, *, final: bool = False) -> None:
        self.total, self.final, self.largest = total, final, 0
        self._taken: dict[_Share, int] = {}
        self._waiting: set[int] = set()
        self._changed = threading.Condition()

    def take(self, share: _Share, size: int, name: str) -> None:
        """Wait for room."""
        if size > self.total:
            reason = (
                f"reading it takes {size / 1e6:,.0f} MB of memory, and {self.total / 1e6:,.0f} MB are "
                "available for images: raise the memory budget (--memory)"
            )
            raise MemoryBudgetError(f"{name}: {reason}") if self.final else ImageError(name, reason)
        me = threading.get_ident()
        with self._changed:
            self.largest = max(self.largest, size)
            self._waiting.add(me)
            self._changed.notify_all()
            try:
                end = time.monotonic() + _LONGEST_WAIT
                while not self._fits(size) and (left := end - time.monotonic()) > 0:
                    self._changed.wait(left)
                    if self._is_reading():  # which ends, however long it takes
                        end = time.monotonic() + _LONGEST_WAIT
            finally:
                self._waiting.discard(me)
            self._taken[share] = size

    def _fits(self, size: int) -> bool:
        # What waiting threads hold, this one included, would never be given back.
        return sum(self._taken.values()) + size <= self.total or all(
            share.owner in self._waiting for share in list(self._taken)
        )

    def _is_reading(self) -> bool:
        return any(share.reading and share.owner not in self._waiting for share in self._taken)

    def resize(self, share: _Share, size: int) -> None:
        """Give back what a share does not need any more once it is read; all of it if that is 0."""
        with self._changed:
            share.reading = False
            if size:
                self._taken[share] = size
            else:
                self._taken.pop(share, None)
            self._changed.notify_all()


@dataclass(eq=False)
class _Share:
    """What one image takes of a room."""

    room: Room
    owner: int = field(default_factory=threading.get_ident)
    reading: bool = True

    def hand_over(self, outcome: Any) -> None:  # noqa: ANN401
        """Keep what pixels and the copies that are made of them take, until the pixels are gone."""
        pixels = outcome[0] if isinstance(outcome, tuple) else outcome
        if isinstance(pixels, np.ndarray):
            size = pixels.nbytes * 7 // 3 + len(pixels) * _ROW
        else:
            size = getattr(pixels, "bytes_held", 0)
        self.room.resize(self, size)
        if size:
            weakref.finalize(pixels, self.room.resize, self, 0).atexit = False


@dataclass
class _Limits:
    seconds: float | None
    rooms: list[Room]  # Of the process, and of blocks under way, which end in any order

    @property
    def room(self) -> Room:
        """That of the last block under way in this thread, or else in any."""
        return (getattr(_current, "rooms", None) or self.rooms)[-1]


_limits = _Limits(IMAGE_TIMEOUT, [Room(IMAGE_MEMORY)])
_current = threading.local()


def set_image_limits(*, timeout: float | None = None, memory: int | None = None) -> None:
    """Limit the time and memory for images, from now on and for the whole process.

    Args:
        timeout: Seconds that reading an image may take, and scoring it; 0 for no limit. None leaves the limit as it is;
            the default is 30.
        memory: Bytes that all images that are being read or in use may take together. None leaves the limit as it is;
            the default is 1.74 GB.

    Raises:
        OddsightError: A limit is negative or not a number.
    """
    if timeout is not None:
        if not 0 <= timeout < float("inf"):
            raise OddsightError(f"the time limit for an image must be a number of seconds, 0 or more, not {timeout:g}")
        _limits.seconds = timeout or None
    if memory is not None:
        if memory <= 0:
            raise OddsightError(f"the memory for images must be more than {memory} bytes")
        _limits.rooms[0] = Room(memory)


def image_timeout() -> float | None:
    """Seconds that reading an image may take, and scoring it; None without a limit."""
    return _limits.seconds


def pixel_limit(limit: int, usual: int) -> int:
    """How many pixels an image may have: the usual limit is raised where images got more memory than usual."""
    return max(limit, _limits.room.total // 10) if limit == usual and _limits.room.total > IMAGE_MEMORY else limit


@contextmanager
def memory_for_images(total: int, *, final: bool = False) -> Iterator[Room]:
    """Let images share so many bytes while the block runs; see :class:`Room`.

    Blocks of several threads may overlap: each holds for its own, and the last for threads without one.
    """
    room, own = Room(max(1, total), final=final), _current.__dict__.setdefault("rooms", [])
    _limits.rooms.append(room)
    own.append(room)
    try:
        yield room
    finally:
        _limits.rooms.remove(room)
        own.remove(room)


def limited(read: Callable[Arguments, Outcome]) -> Callable[Arguments, Outcome]:
    """Make a function that reads a file, its first argument, or what is in one, keep the limits.

    It reserves memory by :func:`reserve` once it has seen the header.
    """

    @functools.wraps(read)
    def wrapper(*args: Arguments.args, **options: Arguments.kwargs) -> Outcome:
        if getattr(_current, "share", None) is not None:  # within another one, whose limits hold
            return read(*args, **options)
        share = _current.share = _Share(_limits.room)
        outcome = None
        try:
            outcome = _read_in_time(read, args, options)
            return outcome
        finally:
            _current.share = None
            share.hand_over(outcome)

    return wrapper


def _read_in_time(read: Callable[..., Outcome], args: tuple[Any, ...], options: dict[str, Any]) -> Outcome:
    seconds = _limits.seconds
    if seconds is None or seconds_to_read(args[0]) <= _CHEAP * seconds:
        return read(*args, **options)
    from oddsight.data import decoder_process

    try:
        return decoder_process.read(read, args, options, seconds, reserve)  # type: ignore[no-any-return]
    except decoder_process.NoProcessError:
        return read(*args, **options)


def reserve(size: int, name: str) -> None:
    """Wait for the bytes that decoding an image takes, or refuse it; to be called once its header is known."""
    share = getattr(_current, "share", None)
    if share is not None:
        share.room.take(share, size, name)


def serve_another(ask: Callable[[int, str], None]) -> None:
    """Have this process read for another one, which keeps the time and shares out the memory."""
    _limits.seconds = None
    _limits.rooms = [_OtherRoom(ask)]


class _OtherRoom(Room):
    """The room of another process."""

    def __init__(self, ask: Callable[[int, str], None]) -> None:
        super().__init__(0)
        self._ask = ask

    def take(self, share: _Share, size: int, name: str) -> None:
        self._ask(size + _PROCESS, name)


_BYTES_PER_PIXEL = {
    "PNG": {"1": 11, "L": 11, "P": 11, "RGB": 10, "I;16": 14, "LA": 18, "RGBA": 18},
    "JPEG": {"L": 12, "RGB": 11, "CMYK": 15},
    "MPO": {"L": 12, "RGB": 11},
    "WEBP": {"RGB": 21, "RGBA": 30},
    "AVIF": {"RGB": 16, "RGBA": 25},
    "JPEG2000": {"L": 12, "RGB": 20, "RGBA": 26},
    "BMP": {"1": 11, "L": 11, "P": 11, "RGB": 10},
    "PPM": {"1": 11, "L": 11, "RGB": 10},
    "GIF": {"L": 12, "P": 12, "RGB": 12},
    "TIFF": {"1": 11, "L": 12, "P": 12, "RGB": 11, "CMYK": 15, "RGBA": 19, "LA": 19},
}
"""What reading takes at its peak, by Pillow's names of format and mode: measured by ``benchmarks/decoding_memory.py``
and rounded up. A progressive JPEG keeps its coefficients, too."""

_OTHER = 30
_TRANSPARENT, _COEFFICIENTS, _ROW = 8, 6, 3 * 1024


_TO_RGB = {"RGB": 6, "LA": 13, "RGBA": 13}
"""The part of these that is taken after decoding, to bring a whole image to RGB."""
_TO_RGB_OTHERS = 9

_PEAK_WHILE_DECODING = ("JPEG2000", "WEBP")
"""Formats that take the most before there are any pixels (``benchmarks/scene_memory.py``)."""


def bytes_to_decode(image: Image.Image, *, by_rows: bool = False) -> int:
    """The bytes that reading an image takes at its peak, by its header.

    A row counts for more than its pixels: resizing brings the columns to the model's size before the rows. With
    ``by_rows`` the image is decoded as a whole, but brought to RGB a few rows at a time.
    """
    each = _BYTES_PER_PIXEL.get(str(image.format), {}).get(image.mode, _OTHER)
    if by_rows and image.format not in _PEAK_WHILE_DECODING:
        each -= _TO_RGB.get(image.mode, _TO_RGB_OTHERS)
    if "transparency" in image.info and not by_rows:
        each += _TRANSPARENT
    if image.info.get("progressive"):
        each += _COEFFICIENTS
    pixels = image.width * image.height
    # A row of tiles of 256 x 256 pixels takes as much as so many rows.
    return pixels * each + (image.width if by_rows else image.height) * _ROW
