"""Commands on folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli.application import EXIT_ERROR, JsonFile, Quiet, app


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")],
    json: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Look over a folder: counts, sizes, unreadable files, duplicates, empty and blurred images."""
    from oddsight.datasets.check import check as look
    from oddsight.files import check_writable
    from oddsight.output import show_check, write_json
    from oddsight.terminal import progress

    if json is not None and str(json) != "-":
        check_writable(json)
    with progress(quiet) as report:
        found = look(folder, progress=lambda done, total: report("checking", done, total))
    if json is not None:
        write_json(json, found.to_json())
    else:
        show_check(found)


@app.command()
def prepare(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled images: class folders, CIFAR-10's files, Parquet, ...")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder to write to.")],
    size: Annotated[
        int | None, typer.Option(help="Side in pixels to which images are brought. [default: as they are]")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of each class to split off for validation.")] = 0.0,
    normalised: Annotated[bool, typer.Option(help="Write normalised float32 arrays too.")] = True,
    download: Annotated[bool, typer.Option("--download", help="First fetch CIFAR-10 (170 MB) into DATA.")] = False,
    seed: Annotated[int, typer.Option(help="Of the division.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write labelled images as arrays, tables and Parquet. Exits with 1 if an image could not be read."""
    from oddsight.datasets.download import download_cifar10
    from oddsight.preparation_output import say_prepared
    from oddsight.preparing import prepare as write
    from oddsight.terminal import progress

    with progress(quiet) as report:
        if download:
            download_cifar10(data, progress=report)
        found = write(data, output, size=size, validation=validation, normalised=normalised, seed=seed, progress=report)
    say_prepared(found, quiet)
    if found.errors:
        raise typer.Exit(EXIT_ERROR)
