"""The options of ``oddsight watch`` about where results go, and the sinks that they ask for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import refuse

if TYPE_CHECKING:
    from oddsight.sinks.output_paths import Inputs
    from oddsight.sinks.streams.sink import StreamSink

EventsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write events as JSON Lines; a live source adds to the file."),
]
FramesFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write every frame as JSON Lines; a live source adds to the file."),
]
KeyFramesFolder = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write the strongest frame of each event to this folder, as JPEG."),
]
SavedVideo = Annotated[
    Path | None,
    typer.Option(metavar="FILE.mp4", help="Write a video with maps, zones, boxes and scores drawn on it."),
]
WebhookAddress = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Send events as JSON to this address (http or https)."),
]
WebhookKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Sign messages with the key in this file. [default: that in ODDSIGHT_WEBHOOK_KEY, if it is set]",
    ),
]
WebhookRate = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", help="Largest number of messages a minute to --webhook. [default: 60]"),
]
MqttAddress = Annotated[
    str | None,
    typer.Option(
        metavar="mqtt://[USER@]HOST[:PORT][/TOPIC]",
        help="Send events to this MQTT broker (mqtts:// for TLS); the password is in ODDSIGHT_MQTT_PASSWORD.",
    ),
]
MqttCertificates = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Certificates (PEM) that an mqtts:// broker is checked by. [default: those that the system trusts]",
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(metavar="PORT", min=1, max=65535, help="Show Prometheus metrics on this port of 127.0.0.1."),
]


def stream_sinks(
    *,
    events: Path | None = None,
    frames: Path | None = None,
    key_frames: Path | None = None,
    save: Path | None = None,
    webhook: str | None = None,
    webhook_key: Path | None = None,
    webhook_rate: float | None = None,
    mqtt: str | None = None,
    mqtt_ca: Path | None = None,
    metrics: int | None = None,
    quiet: bool = False,
    inputs: Inputs | None = None,
) -> list[StreamSink]:
    """The sinks of the options with these names, with the events on standard output, and the live view unless quiet.

    ``inputs`` is what the command reads, as :func:`oddsight.sinks.output_paths.check_outputs` takes it.

    Raises:
        OddsightError: If a file would replace an input or another output, or an address will not do.
    """
    from oddsight import sinks
    from oddsight.runtime.files import is_stream
    from oddsight.sinks.output_paths import check_outputs

    if webhook is None:
        refuse({"--webhook-key": webhook_key, "--webhook-rate": webhook_rate}, "needs --webhook")
    if mqtt is None:
        refuse({"--mqtt-ca": mqtt_ca}, "needs --mqtt")
    files = {"--events": events, "--frames": frames, "--save": save}
    read = {**(inputs or {}), "--webhook-key": webhook_key, "--mqtt-ca": mqtt_ca}
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
        per_minute = 60.0 if webhook_rate is None else webhook_rate
        chosen.append(sinks.Webhook(webhook, key=_key(webhook_key), per_minute=per_minute))
    if mqtt is not None:
        chosen.append(sinks.Mqtt(mqtt, password=os.environ.get("ODDSIGHT_MQTT_PASSWORD"), ca=mqtt_ca))
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
