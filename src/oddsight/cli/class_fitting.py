"""The command that trains models of classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli.trained_model import COPIES, check_places, copies_of, finish, write_model

if TYPE_CHECKING:
    from oddsight.fitting.class_learner import ClassPlan


@cli.app.command("fit-classes")
def fit_classes(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled images: DATA/CLASS/..., or a form that 'prepare' reads.")
    ],
    output: cli.ModelOutput,
    classifier: Annotated[str, typer.Option(help="probe, fine-tuned, compact, wide or textbook.")] = "probe",
    backbone: cli.Backbone = None,
    layers: cli.Layers = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side in pixels to which images are resized. [default: chosen, or the classifier's]"),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(help="A name from 'oddsight scores', or a sum such as energy+knn. [default: chosen, or knn]"),
    ] = None,
    normal: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL", help="A model of normal images: DATA are then types of anomalies, which its copy names."
        ),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of images of the known classes, or of anomalies of the known types, that may be rejected. "
            "[default: 0.01, or the smallest possible]"
        ),
    ] = None,
    confidence: cli.Confidence = None,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class",
            help="Guarantee the rate for each predicted class. If the default rate needs more images, about twice the "
            "smallest possible rate is used.",
        ),
    ] = False,
    group_by: cli.GroupBy = "auto",
    calibration_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of images of each class to hold out for calibration; 0 uses all for a probe, in five folds. "
            "[default: 0.1, or 0 for a probe if that is too few]"
        ),
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory budget for what is learned from embeddings.")] = "1GB",
    epochs: Annotated[
        int | None, typer.Option(help="Epochs to train a network for. [default: the network's own]")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="The loss: cross-entropy or logitnorm.")] = None,
    extras: Annotated[str | None, typer.Option(help="Additional training tasks: rotation, outliers, or both.")] = None,
    mirrored: Annotated[
        bool | None,
        typer.Option(
            "--mirrored/--not-mirrored",
            help="When a network is trained: average outputs over an image and its mirror image, at twice the time. "
            "[default: mirrored for compact and wide]",
            show_default=False,
        ),
    ] = None,
    seed: cli.Seed = 0,
    bands: cli.Bands = None,
    scale: cli.Scale = None,
    thumbnails: cli.Thumbnails = True,
    work: cli.Work = None,
    accelerator: cli.Accelerator = None,
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Learn classes, and to reject images of none of them. Exits with 1 if an image could not be read."""
    from oddsight.cli.output import say_labelled_plan
    from oddsight.cli.training_output import say_epoch
    from oddsight.fitting.classes import fit_classes as fit_model
    from oddsight.sinks.terminal import progress

    check_places(
        {"--output": output, COPIES: copies_of(output, thumbnails)},
        data={"DATA": data},
        inputs={"--normal": normal},
        named={"--backbone": backbone, "--group-by": group_by},
        work=work,
    )
    plans: list[ClassPlan] = []

    def start(plan: ClassPlan) -> None:
        plans.append(plan)
        say_labelled_plan(plan, quiet)

    with progress(quiet) as report:
        model = fit_model(
            data,
            classifier=classifier,
            backbone=backbone,
            layers=cli.listed(layers) if layers is not None else None,
            size=size,
            score=score,
            normal=normal,
            false_alarm_rate=false_alarm_rate,
            confidence=confidence,
            per_class=per_class,
            groups=group_by,
            calibration_fraction=calibration_fraction,
            epochs=epochs,
            loss=loss,
            extras=cli.listed(extras) if extras is not None else None,
            mirrored=mirrored,
            reading=cli.reading_of(bands, scale),
            work=work,
            accelerator=accelerator or "auto",
            memory=memory,
            seed=seed,
            progress=report,
            on_plan=start,
            on_epoch=lambda row: say_epoch(row, quiet),
        )
        write_model(model, output, copies_of(output, thumbnails), plans[0].training, report)
    if normal is not None:
        _copy_normals(normal, copies_of(output, thumbnails))
    finish(model, output, thumbnails, quiet)


def _copy_normals(model: Path, copies: Path | None) -> None:
    """Copy the small copies of normal images of another model, if it has any."""
    from oddsight.model.normals import normals_path
    from oddsight.runtime.files import write_bytes

    theirs = normals_path(model)
    if copies is not None and theirs is not None and theirs.is_file():
        write_bytes(copies, theirs.read_bytes())
