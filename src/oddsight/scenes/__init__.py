"""Scenes: images that are larger than what a model was trained on, scored in tiles; and bands of GeoTIFFs.

A model is calibrated for one image like those it learned from. A scene of n tiles has n chances of a false alarm, so
its p-value is n times that of the map's highest value (Bonferroni's bound, which holds whatever tiles have to do with
each other). The threshold is that of the rate divided by n, so that a scene is flagged exactly when some place of its
map is beyond the threshold, as any image is. ``docs/scenes.md`` says what that promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.tiff.raster import NO_DATA, fill
from oddsight.errors import ImageError, OddsightError
from oddsight.model.calibration import Decision, decide, images_needed, smallest_rate
from oddsight.model.model import Model
from oddsight.model.result import Result, Tiling, score_where, shares
from oddsight.runtime.bounds import check_whole
from oddsight.runtime.files import atomic_write, make_folder
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent, track
from oddsight.scenes.scene_image import SceneImage
from oddsight.scenes.tiling import Axis, Canvas, axis
from oddsight.sources.frame import Frame, ImageLike, as_frame

SMALLEST_TILE = 16


@dataclass(frozen=True)
class SceneSettings:
    """How a scene is read and cut; see :func:`predict_scene`."""

    tile: int | None = 256
    overlap: int | None = None
    per_tile: bool = False
    reading: Reading | None = None

    def __post_init__(self) -> None:
        if self.tile is not None:
            check_whole(self.tile, "the size of tiles", None)
        if self.tile is not None and self.tile < SMALLEST_TILE:
            raise OddsightError(f"tiles need at least {SMALLEST_TILE} pixels, not {self.tile}")
        if self.overlap is not None:
            check_whole(self.overlap, "the overlap of tiles", None)
        if self.tile is not None and not 0 <= self.shared < self.tile:
            raise OddsightError(f"tiles of {self.tile} pixels overlap by 0 to {self.tile - 1}, not {self.overlap}")

    @property
    def shared(self) -> int:
        """The overlap of tiles in pixels: an eighth of a tile unless it was set."""
        return (self.tile or 0) // 8 if self.overlap is None else self.overlap


def predict_scene(
    model: Model,
    image: ImageLike | Frame,
    *,
    tile: int | None = 256,
    overlap: int | None = None,
    per_tile: bool = False,
    reading: Reading | None = None,
    bands: tuple[int, ...] | None = None,
    scale: tuple[float, float] | None = None,
    progress: Progress = silent,
) -> Result:
    """Score an image in tiles, on all cores. The anomaly map blends the maps of the tiles.

    The result does not depend on the order of tiles. Memory does not grow with the size of a TIFF file with small
    strips or tiles; other images are decoded whole. Pixels without data (marked in the TIFF file, or not finite) are
    never flagged.

    Args:
        model: A model with a map, unless ``tile`` is None.
        image: A path, an array or a Pillow image, as for :meth:`oddsight.Model.predict`.
        tile: Side of a tile in pixels; None for the whole image as one tile. Shorter sides are not cut.
        overlap: Overlap of neighbouring tiles in pixels, in which one map fades into the next; by default an eighth of
            the tile.
        per_tile: Whether the false-alarm rate and the p-value are for a tile instead of the scene.
        reading: Bands and scale of a TIFF file, instead of those that the model was trained with.
        bands: The bands alone, instead of ``reading``.
        scale: The scale alone, likewise.
        progress: Called with phase, done and total tiles.

    Raises:
        ImageError: If the image cannot be read.
        OddsightError: A setting is invalid, or the model has no map.
    """
    settings = SceneSettings(tile, overlap, per_tile, Reading(bands, scale).override(reading))
    return score_image(model, image, settings, progress=progress)


def score_image(
    model: Model,
    image: ImageLike | Frame,
    settings: SceneSettings,
    *,
    progress: Progress = silent,
    one_core: bool = False,
) -> Result:
    """As :func:`predict_scene`; with ``one_core`` the image is scored on one, if it is not cut."""
    if not isinstance(model, Model):
        raise OddsightError(f"scenes are scored by a model, as oddsight.load returns it, not a {type(model).__name__}")
    if settings.tile is not None:
        require_map(model)
    scene = open_image(image, settings, model)
    side = settings.tile or max(scene.width, scene.height)
    rows, columns = model.metadata.map_size or (1, 1)
    down = axis(scene.height, side, settings.shared, rows)
    across = axis(scene.width, side, settings.shared, columns)
    count = len(down.starts) * len(across.starts)
    blend = _Blend(scene, down, across)

    def score(tile: _Tile) -> tuple[_Tile, Result | None]:
        if tile.valid is not None and not tile.valid.any():
            return tile, None
        pixels = tile.pixels if tile.valid is None else fill(tile.pixels, tile.valid)
        return tile, model.score(pixels, source=scene.source, one_core=one_core or count > 1)

    tiles = _tiles(scene, down, across)
    outcomes = map(score, tiles) if count == 1 else ordered_map(score, tiles)
    for tile, result in track(outcomes, f"tiles of {scene.source or 'a scene'}", count, progress):
        blend.add(tile, result)
    frame = as_frame(image)
    return replace(blend.result(model, settings), time=frame.time, index=frame.index)


def open_image(image: ImageLike | Frame, settings: SceneSettings, model: Model) -> SceneImage:
    """Open an image as the model was trained on such, where settings say nothing else."""
    given = settings.reading or AS_DECLARED
    frame = as_frame(image)
    if frame.path is None and not isinstance(frame.image, bytes):  # whose pixels are RGB already
        return SceneImage(frame, given)
    return SceneImage(image, model.reading.override(given))


def require_map(model: Model) -> None:
    """Refuse a model without a map."""
    if model.metadata.map_size is None:
        raise OddsightError(f"the method {model.metadata.method.name} cannot say where: it has no heat maps")


def decision_for(model: Model, tiles: int, *, per_tile: bool = False) -> Decision:
    """When a scene of so many tiles counts as anomalous.

    If the calibration images cannot promise the model's rate for that many, the threshold is the highest of their
    scores, and the rate the smallest that can be promised, or None if that is no rate.
    """
    rate, confidence, scores = model.decision.false_alarm_rate, model.decision.confidence, model.calibration_scores
    if rate is None or per_tile or tiles == 1:
        return model.decision
    if images_needed(rate / tiles, confidence) <= len(scores):
        return Decision(decide(scores, rate / tiles, confidence).threshold, rate, confidence)
    possible = tiles * smallest_rate(len(scores), confidence)
    return Decision(float(scores.max()), possible, confidence) if possible < 1 else Decision(float(scores.max()), None)


def write_tiles(
    image: ImageLike | Frame,
    folder: str | os.PathLike[str],
    *,
    tile: int = 256,
    overlap: int = 0,
    reading: Reading | None = None,
    bands: tuple[int, ...] | None = None,
    scale: tuple[float, float] | None = None,
) -> list[Path]:
    """Cut an image into PNG files for :func:`oddsight.fit`, as :func:`predict_scene` would cut it.

    Tiles with pixels without data are left out. File names contain the image's name, the row and the column.

    Args:
        image: A path, an array or a Pillow image.
        folder: The folder for the tiles; created if it is missing.
        tile: Side of a tile in pixels.
        overlap: Overlap of neighbouring tiles in pixels.
        reading: Bands and scale of a TIFF file.
        bands: The bands alone, instead of ``reading``.
        scale: The scale alone, likewise.

    Returns:
        The files.

    Raises:
        ImageError: If the image cannot be read.
        OddsightError: A setting is invalid, or a file cannot be written.
    """
    SceneSettings(tile, overlap)
    scene = SceneImage(image, Reading(bands, scale).override(reading))
    make_folder(Path(folder))
    stem = Path(scene.source or "scene").stem
    written = []
    down, across = axis(scene.height, tile, overlap, 1), axis(scene.width, tile, overlap, 1)
    for one in _tiles(scene, down, across):
        if one.valid is None or one.valid.all():
            path = Path(folder) / f"{stem}_{down.starts[one.row]:05d}_{across.starts[one.column]:05d}.png"
            with atomic_write(path, follow_links=False) as file:
                Image.fromarray(one.pixels).save(file, format="PNG")
            written.append(path)
    return written


@dataclass(frozen=True, eq=False)
class _Tile:
    row: int
    column: int
    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None


def _tiles(scene: SceneImage, down: Axis, across: Axis) -> Iterator[_Tile]:
    for row, top in enumerate(down.starts):
        pixels, valid = scene.rows(top, top + down.tile)
        for column, left in enumerate(across.starts):
            place = (slice(None), slice(left, left + across.tile))
            own = None if valid is None else valid[place]
            yield _Tile(row, column, np.ascontiguousarray(pixels[place]), own)


class _Blend:
    """Makes one result of those of all tiles."""

    def __init__(self, scene: SceneImage, down: Axis, across: Axis) -> None:
        self.scene, self.down, self.across = scene, down, across
        self.values = Canvas(down, across)
        # Where data may be missing: which share of each cell is there, and by which weight it was scored.
        self.present = Canvas(down, across) if scene.leaves_out else None
        self.scored = Canvas(down, across) if scene.leaves_out else None
        self.highest: Result | None = None
        self.count = 0
        self.whole = True

    def add(self, tile: _Tile, result: Result | None) -> None:
        """Take in a tile and its result, or None if it holds no data."""
        self.whole = self.whole and (tile.valid is None or bool(tile.valid.all()))
        if result is None:
            return
        self.count += 1
        if self.highest is None or result.score > self.highest.score:
            self.highest = result
        if result.map is None:
            return
        self.values.add(tile.row, tile.column, result.map)
        if self.present is not None and self.scored is not None and tile.valid is not None:
            self.present.add(tile.row, tile.column, shares(tile.valid, result.map.shape))
            self.scored.add(tile.row, tile.column, 1.0)

    def result(self, model: Model, settings: SceneSettings) -> Result:
        """What the scene got."""
        if self.highest is None:
            raise ImageError(self.scene.source or "the scene", NO_DATA)
        tiling = None
        if settings.tile is not None:
            tiling = Tiling(self.count, settings.tile, settings.shared, settings.per_tile)
        one = len(self.down.starts) * len(self.across.starts) == 1
        if self.highest.map is None or (one and self.whole):
            return replace(self.highest, tiling=tiling)
        values, there = self._map()
        decision = decision_for(model, self.count, per_tile=settings.per_tile)
        result = score_where(self.highest, values, there, decision.threshold, model.calibration_scores)
        return replace(
            result,
            width=self.scene.width,
            height=self.scene.height,
            p_value=result.p_value if settings.per_tile else min(1.0, self.count * result.p_value),
            threshold=decision.threshold,
            false_alarm_rate=decision.false_alarm_rate,
            tiling=tiling,
        )

    def _map(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The blended map, and which of its cells hold data for the most part."""
        if self.present is None or self.scored is None or self.whole:
            values = self.values.map()
            return values, np.ones(values.shape, bool)
        there = self.present.values > 0.5
        return (self.values.values / np.where(there, self.scored.values, 1.0)).astype(np.float32), there
