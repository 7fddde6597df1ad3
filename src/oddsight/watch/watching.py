"""Watching a source: frames are scored in parallel, and events follow from them in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing

from oddsight.errors import DataError, ImageError
from oddsight.model.events import WHOLE, Cause, Event, WatchedFrame
from oddsight.model.model import Model, load
from oddsight.runtime.bounds import Real, check_whole
from oddsight.runtime.progress import Progress, silent, unheard
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
from oddsight.watch.zone_files import read_zones
from oddsight.watch.zones import Zones

_WINDOW = Real(above=0, most=3600)

NO_FOOTAGE = (
    "the model has no normal footage to calibrate alarms on: make a new model file with it (oddsight recalibrate MODEL "
    "--from-video FILE -o NEW)"
)


def watch(
    model: Model | str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    *,
    zones: Zones | str | os.PathLike[str] | None = None,
    roi: Proposer | str | None = None,
    alarms_per_hour: float = 1.0,
    window: float = WINDOW,
    max_staleness: float | None = None,
    workers: int | None = None,
    sinks: Sequence[StreamSink] = (),
) -> Generator[Event]:
    """Find events in a video or a stream, one after the other.

    A file is scored completely, in order and on every core. A live stream is scored as it comes, and frames that are
    too old are left out and counted. The model needs normal footage that it did not learn from
    (:func:`oddsight.recalibrate`, or ``oddsight fit --from-video``).

    Example:
        >>> from oddsight.sources import VideoFile
        >>> model = oddsight.recalibrate(oddsight.load("parts.onnx"), VideoFile("belt.mp4"), block=1)
        >>> events = list(oddsight.watch(model, "belt.mp4", alarms_per_hour=3600, window=0.2))
        >>> events[0].kind, events[0].state, events[0].zone
        ('anomaly', 'new', 'frame')

    Args:
        model: The model, or its file.
        source: A source of frames that have times, such as :class:`oddsight.sources.VideoFile`; or a video file, a
            folder of frames, the number of a camera or the address of a stream.
        zones: Where to look, or a file of zones; by default everywhere.
        roi: What proposes regions of interest; see :func:`oddsight.watch.interest.open_roi`.
        alarms_per_hour: At most so many events in normal footage, on average and in all zones together, as far as
            footage is like that of the calibration.
        window: Seconds of evidence behind an event.
        max_staleness: Of a live stream: frames older than so many seconds are left out; by default 0.5.
        workers: Number of frames that are scored in parallel; by default the number of processors.
        sinks: Where frames and events go.

    Raises:
        DataError: The model has no footage, or too little for the rate; or frames have no times.
        OddsightError: The source, the zones or a sink will not do.
    """
    watched = watch_frames(
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
    with closing(watched):
        for frame in watched:
            yield from frame.events


def watch_frames(
    model: Model | str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    *,
    zones: Zones | str | os.PathLike[str] | None = None,
    roi: Proposer | str | None = None,
    alarms_per_hour: float = 1.0,
    window: float = WINDOW,
    max_staleness: float | None = None,
    workers: int | None = None,
    sinks: Sequence[StreamSink] = (),
    note: Callable[[str], None] = unheard,
    complain: Callable[[str], None] = unheard,
    progress: Progress = silent,
) -> Generator[WatchedFrame]:
    """As :func:`watch`, but every frame with its scores; at the end of the source one without a frame.

    ``note`` is called with what there is to say beside the results, ``complain`` with what went wrong beside them,
    ``progress`` with phase, done and total.
    """
    model = model if isinstance(model, Model) else load(model)
    zones = zones if isinstance(zones, Zones | None) else read_zones(zones)
    if workers is not None:
        check_whole(workers, "the number of workers", 1, 1024)
    looks = Looks(model, zones, roi)
    watcher = _watcher(model, looks, roi, checked_rate(alarms_per_hour), _WINDOW.read(window, "the window"))
    opened = open_frames(source, max_staleness=max_staleness) if isinstance(source, str | os.PathLike) else source
    live = isinstance(opened, LiveStream)
    run = StreamRun(
        model,
        _name(opened),
        live,
        {zone.name: zone.polygon for zone in looks.zones},
        frozenset(zone.name for zone in looks.zones.exclude),
        note,
        complain,
    )
    with ExitStack() as stack:
        writers = [stack.enter_context(sink.open(run)) for sink in sinks]
        if isinstance(opened, LiveStream):
            watcher.live = True
            frames = _watch_live(watcher, looks, stack.enter_context(opened), workers)
        else:
            frames = _watch_file(watcher, looks, opened, workers, progress)
        stack.enter_context(closing(frames))

        def told(frame: WatchedFrame) -> WatchedFrame:
            for write in writers:
                write(frame)
            return frame

        try:
            for frame in frames:
                yield told(frame)
        except (KeyboardInterrupt, GeneratorExit):
            told(watcher.finish())  # so that sinks hear of the end of what goes on
            raise
        yield told(watcher.finish())


def _watcher(model: Model, looks: Looks, roi: Proposer | str | None, rate: float, window: float) -> Watcher:
    footage = model.footage
    if footage is None:
        raise DataError(NO_FOOTAGE)
    if footage.places != places_of(looks.zones, roi):
        raise DataError(
            "the model's normal footage was scored in other zones or regions of interest than these: give the same "
            "--zones and --roi, or recalibrate the model with these (oddsight recalibrate)"
        )
    watches = {zone.name: Watch(zone.alarms_per_hour, zone.dwell) for zone in looks.zones.include}
    return Watcher(footage, watches or {WHOLE: Watch()}, rate, window)


def _name(source: object) -> str:
    """What the source is called, without credentials."""
    if isinstance(source, LiveStream):
        return source.name
    return os.fspath(getattr(source, "path", type(source).__name__))


def _watch_file(
    watcher: Watcher, looks: Looks, source: Source, workers: int | None, progress: Progress
) -> Generator[WatchedFrame]:
    total = known_length(source)
    for done, scored in enumerate(look_at(looks, source, workers=workers), 1):
        yield watcher.take(scored)
        progress("watching", done, max(total or done, done))


def _watch_live(watcher: Watcher, looks: Looks, stream: LiveStream, workers: int | None) -> Generator[WatchedFrame]:
    drops = _Drops(stream)
    for scored in look_at_live(looks, stream, workers=workers):
        away = None if stream.away_since is None else f"{stream.name} brings no frames"
        events = watcher.follow_source(stream.away_since, away)
        if scored is None:
            if events:
                yield WatchedFrame(None, events=tuple(events))
            continue
        arrived = None if isinstance(scored.outcome, ImageError) else scored.outcome.frame.time
        age = None if arrived is None else stream.now() - arrived
        yield watcher.take(scored, age=age, dropped=drops.since_last(scored.outcome), events=events)
    if dropped := drops.since_last():
        yield WatchedFrame(None, dropped=dropped)


class _Drops:
    """The frames of a live source that are not scored, as they become more."""

    def __init__(self, stream: LiveStream) -> None:
        self._stream, self._counts = stream, stream.counts

    def since_last(self, outcome: object = None) -> dict[Cause, int]:
        """By cause; with ``outcome``, if that is the error of a frame, and not the news that the source is away."""
        before, self._counts = self._counts, self._stream.counts
        stale, broken = self._counts.stale - before.stale, self._counts.broken - before.broken
        if isinstance(outcome, ImageError) and outcome.path != self._stream.name:
            broken += 1
        drops: dict[Cause, int] = {"stale": stale, "broken": broken}
        return {cause: number for cause, number in drops.items() if number}
