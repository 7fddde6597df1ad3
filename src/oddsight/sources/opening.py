"""From what someone names to a source of frames: a video file, a folder of frames, a camera, a stream."""

from __future__ import annotations

import os
from pathlib import Path

from oddsight.data.formats import IMAGE_SUFFIXES
from oddsight.errors import DataError, plain
from oddsight.sources.live import LiveStream
from oddsight.sources.video import FrameFolder, VideoFile


def open_frames(
    source: str | os.PathLike[str],
    *,
    every: float | None = None,
    rate: float = 25.0,
    max_staleness: float = 0.5,
    timeout: float = 5.0,
) -> VideoFile | FrameFolder | LiveStream:
    """The source that is named: ``clip.mp4``, a folder of frames, ``0`` for the first camera, or ``rtsp://...``.

    Args:
        source: What to read. Where a file is called ``0``, write ``./0``.
        every: Yield only one frame in so many seconds, of files and folders.
        rate: Frames a second of a folder.
        max_staleness: Of a live source, see :class:`~oddsight.sources.live.LiveStream`.
        timeout: Of a live source.

    Raises:
        OddsightError: If there is no such source, or it cannot be read. Credentials of an address are not in the error.
    """
    name = os.fspath(source)
    if "://" in name:
        return LiveStream(name, max_staleness=max_staleness, timeout=timeout)
    if name.isdecimal():
        return LiveStream(int(name), max_staleness=max_staleness, timeout=timeout)
    path = Path(name)
    if path.is_dir():
        return FrameFolder(path, rate=rate, every=every)
    if not path.exists():
        raise DataError(f"{plain(name)}: no such video file or folder of frames, and no camera or address of a stream")
    if path.suffix.lower() in IMAGE_SUFFIXES - {".gif", ".apng"}:
        raise DataError(f"{plain(name)}: is one image: give a video file or a folder of frames, or use 'predict'")
    return VideoFile(path, every=every)
