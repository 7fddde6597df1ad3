"""What watching finds in real videos, how often it alarms on normal footage, and how fast it is.

    python benchmarks/video.py path/to/data work        # writes video.csv, video_speed.csv; models are kept in work

DATA holds ``video/walkway`` (UCSD Ped2, Mahadevan et al., CVPR 2010: six clips with ``labels.csv``) and ``video/room``
(a room camera of GPL-free, MIT-licensed footage: four normal hours and 20 labelled minutes). Nothing is chosen by
labels: settings are the defaults, but for the detector and its size, which are chosen for speed.

- ``normal``: of the four normal hours of the room, one frame a second. Chunks of ten minutes are even or odd. Each
  model learns from one kind, and is calibrated on one half of the chunks of the other kind, and watches the other half;
  so all four hours are watched once by a model that knows none of them.
- ``walkway``: models learn from the frames of clips 01 and 02 that are labelled normal, and score clips 03 to 06.
- ``room``: models that learned from normal hours score another day; and one that learned from the first minutes of that
  day, which are normal, scores the rest of it.
- speed: the command ``oddsight watch``, end to end, by the clock.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from math import floor
from pathlib import Path

import oddsight
from oddsight.model.model import Model
from oddsight.sources import VideoFile
from oddsight.sources.frame import Frame
from oddsight.watch.recalibrating import recalibrate

HOURS = tuple(f"normal-{hour}h.mp4" for hour in (17, 18, 19, 20))
CHUNK, LEARNED, TESTED = 600, ("01.mp4", "02.mp4"), ("03.mp4", "04.mp4", "05.mp4", "06.mp4")
FAST = {"method": "padim", "size": 96, "calibration_fraction": 0.25}
"""For frames of 128 x 64 pixels."""


class Part:
    """The frames of a video that a test of their time or index chooses."""

    def __init__(self, path: Path, chosen, every: float | None = None) -> None:  # noqa: ANN001
        self._source, self._chosen = VideoFile(path, every=every), chosen

    def __iter__(self) -> Iterator[Frame]:
        return (frame for frame in self._source if isinstance(frame, Frame) and self._chosen(frame))


def chunks(room: Path, odd: int, every: float) -> list[Part]:
    """The chunks of all hours that are even or odd."""
    return [Part(room / hour, lambda f: floor(f.time / CHUNK) % 2 == odd, every) for hour in HOURS]


def halves(data: Path, work: Path) -> list[Model]:
    """The two models of the room, each with all of the chunks that it did not learn from as footage."""
    models = []
    for odd in (0, 1):
        path = work / f"room-{odd}.onnx"
        if not path.exists():
            blocks = oddsight.sources.Blocks(*chunks(data / "room", odd, 4.0), seconds=60)
            model = oddsight.fit(blocks, groups=blocks.block_of, **FAST)
            recalibrate(model, *chunks(data / "room", 1 - odd, 1.0), block=60).save(path)
        models.append(oddsight.load(path))
    return models


def normal_labels(data: Path) -> dict[str, list[int]]:
    """The frames of the clips of the walkway that are labelled normal."""
    with (data / "walkway" / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["anomalous"] == "0"]
    return {clip: [int(row["frame"]) for row in rows if row["clip"] == clip] for clip in LEARNED}


def walkway_model(data: Path, work: Path, method: str, size: int | None) -> Model:
    """A model of the normal frames of the clips to learn from."""
    path = work / f"walkway-{method}-{size}.onnx"
    if not path.exists():
        frames = normal_labels(data)
        parts = [Part(data / "walkway" / clip, lambda f, clip=clip: f.index in frames[clip]) for clip in LEARNED]
        blocks = oddsight.sources.Blocks(*parts, seconds=1)
        oddsight.fit(blocks, groups=blocks.block_of, method=method, size=size).save(path)
    return oddsight.load(path)


WALKWAY = (("padim", 128), ("padim", None), ("patchcore", None), ("auto", None))


def walkway_models(data: Path, work: Path) -> None:
    """All models of the walkway."""
    for method, size in WALKWAY:
        walkway_model(data, work, method, size)
