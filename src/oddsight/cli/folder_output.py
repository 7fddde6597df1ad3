"""Output of the commands on folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from oddsight.data.folder import others_ignored
from oddsight.drawing.numbers import percent
from oddsight.errors import plain, some
from oddsight.sinks.terminal import complain, console, note, table

if TYPE_CHECKING:
    from oddsight.data.check import CheckReport
    from oddsight.data.prepare import Preparation
    from oddsight.data.synthetic_sets import SyntheticSet

_NAMED = 3
"""Images that are named in a sentence."""

_MOST = 10
"""Entries of a list shown on the terminal; the JSON has them all."""


def show_check(report: CheckReport) -> None:
    """Show what was found in a folder."""
    kinds = report.kinds
    console.print(f"{report.images:,} images in {plain(report.folder)}{others_ignored(report.ignored)}")
    if kinds.width and kinds.height:
        console.print(f"width {_spread(kinds.width)}, height {_spread(kinds.height)} pixels")
    for name, counts in (("modes", kinds.modes), ("bits a channel", kinds.bit_depths), ("formats", kinds.formats)):
        console.print(f"{name}: {', '.join(f'{plain(value)} ({count:,})' for value, count in counts.items())}")
    rows = table("folder", "images", "unreadable", "commonest size", numbers=("images", "unreadable"))
    for folder in report.subfolders:
        size = next(iter(folder.kinds.sizes), "")
        rows.add_row(plain(folder.path), f"{folder.images:,}", f"{folder.unreadable:,}", size)
    console.print(rows)
    _show_list("could not be read", [f"{one.path}: {one.reason}" for one in report.unreadable])
    _show_list("groups of exact duplicates", [some(one.paths, _MOST, separator=" = ") for one in report.duplicates])
    near = [some(one.paths, _MOST, separator=" ~ ") for one in report.near_duplicates]
    _show_list("groups of near duplicates", near)
    _show_list("nearly empty", report.nearly_empty)
    _show_list("blurred, compared with the others", report.blurred)
    for text in report.notes:
        console.print(Text.assemble(("note:", "yellow"), " ", plain(text)))


def _spread(values: tuple[int, float, int]) -> str:
    least, median, most = values
    return f"{least:,}" if least == most else f"{least:,} to {most:,} (median {median:,.0f})"


def _show_list(what: str, entries: Sequence[str]) -> None:
    if not entries:
        return
    console.print(f"{what}: {len(entries):,}", style="bold")
    for entry in entries[:_MOST]:
        console.print(f"  {plain(entry[:300])}")
    if len(entries) > _MOST:
        console.print(f"  and {len(entries) - _MOST:,} more")


def say_prepared(found: Preparation, quiet: bool) -> None:
    """Say what was written, and what is wrong with the images."""
    for error in found.errors:
        complain(error)
    classes = len(next(iter(found.splits.values())).classes)
    counts = ", ".join(f"{split} {len(data):,}" for split, data in found.splits.items())
    height, width = found.size
    note(f"wrote {found.folder}: {counts} images of {classes} classes, {width} x {height} pixels", quiet=quiet)
    note(f"they were read from {found.form}", quiet=quiet)
    mean, std = (" ".join(f"{value:.4f}" for value in values) for values in (found.mean, found.std))
    note(f"training images, red green blue: mean {mean}, standard deviation {std} (of 0..1)", quiet=quiet)
    if not found.parquet:
        note("no Parquet files, which need pyarrow: pip install 'oddsight[parquet]'", quiet=quiet)
    _warn(found, quiet)


def _warn(found: Preparation, quiet: bool) -> None:
    within = [repeat for repeat in found.repeats if not repeat.leaks]
    between = [repeat for repeat in found.repeats if repeat.leaks]
    disputed = [repeat for repeat in found.repeats if repeat.contradicts]
    for repeated, what in (
        (between, "in more than one split: a result on these says nothing about new images"),
        (disputed, "in more than one class"),
        (within, "more than once in a split"),
    ):
        if repeated:
            shown = "; ".join(
                " = ".join(
                    f"{place.split} {plain(place.name)} ({plain(place.label)})" for place in repeat.places[:_NAMED]
                )
                for repeat in repeated[:_NAMED]
            )
            more = "; ..." if len(repeated) > _NAMED else ""
            images = "image is" if len(repeated) == 1 else "images are"
            note(f"warning: {len(repeated):,} {images} {what}: {shown}{more}", quiet=quiet)
    if found.repeats:
        note(f"all of them are in {found.folder / 'statistics.json'}", quiet=quiet)


def say_synthesized(found: SyntheticSet, quiet: bool) -> None:
    """Say what was written, and complain of what could not be read."""
    for error in found.errors:
        complain(error)
    if found.duplicates:
        note(f"{found.duplicates:,} duplicates are used once", quiet=quiet)
    training = f", {found.training:,} others to train on" * bool(found.training)
    note(
        f"wrote {found.folder}: {len(found.rows):,} synthetic images of {found.clear:,} clear ones{training}; "
        "README.txt there says what they can and cannot show",
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
