"""The commands that watch video and streams."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli import stream_options as streams
from oddsight.cli.video_footage import Rate, open_footage, place_files, say_footage

ZonesFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Zones to look at, from 'oddsight zones'.")]
Roi = Annotated[
    str | None, typer.Option(metavar="motion|grid|DETECTOR.onnx", help="Look at regions of interest, not whole frames.")
]
AlarmsPerHour = Annotated[
    float,
    typer.Option(metavar="NUMBER", help="Alarms that normal footage may raise in an hour, in all zones together."),
]
Window = Annotated[
    str, typer.Option(metavar="TIME", help="Length of time over which evidence for an alarm is collected.")
]


@cli.app.command()
def watch(  # noqa: PLR0913, PLR0917 - options
    model: cli.ModelPath,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A video, a folder of frames, the number of a camera or the address of a stream."
        ),
    ],
    zones: ZonesFile = None,
    roi: Roi = None,
    alarms_per_hour: AlarmsPerHour = 1.0,
    window: Window = "2s",
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of a file: time from one frame to the next. [default: every frame]"),
    ] = None,
    rate: Rate = None,
    max_staleness: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of a live source: leave out frames older than this. [default: 0.5s]"),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Of a live source: time without a frame after which it counts as lost. [default: 5s]",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of frames to score in parallel. [default: the number of processors]")
    ] = None,
    events: streams.EventsFile = None,
    frames: streams.FramesFile = None,
    key_frames: streams.KeyFramesFolder = None,
    save: streams.SavedVideo = None,
    webhook: streams.WebhookAddress = None,
    webhook_key: streams.WebhookKey = None,
    webhook_rate: streams.WebhookRate = None,
    mqtt: streams.MqttAddress = None,
    mqtt_ca: streams.MqttCertificates = None,
    metrics: streams.MetricsPort = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 3 if there was an anomaly.")
    ] = False,
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Watch a video or a stream, and report each lasting anomaly once."""
    from oddsight.sinks.output_paths import model_files
    from oddsight.sinks.terminal import complain, note
    from oddsight.sources.opening import open_frames
    from oddsight.watch.unscored import Unscored
    from oddsight.watch.watching import watch_frames

    file = Path(source) if Path(source).exists() else None
    times = (
        ("every", "--every", every),
        ("max_staleness", "--max-staleness", max_staleness),
        ("timeout", "--timeout", timeout),
    )
    sinks = streams.stream_sinks(
        events=events,
        frames=frames,
        key_frames=key_frames,
        save=save,
        webhook=webhook,
        webhook_key=webhook_key,
        webhook_rate=webhook_rate,
        mqtt=mqtt,
        mqtt_ca=mqtt_ca,
        metrics=metrics,
        quiet=quiet,
        inputs={**model_files(model), "SOURCE": file, **place_files(zones, roi)},
    )
    anomalies, unscored = 0, Unscored()
    for frame in watch_frames(
        model,
        open_frames(
            source,
            rate=rate,
            **{name: cli.seconds(option, value) for name, option, value in times if value is not None},
        ),
        zones=zones,
        roi=roi,
        alarms_per_hour=alarms_per_hour,
        window=cli.seconds("--window", window),
        workers=workers,
        sinks=sinks,
        note=partial(note, quiet=quiet),
        complain=complain,
    ):
        anomalies += sum(event.kind == "anomaly" and event.state == "new" for event in frame.events)
        if frame.error is not None:
            unscored.add(frame.error)
    failed = file is not None and unscored.count
    if failed:
        complain(unscored)
    cli.end_with(failed, fail_on_anomaly and anomalies)


@cli.app.command()
def recalibrate(
    model: cli.ModelPath,
    from_video: Annotated[
        list[Path],
        typer.Option(metavar="FILE|DIR", help="Normal footage: a video or a folder of frames. May be repeated."),
    ],
    output: cli.ModelOutput,
    zones: ZonesFile = None,
    roi: Roi = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time from one frame to the next, such as 0.2s. [default: every frame]"),
    ] = None,
    rate: Rate = None,
    block: Annotated[
        str, typer.Option(metavar="TIME", help="Length of the blocks of footage that calibration counts.")
    ] = "60s",
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Calibrate the alarms of 'watch' on normal footage and write a new model file."""
    from oddsight.model.model import load
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.terminal import note, progress
    from oddsight.watch.recalibrating import recalibrate as recalibrated
    from oddsight.watch.zone_files import read_zones

    inputs = {**model_files(model), "--from-video": from_video, **place_files(zones, roi)}
    check_outputs({"--output": output}, inputs=inputs)
    step = None if every is None else cli.seconds("--every", every)
    length = cli.seconds("--block", block)
    sources = [open_footage(path, every=step, rate=rate) for path in from_video]
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
