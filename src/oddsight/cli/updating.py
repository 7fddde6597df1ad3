"""The command by which models learn new images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli.trained_model import COPIES, check_places, copies_of, write_model

if TYPE_CHECKING:
    from oddsight.fitting.plan import FitPlan
    from oddsight.fitting.updating import Changes

_NAMED = 10
"""Suspicious images that are named on the terminal, at most."""


@cli.app.command("update")
def update_model(  # noqa: PLR0913, PLR0917 - options
    model: cli.ModelPath,
    paths: Annotated[list[str], typer.Argument(metavar="DIR...", help="New normal images: folders, files or globs.")],
    output: cli.ModelOutput,
    replace: Annotated[
        bool, typer.Option("--replace", help="Learn from the new images only, such as after a change of camera.")
    ] = False,
    old: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="OLD", help="Learn from these old images, too. May be repeated."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="FILE.onnx", help="Where the model's backbone is, if it is a file.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images that may be flagged. [default: the model's]", show_default=False),
    ] = None,
    confidence: cli.Confidence = None,
    group_by: cli.GroupBy = "auto",
    memory: Annotated[str | None, typer.Option(help="Memory budget of the process. [default: as for fit]")] = None,
    json: cli.JsonFile = None,
    thumbnails: cli.Thumbnails = True,
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Fit a model again on new images, or add them to its memory bank, and say what changed."""
    from oddsight.cli.output import give_results, say_fitted, say_plan
    from oddsight.fitting.updating import update
    from oddsight.model.model import load
    from oddsight.sinks.output_paths import model_files
    from oddsight.sinks.terminal import complain, progress

    copies = copies_of(output, thumbnails)
    check_places(
        {"--output": output, "--json": json, COPIES: copies},
        inputs={**model_files(model), "DIR": paths, "--with": old},
        named={"--backbone": backbone, "--group-by": group_by},
    )
    plans: list[FitPlan] = []

    def start(plan: FitPlan) -> None:
        say_plan(plan, quiet)
        plans.append(plan)

    with progress(quiet) as report:
        found = update(
            load(model),
            *paths,
            replace=replace,
            old=old or (),
            backbone=backbone,
            false_alarm_rate=false_alarm_rate,
            confidence=confidence,
            groups=group_by,
            memory=memory,
            progress=report,
            on_plan=start,
        )
        if not plans:  # It has learned on top of what it knew, of whose images no copies can be made
            copies = None
        write_model(found.model, output, copies, plans[0].training if plans else (), report)
    give_results(found.changes, json, lambda: _show_changes(found.changes))
    say_fitted(found.model, output, copies, quiet)
    if not plans:
        for error in found.errors:
            complain(error)
    cli.end_with(found.errors)


def _show_changes(changes: Changes) -> None:
    from oddsight.drawing.numbers import percent
    from oddsight.errors import plain
    from oddsight.sinks.terminal import console, table

    console.print(f"{changes.new:,} of {changes.images:,} images are new, {changes.forgotten:,} old ones are forgotten")
    rates = ["by hand" if rate is None else percent(rate) for rate in changes.false_alarm_rate]
    rows = table("", "before", "after", numbers=("before", "after"))
    for name, before, after in (
        ("images learned from", *(f"{count:,}" for count in changes.training)),
        ("calibration scores", *(f"{count:,}" for count in changes.calibration)),
        ("threshold", *(f"{value:.6g}" for value in changes.threshold)),
        ("false-alarm rate", *rates),
        ("new images flagged", *(f"{count:,}" for count in changes.flagged)),
    ):
        rows.add_row(name, before, after)
    console.print(rows)
    console.print(f"{changes.changed:,} of the {changes.new:,} new images have another decision than before")
    if not changes.suspicious:
        return
    console.print(
        f"{len(changes.suspicious):,} new images score far above all calibration images of the old model, and were "
        "learned from like the others: make sure that they are normal"
    )
    for name in changes.suspicious[:_NAMED]:
        console.print(f"  {plain(name)}")
    if len(changes.suspicious) > _NAMED:
        console.print(f"  and {len(changes.suspicious) - _NAMED:,} more, which --json lists")
