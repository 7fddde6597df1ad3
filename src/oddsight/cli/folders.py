"""Commands on folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli


@cli.app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")],
    bands: cli.Bands = None,
    scale: cli.Scale = None,
    json: cli.JsonFile = None,
    image_timeout: cli.ImageTimeout = 30.0,
    quiet: cli.Quiet = False,
) -> None:
    """Check a folder of images. Reports sizes, unreadable files, duplicates, empty and blurred images."""
    from oddsight.cli.folder_output import show_check
    from oddsight.cli.output import write_json
    from oddsight.data.check import check as look
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import progress

    check_outputs({"--json": json}, inputs={"DIR": folder})
    with progress(quiet) as report:
        found = look(
            folder,
            reading=cli.reading_of(bands, scale),
            progress=lambda done, total: report("checking", done, total),
        )
    if json is not None:
        write_json(json, found.to_json())
    else:
        show_check(found)


@cli.app.command()
def prepare(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled images: class folders, CIFAR-10's files, Parquet, ...")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder for the results.")],
    size: Annotated[
        int | None, typer.Option(help="Side in pixels to which images are resized. [default: unchanged]")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of each class to split off for validation.")] = 0.0,
    normalised: Annotated[bool, typer.Option(help="Also write normalised float32 arrays.")] = True,
    download: Annotated[bool, typer.Option("--download", help="Download CIFAR-10 (170 MB) into DATA first.")] = False,
    seed: cli.Seed = 0,
    image_timeout: cli.ImageTimeout = 30.0,
    quiet: cli.Quiet = False,
) -> None:
    """Write labelled images as arrays, tables and Parquet. Exits with 1 if an image could not be read."""
    from oddsight.cli.folder_output import say_prepared
    from oddsight.data.download import download_cifar10
    from oddsight.data.prepare import prepare as write
    from oddsight.sinks.terminal import progress

    with progress(quiet) as report:
        if download:
            download_cifar10(data, progress=report)
        found = write(data, output, size=size, validation=validation, normalised=normalised, seed=seed, progress=report)
    say_prepared(found, quiet)
    cli.end_with(found.errors)


@cli.app.command()
def synthesize(
    clear: Annotated[list[str], typer.Argument(metavar="CLEAR...", help="Clear images: folders, files or globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new or an empty folder.")],
    kinds: Annotated[str, typer.Option(help="One or more of haze, smoke, dust and cloud.")] = "haze,smoke,dust",
    severities: Annotated[str, typer.Option(help="Mean optical depths in the affected area.")] = "0.1,0.2,0.4,0.8,1.6",
    limit: Annotated[int | None, typer.Option(help="Largest number of clear images to use. [default: all]")] = None,
    train_share: Annotated[
        float, typer.Option(help="Share of the clear images to write to train/good instead, for 'compare'.")
    ] = 0.0,
    seed: cli.Seed = 0,
    quiet: cli.Quiet = False,
) -> None:
    """Add haze, smoke or dust to clear images, for 'evaluate'. Exits with 1 if an image could not be read."""
    from oddsight.cli.folder_output import say_synthesized, show_synthesized
    from oddsight.data.synthetic_sets import write_synthetic
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import progress

    try:
        depths = [float(number) for number in cli.listed(severities)]
    except ValueError:
        raise typer.BadParameter(f"--severities takes numbers separated by commas, not {severities!r}") from None
    check_outputs({}, images={"images": output}, inputs={"CLEAR": clear})
    with progress(quiet) as report:
        found = write_synthetic(
            *clear,
            output=output,
            kinds=cli.listed(kinds),
            severities=depths,
            limit=limit,
            train_share=train_share,
            seed=seed,
            progress=report,
        )
    show_synthesized(found)
    say_synthesized(found, quiet)
    cli.end_with(found.errors)
