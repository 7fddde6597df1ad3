"""Make docs/images/watch.png, an annotated frame and a timeline: python scripts/watch_image.py FOLDER.

Writes footage into the folder: a window flies over the Landsat scenes of examples/landsat-clouds, which are in the
public domain, joined at blended seams. A model learns from the northern halves of scenes without clouds, is calibrated
on southern halves of such scenes, and watches two others. The commands are those of docs/video.md. The frame is the key
frame of the first alarm, whichever that is.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from fractions import Fraction
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

SCENES = Path(__file__).parents[1] / "examples" / "landsat-clouds"
RATE, SIDE, ENLARGED, SEAM = 5, 128, 3, 48
"""Frames a second; pixels of the window's side, how many times as large they are shown, and pixels of a seam."""
NORTH, SOUTH = slice(0, SIDE), slice(SIDE, 2 * SIDE)
CLEAR = ("train_Barren_00_0214", "train_Water_02_1010", "train_Wetlands_01_0416", "val_Shrubland_01_0508")
LEARN = [*((name, NORTH) for name in CLEAR), ("train_Forest_03_0209", NORTH)]
CALIBRATE = [(name, SOUTH) for name in CLEAR]
WATCH = [("train_Forest_03_0209", SOUTH), ("val_Forest_00_1008", SOUTH), ("val_Forest_00_1008", NORTH)]
CLOUDY = 0.1
"""The share of clouds in a frame that is an anomaly."""
ALARMS_PER_HOUR, WINDOW = 30, 1.0


def join(kind: str, mode: str, parts: list[tuple[str, slice]]) -> NDArray[np.float32]:
    """Parts of scenes beside each other, float32 ``[SIDE, W, C]``; at a seam one fades into the next."""
    strip = np.zeros((SIDE, 0, len(mode)), np.float32)
    fade = np.linspace(0, 1, SEAM, dtype=np.float32)[None, :, None]
    for name, rows in parts:
        image = Image.open(SCENES / kind / f"{name}.png").convert(mode)
        part = np.asarray(image, np.float32).reshape(image.height, image.width, -1)[rows]
        if strip.shape[1]:
            seam = (1 - fade) * strip[:, -SEAM:] + fade * part[:, :SEAM]
            part = np.concatenate([seam, part[:, SEAM:]], axis=1)
            strip = strip[:, :-SEAM]
        strip = np.concatenate([strip, part], axis=1)
    return strip


def write_clip(path: Path, parts: list[tuple[str, slice]], step: int) -> list[bool]:
    """Write a flight that moves ``step`` pixels a frame; whether each frame is anomalous."""
    scenes, clouds = join("images", "RGB", parts), join("masks", "L", parts)
    labels = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = ENLARGED * SIDE, ENLARGED * SIDE, "yuv420p"
        for left in range(0, scenes.shape[1] - SIDE + 1, step):
            image = Image.fromarray(scenes[:, left : left + SIDE].astype(np.uint8))
            large = image.resize((ENLARGED * SIDE, ENLARGED * SIDE), Image.Resampling.BICUBIC)
            container.mux(stream.encode(av.VideoFrame.from_image(large)))
            labels.append(bool((clouds[:, left : left + SIDE] > 127).mean() > CLOUDY))
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
    write_clip(folder / "normal.mp4", LEARN, 2)
    write_clip(folder / "accepted.mp4", CALIBRATE, 1)
    labels = write_clip(folder / "orbit.mp4", WATCH, 1)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("frame", "anomalous"), *((n, int(v)) for n, v in enumerate(labels))])
    fitted, model, video = folder / "fitted.onnx", folder / "orbit.onnx", folder / "orbit.mp4"
    size = ("--method", "patchcore", "--size", 128, "--quiet")
    run("fit", "--from-video", folder / "normal.mp4", "--every", "0.4s", "--block", "2s", "-o", fitted, *size)
    run("recalibrate", fitted, "--from-video", folder / "accepted.mp4", "--block", "5s", "-o", model, "--quiet")
    outputs = ("--key-frames", folder / "keys", "--save", folder / "annotated.mp4", "--events", folder / "events.jsonl")
    options = ("--alarms-per-hour", ALARMS_PER_HOUR, "--window", f"{WINDOW:g}s", "--quiet")
    run("watch", model, video, *options, *outputs)
    found = evaluate_videos(load(model), video, folder / "labels.csv", alarms_per_hour=ALARMS_PER_HOUR, window=WINDOW)
    write_video_report(found, load(model), folder / "report.html")
    (clip,) = found.clips
    alarms = [event for event in clip.events if event.kind == "anomaly"]
    figure = Figure(figsize=(6.4, 3.84), dpi=100, layout="constrained")
    spans = [(event.start, event.start if event.end is None else event.end) for event in alarms]
    draw_timeline(figure, clip.times, clip.scores, clip.evidence, clip.truth, spans)
    figure.savefig(folder / "timeline.png")
    frame, timeline = Image.open(folder / "keys" / f"{alarms[0].id}.jpg"), Image.open(folder / "timeline.png")
    sheet = Image.new("RGB", (frame.width + timeline.width, max(frame.height, timeline.height)), "white")
    sheet.paste(frame, (0, 0))
    sheet.paste(timeline.convert("RGB"), (frame.width, 0))
    sheet.save(Path(__file__).parents[1] / "docs" / "images" / "watch.png", optimize=True)


if __name__ == "__main__":
    main()
