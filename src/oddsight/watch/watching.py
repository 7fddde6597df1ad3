"""Watching a source: frames are scored in parallel, and events follow from them in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from oddsight.errors import DataError, ImageError
from oddsight.model.events import WHOLE, Cause, Event, WatchedFrame
from oddsight.model.model import Model, load
from oddsight.runtime.bounds import Real, check_whole
from oddsight.runtime.progress import Progress, silent
from oddsight.sinks.streams.sink import StreamRun, StreamSink
from oddsight.sources.live import LiveStream
from oddsight.sources.opening import open_frames
from oddsight.sources.source import Source, known_length
from oddsight.watch.alarms import WINDOW, Watch, checked_rate
from oddsight.watch.interest import Proposer
from oddsight.watch.looking import look_at, look_at_live
from oddsight.watch.looks import Looks
from oddsight.watch.recalibrating import places_of
from oddsight.watch.watcher import Watcher
from oddsight.watch.zones import Zones

_WINDOW = Real(above=0, most=3600)

NO_FOOTAGE = (
    "the model has no normal footage to calibrate alarms on: make a new model file with it (oddsight recalibrate MODEL "
    "--from-video FILE -o NEW)"
)


def _unheard(text: str) -> None:
    """A note that nobody reads."""


def watch(  # noqa: PLR0913
    model: Model | str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    *,
    zones: Zones | str | os.PathLike[str] | None = None,
    roi: Proposer | str | None = None,
    alarms_per_hour: float = 1.0,
    window: float = WINDOW,
    max_staleness: float = 0.5,
    workers: int | None = None,
    sinks: Sequence[StreamSink] = (),
) -> Iterator[Event]:
    """Find events in a video or a stream, one after the other.

    A file is scored completely, in order and on every core. A live stream is scored as it comes, and frames that are
    too old are left out and counted. The model needs normal footage that it did not learn from
    (:func:`oddsight.recalibrate`, or ``oddsight fit --from-video``).

    Example:
        >>> for event in oddsight.watch("walkway.onnx", "clip.mp4", alarms_per_hour=60):
        ...     print(event.state, event.start, event.zone)
        new 3.1 frame
        end 3.1 frame

    Args:
        model: The model, or its file.
        source: A source of frames that have times, such as :class:`oddsight.sources.VideoFile`; or a video file, a
            folder of frames, the number of a camera or the address of a stream.
        zones: Where to look, or a file of zones; by default everywhere.
        roi: What proposes regions of interest; see :func:`oddsight.watch.interest.open_roi`.
        alarms_per_hour: At most so many events in normal footage, on average and in all zones together, as far as
            footage is like that of the calibration.
        window: Seconds of evidence behind an event.
        max_staleness: Of a live stream: frames older than so many seconds are left out.
        workers: Number of frames that are scored in parallel; by default the number of processors.
        sinks: Where frames and events go.

    Raises:
        DataError: The model has no footage, or too little for the rate; or frames have no times.
        OddsightError: The source, the zones or a sink will not do.
    """
    frames = watch_frames(
        model,
        source,
        zones=zones,
        roi=roi,
        alarms_per_hour=alarms_per_hour,
        window=window,
        max_staleness=max_staleness,
        workers=workers,
        sinks=sinks,
    )
    for frame in frames:
        yield from frame.events


def watch_frames(  # noqa: PLR0913
    model: Model | str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    *,
    zones: Zones | str | os.PathLike[str] | None = None,
    roi: Proposer | str | None = None,
    alarms_per_hour: float = 1.0,
    window: float = WINDOW,
    max_staleness: float = 0.5,
    workers: int | None = None,
    sinks: Sequence[StreamSink] = (),
    note: Callable[[str], None] = _unheard,
    progress: Progress = silent,
) -> Iterator[WatchedFrame]:
    """As :func:`watch`, every frame with its scores.

    Args:
        model: See :func:`watch`, as the other arguments.
        note: Called with what there is to say beside the results.
        progress: Called with phase, done and total.
    """
    model = model if isinstance(model, Model) else load(model)
    zones = zones if isinstance(zones, Zones | None) else Zones.read(zones)
    if workers is not None:
        check_whole(workers, "the number of workers", 1, 1024)
    looks = Looks(model, zones, roi)
    watcher = _watcher(model, looks, roi, checked_rate(alarms_per_hour), _WINDOW.read(window, "the window"))
    opened = source
    if isinstance(source, str | os.PathLike):
        opened = open_frames(os.fspath(source), max_staleness=max_staleness)
    live = isinstance(opened, LiveStream)
    run = StreamRun(
        model,
        _name(source, opened),
        live,
        {zone.name: zone.polygon for zone in looks.zones},
        frozenset(zone.name for zone in looks.zones.exclude),
        note,
    )
    with ExitStack() as stack:
        writers = [stack.enter_context(sink.open(run)) for sink in sinks]
        if isinstance(opened, LiveStream):
            watcher.live = True
            frames = _watch_live(watcher, looks, stack.enter_context(opened), workers)
        else:
            frames = _watch_file(watcher, looks, opened, workers, progress)
        try:
            for frame in frames:
                for write in writers:
                    write(frame)
                yield frame
        finally:
            # However it ends, sinks hear of the end of what goes on.
            last = WatchedFrame(None, events=tuple(watcher.finish()))
            for write in writers:
                write(last)
        yield last


def _watcher(model: Model, looks: Looks, roi: Proposer | str | None, rate: float, window: float) -> Watcher:
    footage = model.footage
    if footage is None:
        raise DataError(NO_FOOTAGE)
    if footage.places != places_of(looks.zones, roi):
        raise DataError(
            "the model's normal footage was scored in other zones or regions of interest: recalibrate it with these "
            "(oddsight recalibrate --zones, --roi)"
        )
    watches = {zone.name: Watch(zone.alarms_per_hour, zone.dwell) for zone in looks.zones.include}
    return Watcher(footage, watches or {WHOLE: Watch()}, rate, window)


def _name(source: Source | str | os.PathLike[str], opened: object) -> str:
    """What the source is called, without credentials."""
    if isinstance(opened, LiveStream):
        return str(opened.name)
    return os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__


def _watch_file(
    watcher: Watcher, looks: Looks, source: Source, workers: int | None, progress: Progress
) -> Iterator[WatchedFrame]:
    total = known_length(source)
    for done, scored in enumerate(look_at(looks, source, workers=workers), 1):
        yield watcher.take(scored)
        progress("watching", done, max(total or done, done))


def _watch_live(watcher: Watcher, looks: Looks, stream: LiveStream, workers: int | None) -> Iterator[WatchedFrame]:
    before: dict[Cause, int] = {}
    for scored in look_at_live(looks, stream, workers=workers):
        events = watcher.away(stream.away_since, "the source brings no frames")
        if scored is None:
            if events:
                yield WatchedFrame(None, events=tuple(events))
            continue
        counts: dict[Cause, int] = {"stale": stream.counts.stale, "broken": stream.counts.broken}
        dropped = {cause: count - before.get(cause, 0) for cause, count in counts.items()}
        before = counts
        yield watcher.take(scored, age=stream.age(scored), dropped=dropped, events=events)
