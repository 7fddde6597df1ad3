"""Isolating clouds in scenes: every method's maps against masks, each scene by a model that never saw it.

Methods learn from clear tiles and see no mask. Beside them stand trivial measures of each pixel, brightness and
whiteness, with thresholds found in the same ways: a method that does not beat them has shown nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.data.images import read_image
from oddsight.errors import OddsightError
from oddsight.runtime.files import make_folder
from oddsight.runtime.progress import Progress, silent, track
from oddsight.scenes import predict_scene
from oddsight.scenes.region_files import write_regions
from oddsight.scenes.scene_image import SceneImage
from oddsight.studies.clouds.isolation_maps import MASKS, Job, SceneMaps, map_by_method, map_trivially
from oddsight.studies.clouds.isolation_measures import (
    ALL,
    Group,
    Interval,
    Measurement,
    Values,
    areas_of,
    draw_scenes,
    groups,
    interval,
    measure,
    measure_scenes,
    overlaps_of,
    tally,
)
from oddsight.studies.clouds.isolation_scenes import TRIVIAL, Scene, clear_tiles, deal, read_scenes_with_masks
from oddsight.studies.clouds.variants import Variant, as_variant

_SHOWN = 6


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome(SceneMaps):
    """What one method or trivial measure reached."""

    groups: Mapping[str, Measurement]  # By name of the group
    scenes: tuple[Measurement, ...]  # In the order of the scenes

    def area(self, group: str) -> float:
        """AUROC on a group."""
        return self.groups[group].auroc or 0.0

    def overlap(self, group: str) -> float:
        """IoU on a group at thresholds from training masks."""
        return self.groups[group].outlined[MASKS].iou

    def row(self, group: str, scene: str, values: Measurement) -> dict[str, Any]:
        """A row of ``isolation.csv``."""
        low, high = values.auroc_interval or (None, None)
        row = {
            "method": self.name,
            "sort": "trivial" if self.trivial else "method",
            "settings": self.settings,
            "group": group,
            "scene": scene,
            "auroc": values.auroc,
            "auroc_low": low,
            "auroc_high": high,
            "average_precision": values.average_precision,
            "aupro": values.aupro,
        }
        for rule, own in values.outlined.items():
            iou, f1 = own.iou_interval or (None, None), own.f1_interval or (None, None)
            names = ("kept", "iou", "iou_low", "iou_high", "f1", "f1_low", "f1_high", "recall", "false_alarms")
            cells = (self.rates.get(rule), own.iou, *iou, own.f1, *f1, own.recall, own.false_alarms)
            row |= {f"{rule.replace(' ', '_')}_{name}": cell for name, cell in zip(names, cells, strict=True)}
        return row


@dataclass(frozen=True)
class Difference:
    """The best method beside the best trivial measure of a group, on the same draws of scenes.

    Both are chosen by what they reach in the group.
    """

    group: str  # Its name
    method: str  # Its name
    trivial: str  # The name of the trivial measure
    own: float  # What the method reaches
    other: float  # What the trivial measure reaches
    interval: Interval  # Of the difference

    @property
    def verdict(self) -> str:
        """What follows, in words."""
        low, high = self.interval or (np.nan, np.nan)
        if self.own <= self.other:
            return "baseline wins" if high < 0 else "no better than the baseline"
        if self.interval is None:
            return "better; too few scenes for an interval"
        return "beats the baseline" if low > 0 else "better, but not significantly"


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
    groups: tuple[Group, ...]  # Pixels that were measured together
    judged: tuple[Outcome, ...]  # Trivial measures first, then methods in order
    failed: Mapping[str, str]  # Methods that could not be run, and why
    areas: Sequence[Difference]  # Of AUROC, in each group; none if no method could be run
    overlaps: Sequence[Difference]  # Likewise of IoU, at thresholds from training masks
    best: str | None  # The method of the highest AUROC over all scenes; None if none could be run
    shown: Sequence[Shown]  # Scenes as the best method outlines them
    files: Sequence[Path]  # Outlines and masks that were written, as `oddsight predict --regions` writes them

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
            found += [one.row(name, "", own) for name, own in one.groups.items()]
            scenes = zip(self.scenes, one.scenes, strict=True)
            found += [one.row("one scene", scene.name, own) for scene, own in scenes]
        empty = dict.fromkeys(found[0]) if found else {}
        return found + [empty | {"method": name, "sort": f"not run: {reason}"} for name, reason in self.failed.items()]


def isolate(
    folder: Path,
    work: Path,
    *,
    methods: Sequence[str | Variant],
    folds: int = 4,
    seed: int = 0,
    tile: int = 64,
    progress: Progress = silent,
) -> Isolation:
    """Measure how well methods isolate clouds in scenes with masks, each scene by a model that never saw it.

    ``folder`` holds ``images`` and ``masks`` of the same names; anything but black in a mask is cloud. What has been
    done before in the same work folder, from the same images and settings, is taken from there; outlines and masks of
    some scenes go to its ``regions``. Methods that are named get tiles of a side of ``tile`` pixels.
    """
    make_folder(work)
    variants = {variant.name: variant for variant in (as_variant(method, tile) for method in methods)}
    scenes = read_scenes_with_masks(folder, progress=progress)
    tiles = cache(partial(clear_tiles, scenes, work=work, progress=progress))
    job = Job(scenes, deal(scenes, folds, seed), tiles, work, seed, progress)
    mapped, failed = [map_trivially(name, job, tile) for name in TRIVIAL], {}
    for variant in variants.values():
        try:
            mapped.append(map_by_method(variant, job))
        except OddsightError as error:
            failed[variant.name] = str(error)
    judged, areas, overlaps = _judge(mapped, scenes, seed, progress)
    best = max((one for one in judged if not one.trivial), key=lambda one: one.area(ALL), default=None)
    shown, files = ([], []) if best is None else _show(best, variants[best.name], scenes, work / "regions")
    name = None if best is None else best.name
    return Isolation(scenes, folds, groups(scenes), tuple(judged), failed, areas, overlaps, name, shown, files)


def _judge(
    mapped: Sequence[SceneMaps], scenes: Sequence[Scene], seed: int, progress: Progress
) -> tuple[list[Outcome], list[Difference], list[Difference]]:
    """Measure all pixels, and compare the best method with the best trivial measure in each group."""
    own, draws = groups(scenes), draw_scenes(len(scenes), seed)
    counts, judged = {}, []
    for one in track(mapped, "measuring pixels", len(mapped), progress):
        counts[one.name] = tally(one, scenes)
        measured = {group.name: measure(one, counts[one.name], group, scenes, draws) for group in own}
        by_scene = measure_scenes(one, counts[one.name], scenes)
        judged.append(Outcome(**vars(one), groups=measured, scenes=by_scene))
    areas, overlaps = [], []
    for group in own if len(judged) > len(TRIVIAL) else ():
        resampled = {name: areas_of(one, group, draws) for name, one in counts.items()}
        areas.append(_compare(judged, group, lambda one: one.area(group.name), resampled))  # noqa: B023 - called at once
        resampled = {name: overlaps_of(one, group, draws, MASKS)[0] for name, one in counts.items()}
        overlaps.append(_compare(judged, group, lambda one: one.overlap(group.name), resampled))  # noqa: B023
    return judged, areas, overlaps


def _compare(
    judged: Sequence[Outcome], group: Group, reached: Callable[[Outcome], float], resampled: Mapping[str, Values]
) -> Difference:
    best, other = (max((one for one in judged if one.trivial == trivial), key=reached) for trivial in (False, True))
    apart = interval(resampled[best.name] - resampled[other.name])
    return Difference(group.name, best.name, other.name, reached(best), reached(other), apart)


def _show(one: SceneMaps, variant: Variant, scenes: Sequence[Scene], folder: Path) -> tuple[list[Shown], list[Path]]:
    """Outline some scenes by the model files themselves: those with clouds and ground first, then bright clear ones."""
    make_folder(folder)
    shown, files = [], []
    for index in _chosen(scenes):
        scene, threshold = scenes[index], one.thresholds[index][MASKS]
        assert one.model is not None
        model = one.model(index).with_decision(threshold=threshold)
        result = predict_scene(model, scene.path, tile=variant.tile, overlap=variant.overlap, per_tile=True)
        result = replace(result, levels=None)  # the threshold is of pixels already
        if variant.times is not None:
            values = one.read(index)
            result = replace(result, map=values, score=float(values.max()))
        found, clouds = result.mask(), scene.clouds()
        union = int((found | clouds).sum())
        iou = int((found & clouds).sum()) / union if union else 1.0
        shown.append(Shown(scene.name, read_image(scene.path), clouds, one.read(index), found, threshold, iou))
        files += write_regions(result, SceneImage(scene.path), folder, scene.name)
    return shown, files


def _chosen(scenes: Sequence[Scene]) -> list[int]:
    """Scenes to show: by how bright their ground is, of those with clouds the middle of each part of the range."""
    mixed = [index for index, scene in enumerate(scenes) if 0.02 <= scene.cover <= 0.98]
    mixed.sort(key=lambda index: scenes[index].ground or 0.0)
    count = min(len(mixed), _SHOWN - 2)
    picked = [mixed[(2 * place + 1) * len(mixed) // (2 * count)] for place in range(count)]
    bright = [index for index, scene in enumerate(scenes) if scene.bright and index not in picked]
    bright.sort(key=lambda index: (scenes[index].cover in (0.0, 1.0), scenes[index].saturated))
    return picked + bright[:2]
