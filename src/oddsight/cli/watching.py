"""The commands that watch video and streams."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import EXIT_ANOMALY, EXIT_ERROR, Device, ImageTimeout, ModelOutput, ModelPath, Quiet, app
from oddsight.cli.stream_options import (
    EventsFile,
    FramesFile,
    KeyFramesFolder,
    MetricsPort,
    MqttAddress,
    SavedVideo,
    WebhookAddress,
    WebhookKey,
    WebhookRate,
)
from oddsight.cli.video_crops import place_files
from oddsight.cli.video_footage import say_footage

if TYPE_CHECKING:
    from oddsight.sources.source import Source

ZonesFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Zones to look at, from 'oddsight zones'.")]
Roi = Annotated[
    str | None, typer.Option(metavar="motion|grid|DETECTOR.onnx", help="Look at regions of interest, not whole frames.")
]
AlarmsPerHour = Annotated[
    float,
    typer.Option(metavar="NUMBER", help="Alarms that normal footage may raise in an hour, in all zones together."),
]
Window = Annotated[str, typer.Option(metavar="TIME", help="Time whose evidence an alarm rests on.")]


@app.command()
def watch(  # noqa: PLR0913, PLR0917 - options
    model: ModelPath,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A video, a folder of frames, the number of a camera or a stream.")
    ],
    zones: ZonesFile = None,
    roi: Roi = None,
    alarms_per_hour: AlarmsPerHour = 1.0,
    window: Window = "2s",
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of a file, take one frame in this time. [default: all]")
    ] = None,
    rate: Annotated[float, typer.Option(help="Frames a second of a folder of frames.")] = 25.0,
    max_staleness: Annotated[
        str, typer.Option(metavar="TIME", help="Of a live source: leave out frames that are older.")
    ] = "0.5s",
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="Of a live source: without a frame for so long, it is away.")
    ] = "5s",
    workers: Annotated[
        int | None, typer.Option(help="Frames that are scored in parallel. [default: the number of processors]")
    ] = None,
    events: EventsFile = None,
    frames: FramesFile = None,
    key_frames: KeyFramesFolder = None,
    save: SavedVideo = None,
    webhook: WebhookAddress = None,
    webhook_key: WebhookKey = None,
    webhook_rate: WebhookRate = 60.0,
    mqtt: MqttAddress = None,
    metrics: MetricsPort = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 3 if there was an event of an anomaly.")
    ] = False,
    image_timeout: ImageTimeout = 30.0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Watch a video or a stream for anomalies that last, and tell of each once."""
    from oddsight.cli.durations import seconds
    from oddsight.cli.stream_options import stream_sinks
    from oddsight.sinks.output_paths import model_files
    from oddsight.sinks.terminal import complain, note
    from oddsight.sources.opening import open_frames
    from oddsight.watch.unscored import Unscored
    from oddsight.watch.watching import watch_frames

    file = Path(source) if Path(source).exists() else None
    sinks = stream_sinks(
        events=events,
        frames=frames,
        key_frames=key_frames,
        save=save,
        webhook=webhook,
        webhook_key=webhook_key,
        webhook_rate=webhook_rate,
        mqtt=mqtt,
        metrics=metrics,
        quiet=quiet,
        inputs={**model_files(model), "SOURCE": file, **place_files(zones, roi)},
    )
    anomalies, unscored = 0, Unscored()
    for frame in watch_frames(
        model,
        open_frames(
            source,
            every=None if every is None else seconds("--every", every),
            rate=rate,
            max_staleness=seconds("--max-staleness", max_staleness),
            timeout=seconds("--timeout", timeout),
        ),
        zones=zones,
        roi=roi,
        alarms_per_hour=alarms_per_hour,
        window=seconds("--window", window),
        workers=workers,
        sinks=sinks,
        note=partial(note, quiet=quiet),
    ):
        anomalies += sum(event.kind == "anomaly" and event.state == "new" for event in frame.events)
        if frame.error is not None:
            unscored.add(frame.error)
    if unscored.count and file is not None:
        complain(unscored)
        raise typer.Exit(EXIT_ERROR)
    if fail_on_anomaly and anomalies:
        raise typer.Exit(EXIT_ANOMALY)


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
    from oddsight.watch.zone_files import read_zones

    inputs = {**model_files(model), "--from-video": from_video, **place_files(zones, roi)}
    check_outputs({"--output": output}, inputs=inputs)
    step = None if every is None else seconds("--every", every)
    length = seconds("--block", block)
    sources = [_footage(path, step) for path in from_video]
    with progress(quiet) as watch:
        changed = recalibrated(
            load(model),
            *sources,
            zones=None if zones is None else read_zones(zones),
            roi=roi,
            block=length,
            progress=watch,
            note=partial(note, quiet=quiet),
        )
    changed.save(output)
    say_footage(changed, output, quiet)


def _footage(path: Path, every: float | None) -> Source:
    from oddsight.errors import DataError
    from oddsight.sources.live import LiveStream
    from oddsight.sources.opening import open_frames

    source = open_frames(path, every=every)
    if isinstance(source, LiveStream):
        raise DataError("normal footage is a video file or a folder of frames, not a stream: record it first")
    return source
