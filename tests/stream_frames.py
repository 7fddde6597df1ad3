"""Frames of a stream with what became of them, for tests of sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from oddsight.model.events import Event, Look, WatchedFrame
from oddsight.model.model import Model
from oddsight.sinks.streams.sink import StreamRun, StreamSink
from oddsight.sources.frame import Frame
from tiny_model import tiny_model

BEGIN, PEAK, OVER, END = 4, 6, 7, 8
"""The frames in which the event of :func:`stream` begins, is strongest, is known to have passed its peak, and ends."""
COUNT = 10


def event(state: Any = "new", **changes: Any) -> Event:
    """An event in a zone called ``door``."""
    known: dict[str, Any] = {
        "id": "1",
        "kind": "anomaly",
        "state": state,
        "zone": "door",
        "track": None,
        "start": 0.4,
        "end": None,
        "peak": 0.4,
        "index": BEGIN,
        "score": 3.5,
        "p_value": 0.01,
    }
    return Event(**(known | changes))


def stream(count: int = COUNT, shape: tuple[int, int] = (48, 64), model: Model | None = None) -> Iterator[WatchedFrame]:
    """Frames that turn bright at the event; one is broken, some were stale, and last only events are told."""
    model = model or tiny_model()
    states = {
        BEGIN: event(),
        OVER: event("update", index=PEAK, peak=0.6, score=4.5),
        END: event("end", index=PEAK, peak=0.6, score=4.5, end=0.8),
    }
    for index in range(count):
        alarm = BEGIN <= index < END
        pixels = np.full((*shape, 3), 190 + 10 * (index == PEAK) if alarm else 20, np.uint8)
        frame = Frame(pixels, f"clip#{index}", index / 10, index)
        events = (states[index],) if index in states else ()
        if index == 1:
            yield WatchedFrame(None, error="clip#1: it is torn", dropped={"broken": 1})
        else:
            look = Look("door", model.predict(frame), (8, 8, 40, 40), alarm=alarm)
            yield WatchedFrame(frame, (look,), events, {"stale": 2} if index == 2 else {})
    yield WatchedFrame(None, events=(event("new", id="2", kind="source", zone=None, p_value=None, note="it is away"),))


def write(sink: StreamSink, frames: Any = None, **options: Any) -> list[str]:
    """Give frames to a sink, as a run does; the notes that it made."""
    notes: list[str] = []
    note: Callable[[str], None] = notes.append
    run = StreamRun(tiny_model(), "clip.mp4", note=note, complain=note, **options)
    with sink.open(run) as take:
        for watched in stream() if frames is None else frames:
            take(watched)
    return notes
