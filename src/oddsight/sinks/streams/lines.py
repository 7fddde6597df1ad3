"""Events and frames as JSON Lines."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from oddsight.errors import OddsightError
from oddsight.model.events import WatchedFrame
from oddsight.runtime.files import is_stream
from oddsight.sinks.streams.sink import StreamRun, WriteFrame, finished_file


class _Lines(ABC):
    """Lines of JSON, each written out at once.

    Args:
        target: A path, or an open text stream. The file of a video is written all at once, also when the run is
            interrupted; lines of a live stream are added to the file as they come.
    """

    def __init__(self, target: str | os.PathLike[str] | IO[str]) -> None:
        self._target = target

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Start the file."""
        if not isinstance(self._target, str | os.PathLike):
            stream = self._target
            yield lambda watched: _write(stream, (line.decode() for line in self._lines(watched)))
            return
        path = Path(self._target)
        opened = _appended(path) if run.live and not is_stream(path) else finished_file(path, run)
        with opened as file:

            def write(watched: WatchedFrame) -> None:
                with _named(path):
                    _write(file, self._lines(watched))

            yield write

    def _lines(self, watched: WatchedFrame) -> Iterator[bytes]:
        for content in self.contents(watched):
            yield json.dumps(content, allow_nan=False).encode() + b"\n"

    @abstractmethod
    def contents(self, watched: WatchedFrame) -> Iterable[dict[str, Any]]:
        """What to write about a frame, a line each."""


class EventLines(_Lines):
    """A line of JSON for each state of an event: what :meth:`oddsight.Event.to_json` gives."""

    def contents(self, watched: WatchedFrame) -> Iterable[dict[str, Any]]:
        """Its events."""
        return [event.to_json() for event in watched.events]


class FrameLines(_Lines):
    """A line of JSON for each frame: what :meth:`oddsight.WatchedFrame.to_json` gives."""

    def contents(self, watched: WatchedFrame) -> Iterable[dict[str, Any]]:
        """The frame, unless only events are told."""
        told = watched.frame is not None or watched.dropped or watched.error is not None
        return [watched.to_json()] if told else []


@contextmanager
def _appended(path: Path) -> Iterator[BinaryIO]:
    """A file that lines are added to; a line that an earlier run left unfinished is ended first."""
    with _named(path):
        file = path.open("ab+", buffering=0)
    with file:
        if file.tell():
            file.seek(0)
            if file.read(1) != b"{":
                raise OddsightError(f"cannot add to {path}: it holds no lines of JSON; name another file")
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        yield file


def _write(file: IO[Any], lines: Iterable[str | bytes]) -> None:
    for line in lines:
        file.write(line)
        file.flush()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file cannot be written."""
    try:
        yield
    except OSError as error:
        raise OddsightError(f"cannot write {path}: {error.strerror or error}") from error
