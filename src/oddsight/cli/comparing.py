"""The command that compares methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli


@cli.app.command()
def compare(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...", help="Folders in the layout of MVTec AD, or of classes; NAME=DIR sets a name."
        ),
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="'all' (those that train no network), or names from 'oddsight methods', such as knn,patchcore."
        ),
    ] = "all",
    backbones: Annotated[
        str | None, typer.Option(help="Names from 'oddsight backbones'. [default: efficientnet-lite0]")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="'default', 'each' (every stage alone), or stages such as stage3,stage5. May be repeated."),
    ] = None,
    size: Annotated[str, typer.Option(help="Sides in pixels, such as 224,320. [default: each backbone's own]")] = "",
    seeds: Annotated[str, typer.Option(help="Random seeds of the fits, such as 0,1,2.")] = "0",
    normal: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The normal class, in folders of classes.")
    ] = None,
    test_share: Annotated[float, typer.Option(help="Share of the normal class to hold out for testing.")] = 0.5,
    split_seed: Annotated[int, typer.Option(help="Random seed of the split by --test-share.")] = 0,
    group_by: cli.GroupBy = "auto",
    false_alarm_rate: cli.FalseAlarmRate = None,
    bands: cli.Bands = None,
    scale: cli.Scale = None,
    memory: Annotated[str, typer.Option(help="Memory budget of the process.")] = "1GB",
    jobs: Annotated[
        int | None, typer.Option(help="Parallel fits, if memory allows. [default: one per processor]")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep finished fits in this folder, to resume from. [default: in the cache]"),
    ] = None,
    report: cli.Report = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write a CSV file with one row per fit.")] = None,
    image_timeout: cli.ImageTimeout = 30.0,
    quiet: cli.Quiet = False,
) -> None:
    """Compare methods on labelled data, with significance tests. Exits with 1 if anything failed."""
    from oddsight.backbones import DEFAULT
    from oddsight.cli.comparison_output import say_comparison, show_comparison, write_csv
    from oddsight.evaluation.compare import compare as judge
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import note, progress

    names = cli.listed(backbones or DEFAULT)
    check_outputs(
        {"--report": report, "--csv": csv},
        folders={"finished fits": work},
        inputs={
            "DATA": [path if Path(path).exists() else str(cli.named(path)[1]) for path in data],
            "--group-by": cli.existing_file(group_by),
            "--backbones": [path for name in names if (path := cli.existing_file(name)) is not None],
        },
    )
    with progress(quiet) as watch:
        found = judge(
            *data,
            methods="all" if methods == "all" else cli.listed(methods),
            backbones=names,
            layers=[stages if "," not in stages else cli.listed(stages) for stages in layers or ["default"]],
            sizes=cli.numbers("--size", size),
            seeds=cli.numbers("--seeds", seeds),
            normal=normal,
            test_share=test_share,
            split_seed=split_seed,
            groups=group_by,
            false_alarm_rate=false_alarm_rate,
            reading=cli.reading_of(bands, scale),
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
    cli.end_with(any(trial.errors for trial in found.trials) or any(cell.error for cell in found.cells))
