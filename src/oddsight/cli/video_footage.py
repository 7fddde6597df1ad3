"""Normal footage of videos that a model did not learn from, for the alarms of 'watch'."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oddsight.fitting.plan import FitPlan
    from oddsight.model.model import Model

HELD_OUT = 0.25
"""Share of the blocks of videos that a model does not learn from."""


def add_footage(
    model: Model,
    plan: FitPlan,
    files: Sequence[str],
    zones: Path | None,
    roi: str | None,
    block: str,
    output: Path,
    quiet: bool,
) -> Model:
    """Write the model again with the blocks of the videos that it did not learn from, for the alarms of 'watch'."""
    from oddsight.cli.durations import seconds
    from oddsight.sinks.terminal import note, progress
    from oddsight.sources import VideoFile
    from oddsight.watch.recalibrating import with_held_out
    from oddsight.watch.zone_files import read_zones
    from oddsight.watch.zones import Zones

    places = Zones() if zones is None else read_zones(zones)
    if roi is None and any(not zone.is_of(output) for zone in places.include):
        note(
            "it knows crops of zones: 'recalibrate' the model that you will 'watch' with, with the same --zones",
            quiet=quiet,
        )
        return model
    if plan.kind == "cross":
        note("the model learned from all blocks: 'recalibrate' it on other footage before you 'watch'", quiet=quiet)
        return model
    with progress(quiet) as report:
        found = with_held_out(
            model,
            [VideoFile(path) for path in files],
            {image.group for image in plan.training},
            zones=places,
            roi=roi,
            block=seconds("--block", block),
            progress=report,
            note=partial(note, quiet=quiet),
        )
    found.save(output)
    say_footage(found, output, quiet)
    return found


def say_footage(model: Model, output: Path, quiet: bool) -> None:
    """Say how much normal footage a model has, and for how few alarms it is enough."""
    from oddsight.sinks.terminal import note

    footage = model.footage
    if footage is not None:
        note(
            f"{output}: {footage.hours:.2f} hours of normal footage, {footage.blocks:,} blocks of {footage.block:g} s: "
            f"enough for {3600 / footage.block / (footage.blocks + 1):.2g} alarms an hour or more",
            quiet=quiet,
        )
