"""The frames of events, as JPEG."""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from oddsight.drawing.frames import draw_frame
from oddsight.errors import ImageError
from oddsight.model.events import Event, WatchedFrame
from oddsight.runtime.files import make_folder
from oddsight.runtime.result_files import fill_folder, write_result
from oddsight.sinks.streams.sink import StreamRun, WriteFrame

_REMEMBERED = 128 << 20
"""Bytes of frames that are kept, since the peak of an event is known only when it has passed."""
_QUALITY = 90


class KeyFrames:
    """A folder with a JPEG for each event: the frame where it was strongest, with map, zones and boxes drawn on it.

    It is written when the event begins and again when its peak turns out to be another frame, as long as that is among
    the last 128 MiB of frames. Of a video, what an earlier run left in the folder is removed first; of a live stream it
    stays, and the time of day is in the names.

    Args:
        folder: The folder; made if it is not there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Keep the folder to this run."""
        make_folder(self.folder)
        with fill_folder(self.folder, "key frames", add=run.live) as removed:
            if removed:
                run.note(f"removed {removed:,} files of an earlier run from {self.folder}")
            prefix = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-" if run.live else ""
            yield _Keeper(self.folder, prefix, run).add


class _Keeper:
    """The frames that may turn out to be the peak of an event, and those that were written."""

    def __init__(self, folder: Path, prefix: str, run: StreamRun) -> None:
        self._folder, self._prefix, self._run = folder, prefix, run
        self._recent = deque[WatchedFrame]()
        self._bytes = 0
        self._written: dict[str, int] = {}

    def add(self, watched: WatchedFrame) -> None:
        """Keep a frame, and write those of its events."""
        if watched.frame is not None and watched.error is None:
            self._recent.append(watched)
            self._bytes += _size(watched)
            while self._bytes > _REMEMBERED and len(self._recent) > 1:
                self._bytes -= _size(self._recent.popleft())
        for event in watched.events:
            if event.kind != "source" and self._written.get(event.id) != event.index:
                self._write(event)
            if event.state == "end":
                self._written.pop(event.id, None)

    def _write(self, event: Event) -> None:
        peak = next((one for one in self._recent if one.frame is not None and one.frame.index == event.index), None)
        if peak is None or peak.frame is None:
            if event.state == "new":
                self._run.complain(f"event {event.id} has no key frame: frame {event.index} is gone")
            return
        name = re.sub(r"[^\w.-]", "_", event.id)
        path = self._folder / f"{self._prefix}{name}.jpg"
        try:
            pixels = draw_frame(self._run.pixels(peak.frame), peak, self._run.zones, self._run.excluded)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, format="JPEG", quality=_QUALITY)
            write_result(path, file.getvalue())
        except ImageError as error:
            self._run.complain(f"event {event.id} has no key frame: {error}")
            return
        self._written[event.id] = event.index


def _size(watched: WatchedFrame) -> int:
    """Bytes that a frame keeps in memory, with its maps."""
    image = watched.frame.image if watched.frame is not None else None
    pixels = image.nbytes if isinstance(image, np.ndarray) else len(image) if isinstance(image, bytes) else 0
    maps = {id(look.result.map): look.result.map.nbytes for look in watched.looks if look.result.map is not None}
    return pixels + sum(maps.values())
