"""What people see in the terminal while a stream is watched."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from oddsight.drawing.frames import clock
from oddsight.drawing.numbers import count, p_text
from oddsight.errors import plain
from oddsight.model.events import Event, WatchedFrame
from oddsight.sinks.streams.sink import StreamRun, WriteFrame
from oddsight.sinks.streams.tally import Tally
from oddsight.sinks.terminal import console, messages, table

_ROW = "{:<6}  {:<7}  {:>10}  {:>8}  {:>9}  {:<12}  {}"
_RECENT = 5
"""Events that are shown."""
_WINDOW = 64
"""Frames over which the rate is measured."""


class EventTable:
    """A row on standard output for each state of an event, as it comes."""

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Print the header."""
        console.print(_ROW.format("state", "kind", "start", "length", "p-value", "zone", "event"), style="bold")
        notes: dict[str, str | None] = {}

        def write(watched: WatchedFrame) -> None:
            for event in watched.events:
                _print_row(event, None if notes.get(event.id) == event.note else event.note)
                notes[event.id] = event.note
                if event.state == "end":
                    del notes[event.id]

        yield write


def _print_row(event: Event, note: str | None) -> None:
    """A row; ``note`` is what has not been said of the event before."""
    length = "" if event.end is None else f"{event.end - event.start:.1f} s"
    p_value = "" if event.p_value is None else p_text(event.p_value)
    zone = plain(event.zone or "") + (f" #{event.track}" if event.track is not None else "")
    if note is None and event.state == "update":
        note = f"strongest at {clock(event.peak)}"
    what = event.id if note is None else f"{event.id}: {note}"
    row = _ROW.format(event.state, event.kind, clock(event.start), length, p_value, zone, plain(what))
    console.print(row.rstrip(), style="red" if event.state == "new" and event.kind == "anomaly" else None)


class LiveView:
    """A view on standard error that is always up to date, if that is a terminal: rate, age, drops, zones, events.

    Args:
        screen: Where it is shown instead.
        seconds: The time, for tests.
    """

    def __init__(self, screen: Console = messages, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._screen, self._seconds = screen, seconds

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Show it until the run ends."""
        if not self._screen.is_terminal:
            yield lambda watched: None
            return
        view = _View(run, self._seconds)
        # Rows on standard output appear above it, if they are seen in the terminal at all.
        with Live(console=self._screen, get_renderable=view.render, redirect_stdout=console.is_terminal):
            yield view.add


class _View:
    """The newest state, which one thread brings and another one shows."""

    def __init__(self, run: StreamRun, seconds: Callable[[], float]) -> None:
        self._run, self._seconds = run, seconds
        self._lock = Lock()
        self._tally = Tally()
        self._arrivals = deque[float](maxlen=_WINDOW)
        self._events: dict[str, Event] = {}

    def add(self, watched: WatchedFrame) -> None:
        with self._lock:
            self._tally.add(watched)
            if watched.frame is not None:
                self._arrivals.append(self._seconds())
            for event in watched.events:
                self._events.pop(event.id, None)
                self._events[event.id] = event
            for shown in list(self._events)[:-_RECENT]:
                del self._events[shown]

    def render(self) -> RenderableType:
        with self._lock:
            return Group(self._headline(), self._zones(), *map(_line, self._events.values()))

    def _headline(self) -> Text:
        tally, arrivals, now = self._tally, self._arrivals, self._seconds()
        parts = [plain(self._run.source)]
        if tally.time is not None:
            parts.append(clock(tally.time))
        parts.append(count(tally.scored, "frame"))
        if len(arrivals) > 1 and arrivals[-1] > arrivals[0]:
            parts.append(f"{(len(arrivals) - 1) / (arrivals[-1] - arrivals[0]):.1f} per second")
        if self._run.live and arrivals:
            parts.append(f"newest {(tally.age or 0.0) + now - arrivals[-1]:.1f} s old")
        dropped = ", ".join(f"{number:,} {cause}" for cause, number in sorted(tally.dropped.items()))
        parts.append(f"dropped: {dropped or 'none'}")
        return Text("   ".join(parts), style="bold")

    def _zones(self) -> RenderableType:
        rows = table("zone", "score", "p-value", "state", numbers=("score", "p-value"))
        for zone, look in self._tally.zones.items():
            style = "red" if look.alarm else None
            score, p_value = f"{look.result.score:.4g}", p_text(look.result.p_value)
            rows.add_row(plain(zone), score, p_value, "alarm" if look.alarm else "calm", style=style)
        return rows


def _line(event: Event) -> Text:
    place = f" in {plain(event.zone)}" if event.zone is not None else ""
    note = f": {plain(event.note)}" if event.note is not None else ""
    style = "red" if event.kind == "anomaly" and event.state != "end" else ""
    return Text(f"{clock(event.start)}  {event.kind} {event.state}{place}{note}", style=style)
