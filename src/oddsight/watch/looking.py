"""Scoring the frames of sources, in parallel and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from oddsight.errors import DataError, ImageError, plain
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.parallel import prompt_map
from oddsight.sources.frame import Frame
from oddsight.watch.light import brightness
from oddsight.watch.looks import Looks, Scoring, View
from oddsight.watch.watcher import Scored


@dataclass(frozen=True, eq=False)
class Observing:
    """A job: what is seen in a view, and how bright it is."""

    score: Scoring

    def __call__(self, view: View | ImageError) -> Scored:
        """Score a view; what cannot be scored is its own error."""
        outcome = self.score(view)
        if isinstance(outcome, ImageError):
            return Scored(outcome)
        return Scored(outcome, brightness(outcome.frame.read()))


def look_at(
    looks: Looks,
    frames: Iterable[Frame | ImageError],
    *,
    keep: Callable[[Frame], bool] = lambda frame: True,
    workers: int | None = None,
) -> Iterator[Scored]:
    """Every frame of a source that waits, in order, the same with any number of workers.

    Args:
        looks: Where to look.
        frames: The source.
        keep: Which frames are scored; regions of interest are followed in all.
        workers: As many frames are scored at once.
    """
    views = map(looks.prepare, _timed(frames))
    kept = (view for view in views if isinstance(view, ImageError) or keep(view.frame))
    return map_jobs(Observing(looks.score), kept, workers=workers)


def look_at_live(
    looks: Looks, frames: Iterable[Frame | ImageError], *, workers: int | None = None
) -> Iterator[Scored | None]:
    """The frames of a source that does not wait, as soon as they are scored; None now and then while none come."""
    return prompt_map(Observing(looks.score), map(looks.prepare, _timed(frames)), workers=workers)


def _timed(frames: Iterable[Frame | ImageError]) -> Iterator[Frame | ImageError]:
    for frame in frames:
        if isinstance(frame, Frame) and frame.time is None:
            raise DataError(
                f"{plain(frame.name or 'a frame')} has no time, and only frames with times show what lasts: "
                "give a video, a stream, or frames with times"
            )
        yield frame
