"""The command that measures models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli.video_footage import Rate, place_files

if TYPE_CHECKING:
    from oddsight.evaluation.classes import ClassEvaluation
    from oddsight.evaluation.normal import Evaluation
    from oddsight.model.model import Model


@cli.app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - options
    model: cli.ModelPath,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A folder in the layout of MVTec AD; or use --normal and --anomalous."),
    ] = None,
    normal: Annotated[Path | None, typer.Option(metavar="DIR", help="Normal test images.")] = None,
    anomalous: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Anomalous test images; sub-folders are types.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Masks of anomalous images, in the same sub-folders.")
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Labelled test images, for a model that knows classes.")
    ] = None,
    unknown: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="With --labelled: images of none of the classes; may be repeated."),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN|FILE.csv|auto",
            help="Images that belong together, as for fit, or auto for near copies: intervals then count groups. "
            "[default: every image counts]",
        ),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A labelled video, or a folder of them, to watch; needs --labels."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="With --video: a table with the columns clip, frame, anomalous, or clip, first_frame, last_frame, "
            "anomalous.",
        ),
    ] = None,
    zones: Annotated[Path | None, typer.Option(metavar="FILE", help="With --video: as for 'watch'.")] = None,
    roi: Annotated[str | None, typer.Option(help="With --video: as for 'watch'.")] = None,
    alarms_per_hour: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="With --video: as for 'watch'. [default: 1]")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --video: as for 'watch'. [default: 2s]")
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --video: time from one frame to the next. [default: every frame]"),
    ] = None,
    rate: Rate = None,
    aupro_limit: Annotated[
        float | None, typer.Option(help="False-positive rate up to which AUPRO is integrated. [default: 0.3]")
    ] = None,
    bands: cli.Bands = None,
    scale: cli.Scale = None,
    json: cli.JsonFile = None,
    report: cli.Report = None,
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Measure a model on labelled images or videos that it has never seen."""
    from oddsight import evaluation
    from oddsight.data.grouping import NONE
    from oddsight.model.model import load
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.terminal import progress

    folders = {"DIR": folder, "--normal": normal, "--anomalous": anomalous, "--masks": masks}
    of_images = {**folders, "--group-by": group_by, "--bands": bands, "--scale": scale, "--aupro-limit": aupro_limit}
    pace = {"--alarms-per-hour": alarms_per_hour, "--window": window, "--every": every, "--rate": rate}
    if video is not None or labels is not None:
        cli.refuse({**of_images, "--labelled": labelled, "--unknown": unknown}, "cannot be used with --video")
        return _evaluate_videos(
            model,
            video,
            labels,
            zones=zones,
            roi=roi,
            alarms_per_hour=alarms_per_hour,
            window=window,
            every=every,
            rate=rate,
            json=json,
            report=report,
            quiet=quiet,
        )
    cli.refuse({"--zones": zones, "--roi": roi, **pace}, "needs --video and --labels")
    if labelled is not None:
        cli.refuse(of_images, "cannot be used with --labelled")
    elif unknown:
        raise typer.BadParameter("--unknown needs --labelled")
    else:
        _check_folders(folder, normal, anomalous, masks)
    sets = _unknown_sets(unknown or [])
    check_outputs(
        {"--json": json, "--report": report},
        inputs={**model_files(model), **folders, "--group-by": cli.existing_file(group_by)},
        data={"--labelled": labelled, "--unknown": list(sets.values())},
    )
    loaded = load(model)
    with progress(quiet) as watch:
        found: Evaluation | ClassEvaluation
        if labelled is not None:
            found = evaluation.evaluate(loaded, labelled=labelled, unknown=sets, progress=watch)
        else:
            found = evaluation.evaluate(
                loaded,
                folder,
                normal=normal,
                anomalous=anomalous,
                masks=masks,
                groups=group_by or NONE,
                reading=cli.reading_of(bands, scale),
                aupro_limit=0.3 if aupro_limit is None else aupro_limit,
                progress=watch,
            )
    _give(found, loaded, model, json, report, quiet)


def _evaluate_videos(
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
    from oddsight.cli.evaluation_output import show_videos
    from oddsight.cli.output import give_results
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
            window=WINDOW if window is None else cli.seconds("--window", window),
            every=None if every is None else cli.seconds("--every", every),
            rate=rate,
            progress=watch,
        )
    give_results(found, json, lambda: show_videos(found))
    for warning in found.warnings:
        note(f"note: {warning}", quiet=quiet)
    if report is not None:
        write_video_report(found, model, report)
        note(f"The report is {report}", quiet=quiet)


def _give(
    found: Evaluation | ClassEvaluation, model: Model, path: Path, json: Path | None, report: Path | None, quiet: bool
) -> None:
    from oddsight.cli.evaluation_output import say_evaluation, show_evaluation
    from oddsight.cli.output import give_results, normals_beside
    from oddsight.report import write_report
    from oddsight.sinks.terminal import note

    give_results(found, json, lambda: show_evaluation(found))
    say_evaluation(found, quiet)
    if report is not None:
        write_report(found, model, report, normals=normals_beside(path))
        note(f"The report is {report}", quiet=quiet)
    cli.end_with(found.errors)


def _check_folders(folder: Path | None, normal: Path | None, anomalous: Path | None, masks: Path | None) -> None:
    if None in (normal, anomalous) if folder is None else (normal, anomalous, masks) != (None, None, None):
        raise typer.BadParameter("name either one folder in MVTec AD's layout, or --normal and --anomalous")


def _unknown_sets(unknown: list[str]) -> dict[str, Path]:
    sets = dict(map(cli.named, unknown))
    if len(sets) < len(unknown) or "" in sets:
        raise typer.BadParameter("give each --unknown a name of its own: NAME=DIR")
    return sets
