"""The command that learns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from oddsight.cli.application import (
    EXIT_ERROR,
    Bands,
    Confidence,
    GroupBy,
    ImageTimeout,
    Quiet,
    Scale,
    Verdicts,
    app,
    existing_file,
    listed,
    reading_of,
    two_words,
)


@app.command()
def fit(  # noqa: PLR0913, PLR0917 - options
    paths: Annotated[list[str], typer.Argument(metavar="DIR...", help="Normal images: folders, files or globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.onnx", help="Where to write the model.")],
    method: Annotated[str | None, typer.Option(help="A name from 'oddsight methods'. [default: auto]")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="A name from 'oddsight backbones', timm:NAME or FILE.onnx. [default: efficientnet-lite0, or none]"
        ),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Stages of the backbone to read, such as stage3,stage5.")] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side in pixels to which images are brought. [default: the backbone's or the method's]"),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images that may be flagged. [default: 0.01, or the smallest reachable]"),
    ] = None,
    confidence: Confidence = None,
    group_by: GroupBy = "auto",
    calibration_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of the images kept for calibration; 0 calibrates on all by five folds. [default: 0.25 or 0]"
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Budget of the whole process. [default: 1GB; 3GB for methods that train a network]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the method, such as epochs=50. May be given several times.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    bands: Bands = None,
    scale: Scale = None,
    thumbnails: Annotated[
        bool | None,
        typer.Option(
            help="Write small copies of normal images beside the model, for explanations. [default: thumbnails]"
        ),
    ] = None,
    verdicts: Verdicts = None,
    labelled: Annotated[
        bool, typer.Option("--labelled", help="Learn classes from DIR/CLASS/..., and to say 'none of these'.")
    ] = False,
    classifier: Annotated[
        str | None, typer.Option(help="With --labelled: probe, fine-tuned, compact, wide or textbook. [default: probe]")
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(help="With --labelled: a name from 'oddsight scores', or a sum: energy+knn. [default: knn]"),
    ] = None,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class",
            help="With --labelled: promise the rate for each class; where the default cannot be "
            "reached, the rate is one that is sure to be, about twice the smallest.",
        ),
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="With --labelled: of training a network.")] = None,
    loss: Annotated[str | None, typer.Option(help="With --labelled: cross-entropy or logitnorm.")] = None,
    extras: Annotated[
        str | None, typer.Option(help="With --labelled: what is learned besides: rotation, outliers, or both.")
    ] = None,
    mirrored: Annotated[
        bool | None,
        typer.Option(
            "--mirrored/--not-mirrored",
            help="With --labelled, when a network is trained: average answers over an image and its mirror image, in "
            "twice the time. [default: mirrored for compact and wide]",
            show_default=False,
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="When a network is trained: keep checkpoints there, to go on from."),
    ] = None,
    accelerator: Annotated[
        str | None, typer.Option(help="When a network is trained: auto, cpu, gpu, ... [default: auto]")
    ] = None,
    curves: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="When a method trains a network: write learning curves there, .png or .csv. May be repeated.",
        ),
    ] = None,
    image_timeout: ImageTimeout = 30.0,
    quiet: Quiet = False,
) -> None:
    """Learn what is normal from images and write a model file. Exits with 1 if an image could not be read."""
    if labelled:
        if settings or curves:
            raise typer.BadParameter(f"--{'set' if settings else 'curves'} is for --method, not for --labelled images")
        if method is not None or len(paths) != 1:
            raise typer.BadParameter("--labelled takes one folder or file of labelled images, and no --method")
        if bands is not None or scale is not None:
            raise typer.BadParameter("--bands and --scale are not for --labelled images")
        if verdicts is not None:
            raise typer.BadParameter("--verdicts are not for --labelled images, whose classes are the verdicts")
        _fit_labelled(
            paths[0],
            output,
            quiet,
            thumbnails=thumbnails is not False,
            classifier="probe" if classifier is None else classifier,
            backbone=backbone,
            layers=listed(layers) if layers is not None else None,
            size=size,
            score=score,
            false_alarm_rate=false_alarm_rate,
            confidence=confidence,
            groups=group_by,
            per_class=per_class,
            calibration_fraction=calibration_fraction,
            epochs=epochs,
            loss=loss,
            extras=listed(extras) if extras is not None else None,
            mirrored=mirrored,
            work=work,
            accelerator="auto" if accelerator is None else accelerator,
            memory="1GB" if memory is None else memory,
            seed=seed,
        )
        return
    given = {"classifier": classifier, "score": score, "epochs": epochs, "loss": loss, "extras": extras}
    given |= {"per-class": per_class or None, "mirrored": mirrored}
    alone = [name for name, value in given.items() if value is not None]
    if alone:
        raise typer.BadParameter(f"--{alone[0]} is for --labelled images")
    reading = reading_of(bands, scale)
    _fit_normal(
        paths,
        output,
        quiet,
        thumbnails=thumbnails is not False,
        settings=settings or [],
        curves=curves or [],
        method=method,
        backbone=backbone,
        layers=listed(layers) if layers is not None else None,
        size=size,
        false_alarm_rate=false_alarm_rate,
        confidence=confidence,
        groups=group_by,
        calibration_fraction=calibration_fraction,
        memory=memory,
        seed=seed,
        bands=reading.bands,
        scale=reading.scale,
        verdicts=two_words(verdicts) if verdicts is not None else None,
        work=work,
        accelerator=accelerator,
    )


def _fit_normal(
    paths: list[str],
    output: Path,
    quiet: bool,
    *,
    thumbnails: bool,
    settings: list[str],
    curves: list[Path],
    method: str | None,
    work: Path | None,
    accelerator: str | None,
    **options: Any,  # noqa: ANN401 - as the command's
) -> None:
    from oddsight import detectors
    from oddsight.cli.adaptation_output import say_some_epochs
    from oddsight.cli.output import say_fitted, say_plan
    from oddsight.drawing.learning_curves import check_curves_path, write_curves
    from oddsight.fitting.normal import fit as learn
    from oddsight.fitting.plan import FitPlan
    from oddsight.model.normals import normals_path, write_normals
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import complain, note, progress

    chosen = detectors.create(detectors.DEFAULTS["normal"] if method is None else method, settings=settings)
    given = {"work": work, "accelerator": accelerator, "curves": curves or None}
    alone = [name for name, value in given.items() if value is not None]
    if alone and not chosen.needs:
        raise typer.BadParameter(
            f"--{alone[0]} is for --labelled images and methods that train a network, and {chosen.name} trains none"
        )
    for path in curves:
        check_curves_path(path)
    copies = normals_path(output) if thumbnails else None
    check_outputs(
        {"--output": output, "--curves": curves, "the small copies of normal images": copies},
        folders={"checkpoints": work},
        inputs={"DIR": paths, "--backbone": existing_file(options.get("backbone"))},
    )
    plans: list[FitPlan] = []

    def start(plan: FitPlan) -> None:
        say_plan(plan, quiet)
        plans.append(plan)

    with progress(quiet) as report:
        model = learn(
            *paths,
            method=chosen,
            work=work,
            accelerator="auto" if accelerator is None else accelerator,
            progress=report,
            on_plan=start,
            on_epoch=lambda row: say_some_epochs(row, quiet),
            **options,
        )
        model.save(output)
        missing = write_normals(copies, plans[0].training, progress=report) if copies is not None else []
    for error in missing:
        complain(error)
    for path in curves:
        write_curves(path, model.curves)
        note(f"wrote {path}", quiet=quiet)
    say_fitted(model, output, copies, quiet)
    if model.metadata.training.unreadable:
        raise typer.Exit(EXIT_ERROR)


def _fit_labelled(
    path: str,
    output: Path,
    quiet: bool,
    *,
    score: str | None,
    thumbnails: bool,
    **options: Any,  # noqa: ANN401 - as the command's
) -> None:
    from oddsight.cli.class_output import say_class_epoch, say_labelled_plan
    from oddsight.cli.output import say_fitted
    from oddsight.detectors import DEFAULTS
    from oddsight.fitting.classes import LabelledPlan, fit_classes
    from oddsight.model.normals import normals_path, write_normals
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import complain, progress

    copies = normals_path(output) if thumbnails else None
    check_outputs(
        {"--output": output, "the small copies of normal images": copies},
        folders={"checkpoints": options.get("work")},
        inputs={"--backbone": existing_file(options.get("backbone"))},
        data={"DIR": path},
    )
    plans: list[LabelledPlan] = []

    def start(plan: LabelledPlan) -> None:
        say_labelled_plan(plan, quiet)
        plans.append(plan)

    with progress(quiet) as report:
        model = fit_classes(
            path,
            score=DEFAULTS["classes"] if score is None else score,
            progress=report,
            on_plan=start,
            on_epoch=lambda row: say_class_epoch(row, quiet),
            **options,
        )
        model.save(output)
        missing = write_normals(copies, plans[0].parts.training.images, progress=report) if copies is not None else []
    for error in missing:
        complain(error)
    say_fitted(model, output, copies, quiet)
    if model.metadata.training.unreadable:
        raise typer.Exit(EXIT_ERROR)
