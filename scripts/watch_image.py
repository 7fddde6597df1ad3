"""Make docs/images/watch.jpg, an annotated frame and a timeline: python scripts/watch_image.py FOLDER.

Writes footage into the folder, of a window that moves over Landsat scenes (examples/landsat-clouds): over one scene to
watch, and where the others have no clouds, over every second one to learn from and over the rest to calibrate on. Then
it runs the commands of docs/video.md on it. The frame is the key frame of the last alarm, whichever that is.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from oddsight import load
from oddsight.drawing.timelines import draw_timeline
from oddsight.report.videos import write_video_report
from oddsight.watch.evaluation import evaluate_videos

ROOT = Path(__file__).parents[1]
SCENES = ROOT / "examples" / "landsat-clouds"
WATCHED = "val_Forest_00_1008.png"
WIDTH, HEIGHT, ENLARGED, RATE = 128, 80, 4, 10
"""Pixels of the scene in the window, how much larger they are in the footage, and frames a second."""
WAY = ((0, 0), (128, 0), (128, 58), (0, 58), (0, 117), (128, 117), (128, 176), (0, 176))
"""Where the window turns: its left and upper edges."""
CLOUDY = 0.1
"""The share of clouds that is an anomaly; frames with fewer, but some, have no label."""
ALARMS_PER_HOUR, WINDOW = 30, 1.0


def flight(name: str) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """What the window shows on its way over a scene, and the share of clouds in it."""
    scene = np.asarray(Image.open(SCENES / "images" / name).convert("RGB"))
    clouds = np.asarray(Image.open(SCENES / "masks" / name).convert("L")) > 0
    for start, end in pairwise(WAY):
        for x, y in np.linspace(start, end, np.abs(np.subtract(end, start)).max(), endpoint=False, dtype=int):
            part = slice(y, y + HEIGHT), slice(x, x + WIDTH)
            yield scene[part], float(clouds[part].mean())


def write_clip(path: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    """Write footage."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH * ENLARGED, HEIGHT * ENLARGED, "yuv420p"
        for pixels in frames:
            image = Image.fromarray(pixels).resize((stream.width, stream.height), Image.Resampling.BICUBIC)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))


def write_footage(folder: Path) -> None:
    """Footage to learn from, to calibrate on and to watch, and the labels of the last."""
    others = sorted(path.name for path in (SCENES / "images").glob("*.png") if path.name != WATCHED)
    for clip, names in (("normal.mp4", others[::2]), ("accepted.mp4", others[1::2])):
        write_clip(folder / clip, (pixels for name in names for pixels, share in flight(name) if not share))
    watched = list(flight(WATCHED))
    write_clip(folder / "orbit.mp4", (pixels for pixels, _ in watched))
    labels = [("orbit.mp4", n, int(share > 0)) for n, (_, share) in enumerate(watched) if share > CLOUDY or not share]
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("clip", "frame", "anomalous"), *labels])


def run(*args: object) -> None:
    """Run a command as people do."""
    print("oddsight", *args, flush=True)
    subprocess.run([sys.executable, "-m", "oddsight", *map(str, args)], check=True)


def main() -> None:
    """Make footage, run the commands, and put frame and timeline beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_footage(folder)
    fitted, model, video = folder / "fitted.onnx", folder / "orbit.onnx", folder / "orbit.mp4"
    method = ("--method", "patchcore", "--size", 128)
    run("fit", "--from-video", folder / "normal.mp4", "--every", "0.5s", "--block", "5s", "-o", fitted, *method)
    run("recalibrate", fitted, "--from-video", folder / "accepted.mp4", "--block", "5s", "-o", model)
    outputs = ("--key-frames", folder / "keys", "--save", folder / "annotated.mp4", "--events", folder / "events.jsonl")
    options = ("--alarms-per-hour", ALARMS_PER_HOUR, "--window", f"{WINDOW:g}s")
    run("watch", model, video, *options, *outputs)
    found = evaluate_videos(load(model), video, folder / "labels.csv", alarms_per_hour=ALARMS_PER_HOUR, window=WINDOW)
    write_video_report(found, load(model), folder / "report.html")
    (clip,) = found.clips
    alarms = [event for event in clip.events if event.kind == "anomaly"]
    figure = Figure(figsize=(5.2, 3.2), dpi=100, layout="constrained")
    spans = [(event.start, event.start if event.end is None else event.end) for event in alarms]
    draw_timeline(figure, clip.times, clip.scores, clip.evidence, clip.truth, spans)
    figure.savefig(folder / "timeline.png")
    frame, timeline = Image.open(folder / "keys" / f"{alarms[-1].id}.jpg"), Image.open(folder / "timeline.png")
    sheet = Image.new("RGB", (frame.width + timeline.width, frame.height), "white")
    sheet.paste(frame, (0, 0))
    sheet.paste(timeline.convert("RGB"), (frame.width, 0))
    sheet.save(ROOT / "docs" / "images" / "watch.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
