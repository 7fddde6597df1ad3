"""The commands that watch video and streams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import EXIT_ANOMALY, Device, ImageTimeout, ModelOutput, ModelPath, Quiet, app

if TYPE_CHECKING:
    from oddsight.sources.source import Source

ZonesFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Zones to look at, from 'oddsight zones'.")]
Roi = Annotated[
    str | None, typer.Option(metavar="motion|grid|DETECTOR.onnx", help="Look at regions of interest, not whole frames.")
]
AlarmsPerHour = Annotated[float, typer.Option(help="Alarms that normal footage may raise in an hour, in all zones.")]
Window = Annotated[str, typer.Option(metavar="TIME", help="How much of the time before an alarm rests on, such as 2s.")]


@app.command()
def recalibrate(
    model: ModelPath,
    from_video: Annotated[
        list[Path],
        typer.Option(metavar="FILE|DIR", help="Footage that was accepted as normal: a video or a folder of frames."),
    ],
    output: ModelOutput,
    zones: ZonesFile = None,
    roi: Roi = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Take one frame in this time, such as 0.2s. [default: all]")
    ] = None,
    block: Annotated[
        str, typer.Option(metavar="TIME", help="Length of the blocks of footage that are counted, such as 60s.")
    ] = "60s",
    image_timeout: ImageTimeout = 30.0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Calibrate the alarms of 'watch' on normal footage and write a new model file."""
    from oddsight.cli.durations import seconds
    from oddsight.model.model import load
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.terminal import note, progress
    from oddsight.watch.recalibrating import recalibrate as recalibrated
    from oddsight.watch.zones import Zones

    inputs = {**model_files(model), "--from-video": from_video, "--zones": zones, **_detector(roi)}
    check_outputs({"--output": output}, inputs=inputs)
    step = None if every is None else seconds("--every", every)
    length = seconds("--block", block)
    sources = [_footage(path, step) for path in from_video]
    with progress(quiet) as watch:
        changed = recalibrated(
            load(model),
            *sources,
            zones=None if zones is None else Zones.read(zones),
            roi=roi,
            block=length,
            progress=watch,
        )
    changed.save(output)
    footage = changed.footage
    assert footage is not None
    least = 3600 / footage.block / (footage.blocks + 1)
    note(
        f"{output}: {footage.hours:.2f} hours of normal footage, {footage.blocks:,} blocks of {footage.block:g} s: "
        f"enough for {least:.2g} alarms an hour or more",
        quiet=quiet,
    )


def _footage(path: Path, every: float | None) -> Source:
    from oddsight.errors import DataError
    from oddsight.sources.live import LiveStream
    from oddsight.sources.opening import open_frames

    source = open_frames(path, every=every)
    if isinstance(source, LiveStream):
        raise DataError("normal footage is a video file or a folder of frames, not a stream: record it first")
    return source


def _detector(roi: str | None) -> dict[str, Path | None]:
    """The file of a detector, as an input."""
    return {"--roi": Path(roi) if roi is not None and roi.endswith(".onnx") else None}
