"""Isolating clouds in scenes: every method's maps against masks, each scene by a model that never saw it.

Methods learn from clear tiles and see no mask. Beside them stand trivial measures of each pixel, brightness and
whiteness, with thresholds found in the same ways: a method that does not beat them has shown nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.data.images import read_image
from oddsight.errors import OddsightError
from oddsight.runtime.files import make_folder
from oddsight.runtime.progress import Progress, silent
from oddsight.scenes import SMALLEST_TILE, predict_scene
from oddsight.scenes.outlines import mask
from oddsight.scenes.region_files import write_regions
from oddsight.scenes.scene_image import SceneImage
from oddsight.studies.clouds.isolation_maps import MASKS, RULES, Job, Mapped, mapped, mapped_trivially
from oddsight.studies.clouds.isolation_measures import (
    Group,
    Measured,
    Outlined,
    SceneMeasured,
    Tally,
    areas_of,
    by_scene,
    drawn,
    groups,
    interval,
    measured,
    overlaps_of,
    tally,
)
from oddsight.studies.clouds.isolation_scenes import (
    TRIVIAL,
    Scene,
    clear_tiles,
    dealt,
    read_scenes_with_masks,
)
from oddsight.studies.clouds.isolation_variants import Variant, as_variant

DEFAULT_TILE = 64

_SHOWN = 6


@dataclass(frozen=True)
class Judged:
    """What one method or trivial measure reached."""

    name: str
    settings: str  # In words; empty for trivial measures
    trivial: bool  # Whether it is a trivial measure
    groups: Mapping[str, Measured]  # By name of the group
    scenes: tuple[SceneMeasured, ...]  # In the order of the scenes
    rates: Mapping[str, float]  # For each rule of a rate, the rate that could be kept
    training: tuple[float, ...]  # For each fold, the pixel AUROC on its training scenes
    trained: tuple[int, int]  # Clear tiles that a model trained on, the least and the most


@dataclass(frozen=True)
class Beaten:
    """A method beside the best trivial measure of a group, on the same draws of scenes."""

    group: str  # Its name
    method: str  # Its name
    trivial: str  # The trivial measure of the highest AUROC in this group
    auroc: float  # By how much the method's is higher
    auroc_interval: tuple[float, float] | None  # Of it; None if it cannot be told
    overlap: str  # The trivial measure of the highest IoU in this group, at thresholds from training masks
    iou: float  # By how much the method's is higher
    iou_interval: tuple[float, float] | None  # Of it; None if it cannot be told

    @property
    def surely(self) -> bool:
        """Whether the method's AUROC is higher by more than the draw of scenes explains."""
        return self.auroc_interval is not None and self.auroc_interval[0] > 0

    @property
    def lost(self) -> bool:
        """Whether the trivial measure's AUROC is higher by more than the draw of scenes explains."""
        return self.auroc_interval is not None and self.auroc_interval[1] < 0


@dataclass(frozen=True, eq=False)
class Shown:
    """A scene for the report."""

    scene: str  # Its name
    image: NDArray[np.uint8]  # uint8 `[H, W, 3]`
    clouds: NDArray[np.bool_]  # Its mask, `[H, W]`
    values: NDArray[np.float32]  # The map, float32 `[H, W]`
    found: NDArray[np.bool_]  # What is outlined, `[H, W]`
    threshold: float  # Of the map
    iou: float  # Of what is outlined


@dataclass(frozen=True)
class Isolation:
    """What was found."""

    scenes: tuple[Scene, ...]  # All of them
    folds: int  # How many parts they were dealt into
    tile: int  # Side in pixels of the tiles of methods that set none of their own
    groups: tuple[Group, ...]  # Pixels that were measured together
    judged: tuple[Judged, ...]  # Trivial measures first, then methods in order
    failed: Mapping[str, str]  # Methods that could not be run, and why
    beaten: tuple[Beaten, ...]  # Each method beside trivial measures, in each group
    best: str | None  # The method of the highest AUROC over all scenes; None if none could be run
    shown: tuple[Shown, ...]  # Scenes as the best method outlines them
    files: tuple[Path, ...]  # Outlines and masks that were written, as `oddsight predict --regions` writes them
    seed: int  # Of every random choice

    @property
    def chosen(self) -> tuple[str, ...]:
        """For each fold, the method that does best on its training scenes: what one would choose without the others."""
        methods = [one for one in self.judged if not one.trivial]
        if not methods:
            return ()
        return tuple(max(methods, key=lambda one: one.training[fold]).name for fold in range(self.folds))

    def rows(self) -> list[dict[str, Any]]:
        """For ``isolation.csv``: a row for each method and group, and for each method and scene; flat.

        Shares and areas are from 0 to 1; what does not apply is None.
        """
        found = []
        for one in self.judged:
            for group in self.groups:
                found.append(self._row(one, group.name, "", one.groups[group.name]))
            for scene, own in zip(self.scenes, one.scenes, strict=True):
                found.append(self._row(one, "one scene", scene.name, own))
        empty = dict.fromkeys(found[0]) if found else {}
        found += [empty | {"method": name, "sort": f"not run: {reason}"} for name, reason in self.failed.items()]
        return found

    def _row(self, one: Judged, group: str, scene: str, values: Measured | SceneMeasured) -> dict[str, Any]:
        whole = values if isinstance(values, Measured) else None
        low, high = (None, None) if whole is None or whole.auroc_interval is None else whole.auroc_interval
        row: dict[str, Any] = {
            "method": one.name,
            "sort": "trivial" if one.trivial else "method",
            "settings": one.settings,
            "group": group,
            "scene": scene,
            "auroc": values.auroc,
            "auroc_low": low,
            "auroc_high": high,
            "average_precision": None if whole is None else whole.average_precision,
            "aupro": None if whole is None else whole.aupro,
        }
        for rule in RULES:
            row |= _columns(rule.replace(" ", "_"), values.outlined[rule], one.rates.get(rule))
        return row


def _columns(rule: str, one: Outlined, rate: float | None) -> dict[str, Any]:
    iou, f1 = one.iou_interval or (None, None), one.f1_interval or (None, None)
    return {
        f"{rule}_kept": rate,
        f"{rule}_iou": one.iou,
        f"{rule}_iou_low": iou[0],
        f"{rule}_iou_high": iou[1],
        f"{rule}_f1": one.f1,
        f"{rule}_f1_low": f1[0],
        f"{rule}_f1_high": f1[1],
        f"{rule}_recall": one.recall,
        f"{rule}_false_alarms": one.false_alarms,
    }


def isolate(
    folder: str | os.PathLike[str],
    output_work: Path,
    *,
    methods: Sequence[str | Variant],
    folds: int = 4,
    seed: int = 0,
    tile: int = DEFAULT_TILE,
    progress: Progress = silent,
) -> Isolation:
    """Measure how well methods isolate clouds in scenes with masks, each scene by a model that never saw it.

    What has been done before in the same work folder, from the same images and settings, is taken from there.

    Args:
        folder: With ``images`` and ``masks`` of the same names; anything but black in a mask is cloud.
        output_work: Where steps leave what they made, and where outlines and masks of some scenes go (``regions``).
        methods: Names of methods with a map, or variants of them with settings of their own.
        folds: Parts that scenes are dealt into.
        seed: Of every random choice.
        tile: Side in pixels of tiles, for methods that are named; half of it is shared by neighbours.
        progress: Called with phase, done and total.

    Raises:
        DataError: Scenes or masks are missing, or too few; see :func:`read_scenes_with_masks`.
        ImageError: An image or mask cannot be read.
        OddsightError: A setting that cannot work. A method that cannot be run is named in the result instead.
    """
    if tile < SMALLEST_TILE:
        raise OddsightError(f"tiles need at least {SMALLEST_TILE} pixels, not {tile}")
    wanted = list(dict.fromkeys(as_variant(method, tile) for method in methods))
    scenes = read_scenes_with_masks(folder, progress=progress)
    tiles = cache(partial(clear_tiles, scenes, work=output_work, progress=progress))
    job = Job(scenes, dealt(scenes, folds, seed), tiles, output_work, seed, progress)
    found, failed = [mapped_trivially(name, job, tile) for name in TRIVIAL], {}
    for variant in wanted:
        try:
            found.append(mapped(variant, job))
        except OddsightError as error:
            failed[variant.name] = str(error)
    own, draws = groups(scenes), drawn(len(scenes), seed)
    counts = {}
    judged = []
    for done, one in enumerate(found, 1):
        counts[one.name] = tally(one, scenes)
        judged.append(_judged(one, counts[one.name], own, scenes, draws))
        progress("measuring pixels", done, len(found))
    best = max((one for one in judged if not one.trivial), key=_area, default=None)
    chosen = next((one for one in found if best is not None and one.name == best.name), None)
    variant_of = {variant.name: variant for variant in wanted}
    shown, files = (
        ((), ()) if chosen is None else _shown(chosen, variant_of[chosen.name], scenes, output_work / "regions")
    )
    return Isolation(
        scenes=scenes,
        folds=folds,
        tile=tile,
        groups=own,
        judged=tuple(judged),
        failed=failed,
        beaten=tuple(_beaten(one, judged, group, counts, draws) for one in judged if not one.trivial for group in own),
        best=None if best is None else best.name,
        shown=shown,
        files=files,
        seed=seed,
    )


def _area(one: Judged) -> float:
    return next(iter(one.groups.values())).auroc


def _judged(
    one: Mapped, counts: Tally, own: Sequence[Group], scenes: Sequence[Scene], draws: NDArray[np.int64]
) -> Judged:
    return Judged(
        name=one.name,
        settings=one.settings,
        trivial=one.trivial,
        groups={group.name: measured(one, counts, group, scenes, draws) for group in own},
        scenes=by_scene(one, counts, scenes),
        rates=one.rates,
        training=one.training,
        trained=one.trained,
    )


def _beaten(
    one: Judged, judged: Sequence[Judged], group: Group, counts: Mapping[str, Tally], draws: NDArray[np.int64]
) -> Beaten:
    """A method beside the trivial measures that do best in a group, which they are chosen by: in their favour."""

    def overlap(other: Judged) -> float:
        return other.groups[group.name].outlined[MASKS].iou

    trivial = [other for other in judged if other.trivial]
    best = max(trivial, key=lambda other: other.groups[group.name].auroc)
    wide = max(trivial, key=overlap)
    areas = [areas_of(counts[name], group, draws) for name in (one.name, best.name)]
    overlaps = [overlaps_of(counts[name], group, draws, MASKS)[0] for name in (one.name, wide.name)]
    return Beaten(
        group=group.name,
        method=one.name,
        trivial=best.name,
        auroc=one.groups[group.name].auroc - best.groups[group.name].auroc,
        auroc_interval=interval(areas[0] - areas[1]),
        overlap=wide.name,
        iou=overlap(one) - overlap(wide),
        iou_interval=interval(overlaps[0] - overlaps[1]),
    )


def _shown(
    one: Mapped, variant: Variant, scenes: Sequence[Scene], folder: Path
) -> tuple[tuple[Shown, ...], tuple[Path, ...]]:
    """Outline some scenes by the model files themselves: those with clouds and ground first, then bright clear ones."""
    make_folder(folder)
    shown, files = [], []
    for index in _chosen(scenes):
        scene, threshold = scenes[index], one.thresholds[index][MASKS]
        assert one.model is not None
        model = one.model(index).with_decision(threshold=threshold)
        result = predict_scene(model, scene.path, tile=variant.tile, overlap=variant.overlap, per_tile=True)
        if variant.times is not None:
            values = one.read(index)
            result = replace(result, map=values, score=float(values.max()))
        found, clouds = mask(result, 0, scene.height), scene.clouds()
        union = int((found | clouds).sum())
        iou = int((found & clouds).sum()) / union if union else 1.0
        shown.append(Shown(scene.name, read_image(scene.path), clouds, one.read(index), found, threshold, iou))
        files += write_regions(result, SceneImage(scene.path), folder, scene.name)
    return tuple(shown), tuple(files)


def _chosen(scenes: Sequence[Scene]) -> list[int]:
    """Scenes to show: by how bright their ground is, of those with clouds the middle of each part of the range."""
    mixed = [index for index, scene in enumerate(scenes) if 0.02 <= scene.cover <= 0.98]
    mixed.sort(key=lambda index: scenes[index].ground or 0.0)
    count = min(len(mixed), _SHOWN - 2)
    picked = [mixed[(2 * place + 1) * len(mixed) // (2 * count)] for place in range(count)]
    bright = [index for index, scene in enumerate(scenes) if scene.bright and index not in picked]
    bright.sort(key=lambda index: (scenes[index].cover in (0.0, 1.0), scenes[index].saturated))
    return picked + bright[:2]
