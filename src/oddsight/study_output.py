"""What people are told about the study of clouds while it runs, and when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oddsight.report.pages import area
from oddsight.studies.clouds.conclusions import conclude
from oddsight.studies.clouds.results import CloudStudy, Failed
from oddsight.studies.clouds.tables import cloud_tables
from oddsight.terminal import complain, console, note, percent, shown, table


def say_failure(one: Failed, quiet: bool) -> None:
    """Say that a method cannot be run, as soon as that is known; the study goes on."""
    note(f"{one.method}, {one.side}, seed {one.seed}: not run: {one.reason}", quiet=quiet)


def say_clouds(study: CloudStudy, written: Sequence[Path], models: Sequence[Path], quiet: bool) -> None:
    """Say what a study of clouds found in short, what could not be read, and where the whole is."""
    for error in study.data.errors:
        complain(error)
    found = conclude(study, cloud_tables(study))
    for side in study.sides:
        rows = table("method", *map(shown, side.anomalous), "recall at 1 %", "recall at 5 %", numbers=_NUMBERS)
        for one in found.standings[side.name]:
            recalls = (one.mean(one.whole, f"recall_{rate}") for rate in (1, 5))
            areas = (area(one.mean(name, "auroc") or 0.0) for name in one.classes)
            rows.add_row(one.method, *areas, *("" if value is None else percent(value) for value in recalls))
        console.print(f"{shown(side.name)} as normal, AUROC by class, {_seeds(study)}")
        console.print(rows)
    for beaten in found.beaten():
        note(
            f"note: {beaten.rival} alone reaches {area(beaten.area)} on {beaten.anomalous} with {beaten.side} as "
            f"normal, {study.default} {area(beaten.own)}",
            quiet=quiet,
        )
    named = ", ".join(str(path) for path in models)
    note(f"wrote {named}, and {', '.join(path.name for path in written)} beside", quiet=quiet)


def _seeds(study: CloudStudy) -> str:
    return f"means over {len(study.seeds)} seeds" if len(study.seeds) > 1 else f"seed {study.seeds[0]}"


_NUMBERS = ("recall at 1 %", "recall at 5 %")
