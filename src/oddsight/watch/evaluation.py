"""Evaluating a model on labelled videos, as it would have watched them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.drawing.numbers import percent
from oddsight.errors import DataError, ImageError
from oddsight.evaluation.videos import ClipOutcome, VideoEvaluation, find_clips
from oddsight.model.events import Event, WatchedFrame
from oddsight.model.model import Model
from oddsight.runtime.progress import Progress, silent
from oddsight.sources.opening import open_frames
from oddsight.sources.source import Source
from oddsight.watch.alarms import WINDOW
from oddsight.watch.interest import Proposer
from oddsight.watch.known_frames import KnownFrames
from oddsight.watch.looking import look_at
from oddsight.watch.looks import Looks
from oddsight.watch.unscored import Unscored
from oddsight.watch.watching import watch_frames
from oddsight.watch.zones import Zones

_SIDE = 128
_MOSTLY = 0.5
"""The share of normal frames during alarms from which on alarms say little."""

ALWAYS = (
    "{share} of the normal frames are during alarms, so alarms at the time of anomalies mean little: calibrate on "
    "normal footage like this (oddsight recalibrate)"
)


def evaluate_videos(
    model: Model,
    videos: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    zones: Zones | None = None,
    roi: Proposer | str | None = None,
    alarms_per_hour: float = 1.0,
    window: float = WINDOW,
    every: float | None = None,
    rate: float | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> VideoEvaluation:
    """Watch labelled videos and compare what was found with the labels. The alarms never see the labels.

    Args:
        model: The model; without normal footage there are no alarms, and only frames are evaluated.
        videos: A folder of videos, or one; a folder of frames is a video, too.
        labels: A CSV file; see :func:`oddsight.evaluation.videos.find_clips`.
        zones: As for :func:`oddsight.watch`, and so are the others.
        roi: What proposes regions of interest.
        alarms_per_hour: In normal footage.
        window: Seconds of evidence.
        every: Take only one frame in so many seconds; by default all.
        rate: Frames a second of folders of frames; by default 25.
        workers: Number of frames that are scored in parallel.
        progress: Called with phase, done and total.

    Raises:
        DataError: The labels do not fit the videos, the model knows a frame already, or it lacks footage for the rate.
    """
    known = KnownFrames(model, "give other videos, as results on these would mean nothing")
    looks = Looks(model, zones, roi)
    clips, warnings = [], list[str]()
    if model.footage is None:
        warnings.append("the model has no normal footage, so there are no alarms: only frames are evaluated")
    for path, truth in find_clips(Path(videos), Path(labels)):
        rows = _Rows(truth, known)
        source = open_frames(path, every=every, rate=rate)
        if model.footage is None:
            frames = _frames_alone(looks, source, workers)
        else:
            frames = watch_frames(
                model,
                source,
                zones=zones,
                roi=roi,
                alarms_per_hour=alarms_per_hour,
                window=window,
                workers=workers,
                progress=progress,
            )
        for frame in frames:
            rows.add(frame)
        clips.append(rows.outcome(path.name))
        if rows.unscored.count:
            warnings.append(f"frames that could not be scored were left out: {rows.unscored}")
        if every is None and (beyond := rows.labels_beyond()):
            warnings.append(f"{path.name} has no frames for {beyond:,} of the labels: frames count from 0")
    if known.count:
        warnings.append(str(known))
    found = VideoEvaluation(clips, None if model.footage is None else alarms_per_hour, window, warnings)
    share = found.normal_frames_in_alarms or 0.0
    if share > _MOSTLY:
        return replace(found, warnings=[*warnings, ALWAYS.format(share=percent(share))])
    return found


def _frames_alone(looks: Looks, source: Source, workers: int | None) -> Iterator[WatchedFrame]:
    """Frames with their scores, of a model that cannot alarm."""
    for scored in look_at(looks, source, workers=workers):
        if isinstance(scored.outcome, ImageError):
            yield WatchedFrame(None, error=str(scored.outcome))
        else:
            yield WatchedFrame(scored.outcome.frame, scored.outcome.looks)


class _Rows:
    """What is kept of the frames of one clip."""

    def __init__(self, truth: dict[int, int], known: KnownFrames) -> None:
        self._truth, self._known = truth, known
        self._rows: list[tuple[float, float, float, int, float, float]] = []
        self._events: dict[str, Event] = {}
        self._before: NDArray[np.float32] | None = None
        self._last = -1
        self.unscored = Unscored()

    def add(self, watched: WatchedFrame) -> None:
        self._events |= {event.id: event for event in watched.events}
        frame = watched.frame
        if watched.error is not None:
            self.unscored.add(watched.error)
        if frame is None or frame.time is None:
            return
        pixels = frame.read()
        small = Image.fromarray(pixels).convert("L")
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
        grey = np.asarray(small, np.float32)
        before, self._before = self._before, grey
        if before is None or before.shape != grey.shape:
            before = grey
        change = float(np.abs(grey - before).mean())
        score = max((look.result.score for look in watched.looks), default=-np.inf)
        self._last = frame.index or 0
        label = -1 if self._known(pixels, frame.name) else self._truth.get(self._last, -1)
        evidence = np.nan if watched.evidence is None else watched.evidence
        self._rows.append((frame.time, score, evidence, label, float(grey.mean()), change))

    def labels_beyond(self) -> int:
        """How many labels are of frames after the last."""
        return sum(number > self._last for number in self._truth)

    def outcome(self, name: str) -> ClipOutcome:
        if not self._rows:
            why = f": {self.unscored}" if self.unscored.count else ""
            raise DataError(f"{name} has no frames that can be scored{why}")
        times, scores, evidence, labels, brightness, change = np.array(self._rows, np.float64).T
        # A frame without anything to score is below all others.
        lowest = scores[np.isfinite(scores)].min(initial=0.0)
        baselines = np.stack([brightness, change], axis=1)
        scores = np.where(np.isfinite(scores), scores, lowest)
        events: Sequence[Event] = sorted(self._events.values(), key=lambda event: event.start)
        return ClipOutcome(name, times, scores, evidence, labels.astype(np.int8), baselines, tuple(events))
