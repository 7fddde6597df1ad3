"""What has become of a stream so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from oddsight.model.events import Event, Kind, Look, WatchedFrame


@dataclass
class Tally:
    """Counts over all frames, and the newest state.

    Attributes:
        scored: Frames that were scored.
        dropped: Frames that were not, by cause.
        events: Events that began, by kind.
        ongoing: Events that go on, by their id.
        zones: The look of each zone in the newest frame that deviates most.
        time: Seconds since the source began, of the newest frame.
        age: Seconds from the arrival of the newest frame to its result, for a live source.
    """

    scored: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    events: Counter[Kind] = field(default_factory=Counter)
    ongoing: dict[str, Event] = field(default_factory=dict)
    zones: dict[str, Look] = field(default_factory=dict)
    time: float | None = None
    age: float | None = None

    def add(self, watched: WatchedFrame) -> None:
        """Take one more frame in."""
        self.dropped.update(watched.dropped)
        if watched.frame is not None:
            self.scored += 1
            self.time, self.age = watched.frame.time, watched.age
            # The last of a zone stays.
            looks = sorted(watched.looks, key=lambda look: (look.alarm, -look.result.p_value, look.result.score))
            self.zones |= {look.zone: look for look in looks}
        for event in watched.events:
            self.events[event.kind] += event.state == "new"
            if event.state == "end":
                self.ongoing.pop(event.id, None)
            else:
                self.ongoing[event.id] = event
