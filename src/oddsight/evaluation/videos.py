"""Labelled videos, and the numbers of an evaluation on them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from oddsight.data.folder import is_image_file
from oddsight.errors import DataError, plain
from oddsight.metrics.image import auroc
from oddsight.metrics.stretches import Matches, block_auroc_interval, match, poisson_interval, stretches
from oddsight.model.events import Event
from oddsight.runtime.records import read_table
from oddsight.sources.containers import VIDEO_SUFFIXES

_MOST_FRAMES = 2_000_000  # That a file of labels may name: 22 hours at 25 frames a second

BLOCK = 5.0
"""Seconds of the blocks of the bootstrap."""

BASELINES = ("brightness", "frame difference")
"""Trivial scores of a frame: mean brightness, either way, and the mean difference from the frame before."""


@dataclass(frozen=True, eq=False)
class ClipOutcome:
    """What became of one clip; all arrays ``[n]``, by frame.

    Attributes:
        name: Of the clip.
        times: Seconds.
        scores: Of the frames: the highest of all zones and regions of interest.
        evidence: Of the window that ends with each frame, as a share of the threshold: above 1 is an alarm. NaN
            without alarms.
        anomalous: The labels: 1, 0, or -1 where there is none.
        baselines: :data:`BASELINES`, ``[n, 2]``.
        events: As they ended.
    """

    name: str
    times: NDArray[np.float64]
    scores: NDArray[np.float64]
    evidence: NDArray[np.float64]
    anomalous: NDArray[np.int8]
    baselines: NDArray[np.float64]
    events: tuple[Event, ...]

    @property
    def truth(self) -> list[tuple[float, float]]:
        """The anomalous stretches."""
        return stretches(self.times, self.anomalous == 1)

    @property
    def alarms(self) -> list[tuple[float, float]]:
        """Start and end of the events of anomalies."""
        return [(one.start, one.start if one.end is None else one.end) for one in self.events if one.kind == "anomaly"]

    @property
    def alarmed(self) -> NDArray[np.bool_]:
        """Which frames are in an event of an anomaly, ``[n]``."""
        found = np.zeros(len(self.times), bool)
        for start, end in self.alarms:
            found |= (self.times >= start) & (self.times <= end)
        return found

    @property
    def seconds(self) -> float:
        """Seconds of frames that are labelled normal."""
        steps = (
            np.diff(self.times, append=self.times[-1] + np.median(np.diff(self.times))) if len(self.times) > 1 else 0
        )
        return float(np.sum(steps * (self.anomalous == 0)))


@dataclass(frozen=True, eq=False)
class VideoEvaluation:
    """The numbers of an evaluation on labelled videos.

    Attributes:
        clips: The clips.
        alarms_per_hour: That were asked for; None if there can be no alarms.
        window: Seconds of evidence: an alarm may follow the end of an anomaly by that much.
        warnings: What to know beside the numbers.
    """

    clips: Sequence[ClipOutcome]
    alarms_per_hour: float | None
    window: float
    warnings: Sequence[str] = field(default=())

    def frame_auroc(self) -> float | None:
        """Of the scores of frames; None if only one kind is labelled."""
        return self._auroc([clip.scores for clip in self.clips])

    def frame_auroc_interval(self) -> tuple[float, float] | None:
        """Its 95% interval, by a bootstrap of blocks of :data:`BLOCK` seconds."""
        blocks = [np.floor(clip.times / BLOCK) + 1e6 * number for number, clip in enumerate(self.clips)]
        scores, flags = self._labelled([clip.scores for clip in self.clips])
        return block_auroc_interval(scores, flags, self._labelled(blocks)[0])

    def baseline_aurocs(self) -> dict[str, float | None]:
        """AUROC of the trivial scores; of brightness in the better direction."""
        found: dict[str, float | None] = {}
        for number, name in enumerate(BASELINES):
            value = self._auroc([clip.baselines[:, number] for clip in self.clips])
            found[name] = max(value, 1 - value) if value is not None and name == "brightness" else value
        return found

    def matches(self) -> Matches:
        """Events of anomalies beside the labels."""
        found = Matches(0, 0, 0, ())
        for clip in self.clips:
            found += match(clip.alarms, clip.truth, self.window)
        return found

    @property
    def normal_frames_in_alarms(self) -> float | None:
        """The share of the frames labelled normal that are during alarms; None if there are none."""
        alarmed = np.concatenate([clip.alarmed[clip.anomalous == 0] for clip in self.clips])
        return float(alarmed.mean()) if len(alarmed) else None

    @property
    def hours(self) -> float:
        """Hours that are labelled normal."""
        return sum(clip.seconds for clip in self.clips) / 3600

    def to_json(self) -> dict[str, Any]:
        """All numbers."""
        interval, labels = self.frame_auroc_interval(), np.concatenate([clip.anomalous for clip in self.clips])
        matches, hours = self.matches(), self.hours
        false = matches.alarms - matches.true
        low, high = poisson_interval(false, hours)
        return {
            "clips": [clip.name for clip in self.clips],
            "frames": {"normal": int((labels == 0).sum()), "anomalous": int((labels == 1).sum())},
            "frame_auroc": self.frame_auroc(),
            "frame_auroc_ci": None if interval is None else list(interval),
            "baselines": self.baseline_aurocs(),
            "events": {
                "alarms": matches.alarms,
                "true": matches.true,
                "anomalies": matches.stretches,
                "found": len(matches.delays),
                "precision": matches.precision,
                "recall": matches.recall,
                "normal_frames_in_alarms": self.normal_frames_in_alarms,
                "median_delay": float(np.median(matches.delays)) if matches.delays else None,
            },
            "false_alarms_per_hour": {
                "asked": self.alarms_per_hour,
                "hours": hours,
                "count": false,
                "rate": false / hours if hours else None,
                "rate_ci": [low, high if np.isfinite(high) else None],
            },
            "window": self.window,
            "warnings": list(self.warnings),
        }

    def _auroc(self, values: Sequence[NDArray[np.float64]]) -> float | None:
        scores, flags = self._labelled(values)
        return auroc(scores[~flags], scores[flags]) if flags.any() and not flags.all() else None

    def _labelled(self, values: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values of the frames that have labels, and whether they are anomalous, each ``[n]``."""
        labels = np.concatenate([clip.anomalous for clip in self.clips])
        return np.concatenate(values)[labels >= 0], labels[labels >= 0] == 1


def find_clips(path: Path, labels: Path) -> list[tuple[Path, dict[int, int]]]:
    """The labelled clips of a folder, or one file, with the labels of their frames.

    Args:
        path: A folder of clips, or a clip: a video, or a folder of frames.
        labels: A CSV file with the columns ``clip, frame, anomalous``, or ``clip, first_frame, last_frame, anomalous``.
            Frames count from 0, ranges include their ends, and ``clip`` is the name of the file, with its ending or
            without; it may be missing if there is only one video. Other columns are passed over.

    Raises:
        DataError: The file is not like that, or names a clip that is not there.
    """
    if not path.exists():
        raise DataError(f"{path}: no such video, and no folder of videos")
    by_clip = read_labels(labels)
    clips = _clips(path)
    if None in by_clip:
        if len(clips) != 1:
            raise DataError(f"{labels} has no column 'clip', and {path} holds {len(clips)} videos: name one video file")
        return [(clips[0], by_clip[None])]
    found: dict[Path, dict[int, int]] = {}
    for name, frames in by_clip.items():
        exact = path / (name or "")
        named = [exact] if exact.is_file() else [clip for clip in clips if name in (clip.name, clip.stem)]
        if len(named) > 1:
            raise DataError(f"{labels} has labels of {plain(name)}, and {path} has several: add the ending of one")
        if named:
            found.setdefault(named[0], {}).update(frames)
        elif path not in clips:
            raise DataError(f"{labels} has labels of {plain(name)}, which is not in {path}")
    if not found:
        raise DataError(f"{labels} has no labels of {path.name}")
    return list(found.items())


def _clips(path: Path) -> list[Path]:
    """The videos of a folder and its folders of frames; or what is one of these itself."""
    if path.is_file():
        return [path]
    inside = sorted(item for item in path.iterdir() if not item.name.startswith("."))
    videos = [item for item in inside if item.suffix.lower() in VIDEO_SUFFIXES or _holds_images(item)]
    return videos or ([path] if _holds_images(path) else [])


def _holds_images(path: Path) -> bool:
    return path.is_dir() and any(map(is_image_file, path.iterdir()))


_WORDS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "no": 0, "yes": 1}


def read_labels(path: Path) -> dict[str | None, dict[int, int]]:
    """Labels, 0 or 1, by the name of the clip and the number of the frame; see :func:`find_clips`.

    Columns are separated by commas, semicolons or tabs. Where lines are of the same frame, the last one counts.
    """
    found: dict[str | None, dict[int, int]] = {}
    count = 0
    with read_table(path) as file:
        reader = csv.reader(file, delimiter=_separator(file), skipinitialspace=True)
        header = [name.strip().lower() for name in next(reader, [])]
        first, last = ("frame", "frame") if "frame" in header else ("first_frame", "last_frame")
        if not {"anomalous", first, last} <= set(header):
            raise DataError(
                f"{path} has no columns 'anomalous' and 'frame', or 'first_frame' and 'last_frame': its first line "
                "must name them"
            )
        for cells in reader:
            row = dict(zip(header, map(str.strip, cells), strict=False))
            if not any(row.values()):
                continue
            frames = found.setdefault(row.get("clip", "") if "clip" in header else None, {})
            start, end = _number(row.get(first)), _number(row.get(last))
            label = _WORDS.get(row.get("anomalous", "").lower(), -1)
            if not (0 <= start <= end < 10**7 and label >= 0):
                raise DataError(
                    f"{path}, line {reader.line_num}: frames are whole numbers from 0, and anomalous is 0 or 1"
                )
            count += end + 1 - start
            if count > _MOST_FRAMES:
                raise DataError(f"{path} labels more than {_MOST_FRAMES:,} frames: split it")
            frames.update(dict.fromkeys(range(start, end + 1), label))
    if not found:
        raise DataError(f"{path} has no labels")
    return found


def _separator(file: TextIO) -> str:
    """What separates the columns in the first line."""
    line = file.readline()
    file.seek(0)
    return max(",;\t", key=line.count)


def _number(text: str | None) -> int:
    """A number of a frame; -1 if it is none. Tables made with pandas write whole numbers as ``5.0``."""
    match = re.fullmatch(r"([0-9]{1,12})(\.0*)?", text or "")
    return -1 if match is None else int(match[1])
