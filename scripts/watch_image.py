"""Make docs/images/watch.png, an annotated frame and a timeline: python scripts/watch_image.py FOLDER.

Writes footage of discs on a belt into the folder, drawn by this script, of which two in the last clip are damaged. Then
it runs the commands of docs/video.md on it. The frame is the key frame of the first alarm, whichever that is.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oddsight import load
from oddsight.drawing.timelines import draw_timeline
from oddsight.report.videos import write_video_report
from oddsight.watch.evaluation import evaluate_videos

WIDTH, HEIGHT, RATE = 320, 160, 5
SPEED = 10
"""Pixels that the belt moves from frame to frame."""
APART = 130
"""Pixels from one disc to the next."""
BAD = (7, 13)
"""The discs of the last clip that are damaged."""
ALARMS_PER_HOUR, WINDOW = 30, 1.0


def frames(count: int, seed: int, bad: tuple[int, ...] = ()) -> Iterator[tuple[NDArray[np.uint8], bool]]:
    """Frames of the belt, and whether a damaged disc is in them completely."""
    rng = np.random.default_rng(seed)
    belt = rng.normal(0, 6, (HEIGHT, 4096))
    shifts, greys = rng.integers(-12, 13, 4096), rng.integers(-10, 11, 4096)
    for index in range(count):
        at = index * SPEED
        canvas = Image.fromarray(np.clip(70 + belt[:, (np.arange(WIDTH) + at) % 4096], 0, 255).astype(np.uint8))
        draw, damaged = ImageDraw.Draw(canvas), False
        for disc in range(max(0, at // APART - 1), (at + WIDTH) // APART + 2):
            x, y, grey = disc * APART - at, HEIGHT // 2 + int(shifts[disc]), 170 + int(greys[disc])
            draw.ellipse((x - 36, y - 36, x + 36, y + 36), fill=grey)
            draw.ellipse((x - 14, y - 14, x + 14, y + 14), fill=grey - 50)
            if disc in bad:
                draw.polygon([(x + 8, y - 40), (x + 44, y - 34), (x + 40, y + 4), (x + 22, y - 12)], fill=72)
                damaged |= 40 <= x < WIDTH - 40
        grain = rng.normal(0, 3, (HEIGHT, WIDTH, 1))
        yield np.clip(np.asarray(canvas.convert("RGB")) + grain, 0, 255).astype(np.uint8), damaged


def write_clip(path: Path, seconds: int, seed: int, bad: tuple[int, ...] = ()) -> list[bool]:
    """Write footage; whether each frame is anomalous."""
    labels = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for pixels, damaged in frames(seconds * RATE, seed, bad):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            labels.append(damaged)
        container.mux(stream.encode(None))
    return labels


def run(*args: object) -> None:
    """Run a command as people do."""
    print("oddsight", *args, flush=True)
    subprocess.run([sys.executable, "-m", "oddsight", *map(str, args)], check=True)


def main() -> None:
    """Make footage, run the commands, and put frame and timeline below each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder / "normal.mp4", 60, 1)
    write_clip(folder / "accepted.mp4", 240, 2)
    labels = write_clip(folder / "belt.mp4", 60, 3, BAD)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("clip", "frame", "anomalous"), *(("belt.mp4", n, int(v)) for n, v in enumerate(labels))]
        )
    fitted, model, video = folder / "fitted.onnx", folder / "belt.onnx", folder / "belt.mp4"
    size = ("--method", "patchcore", "--size", 128, "--quiet")
    run("fit", "--from-video", folder / "normal.mp4", "--every", "0.4s", "--block", "2s", "-o", fitted, *size)
    run("recalibrate", fitted, "--from-video", folder / "accepted.mp4", "--block", "5s", "-o", model)
    outputs = ("--key-frames", folder / "keys", "--save", folder / "annotated.mp4", "--events", folder / "events.jsonl")
    options = ("--alarms-per-hour", ALARMS_PER_HOUR, "--window", f"{WINDOW:g}s")
    run("watch", model, video, *options, *outputs)
    found = evaluate_videos(load(model), video, folder / "labels.csv", alarms_per_hour=ALARMS_PER_HOUR, window=WINDOW)
    write_video_report(found, load(model), folder / "report.html")
    (clip,) = found.clips
    alarms = [event for event in clip.events if event.kind == "anomaly"]
    figure = Figure(figsize=(9.6, 3.6), dpi=100, layout="constrained")
    spans = [(event.start, event.start if event.end is None else event.end) for event in alarms]
    draw_timeline(figure, clip.times, clip.scores, clip.evidence, clip.truth, spans)
    figure.savefig(folder / "timeline.png")
    frame, timeline = Image.open(folder / "keys" / f"{alarms[0].id}.jpg"), Image.open(folder / "timeline.png")
    frame = frame.resize((timeline.width, round(timeline.width * HEIGHT / WIDTH)), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (timeline.width, frame.height + timeline.height), "white")
    sheet.paste(frame, (0, 0))
    sheet.paste(timeline.convert("RGB"), (0, frame.height))
    sheet.save(Path(__file__).parents[1] / "docs" / "images" / "watch.png", optimize=True)


if __name__ == "__main__":
    main()
