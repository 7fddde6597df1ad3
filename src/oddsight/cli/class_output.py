"""Output about models that know classes: fits and evaluations."""

from __future__ import annotations

from oddsight.cli.output import say_groups
from oddsight.drawing.numbers import percent
from oddsight.errors import plain, some
from oddsight.evaluation.classes import ClassEvaluation
from oddsight.fitting.classes import LabelledPlan
from oddsight.model.curves import Epoch
from oddsight.sinks.terminal import complain, console, note, table


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


def show_class_evaluation(found: ClassEvaluation) -> None:
    """Show the numbers of an evaluation."""
    told = found.to_json()
    rows = table("metric", "value", "95% interval", numbers=("value",))
    for name, key in (("accuracy", "accuracy"), ("known images rejected", "false_rejection_rate")):
        low, high = told[f"{key}_ci"]
        rows.add_row(name, f"{told[key]:.4f}", f"{low:.4f} to {high:.4f}")
    if told["accuracy_of_accepted"] is not None:
        rows.add_row("accuracy of the accepted", f"{told['accuracy_of_accepted']:.4f}")
    rows.add_row("macro F1", f"{told['macro_f1']:.4f}")
    console.print(f"{told['images']:,} images of {len(found.classes)} classes")
    console.print(rows)
    classes = table(
        "class",
        "images",
        "precision",
        "recall",
        "F1",
        "rejected",
        numbers=("images", "precision", "recall", "F1", "rejected"),
    )
    for name, row in told["classes"].items():
        rejected = percent(row["rejected"]) if row["rejected"] is not None else ""
        numbers = (f"{row[key]:.4f}" for key in ("precision", "recall", "f1"))
        classes.add_row(plain(name), f"{row['images']:,}", *numbers, rejected)
    console.print(classes)
    if told["unknown"]:
        unknown = table(
            "none of these", "images", "AUROC", "95% interval", "rejected", numbers=("images", "AUROC", "rejected")
        )
        for name, row in told["unknown"].items():
            low, high = row["auroc_ci"]
            interval = f"{low:.4f} to {high:.4f}"
            unknown.add_row(
                plain(name), f"{row['images']:,}", f"{row['auroc']:.4f}", interval, percent(row["rejected"])
            )
        console.print(unknown)
