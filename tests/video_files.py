"""Small clips that tests write, and a server of streams that can fail in every way."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from textures import texture

Mode = Literal["play", "closed", "silent", "garbage"]


def footage(count: int, *, side: int = 48, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Frames of one kind of texture, no two of them the same: uint8 ``[side, side, 3]``."""
    return [texture(1000 * seed + number, side, side) for number in range(count)]


def write_video(
    file: Any,
    frames: Sequence[NDArray[np.uint8]],
    *,
    rate: int = 10,
    codec: str = "mpeg4",
    rotation: int | None = None,
    container: str | None = None,
    keys: int = 5,
    start: int = 0,
) -> None:
    """Write a clip to a path or a file; sides are even numbers, and its times begin with so many seconds."""
    with av.open(os.fspath(file) if isinstance(file, os.PathLike) else file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = keys
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number, pixels in enumerate(frames, start * rate):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def transport_stream(frames: Sequence[NDArray[np.uint8]], *, rate: int = 25) -> bytes:
    """A clip as MPEG-TS, which can be sent again and again."""
    file = io.BytesIO()
    write_video(file, frames, rate=rate, container="mpegts")
    return file.getvalue()


class StreamServer:
    """Sends a stream over HTTP on 127.0.0.1, for as long as its mode is ``play``.

    Attributes:
        port: Where it listens.
        requests: The first lines and headers of all requests.
    """

    def __init__(self, content: bytes, *, frames: int, rate: float = 25.0) -> None:
        self._pieces = np.array_split(np.frombuffer(content, np.uint8), frames)
        self._pause = 1 / rate
        self._changed = threading.Condition()
        self._mode: Mode = "play"
        self._turn = 0
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[str] = []
        self._start(self._accept)

    def turn(self, mode: Mode) -> None:
        """Begin to behave otherwise. ``play`` and ``closed`` end what was going on with a reset."""
        with self._changed:
            self._mode = mode
            self._turn += 1
            if mode in {"play", "closed"}:
                for connection in self._connections:
                    reset(connection)
            self._changed.notify_all()

    def close(self) -> None:
        self.turn("closed")
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Any, *args: Any) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=work, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                if self._mode == "closed":
                    reset(connection)
                    continue
                self._connections.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self.requests.append(connection.recv(10_000).decode())
            if self._mode != "silent":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n")
            piece = 0
            while self._mode != "closed":
                if self._mode == "play":
                    connection.sendall(self._pieces[piece % len(self._pieces)].tobytes())
                    piece += 1
                elif self._mode == "garbage":
                    connection.sendall(np.random.default_rng(piece).bytes(5000))
                    piece += 1
                with self._changed:
                    turn = self._turn
                    self._changed.wait_for(lambda turn=turn: self._turn != turn, self._pause)  # type: ignore[misc]
        with self._changed:
            self._connections.discard(connection)
            connection.close()


def reset(connection: socket.socket) -> None:
    """End a connection as a machine does that loses its power: without a word, and what was sent is lost."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def stream_server(*, frames: int = 25, rate: float = 25.0) -> Iterator[StreamServer]:
    """A server of a small clip."""
    server = StreamServer(transport_stream(footage(frames), rate=round(rate)), frames=frames, rate=rate)
    try:
        yield server
    finally:
        server.close()
