"""How a live stream takes forced disconnects, and what it leaves behind.

    python benchmarks/reconnecting.py > benchmarks/reconnecting.csv

A server on this machine, a process of its own, sends a clip over HTTP, and in turn resets all connections and refuses
new ones (``closed``), says nothing any more (``silent``), or sends random bytes (``garbage``), until the stream is
noticed to be away. Then it plays again. A row has the seconds until it was noticed (``away``), until the first frame
after the source's return (``back``), and what this process has afterwards.
"""

from __future__ import annotations

import csv
import gc
import multiprocessing
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from oddsight.errors import ImageError
from oddsight.sources import LiveStream
from video_files import stream_server

DISCONNECTS, TIMEOUT = 200, 1.0
WAYS = ("closed", "silent", "garbage")


def serve(pipe: Connection) -> None:
    """Play until told otherwise; the other end says when to end."""
    with stream_server() as server:
        pipe.send(server.port)
        while mode := pipe.recv():
            server.turn(mode)
            pipe.send(mode)


def memory() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main() -> None:
    """Disconnect again and again, and write a row for each time."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=serve, args=(other,), daemon=True)
    process.start()
    table = csv.writer(sys.stdout)
    table.writerow(["disconnect", "way", "away", "back", "threads", "descriptors", "memory_mb"])
    with LiveStream(f"http://127.0.0.1:{pipe.recv()}/", max_staleness=60, timeout=TIMEOUT) as stream:
        source = iter(stream)
        next(source)
        for number in range(1, DISCONNECTS + 1):
            way = WAYS[number % len(WAYS)]
            pipe.send(way)
            pipe.recv()
            start = time.monotonic()
            next(frame for frame in source if isinstance(frame, ImageError))
            away = time.monotonic() - start
            pipe.send("play")
            pipe.recv()
            start = time.monotonic()
            next(source)
            back = time.monotonic() - start
            gc.collect()
            descriptors = len(list(Path("/proc/self/fd").iterdir()))
            row = [number, way, f"{away:.3f}", f"{back:.3f}", threading.active_count(), descriptors, f"{memory():.2f}"]
            table.writerow(row)
            sys.stdout.flush()
    counts = stream.counts
    assert counts.received == counts.handed + counts.stale + counts.broken + counts.waiting
    pipe.send("")
    process.join()


if __name__ == "__main__":
    main()
