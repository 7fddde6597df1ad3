"""The command that adapts backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli.trained_model import check_places


@cli.app.command()
def adapt(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Normal images: folders, files or globs; or folders of classes."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="BACKBONE.onnx", help="Backbone file to write.")],
    backbone: Annotated[
        str | None, typer.Option(help="Backbone to start from: a name from 'oddsight backbones'.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its weights, as .safetensors or .pth. [default: ImageNet's]")
    ] = None,
    labelled: Annotated[
        bool | None,
        typer.Option(
            "--labelled/--unlabelled", help="Whether folders are classes. [default: yes if there are several]"
        ),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="classes, rotation or simsiam. [default: classes if labelled, else simsiam]")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Largest number of epochs.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of the backbone.")] = 1e-4,
    batch_size: Annotated[int, typer.Option(help="Largest number of images per step and device.")] = 32,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels to which images are resized. [default: the backbone's]")
    ] = None,
    freeze: Annotated[str | None, typer.Option(metavar="STAGE", help="Freeze the network up to this stage.")] = None,
    augment: Annotated[
        str, typer.Option(help="One or more of rotation, flip, crop, colour and cutout; or none.")
    ] = "flip,crop,colour",
    patience: Annotated[int, typer.Option(help="Stop after this many epochs without a lower validation loss.")] = 5,
    validation: Annotated[float, typer.Option(help="Share of the images to hold out for validation.")] = 0.1,
    precision: Annotated[str, typer.Option(help="32-true, 16-mixed or bf16-mixed.")] = "32-true",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, or another accelerator of Lightning.")] = "auto",
    devices: Annotated[str, typer.Option(help="Number of devices, their indices (such as 0,1), or auto.")] = "1",
    workers: Annotated[int, typer.Option(help="Number of additional processes that read images.")] = 0,
    work: cli.Work = None,
    curves: cli.Curves = None,
    seed: cli.Seed = 0,
    quiet: cli.Quiet = False,
) -> None:
    """Fine-tune a backbone on your own images. Exits with 1 if an image could not be read. Needs PyTorch."""
    from oddsight.backbones import DEFAULT
    from oddsight.cli.training_output import say_adapted, say_adapting, say_epoch
    from oddsight.drawing.learning_curves import check_curves_path, write_curves
    from oddsight.sinks.terminal import note, progress
    from oddsight.training.adapting import adapt as learn

    for path in curves or []:
        check_curves_path(path)
    check_places(
        {"--output": output, "--curves": curves},
        inputs={"DATA": data, "--weights": weights},
        named={"--backbone": backbone},
        work=work,
    )
    with progress(quiet) as report:
        found = learn(
            *data,
            output=output,
            backbone=backbone or DEFAULT,
            weights=weights,
            labelled=labelled,
            objective=objective,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            size=size,
            freeze=freeze,
            augment=[] if augment == "none" else cli.listed(augment),
            patience=patience,
            validation=validation,
            precision=precision,
            accelerator=accelerator,
            devices=devices,
            workers=workers,
            work=work,
            seed=seed,
            progress=report,
            on_plan=lambda settings, images: say_adapting(settings, images, quiet),
            on_epoch=lambda row: say_epoch(row, quiet, epochs),
        )
    for path in curves or []:
        write_curves(path, found.curves)
        note(f"wrote {path}", quiet=quiet)
    say_adapted(found, quiet)
    cli.end_with(found.errors)
