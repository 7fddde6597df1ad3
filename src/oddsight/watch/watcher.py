"""What is remembered from frame to frame: evidence, the light, drift, what is away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import ImageError
from oddsight.model.events import Cause, Event, Kind, Look, WatchedFrame
from oddsight.model.footage import Footage
from oddsight.watch.alarms import Alarms, Watch
from oddsight.watch.drift import CHANCE, Drift
from oddsight.watch.light import Light
from oddsight.watch.looks import Observation

DRIFTED = (
    "what passes as normal is no longer what the model was calibrated on: recalibrate it on footage of now "
    "(oddsight recalibrate), or see whether the camera has moved"
)


@dataclass(frozen=True, eq=False)
class Scored:
    """What became of one frame, before anything follows from it.

    Attributes:
        outcome: Its looks, or why there are none.
        brightness: On a grid, see :func:`oddsight.watch.light.brightness`; None if there are no looks.
    """

    outcome: Observation | ImageError
    brightness: NDArray[np.float32] | None = None


class Watcher:
    """Turns scored frames, in order, into watched frames with their events.

    Args:
        footage: What normal footage scores.
        zones: See :class:`oddsight.watch.alarms.Alarms`.
        alarms_per_hour: In all zones together.
        window: Seconds of evidence.

    Attributes:
        live: Whether events have a time of day.
    """

    def __init__(
        self,
        footage: Footage,
        zones: Mapping[str, Watch],
        alarms_per_hour: float,
        window: float,
    ) -> None:
        self._ids = count(1)
        self.alarms = Alarms(footage, zones, alarms_per_hour, window, ids=self._ids)
        self._light, self.live = Light(), False
        self._drift = {
            zone: Drift(medians, footage.block, CHANCE / len(zones), seed)
            for seed, (zone, medians) in enumerate((zone, self.alarms.medians(zone)) for zone in zones)
        }
        self._open: dict[Kind, Event] = {}
        self._time = 0.0

    def take(
        self,
        scored: Scored,
        *,
        age: float | None = None,
        dropped: Mapping[Cause, int] | None = None,
        events: Sequence[Event] = (),
    ) -> WatchedFrame:
        """What follows from the next frame, with what is known of it already."""
        if isinstance(scored.outcome, ImageError):
            lost: dict[Cause, int] = {"broken": 1} if dropped is None else dict(dropped)
            return WatchedFrame(None, events=tuple(events), dropped=lost, error=str(scored.outcome))
        frame, looks = scored.outcome.frame, scored.outcome.looks
        assert frame.time is not None
        assert scored.brightness is not None
        time, index = frame.time, frame.index or 0
        self._time = max(time, self._time)
        events = [*events, *self._follow_light(time, index, scored.brightness)]
        if self._light.since is not None:
            self.alarms.clear()
        counts = self.alarms.counts(time)
        looks, begun = self.alarms.update(time, index, looks, clock=self._clock())
        events += begun
        if counts and self._light.since is None:
            events += self._follow_drift(time, index, looks)
        evidence = self.alarms.evidence(time) if counts else None
        return WatchedFrame(frame, looks, tuple(events), dict(dropped or {}), age=age, evidence=evidence)

    def follow_source(self, away_since: float | None, note: str | None) -> list[Event]:
        """Take in since when the source brings no frames, or, with None, that it does."""
        if away_since is not None and "source" not in self._open:
            return [self._begin("source", away_since, 0, 0.0, note)]
        return [self._finish("source", self._time)] if away_since is None and "source" in self._open else []

    def finish(self) -> WatchedFrame:
        """The end of all events."""
        ended = [*self.alarms.finish(), *(self._finish(kind, self._time) for kind in list(self._open))]
        return WatchedFrame(None, events=tuple(ended))

    def _follow_light(self, time: float, index: int, brightness: NDArray[np.float32]) -> list[Event]:
        change = self._light.update(time, brightness)
        if change == "new":
            note = f"the scene became {'lighter' if self._light.shift > 0 else 'darker'} all at once"
            return [self._begin("light", time, index, abs(self._light.shift), note)]
        return [self._finish("light", time)] if change == "end" else []

    def _follow_drift(self, time: float, index: int, looks: Sequence[Look]) -> list[Event]:
        events, active = [], self.alarms.active
        best = dict.fromkeys(self._drift, 0.0)
        for look in looks:
            best[look.zone] = max(best[look.zone], self.alarms.surprise(look))
        for zone, drift in self._drift.items():
            passed = None if zone in active else best[zone]
            if drift.update(time, passed) and "drift" not in self._open:
                events.append(self._begin("drift", time, index, float(np.log(drift.capital)), DRIFTED, zone))
        return events

    def _begin(
        self, kind: Kind, time: float, index: int, score: float, note: str | None, zone: str | None = None
    ) -> Event:
        chance = float(np.exp(-score)) if kind == "drift" else None
        self._open[kind] = Event(
            f"{kind}-{next(self._ids)}", kind, "new", zone, None, time, None, time, index, score, chance,
            clock=self._clock(), note=note,
        )  # fmt: skip
        return self._open[kind]

    def _finish(self, kind: Kind, time: float) -> Event:
        begun = self._open.pop(kind)
        return replace(begun, state="end", end=max(time, begun.start))

    def _clock(self) -> str | None:
        return datetime.now(UTC).astimezone().isoformat(timespec="seconds") if self.live else None
