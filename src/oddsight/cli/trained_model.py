"""What a command that trains writes: a model, and small copies of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oddsight.cli.application import end_with, existing_file

if TYPE_CHECKING:
    from oddsight.data.collection import ImageFile
    from oddsight.model.model import Model
    from oddsight.runtime.progress import Progress

COPIES = "the small copies of normal images"


def check_places(
    outputs: Mapping[str, Any],
    *,
    named: Mapping[str, str | None],
    work: Path | None = None,
    inputs: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Refuse to overwrite what is read; what is ``named`` may be a file."""
    from oddsight.sinks.output_paths import check_outputs

    files = {option: existing_file(name) for option, name in named.items()}
    check_outputs(outputs, folders={"checkpoints": work}, inputs={**(inputs or {}), **files}, data=data)


def copies_of(output: Path, thumbnails: bool) -> Path | None:
    """Where small copies of normal images go, if they are to be written."""
    from oddsight.model.normals import normals_path

    return normals_path(output) if thumbnails else None


def write_model(model: Model, output: Path, copies: Path | None, images: Sequence[ImageFile], report: Progress) -> None:
    """Write a model, and small copies of the images that it was trained on beside it."""
    from oddsight.model.normals import write_normals
    from oddsight.sinks.terminal import complain

    model.save(output)
    if model.types:  # Its normal images are those of another model
        return
    for error in write_normals(copies, images, progress=report) if copies is not None else []:
        complain(error)


def finish(model: Model, output: Path, thumbnails: bool, quiet: bool) -> None:
    """Say what was written, and exit with 1 if a file could not be read."""
    from oddsight.cli.output import say_fitted

    copies = None if model.types else copies_of(output, thumbnails)
    say_fitted(model, output, copies, quiet)
    end_with(model.metadata.training.unreadable)
