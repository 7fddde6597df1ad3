"""Video files and folders of frames: every frame, in order, the same however often they are read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING

from oddsight.data.folder import as_path, is_image_file
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.runtime.bounds import Real
from oddsight.sources.addresses import Address
from oddsight.sources.containers import FORMATS, READ_MORE, Converter, check_size, pyav, reason, video_of
from oddsight.sources.frame import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_SECONDS = Real(above=0, most=1e6)

_MOST_FRAMES = 2**31
"""A length that only a damaged file states."""

_BACK = Fraction(1)
"""Seconds: a frame that is earlier than the one before it by more than this begins another recording."""

_WHOLE, _MISSING = 0.95, 1
"""The share of its stated length, and the seconds less than that, from which on a video counts as whole."""


class VideoFile:
    """The frames of a video file. It is decoded by one thread, so that damaged files give the same frames each time.

    A frame that is damaged or cannot be decoded is yielded as an :class:`~oddsight.errors.ImageError`, and the others
    follow. Frames are named ``clip.mp4#12``, numbered from 0 in the order in which they are shown, and their time
    counts from the first. It never goes back: where recordings were joined, it goes on. Metadata of rotation (by
    quarters) is applied.

    Attributes:
        path: The file.
        width: Of its frames as they are stored, in pixels.
        height: Of its frames as they are stored, in pixels.
        rate: Frames a second, on average; None if the file does not say.
        broken: How many frames could not be decoded when it was last read.

    Args:
        path: The file, in a format that FFmpeg reads.
        every: Yield only one frame in so many seconds; by default all.

    Raises:
        ImageError: If it is missing, or no video that can be read.
        OddsightError: If PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, every: float | None = None) -> None:
        self.path = as_path(path, "a video")
        if "://" in os.fspath(path):  # of which the path would show the credentials
            raise OddsightError(f"{Address(os.fspath(path))}: is a stream, and no video file: record it first")
        self._every = None if every is None else Fraction(str(_SECONDS.read(every, "every")))
        self.broken = 0
        with self._open() as (container, stream):
            self.width, self.height = stream.codec_context.width, stream.codec_context.height
            rate = stream.average_rate or stream.guessed_rate
            self.rate = float(rate) if rate else None
            # Many formats do not count their frames.
            self._length = stream.frames or floor(_stated_length(container, stream) * Fraction(self.rate or 0))
            if self._every is not None and self.rate:
                self._length = min(self._length, floor(self._length / self.rate / self._every) + 1)

    def __length_hint__(self) -> int:
        return self._length if 0 < self._length < _MOST_FRAMES else NotImplemented

    def __iter__(self) -> Iterator[Frame | ImageError]:
        self.broken = 0
        chosen, clock, end = _Every(self._every), _Clock(1 / Fraction(self.rate or 25)), Fraction(0)
        with self._open() as (container, stream):
            convert = Converter()
            for index, frame in enumerate(_decoded(container, stream)):
                name = f"{os.fspath(self.path)}#{index}"
                if isinstance(frame, str):
                    self.broken += 1
                    yield ImageError(name, frame)
                    continue
                time = clock(None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base)
                end = time + (frame.duration or 0) * (frame.time_base or 0)
                if frame.is_corrupt:
                    self.broken += 1
                    yield ImageError(name, "the frame is damaged")
                elif chosen(time):
                    yield self._converted(frame, convert, name, float(time), index)
            length, last = _stated_length(container, stream), clock.last
            if last is None or max(end, last + _MISSING) < _WHOLE * length:
                self.broken += 1
                there = "has no frames" if last is None else f"ends after {float(last):.1f} of {float(length):.1f} s"
                yield ImageError(os.fspath(self.path), f"it is cut short or damaged: it {there}")

    def _converted(
        self, frame: VideoFrame, convert: Converter, name: str, time: float, index: int
    ) -> Frame | ImageError:
        try:
            check_size(frame.width, frame.height, name)
            return Frame(convert(frame), name, time, index)
        except ImageError as error:
            problem = error.reason
        except Exception as error:  # as PyAV raises many kinds
            problem = f"the frame cannot be converted: {reason(error)}"
        self.broken += 1
        return ImageError(name, problem)

    @contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        name, av = os.fspath(self.path), pyav()
        if not self.path.is_file():
            raise ImageError(name, "is not a file" if self.path.exists() else "no such file")
        # FFmpeg would take a recording that begins earlier than the one before it for one 26 hours later.
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS), "correct_ts_overflow": "0"}
        try:
            container = av.open(f"file:{self.path.absolute()}", options=options)
        except Exception as error:  # as PyAV raises many kinds
            raise ImageError(name, f"not a video that can be read ({reason(error)}): {READ_MORE}") from None
        with container:
            stream = video_of(container, name)
            stream.codec_context.thread_count = 1
            yield container, stream


class FrameFolder:
    """The images of one folder as the frames of a video, in the order of the numbers in their names.

    Attributes:
        path: The folder.
        rate: Frames a second.
        images: The files.

    Args:
        path: The folder; its sub-folders are not searched.
        rate: How many frames a second there are.
        every: Yield only one frame in so many seconds; by default all.

    Raises:
        DataError: If it is no folder, or holds no images.
    """

    def __init__(self, path: str | os.PathLike[str], *, rate: float = 25.0, every: float | None = None) -> None:
        self.path, self.rate = as_path(path, "a folder of frames"), _SECONDS.read(rate, "rate")
        self._every = None if every is None else Fraction(str(_SECONDS.read(every, "every")))
        if not self.path.is_dir():
            raise DataError(f"{path}: not a folder of frames")
        self.images = tuple(sorted(filter(is_image_file, self.path.iterdir()), key=_numbers))
        if not self.images:
            raise DataError(f"{path}: holds no images to read as frames; name videos one by one")

    def __length_hint__(self) -> int:
        count = len(self.images)
        return count if self._every is None else floor((count - 1) / (Fraction(str(self.rate)) * self._every)) + 1

    def __iter__(self) -> Iterator[Frame]:
        chosen = _Every(self._every)
        for index, path in enumerate(self.images):
            time = index / Fraction(str(self.rate))
            if chosen(time):
                yield Frame(path, time=float(time), index=index)


class _Clock:
    """The time of one frame after the other, in seconds from the first.

    Attributes:
        last: The time of the last frame; None before the first.

    Args:
        step: Seconds from one frame to the next where the file does not say.
    """

    def __init__(self, step: Fraction) -> None:
        self._step, self._start = step, Fraction(0)
        self.last: Fraction | None = None

    def __call__(self, stated: Fraction | None) -> Fraction:
        """The time of a frame by what the file says, which may be nothing, begin anew or be slightly out of order."""
        due = Fraction(0) if self.last is None else self.last + self._step
        stated = due + self._start if stated is None else stated
        before = self.last is None or stated - self._start < self.last - max(_BACK, 4 * self._step)
        self._start = stated - due if before else self._start
        time = stated - self._start
        self.last = time if self.last is None else max(self.last, time)
        return self.last


class _Every:
    """Whether a frame is the first of its span of seconds."""

    def __init__(self, seconds: Fraction | None) -> None:
        self._seconds, self._span = seconds, -1

    def __call__(self, time: Fraction) -> bool:
        if self._seconds is None:
            return True
        span = floor(time / self._seconds)
        new, self._span = span > self._span, span
        return new


def _stated_length(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds that the file says its video has; 0 if it does not say."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if len(container.streams) > 1:  # Sound may be longer
        return Fraction(0)
    # Some formats state when the last frame ends instead of how long they last.
    return Fraction(max(0, (container.duration or 0) - max(0, container.start_time or 0)), 10**6)


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | str]:
    """The frames, and for each that cannot be decoded the reason."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except Exception as error:  # as PyAV raises many kinds
            yield f"the file cannot be read from here on: {reason(error)}"
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except EOFError:
            return
        except Exception as error:  # as PyAV raises many kinds
            yield f"the frame cannot be decoded: {reason(error)}"
            continue
        yield from frames


def _numbers(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts ``frame-9`` before ``frame-10``, the same everywhere."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]
