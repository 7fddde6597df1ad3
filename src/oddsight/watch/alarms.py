"""From the scores of frames to events: when one begins, goes on and ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, plain, some
from oddsight.model.events import Box, Event, Look
from oddsight.model.footage import Footage
from oddsight.watch.evidence import Level, Levels, Window

WINDOW = 2.0
"""Seconds of evidence, by default."""

QUIET = 5.0
"""Seconds without evidence after which an event has ended, so that what flickers is one event."""

_EARLY = 0.25
"""Share of the footage's interval by which a frame may come before it is due, as cameras are not exact."""

_HIGHER = 1.1
"""By how much a peak has to be passed for an update."""

_LASTING = 10
"""Blocks after which an event that goes on may be how the scene is now."""


_FOLLOWED = 0.05
"""Weight of the newest gap between frames in the average."""


_LEAST = 1e-3
"""Of a threshold that shares are of: it is 0 where normal footage never had anything to score."""


@dataclass(frozen=True)
class Watch:
    """How alarms are raised in one zone.

    Attributes:
        alarms_per_hour: Of its own; None to share those of all zones.
        dwell: Seconds that evidence has to stay before it is an event.
    """

    alarms_per_hour: float | None = None
    dwell: float = 0.0


@dataclass
class _Place:
    """One zone, or one object in it, and its event."""

    window: Window
    above_since: float | None = None
    event: Event | None = None
    last: float = -math.inf
    told: Event | None = None


LASTS = (
    "it has lasted for {length}; if the scene is like that now, recalibrate the model on footage of now "
    "(oddsight recalibrate)"
)


class _Limit(NamedTuple):
    """What evidence in a zone is compared with."""

    step: int
    level: Level
    threshold: float
    release: float


class Alarms:
    """Raises at most so many alarms an hour on footage like that of the calibration, all zones together.

    An event begins when the evidence of a zone, or of an object in it, is above the threshold. It ends when it has been
    well below the threshold for :data:`QUIET` seconds.

    Args:
        footage: What normal footage scores.
        zones: Names of the zones, and how they are watched. Those without a rate of their own have equal parts of
            ``alarms_per_hour`` (Bonferroni).
        alarms_per_hour: At most so many in normal footage, on average.
        window: Seconds of evidence.
        ids: Numbers of events.

    Raises:
        DataError: A zone has no footage, or too little for the rate.
    """

    def __init__(
        self,
        footage: Footage,
        zones: Mapping[str, Watch],
        alarms_per_hour: float = 1.0,
        window: float = WINDOW,
        ids: count[int] | None = None,
    ) -> None:
        missing = [zone for zone in zones if zone not in footage.scores]
        if missing:
            raise DataError(
                f"the model has no normal footage of the zone {some(missing)}: recalibrate it with the same zones"
            )
        sharing = sum(watch.alarms_per_hour is None for watch in zones.values())
        self._zones, self._window = zones, window
        self._levels = {zone: Levels(footage, zone, window) for zone in zones}
        self._rates = {
            zone: watch.alarms_per_hour or alarms_per_hour / max(1, sharing) for zone, watch in zones.items()
        }
        self._footage_interval = self._interval = footage.interval
        self._lasting = _LASTING * footage.block
        self._limits = {zone: self._limit(zone) for zone in zones}
        self._places: dict[tuple[str, int | None], _Place] = {}
        self._ids = ids or count(1)
        self._counted = self._due = -math.inf

    def threshold(self, zone: str) -> float:
        """The evidence above which a zone has an event."""
        return self._limits[zone].threshold

    def evidence(self, time: float) -> float:
        """The highest of all zones and objects at a time, as a share of the threshold."""
        shares = (
            place.window.mean(time, self._limits[zone].level.frames) / max(self.threshold(zone), _LEAST)
            for (zone, _), place in self._places.items()
        )
        return max(shares, default=0.0)

    def surprise(self, look: Look) -> float:
        """The evidence of one look alone."""
        return float(self._levels[look.zone].surprise(np.array(look.result.score)))

    def medians(self, zone: str) -> NDArray[np.float64]:
        """Of the evidence of the frames of each block of normal footage, ``[n]``."""
        return self._levels[zone].medians()

    def counts(self, time: float) -> bool:
        """Whether a frame counts: not if frames come more often than in the footage and it comes too soon."""
        return time >= self._due - _EARLY * self._footage_interval

    def update(
        self, time: float, index: int, looks: Sequence[Look], *, clock: str | None = None
    ) -> tuple[tuple[Look, ...], list[Event]]:
        """Take in what a frame showed.

        Returns:
            The looks, with whether an event goes on there; and the events that began, went on or ended.
        """
        events: list[Event] = []
        if self.counts(time):
            self._follow_rate(time)
            best: dict[tuple[str, int | None], tuple[float, Look]] = {}
            for look in looks:
                value = self.surprise(look)
                key = (look.zone, look.track)
                if key not in best or value > best[key][0]:
                    best[key] = value, look
            for key, (value, _) in best.items():
                if key not in self._places:
                    self._places[key] = _Place(Window(self._window))
                self._places[key].window.add(time, value)
            for key in list(self._places):
                box = best[key][1].box if key in best else None
                events += self._judge(key, time, index, box, clock)
        return tuple(replace(look, alarm=self._alarm(look)) for look in looks), events

    def clear(self) -> None:
        """Forget the evidence of late, as when the light changes."""
        for place in self._places.values():
            place.window = Window(self._window)
            place.above_since = None

    def finish(self) -> list[Event]:
        """End all events, as at the end of a source."""
        return [self._end(place) for place in self._places.values() if place.event is not None]

    @property
    def active(self) -> set[str]:
        """The zones that have an event."""
        return {zone for (zone, _), place in self._places.items() if place.event is not None}

    def _alarm(self, look: Look) -> bool:
        place = self._places.get((look.zone, look.track))
        return place is not None and place.event is not None

    def _follow_rate(self, time: float) -> None:
        """Note that a frame counts; if frames come less often than they did, evidence is compared with fewer, too."""
        if math.isfinite(self._counted):
            gap = min(time - self._counted, self._window)
            self._interval += _FOLLOWED * (gap - self._interval)
        self._counted = time
        # Due times keep their step, so that on average no more frames count than in the footage.
        self._due = max(self._due + self._footage_interval, time + self._footage_interval / 2)
        for zone, limit in self._limits.items():
            if self._levels[zone].step(self._interval) != limit.step:
                self._limits[zone] = self._limit(zone)

    def _limit(self, zone: str) -> _Limit:
        step = self._levels[zone].step(self._interval)
        level = self._levels[zone].of(step)
        threshold = level.threshold(self._rates[zone], zone)
        return _Limit(step, level, threshold, level.release(threshold))

    def _judge(
        self, key: tuple[str, int | None], time: float, index: int, box: Box | None, clock: str | None
    ) -> list[Event]:
        zone, track = key
        place, limit = self._places[key], self._limits[zone]
        level, threshold = limit.level, limit.threshold
        evidence = place.window.mean(time, level.frames)
        if evidence > threshold:
            place.above_since = time if place.above_since is None else place.above_since
        else:
            place.above_since = None
        if place.event is None:
            if place.above_since is not None and time - place.above_since >= self._zones[zone].dwell:
                place.last = time
                place.event = place.told = Event(
                    f"anomaly-{next(self._ids)}", "anomaly", "new", zone, track, place.above_since, None, time, index,
                    evidence, level.p_value(evidence), box, clock,
                )  # fmt: skip
                return [place.event]
            if not evidence:
                del self._places[key]
            return []
        if evidence > limit.release:
            place.last = time
        if evidence > place.event.score:
            place.event = replace(
                place.event, state="update", peak=time, index=index, score=evidence, p_value=level.p_value(evidence),
                box=box or place.event.box,
            )  # fmt: skip
        if time - place.last > QUIET:
            return [self._end(place)]
        assert place.told is not None
        if place.event.note is None and time - place.event.start >= self._lasting:
            length = f"{self._lasting / 60:.3g} minutes" if self._lasting >= 120 else f"{self._lasting:.3g} seconds"
            note = LASTS.format(length=length)
            place.event = place.told = replace(place.event, state="update", note=note)
            return [place.event]
        if place.event.score > _HIGHER * place.told.score and time - place.told.peak >= self._window:
            place.told = replace(place.event, peak=time)
            return [place.event]
        return []

    def _end(self, place: _Place) -> Event:
        assert place.event is not None
        ended = replace(place.event, state="end", end=max(place.last, place.event.start))
        place.event = place.told = place.above_since = None
        return ended


def checked_rate(alarms_per_hour: float) -> float:
    """A rate of alarms as a plain float.

    Raises:
        DataError: If it is not above 0.
    """
    if not (isinstance(alarms_per_hour, int | float) and 0 < alarms_per_hour < math.inf):
        raise DataError(f"the number of alarms an hour must be above 0, not {plain(alarms_per_hour)}")
    return float(alarms_per_hour)
