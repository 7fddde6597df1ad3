"""The command that trains models of what is normal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli.scale import Address, Engine, Workers, engine_of
from oddsight.cli.trained_model import COPIES, check_places, copies_of, finish, write_model
from oddsight.cli.video_footage import HELD_OUT, Rate, add_footage, blocks_of_videos, place_files

if TYPE_CHECKING:
    from oddsight.fitting.plan import FitPlan
    from oddsight.sources.source import ImagesLike


@cli.app.command()
def fit(  # noqa: PLR0913, PLR0917 - options
    output: cli.ModelOutput,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="DIR", help="Normal images: folders, files, globs or URIs (s3://...).")
    ] = None,
    from_video: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Learn from a normal video, or a folder of its frames, instead of images. May be repeated.",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --from-video: time from one frame to the next. [default: 1s]"),
    ] = None,
    rate: Rate = None,
    block: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="With --from-video: frames within this time count as one image in calibration. [default: 60s]",
        ),
    ] = None,
    zones: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --from-video: the zones to watch. If zones name models, learn only from those that name this "
            "one; with --roi, only from regions in zones.",
        ),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="motion|grid|DETECTOR.onnx",
            help="With --from-video: learn from regions of interest, cropped as by 'watch --roi'.",
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="A name from 'oddsight methods'. [default: auto]")] = None,
    backbone: cli.Backbone = None,
    layers: cli.Layers = None,
    size: cli.Size = None,
    speed: Annotated[
        str,
        typer.Option(
            help="For auto and patchcore: fast, balanced or best. Sets how many pixels of large images they read, and "
            "how many patches they keep."
        ),
    ] = "balanced",
    false_alarm_rate: cli.FalseAlarmRate = None,
    confidence: cli.Confidence = None,
    group_by: cli.GroupBy = "auto",
    calibration_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of images to hold out for calibration; 0 uses all, in five folds. [default: 0.25, or 0 if that "
            "leaves too few images]"
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
    seed: cli.Seed = 0,
    bands: cli.Bands = None,
    scale: cli.Scale = None,
    thumbnails: cli.Thumbnails = True,
    verdicts: cli.Verdicts = None,
    work: cli.Work = None,
    accelerator: cli.Accelerator = None,
    curves: cli.Curves = None,
    engine: Engine = None,
    address: Address = None,
    workers: Workers = None,
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Learn what is normal from images and write a model file. Exits with 1 if an image could not be read."""
    from oddsight import detectors
    from oddsight.cli.output import say_plan
    from oddsight.cli.training_output import say_some_epochs
    from oddsight.drawing.learning_curves import check_curves_path, write_curves
    from oddsight.fitting.normal import fit as fit_model
    from oddsight.sinks.terminal import note, progress

    chosen = detectors.create(detectors.DEFAULTS["normal"] if method is None else method, settings=settings or [])
    if not chosen.trains_network:
        why = f"is for methods that train a network, and {chosen.name} trains none"
        cli.refuse({"--work": work, "--accelerator": accelerator, "--curves": curves}, why)
    for path in curves or []:
        check_curves_path(path)
    of_videos = {"--every": every, "--rate": rate, "--block": block, "--zones": zones, "--roi": roi}
    _check_images(paths, from_video, of_videos, group_by)
    footage = None
    if from_video:
        footage = blocks_of_videos(from_video, every, rate, block, zones, roi, output, localises=chosen.localises)
    if footage is not None and calibration_fraction is None and false_alarm_rate is None:
        calibration_fraction = HELD_OUT
    places = place_files(zones, roi)
    places.pop("--zones' models")  # One of which is written
    check_places(
        {"--output": output, "--curves": curves, COPIES: copies_of(output, thumbnails)},
        inputs={"DIR": [path for path in paths or [] if "://" not in path], "--from-video": from_video, **places},
        named={"--backbone": backbone, "--group-by": group_by},
        work=work,
    )
    plans: list[FitPlan] = []

    def start(plan: FitPlan) -> None:
        plans.append(plan)
        say_plan(plan, quiet)

    with engine_of(engine, address, workers), progress(quiet) as report:
        model = fit_model(
            *([footage] if footage is not None else _images(paths or [])),
            method=chosen,
            backbone=backbone,
            layers=cli.listed(layers) if layers is not None else None,
            size=size,
            speed=speed,
            false_alarm_rate=false_alarm_rate,
            confidence=confidence,
            calibration_fraction=calibration_fraction,
            groups=footage.block_of if footage is not None else group_by,
            memory=memory,
            seed=seed,
            reading=cli.reading_of(bands, scale),
            verdicts=cli.two_words(verdicts) if verdicts is not None else None,
            work=work,
            accelerator=accelerator or "auto",
            progress=report,
            on_plan=start,
            on_epoch=lambda row: say_some_epochs(row, quiet),
        )
        write_model(model, output, copies_of(output, thumbnails), plans[0].training, report)
    if from_video:
        model = add_footage(model, plans[0], from_video, rate, zones, roi, block or "60s", output, quiet)
    for path in curves or []:
        write_curves(path, model.curves)
        note(f"wrote {path}", quiet=quiet)
    finish(model, output, thumbnails, quiet)


def _images(paths: Sequence[str]) -> list[ImagesLike]:
    """Paths as they are, and URIs as what lies there."""
    from oddsight.runtime.stores import is_uri
    from oddsight.sources.objects import Objects

    return [Objects(path) if is_uri(path) else path for path in paths]


def _check_images(
    paths: list[str] | None, videos: list[str] | None, of_videos: Mapping[str, object], group_by: str
) -> None:
    """Refuse images and videos at once, neither, and options that do not go with what is given."""
    if bool(videos) == bool(paths):
        raise typer.BadParameter("give folders of normal images, or normal videos with --from-video")
    if not videos:
        cli.refuse(of_videos, "needs --from-video")
    elif group_by != "auto":
        raise typer.BadParameter(
            "--group-by is for images: with --from-video the groups are blocks of time, see --block"
        )
