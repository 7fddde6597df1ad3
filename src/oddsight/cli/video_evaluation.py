"""What ``oddsight evaluate --video`` does."""

from __future__ import annotations

from pathlib import Path

import typer

from oddsight.cli.application import seconds


def evaluate_on_videos(
    path: Path,
    video: Path | None,
    labels: Path | None,
    *,
    zones: Path | None,
    roi: str | None,
    alarms_per_hour: float | None,
    window: str | None,
    every: str | None,
    rate: float | None,
    json: Path | None,
    report: Path | None,
    quiet: bool,
) -> None:
    """Measure a model on labelled videos."""
    from oddsight.cli.evaluation_output import show_videos
    from oddsight.cli.output import give_results
    from oddsight.cli.video_crops import place_files
    from oddsight.errors import OddsightError
    from oddsight.model.model import load
    from oddsight.report.videos import write_video_report
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.terminal import note, progress
    from oddsight.watch.alarms import WINDOW, checked_rate
    from oddsight.watch.evaluation import evaluate_videos
    from oddsight.watch.zone_files import read_zones

    if video is None or labels is None:
        raise typer.BadParameter("--video and --labels need each other: give both")
    check_outputs(
        {"--json": json, "--report": report},
        inputs=model_files(path),
        data={"--video": video, "--labels": labels, **place_files(zones, roi)},
    )
    model = load(path)
    if report is not None and model.footage is None:
        raise OddsightError("--report shows alarms, and the model has no normal footage: 'recalibrate' it first")
    with progress(quiet) as watch:
        found = evaluate_videos(
            model,
            video,
            labels,
            zones=None if zones is None else read_zones(zones),
            roi=roi,
            alarms_per_hour=1.0 if alarms_per_hour is None else checked_rate(alarms_per_hour),
            window=WINDOW if window is None else seconds("--window", window),
            every=None if every is None else seconds("--every", every),
            rate=rate,
            progress=watch,
        )
    give_results(found, json, lambda: show_videos(found))
    for warning in found.warnings:
        note(f"note: {warning}", quiet=quiet)
    if report is not None:
        write_video_report(found, model, report)
        note(f"The report is {report}", quiet=quiet)
