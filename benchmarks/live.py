"""How old the results of a live stream are that is faster than its model.

    python benchmarks/live.py http 600 > benchmarks/live.csv
    python benchmarks/live.py rtsp 300 > benchmarks/live_rtsp.csv  # needs aio-rtsp-toolkit

A server on this machine sends a clip at 25 frames a second, and a model that takes 100 ms for each frame watches it,
one at a time. A row is a tenth of the run: frames that arrived and what became of them, since the start, and how old
results were, in seconds.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from footage import watching_model
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.sources import LiveStream
from oddsight.watch.watching import watch_frames
from rtsp_server import serving
from video_files import stream_server

SERVICE, RATE = 0.1, 25


class SlowModel(Model):
    """A model that takes its time."""

    def score(self, *args: object, **options: object) -> Result:
        """Wait, and score."""
        time.sleep(SERVICE)
        return super().score(*args, **options)  # type: ignore[arg-type]


@contextmanager
def address(protocol: str) -> Iterator[str]:
    """Where a server sends the clip."""
    if protocol == "rtsp":
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder), rate=RATE) as place:
            yield f"rtsp://{place}"
    else:
        with stream_server(frames=RATE, rate=RATE) as server:
            yield f"http://127.0.0.1:{server.port}/clip.ts"


def main() -> None:
    """Write the table."""
    protocol, seconds = sys.argv[1], float(sys.argv[2])
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(
        ["seconds", "received", "scored", "stale", "broken", "waiting", "age_median", "age_p95", "age_highest"]
    )
    model = SlowModel.from_bytes(watching_model(30).to_bytes())
    with address(protocol) as place:
        stream = LiveStream(place)
        threading.Timer(seconds + 1, stream.close).start()
        ages: list[float] = []
        due = seconds / 10
        for watched in watch_frames(model, stream, alarms_per_hour=300, window=0.5, workers=1):
            ages += [] if watched.age is None else [watched.age]
            if stream.now() >= due and ages:
                table.writerow([f"{due:.0f}", *numbers(stream, ages)])
                sys.stdout.flush()
                due, ages = due + seconds / 10, []


def numbers(stream: LiveStream, ages: list[float]) -> list[object]:
    """What became of frames so far, and how old results were."""
    counts = stream.counts
    became = [counts.received, counts.handed, counts.stale, counts.broken, counts.waiting]
    return [*became, *(f"{age:.3f}" for age in (*np.quantile(ages, [0.5, 0.95]), max(ages)))]


if __name__ == "__main__":
    main()
