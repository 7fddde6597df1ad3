"""The command that helps to draw zones, and crops of videos to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import Quiet, app

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from oddsight.fitting.plan import FitPlan
    from oddsight.model.model import Model
    from oddsight.sources.source import Source

HELD_OUT = 0.25
"""Share of the blocks of videos that a model does not learn from: its alarms are calibrated on them."""


@app.command()
def zones(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A video, a folder of frames, a camera or a stream.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            help="Zones: a template is written; what is there stays, and is drawn.",
        ),
    ],
    image: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Image of the frame. [default: beside the zones]")
    ] = None,
    grid: Annotated[int, typer.Option(min=2, max=50, help="Cells of the grid along each side.")] = 10,
    at: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="The time of the frame.")] = 0.0,
    quiet: Quiet = False,
) -> None:
    """Write a template of zones, and an image of a frame with a grid to draw them on."""
    import io

    from PIL import Image

    from oddsight.drawing.grids import draw_grid
    from oddsight.errors import DataError
    from oddsight.runtime.files import write_bytes
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import note
    from oddsight.watch.zone_files import TEMPLATE, read_zones, write_zones

    image = output.with_suffix(".png") if image is None else image
    if image.suffix.lower() != ".png":
        raise DataError(f"--image {image}: the image is a PNG file: give it the ending .png")
    kept = output.exists()
    check_outputs({"--image": image, **({} if kept else {"--output": output})}, inputs={"SOURCE": _file(source)})
    drawn = read_zones(output) if kept else TEMPLATE
    shapes = [{zone.name: zone.polygon for zone in part} for part in (drawn.include, drawn.exclude)]
    file = io.BytesIO()
    Image.fromarray(draw_grid(_frame_at(source, at), grid, *shapes)).save(file, format="PNG", compress_level=1)
    if not kept:
        write_zones(output, drawn)
        note(f"wrote {output}: a template; change the zones, then run this again to see them", quiet=quiet)
    write_bytes(image, file.getvalue())
    note(f"wrote {image}: zones to look at: {len(drawn.include)}, excluded: {len(drawn.exclude)}", quiet=quiet)


def detector_file(roi: str | None) -> dict[str, Path | None]:
    """The file of a detector, as an input of :func:`oddsight.sinks.output_paths.check_outputs`."""
    return {"--roi": Path(roi) if roi is not None and roi.endswith(".onnx") else None}


def crops_of_videos(
    files: Sequence[str], every: float, zones: Path | None, roi: str | None, model: Path
) -> list[Source]:
    """What a model learns from of videos: regions of interest, or else the crops of the zones that name the model."""
    from oddsight.errors import DataError
    from oddsight.sources import VideoFile
    from oddsight.watch.looks import Crops
    from oddsight.watch.zone_files import read_zones
    from oddsight.watch.zones import Zones

    places = Zones() if zones is None else read_zones(zones)
    if roi is not None:
        return [Crops(VideoFile(path), roi=roi, zones=places, every=every) for path in files]
    named = [zone for zone in places.include if zone.model is not None and zone.model.resolve() == model.resolve()]
    if not named:
        raise DataError(
            f'{zones}: no zone has the property "model": "{model.name}", so there are no crops to learn from; zones '
            "without a model are scored by the map of whole frames, which are learned from without --zones"
        )
    return [Crops(VideoFile(path, every=every), zones=Zones(named)) for path in files]


def add_footage(
    model: Model,
    plan: FitPlan,
    files: Sequence[str],
    zones: Path | None,
    roi: str | None,
    block: str,
    output: Path,
    quiet: bool,
) -> Model:
    """Write the model again with the blocks of the videos that it did not learn from, for the alarms of 'watch'."""
    from oddsight.cli.durations import seconds
    from oddsight.sinks.terminal import note, progress
    from oddsight.sources import VideoFile
    from oddsight.watch.recalibrating import with_held_out
    from oddsight.watch.zone_files import read_zones

    if plan.kind == "cross":
        note("it learned from all blocks: 'recalibrate' it on other footage before 'watch'", quiet=quiet)
        return model
    with progress(quiet) as report:
        found = with_held_out(
            model,
            [VideoFile(path) for path in files],
            {image.group for image in plan.training},
            zones=None if zones is None else read_zones(zones),
            roi=roi,
            block=seconds("--block", block),
            progress=report,
        )
    found.save(output)
    say_footage(found, output, quiet)
    return found


def say_footage(model: Model, output: Path, quiet: bool) -> None:
    """Say how much normal footage a model has, and for how few alarms it is enough."""
    from oddsight.sinks.terminal import note

    footage = model.footage
    if footage is not None:
        note(
            f"{output}: {footage.hours:.2f} hours of normal footage, {footage.blocks:,} blocks of {footage.block:g} s: "
            f"enough for {3600 / footage.block / (footage.blocks + 1):.2g} alarms an hour or more",
            quiet=quiet,
        )


def _file(source: str) -> Path | None:
    path = Path(source)
    return path if path.exists() else None


def _frame_at(source: str, seconds: float) -> NDArray[np.uint8]:
    """The first frame at a time or after it."""
    from oddsight.errors import DataError, ImageError, plain
    from oddsight.sources.frame import Frame
    from oddsight.sources.live import LiveStream
    from oddsight.sources.opening import open_frames

    opened = open_frames(source)
    error: ImageError | None = None
    try:
        for frame in opened:
            if isinstance(frame, Frame) and (frame.time or 0.0) >= seconds:
                return frame.read()
            error = frame if isinstance(frame, ImageError) else error
    finally:
        if isinstance(opened, LiveStream):
            opened.close()
    if error is not None:
        raise error
    raise DataError(f"{plain(source)}: it has no frame at {seconds:g} seconds: choose an earlier one (--at)")
