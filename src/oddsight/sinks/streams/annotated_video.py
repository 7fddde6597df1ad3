"""The stream as a video with what was seen drawn on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from oddsight.drawing.frames import draw_frame
from oddsight.errors import ImageError, OddsightError
from oddsight.model.events import WatchedFrame
from oddsight.runtime.files import check_writable
from oddsight.sinks.streams.sink import StreamRun, WriteFrame, check_new, finished_file

if TYPE_CHECKING:
    import av

_ENCODERS = {"libx264": {"preset": "veryfast", "crf": "23"}, "libopenh264": {}, "h264_videotoolbox": {}}
_TICKS = 90_000
"""Of the clock of a video, in a second."""
_STEP = 3_600
"""Ticks from one frame to the next where the source knows no times."""
_BT709 = 1
"""What FFmpeg calls the colours of ITU-R BT.709, which players take unmarked videos for."""


class AnnotatedVideo:
    """An MP4 file (H.264) of all frames, with map, zones, boxes and score drawn on them, which plays in a browser.

    Frames keep their times, so that a live source plays as it came. The file is there when the run ends or is
    interrupted. It needs the ``video`` extra.

    Args:
        path: The file, whose name ends in ``.mp4``.

    Raises:
        OddsightError: If the name ends otherwise.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise OddsightError(f"cannot save a video as {self.path}: name a file that ends in .mp4")

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Get ready; the file is begun with the first frame."""
        encoder = _encoder()
        check_new(self.path, run)
        check_writable(self.path)
        video: _Video | None = None
        with ExitStack() as stack:

            def write(watched: WatchedFrame) -> None:
                nonlocal video
                if watched.frame is None:
                    return
                try:
                    pixels = run.pixels(watched.frame)
                except ImageError:
                    return  # which the watcher has counted
                if video is None:
                    file = stack.enter_context(finished_file(self.path, run))
                    video = stack.enter_context(closing(_Video(file, encoder, self.path, pixels.shape[:2])))
                video.add(draw_frame(pixels, watched, run.zones, run.excluded), watched.frame.time)

            yield write


def _encoder() -> str:
    try:
        import av
    except ImportError:
        raise OddsightError("saving a video needs the video extra: pip install 'oddsight[video]'") from None
    for name in _ENCODERS:
        if name in av.codecs_available:
            return name
    raise OddsightError(f"cannot save a video: this build of PyAV has none of the encoders {', '.join(_ENCODERS)}")


class _Video:
    """A video that is being written. Frames of another size are brought to its own."""

    def __init__(self, file: BinaryIO, encoder: str, path: Path, size: tuple[int, int]) -> None:
        import av

        # The index is moved to the start at the end, for which FFmpeg reads the file by another handle.
        unbuffered: Any = getattr(file, "raw", file)
        options = {"movflags": "+faststart"} if hasattr(os, "pread") else {}
        self._path, self._first, self._last = path, 0.0, -1
        self._container: Any = av.open(
            unbuffered, "w", format="mp4", options=options, io_open=lambda *_: _SecondHandle(unbuffered.fileno())
        )
        stream: Any = self._container.add_stream(encoder, rate=25, options=_ENCODERS[encoder])
        # H.264 halves the resolution of colours, so that sides are even.
        stream.height, stream.width = (side + side % 2 for side in size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.colorspace = _BT709
        self._stream = stream

    def add(self, pixels: NDArray[np.uint8], time: float | None) -> None:
        """Encode a frame at a time in seconds."""
        import av

        height, width, _ = pixels.shape
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            self._stream.width, self._stream.height, "yuv420p", dst_colorspace=_BT709
        )
        if self._last < 0:
            self._first = time or 0.0
        ticks = self._last + _STEP if time is None else round((time - self._first) * _TICKS)
        self._last = frame.pts = max(ticks, self._last + 1)
        frame.time_base = Fraction(1, _TICKS)
        self._write(frame)

    def close(self) -> None:
        """Encode what is left, and finish the file."""
        self._write(None)
        with self._named():
            self._container.close()

    def _write(self, frame: av.VideoFrame | None) -> None:
        with self._named():
            self._container.mux(self._stream.encode(frame))

    @contextmanager
    def _named(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise OddsightError(f"cannot write {self._path}: {error.strerror or error}") from error


class _SecondHandle:
    """Reading a file that is being written, without moving where it is written."""

    def __init__(self, number: int) -> None:
        self._number, self._place = number, 0

    def read(self, size: int) -> bytes:
        content = os.pread(self._number, size, self._place)
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: os.fstat(self._number).st_size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        """The file stays open for whoever writes it."""
