"""Opening videos and streams with PyAV, and what their frames and failures are; needs the ``video`` extra."""

from __future__ import annotations

import importlib
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oddsight.data.opening import MAX_PIXELS
from oddsight.errors import ImageError, OddsightError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

READ_MORE = "convert it to H.264 in MP4"

FORMATS: dict[str, tuple[str, ...]] = {
    "mov": (".mp4", ".m4v", ".mov", ".3gp"),
    "matroska": (".mkv", ".webm"),
    "avi": (".avi",),
    "mpegts": (".ts", ".mts", ".m2ts"),
    "mpeg": (".mpg", ".mpeg", ".vob"),
    "mpegvideo": (".m2v",),
    "m4v": (".m4v",),
    "flv": (".flv",),
    "ogg": (".ogv",),
    "asf": (".wmv", ".asf"),
    "mxf": (".mxf",),
    "nut": (".nut",),
    "gif": (".gif",),
    "apng": (".apng",),
    "ivf": (".ivf",),
    "obu": (".obu",),
    "h264": (".h264",),
    "hevc": (".hevc",),
    "mjpeg": (".mjpeg",),
    "wtv": (".wtv",),
    "dv": (".dv",),
    "yuv4mpegpipe": (".y4m",),
}
"""The formats of video files that are read, by FFmpeg's names, and the endings that such files have.

Playlists, which name other files and addresses, are not among them.
"""

VIDEO_SUFFIXES = frozenset(chain.from_iterable(FORMATS.values()))


def pyav() -> Any:  # noqa: ANN401 - a module that may be missing
    """PyAV, which brings FFmpeg.

    Raises:
        OddsightError: If it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError:
        missing = True
    if missing:  # not within the handler, so that nothing hangs on to the error
        raise OddsightError("reading video needs PyAV: pip install 'oddsight[video]'")


def reason(error: Exception) -> str:
    """Why PyAV failed, in words that never hold an address: those of the error's number."""
    words = getattr(error, "strerror", None)
    return str(words)[:1].lower() + str(words)[1:] if words else type(error).__name__


def video_of(container: InputContainer, name: str) -> VideoStream:
    """The video among the streams of a container, of several the one that FFmpeg takes for the best.

    The image of a cover is no video.

    Raises:
        ImageError: If there is none, its codec is unknown or its frames are too large.
    """
    best: Any = container.streams.best("video")
    if best is None or best.disposition & pyav().stream.Disposition.attached_pic:
        raise ImageError(name, "holds no video")
    stream: VideoStream = best
    if stream.codec_context is None:
        raise ImageError(name, f"its video has a codec that this FFmpeg does not read: {READ_MORE}")
    check_size(stream.codec_context.width, stream.codec_context.height, name)
    return stream


def check_size(width: int, height: int, name: str) -> None:
    """Refuse frames of more than :data:`oddsight.data.opening.MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        raise ImageError(name, f"its frames have {width:,} x {height:,} pixels, and at most {MAX_PIXELS:,} are read")


class Converter:
    """From decoded frames to pixels; one for each stream, as it keeps what it has set up."""

    def __init__(self) -> None:
        av = pyav()
        self._reformatter = av.video.reformatter.VideoReformatter()
        # Threads of its own would cost more than they bring; before version 17 it had none.
        self._options = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The pixels as they are shown, uint8 RGB ``[H, W, 3]``: rotated as the video's metadata says."""
        pixels: NDArray[np.uint8] = self._reformatter.reformat(frame, format="rgb24", **self._options).to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
