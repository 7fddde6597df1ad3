"""Commands that run a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import (
    EXIT_ANOMALY,
    EXIT_ERROR,
    Bands,
    Device,
    ImageTimeout,
    JsonFile,
    ModelPath,
    Quiet,
    Report,
    Scale,
    app,
    existing_file,
    named,
    reading_of,
    refuse,
)
from oddsight.cli.scale import Address, Engine, Workers, predict_into_store
from oddsight.cli.video_evaluation import evaluate_on_videos
from oddsight.cli.video_footage import Rate

if TYPE_CHECKING:
    from oddsight.model.normals import NormalImages
    from oddsight.sinks.sink import Sink


@app.command()
def predict(  # noqa: PLR0913, PLR0917 - options
    model: ModelPath,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Images: files, folders or globs; with --out also URIs, and lists of images."
        ),
    ],
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write JSON Lines to this file ('-' for standard output)."),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each image with its heat map to this folder, as PNG.")
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write an explanation of each anomalous image to this folder, as PNG."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write outlines (GeoJSON) and masks of anomalous images to this folder."),
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Cut larger images into tiles of this many pixels.")] = None,
    overlap: Annotated[
        int | None,
        typer.Option(help="With --tile: pixels that neighbouring tiles share. [default: an eighth of the tile]"),
    ] = None,
    per_tile: Annotated[
        bool,
        typer.Option("--per-tile", help="With --tile: the false-alarm rate holds for a tile, not for a whole image."),
    ] = False,
    bands: Bands = None,
    scale: Scale = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="Use this rate instead of the model's.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Use this raw score as the threshold.")] = None,
    fdr: Annotated[
        float | None, typer.Option(help="Limit the share of false alarms among all alarms of this run.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory budget of the process. [default: 2GB on two cores, 20 MB more for each other core]"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR|URI", help="Write Parquet files there: for millions of images, local or in a store."),
    ] = None,
    engine: Engine = None,
    address: Address = None,
    workers: Workers = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --out: score only what is missing there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --out: only say what it would take.")] = False,
    price: Annotated[
        float | None, typer.Option(help="With --out: of a core for an hour, to say what it would cost.")
    ] = None,
    shard_images: Annotated[
        int | None, typer.Option(help="With --out: images of one Parquet file, at most. [default: 1000]")
    ] = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 3 if an image is anomalous.")
    ] = False,
    image_timeout: ImageTimeout = 30.0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Score images and write tables, JSON Lines and heat maps. Exits with 1 if an image could not be read."""
    from oddsight.model.model import load
    from oddsight.scenes import SceneSettings
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.prediction import predict as score
    from oddsight.sinks.terminal import console, note, progress
    from oddsight.sources.files import Files

    if sum(option is not None for option in (false_alarm_rate, threshold, fdr)) > 1:
        raise typer.BadParameter("give only one of --false-alarm-rate, --threshold and --fdr")
    scale_options = {
        "--engine": engine, "--address": address, "--workers": workers, "--resume": resume or None,
        "--dry-run": dry_run or None, "--price": price, "--shard-images": shard_images,
    }  # fmt: skip
    if out is None:
        refuse(scale_options, "needs --out")
    else:
        others = {
            "--json": json, "--maps": maps, "--explain": explain, "--regions": regions, "--tile": tile,
            "--overlap": overlap, "--per-tile": per_tile or None, "--memory": memory,
        }  # fmt: skip
        refuse(others, "does not go with --out, which writes Parquet files")
        return predict_into_store(
            model,
            paths,
            out,
            engine=engine or "local",
            address=address,
            workers=workers,
            resume=resume,
            dry_run=dry_run,
            price=price,
            shard_images=shard_images,
            false_alarm_rate=false_alarm_rate,
            threshold=threshold,
            fdr=fdr,
            reading=reading_of(bands, scale),
            fail_on_anomaly=fail_on_anomaly,
            quiet=quiet,
        )
    if tile is None and (overlap is not None or per_tile):
        raise typer.BadParameter("--overlap and --per-tile need --tile")
    if tile is not None:
        SceneSettings(tile, overlap, per_tile)  # before anything is read
    reading = reading_of(bands, scale)
    check_outputs(
        {"--json": json},
        images={"heat maps": maps, "explanations": explain, "regions": regions},
        inputs={**model_files(model), "PATH": paths},
    )
    loaded = load(model)
    if false_alarm_rate is not None or threshold is not None:
        loaded = loaded.with_decision(false_alarm_rate=false_alarm_rate, threshold=threshold)
    # Rows that appear on a terminal are progress enough.
    with progress(quiet or (json is None and console.is_terminal)) as watch:
        totals = score(
            loaded,
            Files(*paths),
            sinks=_sinks(model, json, maps, explain, regions),
            tile=tile,
            overlap=overlap,
            per_tile=per_tile,
            reading=reading,
            fdr=fdr,
            memory=memory,
            progress=watch,
            note=partial(note, quiet=quiet),
        )
    if totals.errors:
        raise typer.Exit(EXIT_ERROR)
    if fail_on_anomaly and totals.anomalous:
        raise typer.Exit(EXIT_ANOMALY)


def _sinks(model: Path, json: Path | None, maps: Path | None, explain: Path | None, regions: Path | None) -> list[Sink]:
    """What the options about outputs say; those that write files stand before those that name them."""
    from oddsight import sinks
    from oddsight.sinks.messages import Messages
    from oddsight.sinks.terminal import console

    normals = _normals_beside(model) if json is not None or explain is not None else None
    chosen: list[Sink] = [Messages()]
    if maps is not None:
        chosen.append(sinks.HeatMaps(maps))
    if explain is not None:
        chosen.append(sinks.Explanations(explain, normals=normals))
    if regions is not None:
        chosen.append(sinks.Regions(regions))
    if json is None:
        chosen.append(sinks.Table())
    else:
        chosen.append(sinks.JsonLines(json if str(json) != "-" else console.file, normals=normals))
    return chosen


def _normals_beside(model: Path) -> NormalImages | None:
    """The small copies of normal images beside a model file; if they are damaged, a complaint and None."""
    from oddsight.errors import DataError
    from oddsight.model.normals import NormalImages
    from oddsight.sinks.terminal import complain

    try:
        return NormalImages.beside(model)
    except DataError as error:
        complain(error)
        return None


@app.command()
def evaluate(  # noqa: PLR0913, PLR0917 - options
    model: ModelPath,
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
    bands: Bands = None,
    scale: Scale = None,
    json: JsonFile = None,
    report: Report = None,
    image_timeout: ImageTimeout = 30.0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Measure a model on labelled images or videos that it has never seen."""
    from oddsight import evaluation
    from oddsight.cli.evaluation_output import say_evaluation, show_evaluation
    from oddsight.cli.output import write_json
    from oddsight.data.grouping import NONE
    from oddsight.model.model import load
    from oddsight.report import write_report
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.terminal import note, progress

    folders = {"DIR": folder, "--normal": normal, "--anomalous": anomalous, "--masks": masks}
    of_images = {**folders, "--group-by": group_by, "--bands": bands, "--scale": scale, "--aupro-limit": aupro_limit}
    pace = {"--alarms-per-hour": alarms_per_hour, "--window": window, "--every": every, "--rate": rate}
    if video is not None or labels is not None:
        refuse({**of_images, "--labelled": labelled, "--unknown": unknown}, "cannot be used with --video")
        return evaluate_on_videos(
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
    refuse({"--zones": zones, "--roi": roi, **pace}, "needs --video and --labels")
    sets = _unknown_sets(unknown or [])
    if labelled is not None:
        refuse(of_images, "cannot be used with --labelled")
    elif unknown:
        raise typer.BadParameter("--unknown needs --labelled")
    elif None in (normal, anomalous) if folder is None else (normal, anomalous, masks) != (None, None, None):
        raise typer.BadParameter("name either one folder in MVTec AD's layout, or --normal and --anomalous")
    check_outputs(
        {"--json": json, "--report": report},
        inputs={
            **model_files(model),
            "DIR": folder,
            "--normal": normal,
            "--anomalous": anomalous,
            "--masks": masks,
            "--group-by": existing_file(group_by),
        },
        data={"--labelled": labelled, "--unknown": list(sets.values())},
    )
    loaded = load(model)
    with progress(quiet) as watch:
        found = (
            evaluation.evaluate(loaded, labelled=labelled, unknown=sets, progress=watch)
            if labelled is not None
            else evaluation.evaluate(
                loaded,
                folder,
                normal=normal,
                anomalous=anomalous,
                masks=masks,
                groups=group_by or NONE,
                reading=reading_of(bands, scale),
                aupro_limit=0.3 if aupro_limit is None else aupro_limit,
                progress=watch,
            )
        )
    if json is not None:
        write_json(json, found.to_json())
    if json is None or str(json) != "-":
        show_evaluation(found)
    say_evaluation(found, quiet)
    if report is not None:
        write_report(found, loaded, report, normals=_normals_beside(model))
        note(f"The report is {report}", quiet=quiet)
    if found.errors:
        raise typer.Exit(EXIT_ERROR)


def _unknown_sets(unknown: list[str]) -> dict[str, Path]:
    sets = dict(map(named, unknown))
    if len(sets) < len(unknown) or "" in sets:
        raise typer.BadParameter("give each --unknown a name of its own: NAME=DIR")
    return sets
