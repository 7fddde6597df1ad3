"""The crops of videos that a model learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oddsight.sources.source import Source


def crops_of_videos(
    videos: Sequence[Source], every: float, zones: Path | None, roi: str | None, model: Path
) -> list[Source]:
    """What a model learns from of videos: regions of interest, or else the crops of the zones that name the model."""
    from oddsight.errors import DataError
    from oddsight.watch.looks import Crops
    from oddsight.watch.zone_files import read_zones
    from oddsight.watch.zones import Zones

    places = Zones() if zones is None else read_zones(zones)
    if roi is not None:
        return [Crops(video, roi=roi, zones=places, every=every) for video in videos]
    named = [zone for zone in places.include if zone.is_of(model)]
    if not named:
        raise DataError(
            f'{zones}: zones name models, but none has the property "model": "{model.name}": name this model in the '
            "zones to learn from, or learn from whole frames without --zones"
        )
    return [Crops(video, zones=Zones(named)) for video in videos]


def place_files(zones: Path | None, roi: str | None) -> dict[str, Sequence[Path]]:
    """What is read to know where to look, as inputs of :func:`oddsight.sinks.output_paths.check_outputs`.

    That is a file of zones with the models that it names, and a detector with its description.
    """
    from oddsight.watch.zone_files import read_zones

    named = [] if zones is None else [zone.model for zone in read_zones(zones) if zone.model is not None]
    detector = [Path(roi), Path(roi).with_suffix(".json")] if roi is not None and roi.endswith(".onnx") else []
    return {"--zones": [] if zones is None else [zones], "--zones' models": named, "--roi": detector}
