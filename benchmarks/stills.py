"""What watching finds in footage that is made from stills, whose anomalies are known.

    python benchmarks/stills.py path/to/data work tiles bottles orbit > benchmarks/stills.csv

DATA holds ``magnetic-tile``, ``bottle`` (MVTec layout) and ``landsat-clouds``. Footage and models are kept in the
folder ``work``. Three scenes, five frames a second:

- ``tiles`` and ``bottles``: parts move over a belt from right to left, every sixth one has a defect. Frames that show
  a whole defective part are anomalous, and frames that show a piece of one have no label. Good parts to learn from, to
  calibrate on and to watch are different ones, drawn by chance.
- ``orbit``: a window moves over the northern halves of Landsat scenes (to learn from: odd ones, to calibrate on: even
  ones; only what is free of clouds), and over the southern halves of all scenes to watch. Frames with more than a tenth
  of clouds are anomalous, and frames with fewer, but some, have no label.

The clip to watch is written in several ways: compressed more or less (``crf``), with a third of the frames dropped, and
with the light going down to half and up again; the latter also with models calibrated on such footage. Everything else
is a default, but for PaDiM at 128 pixels, which is fast, and 30 alarms an hour in blocks of 10 seconds, as footage is
short. Nothing was chosen by what is reported.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import oddsight
from oddsight.model.model import Model
from oddsight.sources import Blocks, VideoFile
from oddsight.watch.evaluation import evaluate_videos
from oddsight.watch.recalibrating import recalibrate

RATE, SIZE = 5, (320, 160)
PART, APART, SPEED, EVERY = 112, 160, 10, 6
"""Pixels: the side of a part, from one part to the next, and moved in a frame. Every sixth part has a defect."""
ALARMS_PER_HOUR, BLOCK = 30, 10.0
LEARN, CALIBRATE, WATCH = 80, 240, 160
"""Seconds of footage."""
VIEW, STEP, CLOUDY = 96, 1, 0.1
"""Of the orbit: pixels of the window's side and moved in a frame, and the share of clouds that is an anomaly."""

Shot = tuple[NDArray[np.uint8], int]
"""A frame, and its label: 0, 1, or -1 for none."""


@dataclass(frozen=True)
class Scene:
    """Footage to learn from, to calibrate on and to watch."""

    learn: list[Shot]
    calibrate: list[Shot]
    watch: list[Shot]


@dataclass(frozen=True)
class Way:
    """How footage is written."""

    crf: int = 23
    dropped: float = 0.0
    night: float = 0.0


WAYS = {
    "as it is": Way(),
    "crf 18": Way(crf=18),
    "crf 28": Way(crf=28),
    "crf 38": Way(crf=38),
    "a third dropped": Way(dropped=1 / 3),
    "day and night": Way(night=0.5),
}


def belt(good: list[Path], bad: list[Path], seconds: int, seed: int) -> list[Shot]:
    """Frames of parts that move over a belt."""
    rng = np.random.default_rng(seed)
    texture = np.clip(70 + rng.normal(0, 5, (SIZE[1], 4096, 1)), 0, 255).repeat(3, 2).astype(np.uint8)
    count = seconds * RATE
    parts = [
        (rng.choice(bad), True) if bad and number % EVERY == EVERY - 1 else (rng.choice(good), False)
        for number in range((count * SPEED + SIZE[0]) // APART + 2)
    ]
    shots = []
    images = {path: np.asarray(Image.open(path).convert("RGB").resize((PART, PART))) for path, _ in parts}
    for index in range(count):
        at, label = index * SPEED, 0
        frame = texture[:, (np.arange(SIZE[0]) + at) % 4096].copy()
        for number, (path, defective) in enumerate(parts):
            left, top = number * APART - at, (SIZE[1] - PART) // 2
            first, last = max(left, 0), min(left + PART, SIZE[0])
            if first >= last:
                continue
            frame[top : top + PART, first:last] = images[path][:, first - left : last - left]
            if defective:
                label = 1 if last - first == PART else (label or -1)
        shots.append((frame, label))
    return shots


def files(folder: Path) -> list[Path]:
    """The images of a folder and its sub-folders, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg"})


def conveyor(good: list[Path], bad: list[Path], seed: int) -> Scene:
    """A belt, with a third of the good parts for each footage."""
    order = np.random.default_rng(seed).permutation(len(good))
    learn, calibrate, watch = ([good[i] for i in part] for part in np.array_split(order, 3))
    return Scene(
        belt(learn, [], LEARN, seed + 1), belt(calibrate, [], CALIBRATE, seed + 2), belt(watch, bad, WATCH, seed + 3)
    )


def flight(folder: Path, numbers: Iterable[int], top: int) -> Iterator[Shot]:
    """A window that moves over one half of each scene, which begins in the row ``top``."""
    names = sorted((folder / "images").glob("*.png"))
    for number in numbers:
        scene = np.asarray(Image.open(names[number]).convert("RGB"))
        clouds = np.asarray(Image.open(folder / "masks" / names[number].name).convert("L")) > 0
        for left in range(0, scene.shape[1] - VIEW + 1, STEP):
            part = slice(top, top + VIEW), slice(left, left + VIEW)
            share = clouds[part].mean()
            yield scene[part], 1 if share > CLOUDY else -1 if share else 0


def orbit(folder: Path) -> Scene:
    """The northern halves to learn from and calibrate on, the southern ones to watch."""
    count = len(list((folder / "images").glob("*.png")))
    learn, calibrate = ([s for s in flight(folder, range(odd, count, 2), 16) if s[1] == 0] for odd in (1, 0))
    return Scene(learn, calibrate, list(flight(folder, range(count), 144)))


def write(path: Path, shots: list[Shot], way: Way) -> list[int]:
    """Write footage; the labels of the frames that are in it."""
    rng, labels = np.random.default_rng(0), []
    height, width, _ = shots[0][0].shape
    with av.open(str(path), "w") as container:
        options = {"crf": str(way.crf), "preset": "veryfast", "bf": "0"}
        stream = container.add_stream("libx264", rate=Fraction(RATE), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for index, (pixels, label) in enumerate(shots):
            if rng.random() < way.dropped and index:
                continue
            gain = 1 - way.night * (1 - np.cos(2 * np.pi * index / len(shots))) / 2
            frame = av.VideoFrame.from_ndarray((pixels * gain).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            labels.append(label)
        container.mux(stream.encode(None))
    return labels


def fitted(scene: Scene, folder: Path) -> Model:
    """A model of normal footage, without alarms."""
    path = folder / "fitted.onnx"
    if not path.exists():
        write(folder / "learn.mp4", scene.learn, Way())
        blocks = Blocks(VideoFile(folder / "learn.mp4", every=0.4), seconds=2)
        oddsight.fit(blocks, groups=blocks.block_of, method="padim", size=128, calibration_fraction=0.25).save(path)
    return oddsight.load(path)


def calibrated(model: Model, scene: Scene, folder: Path, way: str) -> Model:
    """The same with alarms, calibrated on footage that is written in some way."""
    path = folder / f"calibrated, {way}.onnx"
    if not path.exists():
        video = path.with_suffix(".mp4")
        write(video, scene.calibrate, WAYS[way])
        recalibrate(model, VideoFile(video), block=BLOCK).save(path)
    return oddsight.load(path)


def study(name: str, scene: Scene, folder: Path) -> Iterator[dict[str, object]]:
    """Watch the footage in every way."""
    folder.mkdir(parents=True, exist_ok=True)
    model = fitted(scene, folder)
    plain = calibrated(model, scene, folder, "as it is")
    for way, options in WAYS.items():
        video, labels = folder / f"{way}.mp4", folder / f"{way}.csv"
        kinds = write(video, scene.watch, options)
        lines = [f"{index},{kind}" for index, kind in enumerate(kinds) if kind >= 0]
        labels.write_text("\n".join(["frame,anomalous", *lines]) + "\n")
        yield {"footage": name, "way": way} | numbers(plain, video, labels)
        if options.night:
            both = calibrated(model, scene, folder, way)
            yield {"footage": name, "way": f"{way}, calibrated so"} | numbers(both, video, labels)


def numbers(model: Model, video: Path, labels: Path) -> dict[str, object]:
    """What watching found."""
    found = evaluate_videos(model, video, labels, alarms_per_hour=ALARMS_PER_HOUR)
    result = found.to_json()
    events, false, trivial = result["events"], result["false_alarms_per_hour"], result["baselines"]
    (clip,) = found.clips
    others = Counter(event.kind for event in clip.events if event.kind != "anomaly")
    return {
        "normal": result["frames"]["normal"],
        "anomalous": result["frames"]["anomalous"],
        "auroc": result["frame_auroc"],
        "auroc_low": (result["frame_auroc_ci"] or ["", ""])[0],
        "auroc_high": (result["frame_auroc_ci"] or ["", ""])[1],
        "auroc_brightness": trivial["brightness"],
        "auroc_difference": trivial["frame difference"],
        "alarms": events["alarms"],
        "true": events["true"],
        "precision": events["precision"],
        "anomalies": events["anomalies"],
        "found": events["found"],
        "recall": events["recall"],
        "median_delay": events["median_delay"],
        "normal_hours": false["hours"],
        "false_per_hour": false["rate"],
        "false_low": false["rate_ci"][0],
        "false_high": false["rate_ci"][1],
        "normal_frames_in_alarms": events["normal_frames_in_alarms"],
        "other_events": " ".join(f"{number} {kind}" for kind, number in sorted(others.items())),
    }


def main() -> None:
    """Build footage, watch it and write the table."""
    data, work = Path(sys.argv[1]), Path(sys.argv[2])
    tiles, bottle = data / "magnetic-tile", data / "bottle"
    broken = [path for path in files(bottle / "test") if path.parent.name != "good"]
    scenes = {
        "tiles": lambda: conveyor(files(tiles / "good"), files(tiles / "defect"), 10),
        "bottles": lambda: conveyor(files(bottle / "train" / "good"), broken, 20),
        "orbit": lambda: orbit(data / "landsat-clouds"),
    }
    table: csv.DictWriter[str] | None = None
    for row in chain.from_iterable(study(name, scenes[name](), work / name) for name in sys.argv[3:]):
        if table is None:
            table = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
            table.writeheader()
        table.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})
        sys.stdout.flush()


if __name__ == "__main__":
    main()
