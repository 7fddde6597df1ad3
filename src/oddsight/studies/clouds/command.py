"""The command that runs the study of clouds, and what it prints."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import Quiet, end_with, listed, numbers_by_name
from oddsight.errors import plain

if TYPE_CHECKING:
    from oddsight.studies.clouds.results import CloudStudy, Failure

_NONE = "none"
_SEEDS = (0, 1, 2)


def clouds(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Class folders of scenes, such as DIR/cloudy, DIR/desert, DIR/water.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A folder for all results.")],
    normal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="The normal class, or 'clear' for all classes without clouds. May be repeated. [default: the class "
            "of clouds, then clear]",
        ),
    ] = None,
    clouds: Annotated[str, typer.Option(metavar="CLASS", help="The class of clouds.")] = "cloudy",
    methods: Annotated[
        str | None, typer.Option(help="Names from 'oddsight methods'. [default: all that can run here]")
    ] = None,
    ship: Annotated[str | None, typer.Option(help="Method of the model files. [default: auto]")] = None,
    seeds: Annotated[
        str,
        typer.Option(
            help="Random seeds of splits and fits, such as 0,1,2. A method may have its own: 0,1,2;ganomaly=0."
        ),
    ] = "0,1,2",
    size: Annotated[int, typer.Option(help="Side in pixels to which every image is resized.")] = 64,
    limit: Annotated[int | None, typer.Option(help="Largest number of images per class, for a short run.")] = None,
    false_alarm_rate: Annotated[float, typer.Option(help="False-alarm rate of the model files.")] = 0.01,
    hand_threshold: Annotated[float, typer.Option(help="Threshold set by hand, to compare with the others.")] = 0.02,
    threshold_methods: Annotated[
        str | None,
        typer.Option(
            help="Methods whose thresholds are compared. [default: an autoencoder among the methods, and --ship]"
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="DIR/images and DIR/masks: also measure how well clouds are localised."),
    ] = None,
    mask_methods: Annotated[
        str | None, typer.Option(help="Methods for --masks. [default: all with an anomaly map]")
    ] = None,
    severity_methods: Annotated[
        str | None,
        typer.Option(help="Methods to test on synthetic haze, smoke and dust, or 'none'. [default: a few]"),
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory budget of each fit.")] = "4GB",
    accelerator: Annotated[str, typer.Option(help="For methods that train a network: auto, cpu, gpu, ...")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Detect cloudy scenes with every method, compare, and report. Resumes after an interruption."""
    from oddsight.cli.training_output import say_some_epochs
    from oddsight.detectors import METHODS
    from oddsight.runtime.files import check_writable, make_folder, write_bytes
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import note, progress
    from oddsight.studies.clouds.page import write_clouds
    from oddsight.studies.clouds.study import Settings, study_clouds

    chosen = listed(methods or "") or list(METHODS)
    settings = Settings(
        normal=normal or (),
        clouds=clouds,
        ship=ship,
        seeds={**dict.fromkeys(chosen, _SEEDS), **numbers_by_name("--seeds", seeds, chosen)},
        size=size,
        limit=limit,
        rate=false_alarm_rate,
        hand=hand_threshold,
        threshold_methods=listed(threshold_methods or ""),
        masks=masks,
        mask_methods=listed(mask_methods or ""),
        severity_methods=None if severity_methods is None else [n for n in listed(severity_methods) if n != _NONE],
        memory=memory,
        accelerator=accelerator,
        command=shlex.join(["oddsight", *sys.argv[1:]]),
    )
    check_outputs({}, folders={"results": output}, inputs={"--data": data, "--masks": masks})
    make_folder(output)
    check_writable(output / "report.html")

    def report_failure(one: Failure) -> None:
        note(f"{one.method}, {one.side}, seed {one.seed}: not run: {one.reason}", quiet=quiet)

    with progress(quiet) as report:
        found, models = study_clouds(
            data, output, settings, report, lambda row: say_some_epochs(row, quiet), report_failure
        )
    paths = [output / one.file for one in found.shipped]
    for path, one in zip(paths, found.shipped, strict=True):
        write_bytes(path, models[one.side].to_bytes(), follow_links=False)
    _print_results(found, write_clouds(found, output), paths, quiet)
    end_with(found.data.errors)


def _print_results(study: CloudStudy, written: Sequence[Path], models: Sequence[Path], quiet: bool) -> None:
    from oddsight.drawing.numbers import area, percent
    from oddsight.sinks.terminal import complain, console, note, table
    from oddsight.studies.clouds.conclusions import conclude
    from oddsight.studies.clouds.tables import cloud_tables

    for error in study.data.errors:
        complain(error)
    found = conclude(study, cloud_tables(study))
    recalls = {rate: f"recall at {rate}%" for rate in (1, 5)}
    seeds = f"means over {len(study.seeds)} seeds" if len(study.seeds) > 1 else f"seed {study.seeds[0]}"
    for side in study.sides:
        rows = table("method", *map(plain, side.anomalous), *recalls.values(), numbers=tuple(recalls.values()))
        for one in found.standings[side.name]:
            fields = [f"recall_{rate}" for rate in recalls]
            shares = (percent(one.mean(one.whole, name)) if one.knows(one.whole, name) else "" for name in fields)
            rows.add_row(one.method, *map(area, one.areas.values()), *shares)
        console.print(f"{plain(side.name)} as normal, AUROC by class, {seeds}")
        console.print(rows)
    for beaten in found.beaten():
        note(
            f"note: {beaten.rival} alone reaches {area(beaten.area)} on {beaten.anomalous} with {beaten.side} as "
            f"normal, {study.default} {area(beaten.own)}",
            quiet=quiet,
        )
    named = ", ".join(str(path) for path in models)
    note(f"wrote {named}, and {', '.join(path.name for path in written)} beside", quiet=quiet)
