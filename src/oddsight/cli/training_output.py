"""Output of the commands that train networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oddsight.drawing.numbers import percent
from oddsight.errors import some
from oddsight.sinks.terminal import complain, note

if TYPE_CHECKING:
    from oddsight.model.curves import Epoch
    from oddsight.training.adapting import Adaptation
    from oddsight.training.settings import AdaptationSettings
    from oddsight.training.training_images import TrainingImages

_EACH = 10


def say_adapting(settings: AdaptationSettings, images: TrainingImages, quiet: bool) -> None:
    """Say what is about to be learned from what, and complain of what cannot be read."""
    for error in images.errors:
        complain(error)
    counts = f"{len(images.training):,} images, validated on {len(images.validation):,} more"
    note(f"adapting {settings.backbone} with {settings.objective} to {counts}", quiet=quiet)
    if images.classes:
        note(f"the folders are {len(images.classes)} classes: {some(images.classes)}", quiet=quiet)


def say_epoch(row: Epoch, quiet: bool, epochs: int | None = None) -> None:
    """Say how an epoch went, of how many if that is known."""
    training, validation = (
        f"{loss:.4g}" + (f" ({percent(accuracy)} right)" if accuracy is not None else "")
        for loss, accuracy in ((row.train_loss, row.train_accuracy), (row.validation_loss, row.accuracy))
    )
    parts = "".join(f", {name} {value:.4g}" for name, value in row.losses.items())
    of = f" of {epochs}" if epochs is not None else ""
    losses = f"training loss {training}, validation loss {validation}{parts}"
    note(f"epoch {row.epoch}{of}: {losses}, {row.seconds:.0f} s", quiet=quiet)


def say_some_epochs(row: Epoch, quiet: bool) -> None:
    """Say how the first ten epochs went, and every tenth of those that follow: small networks have hundreds."""
    if row.epoch <= _EACH or row.epoch % _EACH == 0:
        say_epoch(row, quiet)


def say_adapted(found: Adaptation, quiet: bool) -> None:
    """Say what was written, and what speaks against using it."""
    size = found.path.stat().st_size / 1e6
    note(f"wrote {found.path} ({size:.1f} MB): epoch {found.best.epoch}, with the lowest validation loss", quiet=quiet)
    if found.at_chance:
        note(
            "the rotations were hardly distinguished: these images may have no right way up; try --objective simsiam",
            quiet=quiet,
        )
    note(f"use it with 'oddsight fit --backbone {found.path}'", quiet=quiet)
