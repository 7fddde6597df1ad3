"""Footage in blocks of time: frames of one minute are alike, so that they are never on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor

from oddsight.data.grouping import posix_name
from oddsight.errors import DataError, ImageError
from oddsight.runtime.bounds import Real
from oddsight.sources.frame import Frame
from oddsight.sources.source import Source, known_length


class Blocks:
    """The frames of several sources, one after the other, and in which block of time each lies.

    Example:
        >>> from oddsight.sources import Blocks, VideoFile
        >>> footage = Blocks(VideoFile("belt.mp4", every=0.2), seconds=1)
        >>> model = oddsight.fit(footage, groups=footage.block_of, method="knn", size=64)
        >>> model.metadata.calibration.groups
        12

    Attributes:
        times: Of the frames that were yielded, by their names: seconds since their source began.

    Args:
        *sources: Of frames that have names and times.
        seconds: How long a block is.
    """

    def __init__(self, *sources: Source, seconds: float = 60.0) -> None:
        self._sources, self._seconds = sources, Real(above=0).read(seconds, "the length of a block")
        self._blocks: dict[str, str] = {}
        self.times: dict[str, float] = {}

    def __length_hint__(self) -> int:
        lengths = [known_length(source) for source in self._sources]
        return NotImplemented if None in lengths else sum(length for length in lengths if length is not None)

    def __iter__(self) -> Iterator[Frame | ImageError]:
        for number, source in enumerate(self._sources, 1):
            for frame in source:
                if isinstance(frame, Frame):
                    if frame.name is None or frame.time is None:
                        raise DataError("blocks of time are of frames that have names and times")
                    name = posix_name(frame.name)
                    self._blocks.setdefault(name, block_name(number, frame.time, self._seconds))
                    self.times.setdefault(name, frame.time)
                yield frame

    def block_of(self, name: str) -> str | None:
        """The block of a frame that was yielded, by its name; None if there was none of that name."""
        return self._blocks.get(posix_name(name))


def block_name(source: int, time: float, seconds: float) -> str:
    """What a block is called: that of a time in a source, whose number counts from 1."""
    return f"source {source}, block {floor(time / seconds) + 1}"
