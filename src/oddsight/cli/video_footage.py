"""What a model learns from of videos, and the normal footage that it did not learn from, for the alarms of 'watch'."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import seconds

if TYPE_CHECKING:
    from oddsight.fitting.plan import FitPlan
    from oddsight.model.model import Model
    from oddsight.sources import Blocks, FrameFolder, VideoFile
    from oddsight.sources.source import Source

HELD_OUT = 0.25
"""Share of the blocks of videos that a model does not learn from."""

Rate = Annotated[
    float | None,
    typer.Option(help="Of a folder of frames: frames a second. [default: 25]"),
]


def open_footage(path: str | Path, *, every: float | None = None, rate: float | None = None) -> VideoFile | FrameFolder:
    """Normal footage by its path: a video file, or a folder of frames, of which there are ``rate`` a second."""
    from oddsight.errors import OddsightError
    from oddsight.sources.addresses import Address
    from oddsight.sources.live import LiveStream
    from oddsight.sources.opening import open_frames

    named = os.fspath(path)
    source = None if "://" in named or named.isdecimal() else open_frames(path, every=every, rate=rate)
    if source is None or isinstance(source, LiveStream):
        raise OddsightError(f"{Address(named)}: is a stream, and no video file or folder of frames: record it first")
    return source


def blocks_of_videos(
    videos: Sequence[str],
    every: str | None,
    rate: float | None,
    block: str | None,
    zones: Path | None,
    roi: str | None,
    output: Path,
    *,
    localises: bool,
) -> Blocks:
    """What a model learns from of videos, whose blocks of time become the groups.

    That is regions of interest, the crops of the zones that name the model, or else whole frames; zones without models
    need a map to be watched.
    """
    from oddsight.errors import DataError
    from oddsight.sources import Blocks
    from oddsight.watch.looks import Crops
    from oddsight.watch.recalibrating import refuse_repeated
    from oddsight.watch.zone_files import read_zones
    from oddsight.watch.zones import NO_MAP, Zones

    step = seconds("--every", every or "1s")
    every_time = step if roi is None else None  # regions of interest are followed in all frames
    sources: list[Source] = [open_footage(path, every=every_time, rate=rate) for path in videos]
    refuse_repeated(sources)
    places = Zones() if zones is None else read_zones(zones)
    if roi is not None:
        sources = [Crops(video, roi=roi, zones=places, every=step) for video in sources]
    elif any(zone.model for zone in places.include):
        named = [zone for zone in places.include if zone.is_of(output)]
        if not named:
            raise DataError(
                f'{zones}: zones name models, but none has the property "model": "{output.name}": name this model in '
                "the zones to learn from, or learn from whole frames without --zones"
            )
        sources = [Crops(video, zones=Zones(named)) for video in sources]
    elif zones is not None and not localises:
        raise DataError(NO_MAP)
    return Blocks(*sources, seconds=seconds("--block", block or "60s"))


def add_footage(
    model: Model,
    plan: FitPlan,
    files: Sequence[str],
    rate: float | None,
    zones: Path | None,
    roi: str | None,
    block: str,
    output: Path,
    quiet: bool,
) -> Model:
    """Write the model again with the blocks of the videos that it did not learn from, for the alarms of 'watch'."""
    from oddsight.sinks.terminal import note, progress
    from oddsight.watch.recalibrating import with_held_out
    from oddsight.watch.zone_files import read_zones
    from oddsight.watch.zones import Zones

    places = Zones() if zones is None else read_zones(zones)
    if roi is None and any(zone.model for zone in places.include) and not all(z.is_of(output) for z in places.include):
        note(
            "it knows crops of zones: 'recalibrate' the model that you will 'watch' with, with the same --zones",
            quiet=quiet,
        )
        return model
    if plan.kind == "cross":
        note("the model learned from all blocks: 'recalibrate' it on other footage before you 'watch'", quiet=quiet)
        return model
    with progress(quiet) as report:
        found = with_held_out(
            model,
            [open_footage(path, rate=rate) for path in files],
            {image.group for image in plan.training},
            zones=places,
            roi=roi,
            block=seconds("--block", block),
            progress=report,
            note=partial(note, quiet=quiet),
        )
    found.save(output)
    say_footage(found, output, quiet)
    return found


def say_footage(model: Model, output: Path, quiet: bool) -> None:
    """Say how much normal footage a model has, and for which alarms it is enough."""
    from oddsight.drawing.numbers import count, duration
    from oddsight.sinks.terminal import note
    from oddsight.watch.alarms import WINDOW
    from oddsight.watch.evidence import LONGEST_WINDOW, advised_rate

    footage = model.footage
    if footage is None:
        return
    length = duration(3600 * footage.hours) if footage.hours < 2 else f"{footage.hours:.1f} hours"
    what = f"{output}: {length} of normal footage, {count(footage.blocks, 'block')}"
    zones, longest = len(footage.scores), LONGEST_WINDOW * footage.block
    rate = advised_rate(footage.block, footage.blocks)
    each = f", {rate:g} in each of {zones:,} zones" if zones > 1 else ""
    window = f", with a --window of {longest:g}s or less" if longest < WINDOW else ""
    enough = f"enough for --alarms-per-hour {zones * rate:g} or more{each}{window}"
    none = "too little for alarms: 'recalibrate' the model on more, or with shorter blocks (--block)"
    note(f"{what} of {footage.block:g} s: {enough if footage.blocks else none}", quiet=quiet)


def place_files(zones: Path | None, roi: str | None) -> dict[str, Sequence[Path]]:
    """What is read to know where to look, as inputs of :func:`oddsight.sinks.output_paths.check_outputs`.

    That is a file of zones with the models that it names, and a detector with its description.
    """
    from oddsight.watch.zone_files import read_zones

    named = [] if zones is None else [zone.model for zone in read_zones(zones) if zone.model is not None]
    detector = [Path(roi), Path(roi).with_suffix(".json")] if roi is not None and roi.endswith(".onnx") else []
    return {"--zones": [] if zones is None else [zones], "--zones' models": named, "--roi": detector}
