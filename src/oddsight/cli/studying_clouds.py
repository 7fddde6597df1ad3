"""The command that runs the study of clouds."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli.application import EXIT_ERROR, listed, numbers_by_name
from oddsight.cli.studying import study_app

_NONE = "none"


@study_app.command("clouds")
def clouds(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Class folders of scenes, such as DIR/cloudy, DIR/desert, DIR/water.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A folder for all that it makes.")],
    normal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="What is normal: a class, or 'clear' for all but that of clouds; may be repeated. [default: the "
            "clouds, then clear]",
        ),
    ] = None,
    clouds: Annotated[str, typer.Option(metavar="CLASS", help="The class of clouds.")] = "cloudy",
    methods: Annotated[str | None, typer.Option(help="Names of methods. [default: all that can run here]")] = None,
    ship: Annotated[str | None, typer.Option(help="The method of the model files. [default: auto]")] = None,
    seeds: Annotated[
        str, typer.Option(help="Of splits and of learning, of every method, or also of some: 0,1,2;ganomaly=0.")
    ] = "0,1,2",
    size: Annotated[int, typer.Option(help="Side in pixels to which every picture is brought.")] = 64,
    limit: Annotated[int | None, typer.Option(help="Pictures of each class at most, for a short run.")] = None,
    false_alarm_rate: Annotated[float, typer.Option(help="Of the model files.")] = 0.01,
    hand_threshold: Annotated[float, typer.Option(help="A threshold set by hand, to compare with others.")] = 0.02,
    threshold_methods: Annotated[
        str | None,
        typer.Option(help="Whose thresholds are compared. [default: an autoencoder among the methods, and --ship]"),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="DIR/images and DIR/masks: also measure where clouds are found.")
    ] = None,
    mask_methods: Annotated[
        str | None, typer.Option(help="Methods that are measured so. [default: all that have a map]")
    ] = None,
    severity_methods: Annotated[
        str | None,
        typer.Option(help="Methods that are shown synthetic haze, smoke and dust, or 'none'. [default: a few]"),
    ] = None,
    memory: Annotated[str, typer.Option(help="Budget of each fit.")] = "4GB",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, ...; of methods that train a network.")] = "auto",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no notes; results and errors only.")
    ] = False,
) -> None:
    """Tell cloudy from clear scenes by every method, compare, and report. Goes on where it was interrupted."""
    from oddsight.adaptation_output import say_some_epochs
    from oddsight.files import check_writable, make_folder, write_bytes
    from oddsight.methods import METHODS
    from oddsight.outputs import check_outputs
    from oddsight.report.clouds import write_clouds
    from oddsight.studies.clouds.study import study_clouds
    from oddsight.study_output import say_clouds, say_failure
    from oddsight.terminal import progress

    chosen = listed(methods or "") or list(METHODS)
    shown = None if severity_methods is None else [] if severity_methods == _NONE else listed(severity_methods)
    check_outputs({}, folders={"results": output}, inputs={"--data": data, "--masks": masks})
    make_folder(output)
    check_writable(output / "report.html")
    with progress(quiet) as report:
        found, models = study_clouds(
            data,
            output,
            normal=normal or (),
            clouds=clouds,
            method_names=chosen,
            ship=ship,
            seeds=numbers_by_name("--seeds", seeds, chosen),
            size=size,
            limit=limit,
            rate=false_alarm_rate,
            hand=hand_threshold,
            threshold_methods=listed(threshold_methods or ""),
            masks=masks,
            mask_methods=listed(mask_methods or ""),
            severity_methods=shown,
            memory=memory,
            accelerator=accelerator,
            command=shlex.join(["oddsight", *sys.argv[1:]]),
            progress=report,
            on_epoch=lambda row: say_some_epochs(row, quiet),
            on_failure=lambda failed: say_failure(failed, quiet),
        )
    paths = [output / one.file for one in found.shipped]
    for path, one in zip(paths, found.shipped, strict=True):
        write_bytes(path, models[one.side].to_bytes(), follow_links=False)
    written = write_clouds(found, output)
    say_clouds(found, written, paths, quiet)
    if found.data.errors:
        raise typer.Exit(EXIT_ERROR)
