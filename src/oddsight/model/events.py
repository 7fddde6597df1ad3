"""What watching a stream brings: what became of each frame, and events, which last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from oddsight.model.result import Result
from oddsight.runtime.records import as_json
from oddsight.sources.frame import Frame

Box = tuple[int, int, int, int]
"""``(left, top, right, bottom)`` in pixels of the frame; right and bottom are exclusive."""

Kind = Literal["anomaly", "light", "drift", "source"]
State = Literal["new", "update", "end"]
Cause = Literal["stale", "broken"]

WHOLE = "frame"
"""The zone that is the whole frame."""


@dataclass(frozen=True)
class Event:
    """Something that lasts: an anomaly, a change of the light, a drift of the scene, or a source that is away.

    Attributes:
        id: The same for all states of one event; unique in a run.
        kind: ``anomaly``; ``light``: it was switched on or off, or the camera moved its exposure; ``drift``: what
            passes as normal is no longer what the model was calibrated on; ``source``: it brings no frames.
        state: ``new``, ``update`` (it goes on, and its peak was passed) or ``end``.
        zone: The zone's name, ``frame`` for the whole frame; None if the event has no place.
        track: The number of the object that is followed, if one is.
        start: Seconds since the source began.
        end: Seconds since the source began; None while it goes on.
        peak: When its score was highest.
        index: The frame of that, which is the key frame.
        score: The highest evidence.
        p_value: Share of blocks of normal footage expected to have as much evidence, in (0, 1]; None where none is
            measured.
        box: Where it was at its peak, if that is known.
        clock: The time of day when it began, ISO 8601 with the time zone, for a live source.
        note: What there is to say about it in one sentence.
    """

    id: str
    kind: Kind
    state: State
    zone: str | None
    track: int | None
    start: float
    end: float | None
    peak: float
    index: int
    score: float
    p_value: float | None
    box: Box | None = None
    clock: str | None = None
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``watch --events`` writes it."""
        return as_json(self)


@dataclass(frozen=True, eq=False)
class Look:
    """One zone or crop of one frame, with its score.

    Attributes:
        zone: The zone's name, ``frame`` for the whole frame.
        result: Of the frame, or of the crop; its score and p-value are those of the zone.
        box: The crop, or the zone's box; None for the whole frame.
        track: The number of the object that is followed, if one is.
        alarm: Whether an event of this zone or object goes on.
    """

    zone: str
    result: Result
    box: Box | None = None
    track: int | None = None
    alarm: bool = False


@dataclass(frozen=True, eq=False)
class WatchedFrame:
    """One frame that was scored, or that could not be, with what followed from it.

    Attributes:
        frame: The frame, with its index and its time; None if only events are told, as at the end of a source.
        looks: Its scores by zone and crop; empty if it was not scored.
        events: The events that began, went on or ended with it.
        dropped: Frames that were not scored since the last one that was, by cause.
        error: Why it could not be scored.
        age: Seconds from its arrival to its result, for a live source.
        evidence: The highest of its zones and objects, as a share of what raises an alarm; None if it does not count.
    """

    frame: Frame | None
    looks: tuple[Look, ...] = ()
    events: tuple[Event, ...] = ()
    dropped: dict[Cause, int] = field(default_factory=dict)
    error: str | None = None
    age: float | None = None
    evidence: float | None = None

    @property
    def anomalous(self) -> bool:
        """Whether an event goes on in it."""
        return any(look.alarm for look in self.looks)

    def to_json(self) -> dict[str, Any]:
        """As ``watch --frames`` writes it."""
        return {
            "index": None if self.frame is None else self.frame.index,
            "time": None if self.frame is None else self.frame.time,
            "looks": [
                {
                    "zone": look.zone,
                    "track": look.track,
                    "box": None if look.box is None else list(look.box),
                    "score": look.result.score,
                    "p_value": look.result.p_value,
                    "verdict": look.result.verdict,
                    "alarm": look.alarm,
                }
                for look in self.looks
            ],
            "evidence": self.evidence,
            "dropped": dict(self.dropped),
            **({} if self.error is None else {"error": self.error}),
            **({} if self.age is None else {"age": self.age}),
        }
