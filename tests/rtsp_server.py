"""A server of RTSP in a process of its own, on 127.0.0.1, by aio-rtsp-toolkit."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from video_files import footage, write_video

MISSING = find_spec("aio_rtsp_toolkit") is None
"""Whether it is not installed."""

_SERVE = """
import asyncio, sys
from aio_rtsp_toolkit import server
asyncio.run(server.serve(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2])))
"""


@contextmanager
def serving(folder: Path, *, rate: int = 25, seconds: int = 4) -> Iterator[str]:
    """Serve a clip again and again, as fast as it was recorded; yields what an address has behind ``rtsp://``."""
    write_video(folder / "clip.mp4", footage(rate * seconds, side=64), rate=rate, codec="libx264", keys=rate)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(folder), str(port)], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, port)
            yield f"127.0.0.1:{port}/clip.mp4?play_count=0"
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until it listens."""
    for _ in range(600):
        assert process.poll() is None, "the server has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        threading.Event().wait(0.1)
    raise AssertionError("the server does not listen")
