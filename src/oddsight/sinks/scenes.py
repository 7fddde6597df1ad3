"""What ``oddsight predict`` does with scenes, and says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from oddsight.errors import ImageError, without_traceback
from oddsight.model.calibration import images_needed
from oddsight.model.model import Model
from oddsight.model.result import Result, Tiling
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent
from oddsight.scenes import SceneSettings, decision_for, score_image
from oddsight.sources.frame import Frame


def predict_scenes(
    model: Model, frames: Iterable[Frame | ImageError], settings: SceneSettings, progress: Progress
) -> Iterator[Result | ImageError]:
    """Score scenes one by one, the tiles of each on every core; or images that are not cut, on one core each."""
    if settings.tile is not None:
        yield from (_attempt(frame, model=model, settings=settings, progress=progress) for frame in frames)
    else:
        yield from map_jobs(partial(_attempt, model=model, settings=settings, progress=silent), frames)


def _attempt(
    frame: Frame | ImageError, *, model: Model, settings: SceneSettings, progress: Progress
) -> Result | ImageError:
    if isinstance(frame, ImageError):
        return frame
    try:
        return score_image(model, frame, settings, progress=progress, one_core=settings.tile is None)
    except ImageError as error:
        return without_traceback(error)


@dataclass
class TileCounts:
    """How many tiles the scenes of a run had: the most of one scene, and all."""

    most: int = 1
    total: int = 0
    per_tile: bool = False

    def add(self, tiling: Tiling) -> None:
        """Count one more scene."""
        self.most, self.total = max(self.most, tiling.count), self.total + tiling.count
        self.per_tile = tiling.per_tile


def promise(model: Model, tiles: TileCounts) -> str | None:
    """What the false-alarm rate means for these scenes, if that is not what it means for one image.

    Args:
        model: With the decision that was taken.
        tiles: Of the scenes that were scored.

    Returns:
        A sentence, or None if there is nothing to say.
    """
    rate, most = model.decision.false_alarm_rate, tiles.most
    if rate is None or most == 1:
        return None
    if tiles.per_tile:
        expected = f"up to {rate * tiles.total:.3g} are expected to be false alarms"
        return f"The rate is per tile: of {tiles.total:,} tiles, {expected}"
    decided = decision_for(model, most)
    if decided.false_alarm_rate == rate:
        return None
    images = len(model.calibration_scores)
    lacking = (
        f"A rate of {rate:g} for a scene of {most:,} tiles needs "
        f"{images_needed(rate / most, model.decision.confidence):,} {model.metadata.calibration.what}, "
        f"and there are {images:,}: only tiles above all of them are flagged, "
    )
    if decided.false_alarm_rate is not None:
        return lacking + f"which promises a rate of {decided.false_alarm_rate:.3g}; --per-tile decides by tile"
    expected = f"up to {most / (images + 1):.3g} such tiles are expected where all is normal"
    return lacking + f"which promises no rate ({expected}); --per-tile decides by tile"
