"""From what someone names to a source of frames: a video file, a folder of frames, a camera, a stream."""

from __future__ import annotations

import os
from pathlib import Path

from oddsight.data.formats import IMAGE_SUFFIXES
from oddsight.errors import DataError, OddsightError, plain
from oddsight.sources.containers import VIDEO_SUFFIXES
from oddsight.sources.live import LiveStream
from oddsight.sources.video import FrameFolder, VideoFile


def open_frames(
    source: str | os.PathLike[str],
    *,
    every: float | None = None,
    rate: float | None = None,
    max_staleness: float | None = None,
    timeout: float | None = None,
) -> VideoFile | FrameFolder | LiveStream:
    """The source that is named: ``clip.mp4``, a folder of frames, ``0`` for the first camera, or ``rtsp://...``.

    Args:
        source: What to read. Where a file is called ``0``, write ``./0``.
        every: Yield only one frame in so many seconds, of files and folders.
        rate: Frames a second of a folder; by default 25.
        max_staleness: Of a live source, see :class:`~oddsight.sources.live.LiveStream`.
        timeout: Of a live source.

    Raises:
        OddsightError: If there is no such source, it cannot be read, or a setting is for another kind of source.
            Credentials of an address are not in the error.
    """
    name = os.fspath(source)
    if "://" in name or name.isdecimal():
        _refuse(every=every, rate=rate, kind="a live source")
        address = int(name) if name.isdecimal() else name
        return LiveStream(address, **_given(max_staleness=max_staleness, timeout=timeout))
    _refuse(max_staleness=max_staleness, timeout=timeout, kind="a file or folder, which is never late")
    path = Path(name)
    if path.is_dir():
        return FrameFolder(path, every=every, **_given(rate=rate))
    if not path.exists():
        raise DataError(f"{plain(name)}: no such video file or folder of frames, and no camera or address of a stream")
    if path.suffix.lower() in IMAGE_SUFFIXES - VIDEO_SUFFIXES:
        raise DataError(f"{plain(name)}: is one image: give a video file or a folder of frames, or use 'predict'")
    _refuse(rate=rate, kind="a video file, which has its own")
    return VideoFile(path, every=every)


def _given(**settings: float | None) -> dict[str, float]:
    return {name: value for name, value in settings.items() if value is not None}


def _refuse(*, kind: str, **settings: float | None) -> None:
    for name in _given(**settings):
        raise OddsightError(f"--{name.replace('_', '-')} is not for {kind}: leave it out")
