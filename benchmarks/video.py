"""What watching finds in real videos, how often it alarms on normal footage, and how fast it is.

    python benchmarks/video.py path/to/data work        # writes video.csv, video_speed.csv and video_profile.csv
    python benchmarks/video.py path/to/data work speed  # only the last two; models are kept in work

DATA holds ``video/walkway`` (UCSD Ped2, Mahadevan et al., CVPR 2010: six clips with ``labels.csv``) and ``video/room``
(a room camera: four normal hours and 20 labelled minutes). Nothing is chosen by
labels: settings are the defaults, but for the method and the size, which are chosen for
speed.

- ``normal``: of the four normal hours of the room, one frame a second. Chunks of ten minutes are even or odd. Each
  model learns from one kind, and is calibrated on one half of the chunks of the other kind, and watches the other half;
  so all four hours are watched once by a model that knows none of them.
- ``walkway``: models learn from the frames of clips 01 and 02 that are labelled normal, and score clips 03 to 06.
- ``room``: models that learned from normal hours score another day; and one that learned from the first minutes of that
  day, which are normal, scores the rest of it.
- speed: frames a second of decoding, of decoding and scoring, and of watching with files written.
- profile: milliseconds of processor time that each step takes for a frame, one frame after the other.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from math import floor
from pathlib import Path

import av
import numpy as np
from PIL import Image
from scipy.stats import poisson

import oddsight
from oddsight.metrics.image import auroc
from oddsight.metrics.stretches import block_auroc_interval, poisson_interval
from oddsight.model.events import Look
from oddsight.model.footage import Footage
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.sinks import EventLines, FrameLines
from oddsight.sources import Blocks, VideoFile
from oddsight.sources.frame import Frame
from oddsight.watch.alarms import Alarms, Watch
from oddsight.watch.drift import Drift
from oddsight.watch.evaluation import evaluate_videos
from oddsight.watch.evidence import Levels
from oddsight.watch.light import brightness
from oddsight.watch.looking import look_at
from oddsight.watch.looks import Crops, Looks
from oddsight.watch.recalibrating import recalibrate
from oddsight.watch.watching import watch_frames

REPEATS = 3
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
            blocks = Blocks(*chunks(data / "room", odd, 4.0), seconds=60)
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
        blocks = Blocks(*parts, seconds=1)
        held_out = {"calibration_fraction": 0.25}  # as fit --from-video does
        oddsight.fit(blocks, groups=blocks.block_of, method=method, size=size, **held_out).save(path)
    return oddsight.load(path)


WALKWAY = (("padim", 128), ("auto", None), ("patchcore", None))
"""Methods, and sizes in pixels; None is the default."""


def runs(footage: Footage) -> list[Footage]:
    """The parts of footage without gaps, chunk by chunk."""
    scores = footage.scores["frame"]
    edges = np.flatnonzero(np.diff(footage.times) > footage.block / 2) + 1
    return [
        Footage(times, {"frame": part}, footage.block)
        for times, part in zip(np.split(footage.times, edges), np.split(scores, edges), strict=True)
        if len(times) > 1
    ]


def joined(parts: list[Footage]) -> Footage:
    """Footage of several parts."""
    scores = np.concatenate([part.scores["frame"] for part in parts])
    return Footage(np.concatenate([part.times for part in parts]), {"frame": scores}, parts[0].block)


def count_alarms(calibration: Footage, tested: list[Footage], per_hour: float) -> tuple[int, float]:
    """How many events normal footage raises, and in how many hours."""
    count = 0
    for part in tested:
        alarms = Alarms(calibration, {"frame": Watch()}, per_hour)
        for index, (moment, score) in enumerate(zip(part.times, part.scores["frame"].tolist(), strict=True)):
            looks = [Look("frame", Result(None, 1, 1, score, 1.0, None, None, None))]
            count += sum(event.state == "new" for event in alarms.update(float(moment), index, looks)[1])
    return count, sum(len(part.times) * part.interval for part in tested) / 3600


def normal(data: Path, work: Path) -> list[dict[str, object]]:
    """Alarms on the four normal hours."""
    models, rows = halves(data, work), []
    for per_hour in (1, 2, 6, 20):
        count, hours = 0, 0.0
        for model in models:
            assert model.footage is not None
            parts = runs(model.footage)
            for half in (0, 1):
                more, longer = count_alarms(joined(parts[half::2]), parts[1 - half :: 2], per_hour)
                count, hours = count + more, hours + longer
        low, high = poisson_interval(count, hours)
        rows.append({
            "what": "alarms on normal footage", "data": "room", "method": "padim", "size": 96, "asked": per_hour,
            "hours": hours, "count": count, "value": count / hours, "low": low, "high": high,
            "limit": float(poisson.ppf(0.95, per_hour * hours)) / hours,
        })  # fmt: skip
        print(rows[-1])
    return rows


def later(data: Path, work: Path) -> list[dict[str, object]]:
    """Alarms of models that are calibrated before dusk, on the two hours after it, and how soon they say drift."""
    count, hours, drifts = 0, 0.0, []
    for model in halves(data, work):
        assert model.footage is not None
        parts = runs(model.footage)
        half = len(parts) // 2
        calibration = joined(parts[:half])
        more, longer = count_alarms(calibration, parts[half:], 1)
        count, hours = count + more, hours + longer
        levels = Levels(calibration, "frame", 2.0)
        drift = Drift(levels.medians(), calibration.block)
        medians = [np.median(levels.surprise(block)) for block in blocks_of(joined(parts[half:]))]
        drifts.append(next((number for number, value in enumerate(medians, 1) if drift.bet(float(value))), 0))
    low, high = poisson_interval(count, hours)
    row = {"data": "room, after dusk", "method": "padim", "size": 96}
    alarms = {"what": "alarms on later footage", "asked": 1, "hours": hours, "count": count, "value": count / hours}
    found = {"what": "blocks until drift", "value": max(drifts), "low": min(drifts)}
    rows = [row | alarms | {"low": low, "high": high}, row | found]
    print(*rows, sep="\n", flush=True)
    return rows


def blocks_of(footage: Footage) -> list[np.ndarray]:
    """The scores of each block."""
    numbers = footage.numbers
    return [footage.scores["frame"][numbers == number] for number in np.unique(numbers[numbers >= 0])]


def walkers_model(data: Path, work: Path) -> Model:
    """A model of what moves in the same frames."""
    path = work / "walkway-motion.onnx"
    if not path.exists():
        frames = normal_labels(data)
        parts = [Part(data / "walkway" / clip, lambda f, clip=clip: f.index in frames[clip]) for clip in LEARNED]
        blocks = Blocks(*(Crops(part, roi="motion") for part in parts), seconds=1)
        held_out = {"calibration_fraction": 0.25}
        oddsight.fit(blocks, groups=blocks.block_of, method="knn", size=96, **held_out).save(path)
    return oddsight.load(path)


def walkway(data: Path, work: Path) -> list[dict[str, object]]:
    """AUROC of frames of the clips that no model learned from, beside the trivial baselines."""
    labels = work / "labels.csv"
    lines = (data / "walkway" / "labels.csv").read_text().splitlines()
    labels.write_text("\n".join([lines[0], *(line for line in lines if line.startswith(TESTED))]))
    rows: list[dict[str, object]] = []
    models = [(method, size, None, walkway_model(data, work, method, size)) for method, size in WALKWAY]
    for method, size, roi, model in [*models, ("knn on what moves", 96, "motion", walkers_model(data, work))]:
        found = evaluate_videos(model, data / "walkway", labels, roi=roi).to_json()
        low, high = found["frame_auroc_ci"]
        frames = found["frames"]["normal"] + found["frames"]["anomalous"]
        row = {"what": "frame AUROC", "data": "walkway", "count": frames}
        if not rows:
            rows = [row | {"method": name, "value": value} for name, value in found["baselines"].items()]
        rows.append(
            row | {"method": method, "size": size or "", "value": found["frame_auroc"], "low": low, "high": high}
        )
        print(rows[-1], flush=True)
    return rows


def room(data: Path, work: Path) -> list[dict[str, object]]:
    """Frames and alarms of another day in the room."""
    video, labels = data / "room" / "labelled.mp4", data / "room" / "labels.csv"
    rows: list[dict[str, object]] = []
    found = evaluate_videos(halves(data, work)[0], video, labels, every=1.0)
    numbers, row = found.to_json(), {"data": "room, another day", "method": "padim", "size": 96}
    low, high = numbers["frame_auroc_ci"]
    frames = numbers["frames"]["normal"] + numbers["frames"]["anomalous"]
    area = {"what": "frame AUROC", "count": frames}
    rows.append(row | area | {"value": numbers["frame_auroc"], "low": low, "high": high})
    for name, value in numbers["baselines"].items():
        rows.append(row | area | {"method": name, "size": "", "value": value})
    events = numbers["events"]
    share = {"what": "normal frames during alarms", "asked": 1, "count": events["alarms"]}
    rows.append(row | share | {"value": events["normal_frames_in_alarms"]})
    rows.append(row | {"data": "room, the same day"} | same_day(video, labels))
    print(*rows, sep="\n", flush=True)
    return rows


FIRST = 1540
"""Frames at the start of the labelled day that are normal."""


def same_day(video: Path, labels: Path) -> dict[str, object]:
    """A model that learned from the first minutes of the day scores the rest of it, one frame a second."""
    blocks = Blocks(Part(video, lambda f: f.index < FIRST, 0.4), seconds=10)
    model = oddsight.fit(blocks, groups=blocks.block_of, **FAST)
    rest = list(Part(video, lambda f: f.index >= FIRST, 1.0))
    truth = np.zeros(6000, bool)
    for line in csv.DictReader(labels.open()):
        truth[int(line["first_frame"]) : int(line["last_frame"]) + 1] = line["anomalous"] == "1"
    flags = truth[[frame.index for frame in rest]]
    scores = np.array([result.score for result in model.predict_many(rest)])
    low, high = block_auroc_interval(scores, flags, [floor(f.time / 5) for f in rest]) or ("", "")
    value = auroc(scores[~flags], scores[flags])
    return {"what": "frame AUROC", "count": len(rest), "value": value, "low": low, "high": high}


def enlarged(clip: Path, work: Path) -> Path:
    """A clip at 1280 x 720 pixels."""
    path = work / "720p.mp4"
    if not path.exists():
        with av.open(os.fspath(path), "w") as file:
            stream = file.add_stream("libx264", rate=10, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
            for frame in VideoFile(clip):
                image = Image.fromarray(frame.image).resize((1280, 720))
                file.mux(stream.encode(av.VideoFrame.from_image(image)))
            file.mux(stream.encode(None))
    return path


def timed_footage(data: Path, work: Path) -> list[tuple[str, Model, list[Path], str | None]]:
    """What speed is measured on: its name, a model, clips, and regions of interest."""
    clips = sorted((data / "walkway").glob("*.mp4"))
    fast, small = work / "walkway-fast.onnx", walkway_model(data, work, "padim", 128)
    if not fast.exists():
        frames = normal_labels(data)
        parts = [Part(data / "walkway" / clip, lambda f, clip=clip: f.index in frames[clip]) for clip in LEARNED]
        oddsight.fit(Blocks(*parts), groups="none", speed="fast", calibration_fraction=0.25).save(fast)
    large = [enlarged(clips[2], work)]
    return [
        ("360 x 240, fit --speed fast", oddsight.load(fast), clips, None),
        ("360 x 240, padim at 128 pixels", small, clips, None),
        ("1280 x 720, knn on what moves", walkers_model(data, work), large, "motion"),
    ]


def watch(model: Model, clip: Path, roi: str | None, work: Path, workers: int | None = None) -> int:
    """Watch a clip with files written; which events there are does not matter here."""
    sinks = [EventLines(work / "events.jsonl"), FrameLines(work / "frames.jsonl")]
    options = {"alarms_per_hour": 3600, "window": 0.5, "sinks": sinks, "workers": workers}
    return sum(frame.frame is not None for frame in watch_frames(model, VideoFile(clip), roi=roi, **options))


def timed(name: str, model: Model, clips: list[Path], roi: str | None, work: Path) -> list[dict[str, object]]:
    """Frames a second: by the clock, and if both processors did nothing else."""
    watching = recalibrate(model, VideoFile(clips[-1]), block=2, roi=roi)
    steps = {
        "decoding": lambda clip: sum(1 for _ in VideoFile(clip)),
        "decoding and scoring": lambda clip: sum(1 for _ in look_at(Looks(model, None, roi), VideoFile(clip))),
        "watching": lambda clip: watch(watching, clip, roi, work),
    }
    rows = []
    for step, work_on in steps.items():
        measured = []
        for _ in range(REPEATS):
            clock, used = time.perf_counter(), time.process_time()
            frames = sum(work_on(clip) for clip in clips)
            measured.append((frames / (time.perf_counter() - clock), 2 * frames / (time.process_time() - used)))
        by_clock, by_processors = (statistics.median(column) for column in zip(*measured, strict=True))
        row = {"footage": name, "step": step, "frames": frames}
        rows.append(row | {"by_clock": by_clock, "by_processors": by_processors})
        print(rows[-1], flush=True)
    return rows


def profile(name: str, model: Model, clips: list[Path], roi: str | None, work: Path) -> list[dict[str, object]]:
    """Milliseconds of processor time a frame that each step takes, one frame after the other."""
    watching, looks = recalibrate(model, VideoFile(clips[-1]), block=2, roi=roi), Looks(model, None, roi)
    spent: Counter[str] = Counter()

    def step(name: str, work_on, values: list) -> list:  # noqa: ANN001
        used = time.process_time()
        results = [work_on(value) for value in values]
        spent[name] += time.process_time() - used
        return results

    (decoded,) = step("decoding", lambda clip: list(VideoFile(clip)), clips[-1:])
    views = step("finding where to look", looks.prepare, decoded)
    step("scoring", looks.score, views)
    step("brightness, for changes of light", lambda frame: brightness(frame.read()), decoded)
    rest = "events, lines of JSON and what is between the steps"
    known = sum(spent.values())
    step(rest, lambda clip: watch(watching, clip, roi, work, workers=1), clips[-1:])
    spent[rest] -= known
    return [{"footage": name, "step": key, "ms": 1000 * value / len(decoded)} for key, value in spent.items()]


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Write a table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()})


def main() -> None:
    """Measure everything."""
    data, work, here = Path(sys.argv[1]) / "video", Path(sys.argv[2]), Path(__file__).parent
    work.mkdir(exist_ok=True)
    if sys.argv[3:] != ["speed"]:
        write(here / "video.csv", [*normal(data, work), *later(data, work), *walkway(data, work), *room(data, work)])
    footage = timed_footage(data, work)
    write(here / "video_speed.csv", [row for each in footage for row in timed(*each, work)])
    write(here / "video_profile.csv", [row for each in footage for row in profile(*each, work)])


if __name__ == "__main__":
    main()
