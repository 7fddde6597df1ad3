"""The commands that train models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oddsight.cli.application import (
    EXIT_ERROR,
    Accelerator,
    Backbone,
    Bands,
    Confidence,
    Curves,
    Device,
    FalseAlarmRate,
    GroupBy,
    ImageTimeout,
    Layers,
    ModelOutput,
    Quiet,
    Scale,
    Seed,
    Size,
    Thumbnails,
    Verdicts,
    Work,
    app,
    existing_file,
    listed,
    reading_of,
    two_words,
)
from oddsight.cli.video_crops import crops_of_videos, detector_file
from oddsight.cli.video_footage import HELD_OUT, add_footage

if TYPE_CHECKING:
    from oddsight.data.collection import ImageFile
    from oddsight.detectors import Detector
    from oddsight.fitting.plan import FitPlan
    from oddsight.model.curves import Epoch
    from oddsight.model.model import Model
    from oddsight.runtime.progress import Progress
    from oddsight.sources import Blocks
    from oddsight.sources.source import ImagesLike, Source


@app.command()
def fit(  # noqa: PLR0913, PLR0917 - options
    output: ModelOutput,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="DIR", help="Normal images: folders, files or globs.")
    ] = None,
    from_video: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Learn from a video of what is normal instead. May be repeated."),
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --from-video: use one frame in so much time. [default: 1s]")
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="With --from-video: frames of one block are alike; calibration counts blocks. [default: 60s]",
        ),
    ] = None,
    zones: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --from-video: learn from the crops of the zones that name this model; with --roi: from regions "
            "in zones.",
        ),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="motion|grid|DETECTOR.onnx",
            help="With --from-video: learn from the crops of regions of interest, as 'watch --roi' scores them.",
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="A name from 'oddsight methods'. [default: auto]")] = None,
    backbone: Backbone = None,
    layers: Layers = None,
    size: Size = None,
    speed: Annotated[
        str,
        typer.Option(
            help="For auto and patchcore: fast, balanced or best; how many pixels of large images they read, and how "
            "many patches they keep."
        ),
    ] = "balanced",
    false_alarm_rate: FalseAlarmRate = None,
    confidence: Confidence = None,
    group_by: GroupBy = "auto",
    calibration_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of images to hold out for calibration; 0 calibrates on all in five folds. [default: 0.25 or 0]"
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory budget of the process. [default: 1GB; 3GB for methods that train a network]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the method, such as epochs=50. May be repeated.",
        ),
    ] = None,
    seed: Seed = 0,
    bands: Bands = None,
    scale: Scale = None,
    thumbnails: Thumbnails = True,
    verdicts: Verdicts = None,
    work: Work = None,
    accelerator: Accelerator = None,
    curves: Curves = None,
    image_timeout: ImageTimeout = 30.0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Learn what is normal from images and write a model file. Exits with 1 if an image could not be read."""
    given = dict(locals())
    from oddsight import detectors
    from oddsight.cli.output import say_plan
    from oddsight.cli.training_output import say_some_epochs
    from oddsight.drawing.learning_curves import check_curves_path, write_curves
    from oddsight.fitting.normal import fit as fit_model
    from oddsight.sinks.terminal import note

    words = two_words(verdicts) if verdicts is not None else None
    chosen = detectors.create(detectors.DEFAULTS["normal"] if method is None else method, settings=settings or [])
    _require_training(chosen, work=work, accelerator=accelerator, curves=curves or None)
    for path in curves or []:
        check_curves_path(path)
    footage = _footage(given)
    outputs = {"--output": output, "--curves": curves or [], _COPIES: _copies_of(output, thumbnails)}
    places = {"--zones": zones, **detector_file(roi)}
    _check_outputs(given, outputs, inputs={"DIR": paths or [], "--from-video": from_video or [], **places})
    given |= {"method": chosen, "verdicts": words, "reading": reading_of(bands, scale)}
    plans: list[FitPlan] = []

    def start(plan: FitPlan) -> None:
        plans.append(plan)
        say_plan(plan, quiet)

    model = _fit(
        fit_model,
        [footage] if footage is not None else paths or [],
        given,
        say_plan=start,
        say_epoch=lambda row: say_some_epochs(row, quiet),
    )
    if from_video and (zones is None or roi is not None):
        model = add_footage(model, plans[0], from_video, zones, roi, block or "60s", output, quiet)
    for path in curves or []:
        write_curves(path, model.curves)
        note(f"wrote {path}", quiet=quiet)
    _finish(model, given)


@app.command("fit-classes")
def fit_classes(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Labelled images: DATA/CLASS/..., or a form that 'prepare' reads.")
    ],
    output: ModelOutput,
    classifier: Annotated[str, typer.Option(help="probe, fine-tuned, compact, wide or textbook.")] = "probe",
    backbone: Backbone = None,
    layers: Layers = None,
    size: Size = None,
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
    confidence: Confidence = None,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class",
            help="Guarantee the rate for each predicted class. If the default rate needs more images, about twice the "
            "smallest possible rate is used.",
        ),
    ] = False,
    group_by: GroupBy = "auto",
    calibration_fraction: Annotated[
        float | None,
        typer.Option(help="Share of images of each class to hold out for calibration. [default: 0.1]"),
    ] = None,
    memory: Annotated[str, typer.Option(help="Memory budget for what is learned from embeddings.")] = "1GB",
    epochs: Annotated[int | None, typer.Option(help="Epochs to train a network for. [default: its own]")] = None,
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
    seed: Seed = 0,
    thumbnails: Thumbnails = True,
    work: Work = None,
    accelerator: Accelerator = None,
    image_timeout: ImageTimeout = 30.0,
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Learn classes from labelled images, and to answer 'none of these'. Exits with 1 if one could not be read."""
    given = dict(locals())
    from oddsight.cli.output import say_labelled_plan
    from oddsight.cli.training_output import say_epoch
    from oddsight.fitting.classes import fit_classes as fit_model

    written = {"--output": output, _COPIES: _copies_of(output, thumbnails)}
    _check_outputs(given, written, data={"DATA": data}, inputs={"--normal": normal})
    given |= {"extras": listed(extras) if extras is not None else None}
    model = _fit(
        fit_model,
        [],
        given,
        say_plan=lambda plan: say_labelled_plan(plan, quiet),
        say_epoch=lambda row: say_epoch(row, quiet),
    )
    if normal is not None:
        _copy_normals(normal, _copies_of(output, thumbnails))
    _finish(model, given)


_COPIES = "the small copies of normal images"


def _footage(given: dict[str, Any]) -> Blocks | None:
    """What ``--from-video`` names, whose blocks of time become the groups; None where images are given."""
    files, apart = given["from_video"], [name for name in ("every", "block", "zones", "roi") if given[name] is not None]
    if bool(files) == bool(given["paths"]):
        raise typer.BadParameter("give folders of images, or videos of what is normal with --from-video")
    if not files and apart:
        raise typer.BadParameter(f"--{apart[0]} goes with --from-video")
    if not files:
        return None
    if given["group_by"] != "auto":
        raise typer.BadParameter(
            "--group-by is for images: with --from-video the groups are blocks of time, see --block"
        )
    from oddsight.cli.durations import seconds
    from oddsight.sources import Blocks, VideoFile

    every = seconds("--every", given["every"] or "1s")
    sources: list[Source] = [VideoFile(path, every=every) for path in files]
    if given["zones"] is not None or given["roi"] is not None:
        sources = crops_of_videos(files, every, given["zones"], given["roi"], given["output"])
    footage = Blocks(*sources, seconds=seconds("--block", given["block"] or "60s"))
    given["groups"] = footage.block_of
    if given["calibration_fraction"] is None and given["false_alarm_rate"] is None:
        given["calibration_fraction"] = HELD_OUT
    return footage


def _check_outputs(given: Mapping[str, Any], outputs: Mapping[str, Any], **inputs: Mapping[str, Any]) -> None:
    """Refuse to overwrite what is read."""
    from oddsight.sinks.output_paths import check_outputs

    files = {"--backbone": existing_file(given["backbone"]), "--group-by": existing_file(given["group_by"])}
    inputs["inputs"] = {**inputs.get("inputs", {}), **files}
    check_outputs(outputs, folders={"checkpoints": given["work"]}, **inputs)


def _fit(
    function: Callable[..., Model],
    images: Sequence[ImagesLike],
    given: dict[str, Any],
    *,
    say_plan: Callable[[Any], None],
    say_epoch: Callable[[Epoch], None],
) -> Model:
    """Fit, and write the model and small copies of the images that it was trained on.

    An option is passed on as the function's argument of the same name, unless it was not given.
    """
    from oddsight.sinks.terminal import progress

    plans: list[FitPlan] = []

    def start(plan: FitPlan) -> None:
        say_plan(plan)
        plans.append(plan)

    layers = given["layers"]
    given |= {
        "groups": given.get("groups", given["group_by"]),
        "layers": listed(layers) if layers is not None else None,
    }
    names = signature(function).parameters
    options = {name: value for name, value in given.items() if name in names and value is not None}
    with progress(given["quiet"]) as report:
        model = function(*images, **options, progress=report, on_plan=start, on_epoch=say_epoch)
        _write(model, given["output"], _copies_of(given["output"], given["thumbnails"]), plans[0].training, report)
    return model


def _finish(model: Model, given: Mapping[str, Any]) -> None:
    """Say what was written, and exit with 1 if a file could not be read."""
    from oddsight.cli.output import say_fitted

    copies = None if model.types else _copies_of(given["output"], given["thumbnails"])
    say_fitted(model, given["output"], copies, given["quiet"])
    if model.metadata.training.unreadable:
        raise typer.Exit(EXIT_ERROR)


def _require_training(chosen: Detector, **options: object) -> None:
    """Refuse options of training for a method that trains no network."""
    given = [name for name, value in options.items() if value is not None]
    if given and not chosen.trains_network:
        raise typer.BadParameter(f"--{given[0]} is for methods that train a network, and {chosen.name} trains none")


def _copies_of(output: Path, thumbnails: bool) -> Path | None:
    """Where small copies of normal images go, if they are to be written."""
    from oddsight.model.normals import normals_path

    return normals_path(output) if thumbnails else None


def _copy_normals(model: Path, copies: Path | None) -> None:
    """Copy the small copies of normal images of another model, if it has any."""
    from oddsight.model.normals import normals_path
    from oddsight.runtime.files import write_bytes

    theirs = normals_path(model)
    if copies is not None and theirs is not None and theirs.is_file():
        write_bytes(copies, theirs.read_bytes())


def _write(model: Model, output: Path, copies: Path | None, images: Sequence[ImageFile], report: Progress) -> None:
    """Write a model, and small copies of the images that it was trained on beside it."""
    from oddsight.model.normals import write_normals
    from oddsight.sinks.terminal import complain

    model.save(output)
    if model.types:  # Its normal images are those of another model
        return
    for error in write_normals(copies, images, progress=report) if copies is not None else []:
        complain(error)
