"""The options of ``oddsight watch`` about where results go, and the sinks that they ask for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from oddsight.sinks.output_paths import Inputs
    from oddsight.sinks.streams.sink import StreamSink

EventsFile = Annotated[
    Path | None,
    typer.Option("--events", metavar="FILE", help="Write events as JSON Lines; those of a live source are added."),
]
FramesFile = Annotated[
    Path | None,
    typer.Option("--frames", metavar="FILE", help="Write every frame as JSON Lines; those of a live source are added."),
]
KeyFramesFolder = Annotated[
    Path | None,
    typer.Option("--key-frames", metavar="DIR", help="Write the frame where each event is strongest there, as JPEG."),
]
SavedVideo = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE.mp4", help="Write a video with maps, zones, boxes and scores drawn on it."),
]
WebhookAddress = Annotated[
    str | None,
    typer.Option("--webhook", metavar="URL", help="Send events as JSON to this address (http or https)."),
]
WebhookKey = Annotated[
    Path | None,
    typer.Option(
        "--webhook-key",
        metavar="FILE",
        help="Sign messages with the key in this file. [default: that in ODDSIGHT_WEBHOOK_KEY, if it is set]",
    ),
]
WebhookRate = Annotated[
    float, typer.Option("--webhook-rate", metavar="NUMBER", help="Messages a minute to --webhook at most.")
]
MqttAddress = Annotated[
    str | None,
    typer.Option(
        "--mqtt",
        metavar="mqtt://[USER@]HOST[:PORT][/TOPIC]",
        help="Send events to this MQTT broker (mqtts:// for TLS); the password is in ODDSIGHT_MQTT_PASSWORD.",
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics", metavar="PORT", min=1, max=65535, help="Show Prometheus metrics on this port of 127.0.0.1."
    ),
]


def stream_sinks(
    *,
    events: Path | None = None,
    frames: Path | None = None,
    key_frames: Path | None = None,
    save: Path | None = None,
    webhook: str | None = None,
    webhook_key: Path | None = None,
    webhook_rate: float = 60.0,
    mqtt: str | None = None,
    metrics: int | None = None,
    quiet: bool = False,
    inputs: Inputs | None = None,
) -> list[StreamSink]:
    """What the options ask for, with the events on standard output, and the live view unless all is to be quiet.

    Args:
        events: As the options say, which have the same names.
        frames: See there.
        key_frames: See there.
        save: See there.
        webhook: See there.
        webhook_key: See there.
        webhook_rate: See there.
        mqtt: See there.
        metrics: See there.
        quiet: No live view.
        inputs: What is read, as :func:`oddsight.sinks.output_paths.check_outputs` takes it.

    Raises:
        OddsightError: If a file would replace an input or another output, or an address will not do.
    """
    from oddsight import sinks
    from oddsight.runtime.files import is_stream
    from oddsight.sinks.output_paths import check_outputs

    if webhook is None and webhook_key is not None:
        raise typer.BadParameter("--webhook-key goes with --webhook")
    files = {"--events": events, "--frames": frames, "--save": save}
    read = {**(inputs or {}), "--webhook-key": webhook_key}
    check_outputs(files, images={"key frames": key_frames}, inputs=read)
    chosen: list[StreamSink] = [] if quiet else [sinks.LiveView()]
    if events is None or not is_stream(events):
        chosen.append(sinks.EventTable())
    if events is not None:
        chosen.append(sinks.EventLines(events))
    if frames is not None:
        chosen.append(sinks.FrameLines(frames))
    if key_frames is not None:
        chosen.append(sinks.KeyFrames(key_frames))
    if save is not None:
        chosen.append(sinks.AnnotatedVideo(save))
    if webhook is not None:
        chosen.append(sinks.Webhook(webhook, key=_key(webhook_key), per_minute=webhook_rate))
    if mqtt is not None:
        chosen.append(sinks.Mqtt(mqtt, password=os.environ.get("ODDSIGHT_MQTT_PASSWORD")))
    if metrics is not None:
        chosen.append(sinks.Metrics(metrics))
    return chosen


_LONGEST_KEY = 4096


def _key(file: Path | None) -> str | None:
    from oddsight.errors import OddsightError
    from oddsight.runtime.records import read_up_to

    if file is None:
        return os.environ.get("ODDSIGHT_WEBHOOK_KEY")
    try:
        return read_up_to(file, _LONGEST_KEY).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise OddsightError(f"--webhook-key {file} cannot be read: {reason}") from None
