"""Output of the command that prepares labelled images."""

from __future__ import annotations

from oddsight.data.prepare import Preparation
from oddsight.errors import plain
from oddsight.sinks.terminal import complain, note

_MOST = 3
"""Images that are named."""


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
            some = "; ".join(
                " = ".join(
                    f"{place.split} {plain(place.name)} ({plain(place.label)})" for place in repeat.places[:_MOST]
                )
                for repeat in repeated[:_MOST]
            )
            more = "; ..." if len(repeated) > _MOST else ""
            images = "image is" if len(repeated) == 1 else "images are"
            note(f"warning: {len(repeated):,} {images} {what}: {some}{more}", quiet=quiet)
    if found.repeats:
        note(f"all of them are in {found.folder / 'statistics.json'}", quiet=quiet)
