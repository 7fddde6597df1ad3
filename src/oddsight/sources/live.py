"""Cameras and network streams: the newest frame, never a queue of old ones, and a connection that comes back."""

from __future__ import annotations

import atexit
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from oddsight.errors import ImageError, OddsightError
from oddsight.runtime.bounds import Real, check_whole
from oddsight.sources.addresses import PROTOCOLS, Address
from oddsight.sources.containers import Converter, check_size, pyav, reason, video_of
from oddsight.sources.frame import Frame

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
"""Seconds between attempts to connect: they double from the first to the longest, each less up to half by chance."""

_SECONDS = Real(above=0, most=3600)


@dataclass(frozen=True)
class Counts:
    """What became of the frames of a live source; ``received`` is the sum of the other four.

    Attributes:
        received: Frames that arrived, and packets that are no frames.
        handed: Frames that were handed on to be scored.
        stale: Frames that a newer one replaced, or that were too old when they could have been handed on.
        broken: Frames that were damaged, and packets that could not be decoded.
        waiting: Frames that can be handed on next: 0 or 1.
        reconnects: How often it was tried to connect again.
    """

    received: int = 0
    handed: int = 0
    stale: int = 0
    broken: int = 0
    waiting: int = 0
    reconnects: int = 0


class _Arrival(NamedTuple):
    frame: VideoFrame
    time: float
    number: int


class LiveStream:
    """The newest frames of a camera or of a network stream, for as long as it is not closed.

    One thread receives and decodes, and keeps the newest frame only. Iterating waits for a frame that is fresh, so a
    slow consumer misses frames instead of falling behind. When the source goes away, one
    :class:`~oddsight.errors.ImageError` is yielded, and the next frame when it is back. It is closed when iterating
    ends, and is iterated once.

    The time of a frame is when it arrived, in seconds since the source was opened; its index is its number among all
    that arrived, so gaps are frames that were not handed on.

    Attributes:
        name: The address without credentials, or the camera.
        began: When the source was opened: the time of day in UTC, or None before.
        away_since: When it went away, in seconds since it was opened; None while frames come.

    Args:
        source: An address, such as ``rtsp://user:password@camera.local/stream1``: RTSP, HTTP, UDP, TCP or RTP; or
            the number of a camera.
        max_staleness: Seconds after which a frame that waits is too old to be handed on.
        timeout: Seconds without a frame, or to connect, after which the source counts as away.

    Raises:
        OddsightError: If there is no such address, PyAV is not installed, or, when it is first iterated, the source
            cannot be opened. Later failures are no errors: the connection is tried again.
    """

    def __init__(self, source: str | int | Address, *, max_staleness: float = 0.5, timeout: float = 5.0) -> None:
        self._source = Address(source) if isinstance(source, str) else source
        if not isinstance(self._source, Address):
            self._source = check_whole(self._source, "the number of a camera", 0, 99)
        self.name = self._source.safe if isinstance(self._source, Address) else f"camera {self._source}"
        self._staleness = _SECONDS.read(max_staleness, "max_staleness")
        self._timeout = _SECONDS.read(timeout, "timeout")
        pyav().logging.set_level(None)  # FFmpeg's log has addresses with their credentials
        self.began: datetime | None = None
        self.away_since: float | None = None
        self._counts = Counts()
        self._slot: _Arrival | None = None
        self._problem: str | None = None
        self._connected = self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._start = 0.0

    @property
    def counts(self) -> Counts:
        """What became of the frames so far."""
        with self._changed:
            return self._counts

    def now(self) -> float:
        """Seconds since the source was opened: the age of a frame is this, less its time."""
        return time.monotonic() - self._start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop receiving; iterating ends. Takes at most the time limit where the source is silent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2 * self._timeout + 1)
        atexit.unregister(self.close)
        with self._changed:
            self._empty()

    def __iter__(self) -> Iterator[Frame | ImageError]:
        self._open()
        convert = Converter()
        try:
            while (arrival := self._next()) is not None:
                if isinstance(arrival, ImageError):
                    yield arrival
                    continue
                name = f"{self.name}#{arrival.number}"
                try:
                    check_size(arrival.frame.width, arrival.frame.height, name)
                    pixels = convert(arrival.frame)
                except Exception:  # as PyAV raises many kinds
                    self._add(handed=-1, broken=1)
                    continue
                yield Frame(pixels, name, arrival.time, arrival.number)
        finally:
            self.close()

    def _open(self) -> None:
        """Start to receive; the first connection is to succeed."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._start, self.began = time.monotonic(), datetime.now(UTC)
                self._thread = threading.Thread(target=self._receive, name="live stream", daemon=True)
                self._thread.start()
                atexit.register(self.close)  # a thread that came back to a Python that has ended would abort
            self._changed.wait_for(lambda: self._connected or self._closed or self._problem is not None)
            problem = None if self._connected else self._problem
        if problem is not None:
            self.close()
            raise OddsightError(f"{self.name}: cannot be opened: {problem}")

    def _next(self) -> _Arrival | ImageError | None:
        """Wait for a fresh frame, or the news that the source is away; None when it was closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._slot is not None or self._problem is not None or self._closed)
                if self._closed:
                    return None
                if (arrival := self._slot) is not None:
                    if self.now() - arrival.time > self._staleness:
                        self._empty()
                        continue
                    self._slot = None
                    self._add(waiting=-1, handed=1)
                    return arrival
                if (problem := self._problem) is not None:
                    self._problem = None
                    return ImageError(self.name, f"brings no frames: {problem}; it is tried again until it does")

    def _receive(self) -> None:
        """Connect again and again until the source is closed; runs in a thread of its own."""
        pause = _FIRST_PAUSE
        while not self._closed:
            before = self._counts.received
            problem = self._receive_once()
            with self._changed:
                if self._closed:
                    return
                if self.away_since is None:
                    self.away_since, self._problem = self.now(), problem
                    self._changed.notify_all()
                pause = _FIRST_PAUSE if self._counts.received > before else min(2 * pause, _LONGEST_PAUSE)
                self._changed.wait_for(lambda: self._closed, pause * random.uniform(0.5, 1))  # noqa: S311
                if not self._closed:
                    self._add(reconnects=1)

    def _receive_once(self) -> str:
        """Receive until the connection ends, and say why it did."""
        av, silence = pyav(), f"no frame came within {self._timeout:g} s"
        container = None
        try:
            where, options = _opening(self._source)
            container = av.open(where, timeout=self._timeout, **options)
            stream = video_of(container, self.name)
            stream.codec_context.thread_type = "SLICE"  # no frame is held back
            last = time.monotonic()
            for packet in container.demux(stream):
                if self._closed:
                    break
                if self._decode(packet):
                    last = time.monotonic()
                elif time.monotonic() - last > self._timeout:
                    return silence
            return "it ended the connection"
        except ImageError as error:
            return error.reason
        except Exception as error:  # as PyAV raises many kinds, whose text may hold the address
            return silence if isinstance(error, av.error.ExitError | av.error.TimeoutError) else reason(error)
        finally:
            if container is not None:
                container.close()

    def _decode(self, packet: Any) -> bool:  # noqa: ANN401 - of a module that may be missing
        """Decode a packet; whether it held a frame."""
        try:
            frames = packet.decode()
        except EOFError:
            return False
        except Exception:  # as PyAV raises many kinds
            self._add(received=1, broken=1)
            return False
        for frame in frames:
            self._arrive(frame)
        return bool(frames)

    def _arrive(self, frame: VideoFrame) -> None:
        with self._changed:
            index = self._counts.received
            if frame.is_corrupt:
                self._add(received=1, broken=1)
                return
            self._empty()
            self._slot = _Arrival(frame, self.now(), index)
            self._add(received=1, waiting=1)
            self.away_since, self._problem, self._connected = None, None, True
            self._changed.notify_all()

    def _empty(self) -> None:
        """Count the frame that waits as stale."""
        if self._slot is not None:
            self._slot = None
            self._add(waiting=-1, stale=1)

    def _add(self, **more: int) -> None:
        with self._changed:  # which a thread may hold already
            self._counts = replace(self._counts, **{name: getattr(self._counts, name) + n for name, n in more.items()})


def _opening(source: Address | int) -> tuple[str, dict[str, Any]]:
    """What PyAV opens, and with which options."""
    if isinstance(source, Address):
        options = {"protocol_whitelist": PROTOCOLS[source.scheme], "fflags": "nobuffer", "flags": "low_delay"}
        options |= {"analyzeduration": "200000", "fpsprobesize": "0"}  # else the first frame takes seconds
        if source.scheme.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # a lost packet would break frames
        return source.reveal(), {"options": options}
    if sys.platform == "darwin":
        return str(source), {"format": "avfoundation", "options": {"framerate": "30"}}
    if sys.platform == "win32":
        raise ImageError(f"camera {source}", "cameras are not read on Windows: give the address of a stream")
    path = Path(f"/dev/video{source}")
    if not path.exists():
        raise ImageError(f"camera {source}", f"there is no camera {path}")
    return str(path), {"format": "video4linux2"}
