"""Output about fits of models that know classes."""

from __future__ import annotations

from oddsight.cli.output import say_groups
from oddsight.drawing.numbers import percent
from oddsight.errors import some
from oddsight.fitting.classes import LabelledPlan
from oddsight.model.curves import Epoch
from oddsight.sinks.terminal import complain, note


def say_labelled_plan(plan: LabelledPlan, quiet: bool) -> None:
    """Say what a fit to labelled images is about to do, and complain of what it cannot read."""
    for error in plan.errors:
        complain(error)
    parts = plan.parts
    if parts.duplicates:
        note(f"{parts.duplicates:,} duplicates are used once", quiet=quiet)
    note(f"{len(parts.training.classes)} classes: {some(parts.training.classes)}", quiet=quiet)
    say_groups(parts.images, quiet, near_copies=plan.near_copies)
    groups = f"one of each of {parts.groups:,} groups of " if parts.groups is not None else ""
    note(
        f"learning from {len(parts.training):,} images, fitting probabilities on {len(parts.validation):,} and "
        f"calibrating on {groups}{parts.held:,} others",
        quiet=quiet,
    )


def say_class_epoch(row: Epoch, quiet: bool) -> None:
    """Say how an epoch of a classifier went."""
    training = f" ({percent(row.train_accuracy)})" if row.train_accuracy is not None else ""
    validation = f" ({percent(row.accuracy)})" if row.accuracy is not None else ""
    losses = f"training loss {row.train_loss:.4f}{training}, validation loss {row.validation_loss:.4f}{validation}"
    note(f"epoch {row.epoch}: {losses}, {row.seconds:.0f} s", quiet=quiet)
