"""Output of the command that adds haze, smoke or dust to clear images."""

from __future__ import annotations

from oddsight.data.synthetic_sets import SyntheticSet
from oddsight.drawing.numbers import percent
from oddsight.sinks.terminal import complain, console, note, table


def say_synthesized(found: SyntheticSet, quiet: bool) -> None:
    """Say what was written, and complain of what could not be read."""
    for error in found.errors:
        complain(error)
    if found.duplicates:
        note(f"{found.duplicates:,} duplicates are used once", quiet=quiet)
    training = f", {found.training:,} others to train on" * bool(found.training)
    note(
        f"wrote {found.folder}: {len(found.rows):,} synthetic images of {found.clear:,} clear ones{training}; "
        "README.txt there says what they can tell and what not",
        quiet=quiet,
    )


def show_synthesized(found: SyntheticSet) -> None:
    """Show how much of the images each kind affects at each severity."""
    rows = table("type", "mean depth", "pixels marked", numbers=("mean depth", "pixels marked"))
    for kind, severity in dict.fromkeys((row.kind, row.severity) for row in found.rows):
        own = [row for row in found.rows if (row.kind, row.severity) == (kind, severity)]
        depth = sum(row.depth for row in own) / len(own)
        rows.add_row(f"{kind}-{severity:g}", f"{depth:.3g}", percent(sum(row.share for row in own) / len(own)))
    console.print(rows)
