"""Maps of scenes by models that did not learn from them, and thresholds that no test scene had a part in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight import detectors
from oddsight.data.images import read_image
from oddsight.errors import DataError, OddsightError, plain
from oddsight.evaluation.compare.store import compute_once, key_of, read_cell
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.pixel import pixel_metrics
from oddsight.model.calibration import decide
from oddsight.model.model import Model
from oddsight.runtime.progress import Progress, track
from oddsight.runtime.records import Arrays
from oddsight.scenes import predict_scene
from oddsight.studies.clouds.isolation_scenes import TRIVIAL, Scene, tile_place
from oddsight.studies.clouds.variants import Variant, add_prefix, as_array, at_rate, feasible_rate, fit_clear

Map = NDArray[np.float32]
Folds = Sequence[Sequence[int]]

RATES = (0.01, 0.05)  # False-alarm rates of a clear tile at which clouds are outlined

MASKS = "training masks"  # The rule that takes the threshold of highest F1 on the training scenes, from their masks


def rate_rule(rate: float) -> str:
    """The name of the rule that takes the conformal threshold of a rate."""
    return f"rate {rate:g}"


RULES = (*(rate_rule(rate) for rate in RATES), MASKS)  # How a threshold is found, by name


@dataclass(frozen=True, eq=False)
class SceneMaps:
    """What a method or a trivial measure says of every pixel, each scene by a model that had not seen it."""

    name: str  # Of the method or measure
    settings: str  # In words; empty for trivial measures
    trivial: bool  # Whether it is a trivial measure
    read: Callable[[int], Map]  # The map of the scene of an index in pixels, float32 `[height, width]`
    thresholds: tuple[Mapping[str, float], ...]  # For each scene, by rule: pixels above are outlined
    # For each rule of a rate, the highest rate that a fold could keep: there may be too few clear tiles for
    # the one asked for
    rates: Mapping[str, float]
    # For each fold, the pixel AUROC on its training scenes, each mapped by a model that had not seen it
    training: tuple[float, ...]
    trained: tuple[int, int]  # Clear tiles that a model trained on, the least and the most
    # The one that mapped the scene of an index, as the work folder holds it; None for trivial measures
    model: Callable[[int], Model] | None = None


@dataclass(frozen=True)
class Job:
    """What all steps share."""

    scenes: Sequence[Scene]  # All of them
    folds: Folds  # Indices of the scenes of each
    tiles: Callable[[int], Mapping[int, tuple[Path, ...]]]  # Clear tiles of the tile's side of each scene
    work: Path  # Where steps leave what they made
    seed: int  # Of every random choice
    progress: Progress  # Called with phase, done and total

    def others(self, out: Sequence[int]) -> list[int]:
        """Indices of the scenes of all folds but some."""
        return [index for fold, own in enumerate(self.folds) if fold not in out for index in own]

    @property
    def fold_of(self) -> dict[int, int]:
        """The fold of each scene."""
        return {index: fold for fold, indices in enumerate(self.folds) for index in indices}


def map_by_method(variant: Variant, job: Job) -> SceneMaps:
    """Run a method: for each fold a model of the others, and for each pair of folds one of the rest.

    The second sort finds the threshold of the masks: a training scene's map must not come from a model that has trained
    from it, nor the threshold from a scene that it is tested on.
    """
    if not detectors.by_name(variant.method).localises:
        raise OddsightError(f"{variant.method} says how anomalous an image is, not where")
    if variant.times is not None and variant.times not in TRIVIAL:
        raise OddsightError(f"maps are multiplied by {' or '.join(TRIVIAL)}, not by {plain(variant.times)}")
    count, own = len(job.folds), job.fold_of
    whole = [_part(variant, job, (fold,)) for fold in range(count)]
    pairs = {(one, other): _part(variant, job, (one, other)) for other in range(count) for one in range(other)}
    rules = []
    for fold in range(count):
        held = {
            index: pairs[min(fold, other), max(fold, other)][f"map-{index}"]
            for index, other in own.items()
            if other != fold
        }
        read = _in_pixels(job.scenes, held, variant.times)
        model = _model(variant, job, fold) if variant.times is None else None
        rules.append(_rules(job, variant.tile, held, read, model))
    thresholds, rates, areas = zip(*rules, strict=True)
    numbers = [int(part["trained"]) for part in whole]
    maps = {index: whole[fold][f"map-{index}"] for index, fold in own.items()}
    return SceneMaps(
        name=variant.name,
        settings=variant.says,
        trivial=False,
        read=_in_pixels(job.scenes, maps, variant.times),
        thresholds=tuple(thresholds[own[index]] for index in range(len(job.scenes))),
        rates=_most(rates),
        training=areas,
        trained=(min(numbers), max(numbers)),
        model=lambda index: _model(variant, job, own[index]),
    )


def _part(variant: Variant, job: Job, out: tuple[int, ...]) -> Arrays:
    """The maps of the scenes of one or two folds by a model of all others, and how many tiles that trained on."""
    tested = [index for fold in out for index in job.folds[fold]]

    def learn() -> Arrays:
        tiles, others = job.tiles(variant.tile), job.others(out)
        files = [file for index in others for file in tiles[index]]
        if not files:
            raise _no_clear_tile(variant.tile)
        without = " and ".join(str(fold + 1) for fold in out)
        watch = add_prefix(job.progress, f"{variant.name}: without {without} of {len(job.folds)} parts, ")
        model = fit_clear(variant, files, min(RATES), job.seed, watch, uncalibrated=len(out) > 1)
        arrays: Arrays = {"trained": np.array(len(files))}
        for done, index in enumerate(tested, 1):
            path = job.scenes[index].path
            result = predict_scene(model, path, tile=variant.tile, overlap=variant.overlap, per_tile=True)
            if result.map is None:
                raise OddsightError(f"{variant.method} gave no map of {path}")
            arrays[f"map-{index}"] = result.map
            watch("mapping scenes", done, len(tested))
        return arrays | ({"model": as_array(model)} if len(out) == 1 else {})

    arrays = compute_once(*_place(variant, job, out), learn)
    # Models are read again when they are needed, so that those of all methods are never held at once.
    return {name: array for name, array in arrays.items() if name != "model"}


def _place(variant: Variant, job: Job, out: tuple[int, ...]) -> tuple[Path, str]:
    tested = [(index, job.scenes[index].content) for fold in out for index in job.folds[fold]]
    contents = [job.scenes[index].content for index in job.others(out)]
    path = variant.folder(job.work) / f"without-{'-'.join(str(fold + 1) for fold in out)}.npz"
    return path, key_of(variant.key, contents, tested, RATES, job.seed)


def _model(variant: Variant, job: Job, fold: int) -> Model:
    """The model of all folds but one, which :func:`_part` has left."""
    path, key = _place(variant, job, (fold,))
    arrays = read_cell(path, key)
    if arrays is None:
        raise DataError(f"{path} was damaged or deleted meanwhile: run the study again")
    return Model.from_bytes(arrays["model"].tobytes())


def _rules(
    job: Job, tile: int, indices: Collection[int], read: Callable[[int], Map], model: Model | None
) -> tuple[dict[str, float], dict[str, float], float]:
    """Thresholds by rule, the rates that they keep, and the pixel AUROC, from scenes that were not trained on.

    Thresholds of rates come from the calibration of a model, or else from the highest values of clear tiles.
    """
    if model is not None:
        decisions = {rate_rule(rate): at_rate(model, rate).decision for rate in RATES}
        by_rule = {rule: decision.threshold for rule, decision in decisions.items()}
        reached = {rule: float(decision.false_alarm_rate or 0.0) for rule, decision in decisions.items()}
    else:
        highest = _highest(job, tile, indices, read)
        reached = {rate_rule(rate): feasible_rate(rate, len(highest)) for rate in RATES}
        by_rule = {rule: decide(highest, rate).threshold for rule, rate in reached.items()}

    def images() -> Iterator[tuple[Map, NDArray[np.bool_]]]:
        for index in indices:
            yield read(index), job.scenes[index].clouds()

    found = pixel_metrics(images)
    # There a pixel counts from the threshold on, here above it.
    best = float(np.nextafter(np.float32(found.f1_max_threshold), np.float32(-np.inf)))
    return by_rule | {MASKS: best}, reached, found.auroc


def _most(rates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {rule: max(one[rule] for one in rates) for rule in rates[0]}


def _highest(job: Job, tile: int, indices: Iterable[int], read: Callable[[int], Map]) -> Map:
    """The highest value of each clear tile of some scenes."""
    tiles, found = job.tiles(tile), []
    for index in indices:
        values = read(index)
        found += [values[tile_place(file, tile)].max() for file in tiles[index]]
    if not found:
        raise _no_clear_tile(tile)
    return np.array(found, np.float32)


def _no_clear_tile(tile: int) -> DataError:
    return DataError(f"no tile of {tile} pixels is clear in the scenes to train on: make tiles smaller")


def _in_pixels(scenes: Sequence[Scene], maps: Mapping[int, Map], times: str | None) -> Callable[[int], Map]:
    """What reads the map of the scene of an index, brought to its pixels and weighed by a trivial measure of them."""

    def read(index: int) -> Map:
        values = upscaled(maps[index], (scenes[index].width, scenes[index].height))
        return values if times is None else values * TRIVIAL[times](read_image(scenes[index].path))

    return read


def map_trivially(name: str, job: Job, tile: int) -> SceneMaps:
    """A trivial measure of each pixel, with thresholds found in the same ways on the same scenes."""

    def read(index: int) -> Map:
        return TRIVIAL[name](read_image(job.scenes[index].path))

    rules = []
    for fold in track(range(len(job.folds)), f"{name}: thresholds", len(job.folds), job.progress):
        rules.append(_rules(job, tile, job.others((fold,)), read, None))
    thresholds, rates, areas = zip(*rules, strict=True)
    own = tuple(thresholds[fold] for _, fold in sorted(job.fold_of.items()))
    return SceneMaps(name, "", True, read, own, _most(rates), areas, (0, 0))
