"""What ``oddsight evaluate --video`` does."""

from __future__ import annotations

from typing import Any

import typer

OF_VIDEOS = ("zones", "roi", "alarms_per_hour", "window", "every")
_OF_IMAGES = (
    "folder",
    "normal",
    "anomalous",
    "masks",
    "labelled",
    "unknown",
    "group_by",
    "bands",
    "scale",
    "aupro_limit",
)


def evaluate_on_videos(given: dict[str, Any]) -> None:
    """Measure a model on labelled videos."""
    from oddsight.cli.durations import seconds
    from oddsight.cli.evaluation_output import show_videos
    from oddsight.cli.output import write_json
    from oddsight.cli.video_crops import place_files
    from oddsight.errors import OddsightError
    from oddsight.model.model import load
    from oddsight.report.videos import write_video_report
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.terminal import note, progress
    from oddsight.watch.alarms import WINDOW, checked_rate
    from oddsight.watch.evaluation import evaluate_videos
    from oddsight.watch.zone_files import read_zones

    if given["video"] is None or given["labels"] is None:
        raise typer.BadParameter("--video and --labels go together")
    apart = [name for name in _OF_IMAGES if given[name]]
    if apart:
        raise typer.BadParameter(f"--video goes without {apart[0].replace('_', '-')}")
    files = {"--video": given["video"], "--labels": given["labels"]}
    check_outputs(
        {"--json": given["json"], "--report": given["report"]},
        inputs=model_files(given["model"]),
        data={**files, **place_files(given["zones"], given["roi"])},
    )
    model = load(given["model"])
    if given["report"] is not None and model.footage is None:
        raise OddsightError("--report shows alarms, and the model has no normal footage: 'recalibrate' it first")
    rate, window, every = given["alarms_per_hour"], given["window"], given["every"]
    with progress(given["quiet"]) as watch:
        found = evaluate_videos(
            model,
            given["video"],
            given["labels"],
            zones=None if given["zones"] is None else read_zones(given["zones"]),
            roi=given["roi"],
            alarms_per_hour=1.0 if rate is None else checked_rate(rate),
            window=WINDOW if window is None else seconds("--window", window),
            every=None if every is None else seconds("--every", every),
            progress=watch,
        )
    if given["json"] is not None:
        write_json(given["json"], found.to_json())
    if given["json"] is None or str(given["json"]) != "-":
        show_videos(found)
    for warning in found.warnings:
        note(f"note: {warning}", quiet=given["quiet"])
    if given["report"] is not None:
        write_video_report(found, model, given["report"])
        note(f"The report is {given['report']}", quiet=given["quiet"])
