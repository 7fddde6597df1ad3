"""Commands that run a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli.scale import Address, Engine, Workers, load_with, predict_into_store

if TYPE_CHECKING:
    from oddsight.sinks.sink import Sink


@cli.app.command()
def predict(  # noqa: PLR0913, PLR0917 - options
    model: cli.ModelPath,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...", help="Images: files, folders or globs; with --out also URIs, and lists of images."
        ),
    ],
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write JSON Lines to this file ('-' for standard output)."),
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
    bands: cli.Bands = None,
    scale: cli.Scale = None,
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
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Score images and write tables, JSON Lines and heat maps. Exits with 1 if an image could not be read."""
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
        cli.refuse(scale_options, "needs --out")
    else:
        others = {
            "--json": json, "--maps": maps, "--explain": explain, "--regions": regions, "--tile": tile,
            "--overlap": overlap, "--per-tile": per_tile or None, "--memory": memory,
        }  # fmt: skip
        cli.refuse(others, "does not go with --out, which writes Parquet files")
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
            reading=cli.reading_of(bands, scale),
            fail_on_anomaly=fail_on_anomaly,
            quiet=quiet,
        )
    _check_tiles(tile, overlap, per_tile)
    reading = cli.reading_of(bands, scale)
    check_outputs(
        {"--json": json},
        images={"heat maps": maps, "explanations": explain, "regions": regions},
        inputs={**model_files(model), "PATH": paths},
    )
    loaded = load_with(model, false_alarm_rate, threshold)
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
    cli.end_with(totals.errors, totals.anomalous if fail_on_anomaly else 0)


def _check_tiles(tile: int | None, overlap: int | None, per_tile: bool) -> None:
    """Refuse wrong options before anything is read."""
    from oddsight.scenes import SceneSettings

    if tile is not None:
        SceneSettings(tile, overlap, per_tile)
    elif overlap is not None or per_tile:
        raise typer.BadParameter("--overlap and --per-tile need --tile")


def _sinks(model: Path, json: Path | None, maps: Path | None, explain: Path | None, regions: Path | None) -> list[Sink]:
    """What the options about outputs say; those that write files stand before those that name them."""
    from oddsight import sinks
    from oddsight.cli.output import normals_beside
    from oddsight.sinks.messages import Messages
    from oddsight.sinks.terminal import console

    normals = normals_beside(model) if json is not None or explain is not None else None
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
