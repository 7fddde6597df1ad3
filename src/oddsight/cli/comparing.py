"""The command that compares methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli.application import (
    EXIT_ERROR,
    Bands,
    GroupBy,
    ImageTimeout,
    Quiet,
    Scale,
    app,
    existing_file,
    listed,
    named,
    numbers,
    reading_of,
)


@app.command()
def compare(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Folders in MVTec AD's layout or of classes; NAME=DIR names one."),
    ],
    methods: Annotated[
        str, typer.Option(help="'all' that train no network, or names from 'oddsight methods', such as knn,patchcore.")
    ] = "all",
    backbones: Annotated[
        str | None, typer.Option(help="Names from 'oddsight backbones'. [default: efficientnet-lite0]")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="'default', 'each' stage alone, or stages such as stage3,stage5. May be given several times."
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="Sides in pixels, such as 224,320. [default: each backbone's own]")] = "",
    seeds: Annotated[str, typer.Option(help="Of every random choice in fitting, such as 0,1,2.")] = "0",
    normal: Annotated[str | None, typer.Option(metavar="CLASS", help="Of folders of classes, the normal one.")] = None,
    test_share: Annotated[float, typer.Option(help="Share of the normal class that is kept to test on.")] = 0.5,
    split_seed: Annotated[int, typer.Option(help="Of that division.")] = 0,
    group_by: GroupBy = "auto",
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images that may be flagged. [default: 0.01, or the smallest reachable]"),
    ] = None,
    bands: Bands = None,
    scale: Scale = None,
    memory: Annotated[str, typer.Option(help="Budget of the whole process.")] = "1GB",
    jobs: Annotated[
        int | None, typer.Option(help="Fits side by side, if memory allows. [default: one a processor]")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keeps finished fits, to go on from. [default: in the cache]")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with charts there.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write one row for each fit there.")] = None,
    image_timeout: ImageTimeout = 30.0,
    quiet: Quiet = False,
) -> None:
    """Compare methods on labelled data, with tests of what differs. Exits with 1 if anything failed."""
    from oddsight.backbones import DEFAULT
    from oddsight.cli.comparison_output import say_comparison, show_comparison, write_csv
    from oddsight.evaluation.compare import compare as judge
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import note, progress

    names = listed(backbones or DEFAULT)
    check_outputs(
        {"--report": report, "--csv": csv},
        folders={"finished fits": work},
        inputs={
            "DATA": [path if Path(path).exists() else str(named(path)[1]) for path in data],
            "--group-by": existing_file(group_by),
            "--backbones": [path for name in names if (path := existing_file(name)) is not None],
        },
    )
    reading = reading_of(bands, scale)
    with progress(quiet) as watch:
        found = judge(
            *data,
            methods="all" if methods == "all" else listed(methods),
            backbones=names,
            layers=[names if "," not in names else listed(names) for names in layers or ["default"]],
            sizes=numbers("--size", size),
            seeds=numbers("--seeds", seeds),
            normal=normal,
            test_share=test_share,
            split_seed=split_seed,
            groups=group_by,
            false_alarm_rate=false_alarm_rate,
            bands=reading.bands,
            scale=reading.scale,
            memory=memory,
            jobs=jobs,
            work=work,
            progress=watch,
        )
    show_comparison(found)
    say_comparison(found, quiet)
    if csv is not None:
        write_csv(csv, found)
        note(f"wrote {csv}", quiet=quiet)
    if report is not None:
        from oddsight.report.comparison import write_comparison_report

        write_comparison_report(found, report)
        note(f"The report is {report}", quiet=quiet)
    if any(trial.errors for trial in found.trials) or any(cell.error for cell in found.cells):
        raise typer.Exit(EXIT_ERROR)
