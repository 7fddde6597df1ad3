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
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.pixel import pixel_metrics
from oddsight.model.calibration import decide, smallest_rate
from oddsight.model.model import Model
from oddsight.runtime.progress import Progress
from oddsight.runtime.records import Arrays, read_arrays
from oddsight.scenes import predict_scene
from oddsight.studies.clouds.isolation_scenes import TRIVIAL, Scene, tile_place
from oddsight.studies.clouds.isolation_variants import Variant, at_rate, described, fit_clear, place_of
from oddsight.studies.store import keep, state_of, taken

Map = NDArray[np.float32]
Folds = Sequence[Sequence[int]]

RATES = (0.01, 0.05)
"""False-alarm rates of a clear tile at which clouds are outlined."""

MASKS = "training masks"
"""The rule that takes the threshold of highest F1 on the training scenes, from their masks."""


def rate_rule(rate: float) -> str:
    """The name of the rule that takes the conformal threshold of a rate."""
    return f"rate {rate:g}"


RULES = (*(rate_rule(rate) for rate in RATES), MASKS)
"""How a threshold is found, by name."""


@dataclass(frozen=True, eq=False)
class Mapped:
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

    def clear(self, tile: int, out: Sequence[int]) -> tuple[list[Path], list[str]]:
        """Clear tiles of all folds but some, and the contents of their scenes."""
        kept = [index for fold, own in enumerate(self.folds) if fold not in out for index in own]
        tiles = self.tiles(tile)
        return [file for index in kept for file in tiles[index]], [self.scenes[index].content for index in kept]


def mapped(variant: Variant, job: Job) -> Mapped:
    """Run a method: for each fold a model of the others, and for each pair of folds one of the rest.

    The second sort finds the threshold of the masks: a training scene's map must not come from a model that has trained
    from it, nor the threshold from a scene that it is tested on.

    Raises:
        OddsightError: A method that has no map or cannot be fitted, or a measure to multiply by that is none.
    """
    if not detectors.by_name(variant.method).localises:
        raise OddsightError(f"{variant.method} says how anomalous an image is, not where")
    if variant.times is not None and variant.times not in TRIVIAL:
        raise OddsightError(f"maps are multiplied by {' or '.join(TRIVIAL)}, not by {plain(variant.times)}")
    count = len(job.folds)
    whole = [_part(variant, job, (fold,)) for fold in range(count)]
    halves = {(one, other): _part(variant, job, (one, other)) for other in range(count) for one in range(other)}
    own = {index: fold for fold, indices in enumerate(job.folds) for index in indices}
    thresholds, rates, areas = [], [], []
    for fold in range(count):
        held = {
            index: halves[min(fold, other), max(fold, other)][f"map-{index}"]
            for index, other in own.items()
            if other != fold
        }
        read = _brought(job.scenes, held, variant.times)
        if variant.times is None:
            by_rule, reached = _conformal(_model(variant, job, fold))
        else:
            by_rule, reached = _conformal_by_tiles(_highest(job, variant.tile, held, read))
        best, area = _best(job.scenes, held, read)
        thresholds.append(by_rule | {MASKS: best})
        rates.append(reached)
        areas.append(area)
    numbers = [int(part["trained"]) for part in whole]
    return Mapped(
        name=variant.name,
        settings=variant.says,
        trivial=False,
        read=_brought(job.scenes, {index: whole[fold][f"map-{index}"] for index, fold in own.items()}, variant.times),
        thresholds=tuple(thresholds[own[index]] for index in range(len(job.scenes))),
        rates={rule: max(reached[rule] for reached in rates) for rule in rates[0]},
        training=tuple(areas),
        trained=(min(numbers), max(numbers)),
        model=lambda index: _model(variant, job, own[index]),
    )


def _part(variant: Variant, job: Job, out: tuple[int, ...]) -> Arrays:
    """A model of all folds but one or two, and the maps of the scenes of these."""
    files, contents = job.clear(variant.tile, out)
    tested = [index for fold in out for index in job.folds[fold]]
    state = state_of(described(variant), contents, [job.scenes[index].content for index in tested], RATES, job.seed)
    path = _path(variant, job, out)
    found = taken(path, state)
    if found is not None and {f"map-{index}" for index in tested} <= found.keys():
        found.pop("model", None)
        return found
    phase = f"{variant.name}: without {' and '.join(str(fold + 1) for fold in out)} of {len(job.folds)} parts"

    def told(what: str, done: int, total: int) -> None:
        job.progress(f"{phase}, {what}", done, total)

    if not files:
        raise DataError(f"no tile of {variant.tile} pixels is clear in the scenes to train on: make tiles smaller")
    model = fit_clear(variant, files, min(RATES), job.seed, told, uncalibrated=len(out) > 1)
    arrays: Arrays = {"trained": np.array(len(files))}
    for done, index in enumerate(tested, 1):
        result = predict_scene(model, job.scenes[index].path, tile=variant.tile, overlap=variant.overlap, per_tile=True)
        if result.map is None:
            raise OddsightError(f"{variant.method} gave no map of {job.scenes[index].path}")
        arrays[f"map-{index}"] = result.map
        told("mapping scenes", done, len(tested))
    # Models are read again when they are needed, so that those of all methods are never held at once.
    own: Arrays = {"model": np.frombuffer(model.to_bytes(), np.uint8)} if len(out) == 1 else {}
    keep(path, state, arrays | own)
    return arrays


def _path(variant: Variant, job: Job, out: tuple[int, ...]) -> Path:
    return place_of(variant, job.work) / f"without-{'-'.join(str(fold + 1) for fold in out)}.npz"


def _model(variant: Variant, job: Job, fold: int) -> Model:
    """The model of all folds but one, which :func:`_part` has left."""
    path = _path(variant, job, (fold,))
    arrays = read_arrays(path)
    if arrays is None or "model" not in arrays:
        raise DataError(f"{path} was damaged or deleted meanwhile: run the study again")
    return Model.from_bytes(arrays["model"].tobytes())


def _conformal(model: Model) -> tuple[dict[str, float], dict[str, float]]:
    """Thresholds by rule, and the rates that they keep, from the calibration of a model."""
    decisions = {rate_rule(rate): at_rate(model, rate).decision for rate in RATES}
    return (
        {rule: decision.threshold for rule, decision in decisions.items()},
        {rule: float(decision.false_alarm_rate or 0.0) for rule, decision in decisions.items()},
    )


def _conformal_by_tiles(highest: Map) -> tuple[dict[str, float], dict[str, float]]:
    """The same from the highest values of clear tiles, none of which was trained on."""
    reached = {rate_rule(rate): max(rate, smallest_rate(len(highest))) for rate in RATES}
    return {rule: decide(highest, rate).threshold for rule, rate in reached.items()}, reached


def _highest(job: Job, tile: int, indices: Iterable[int], read: Callable[[int], Map]) -> Map:
    """The highest value of each clear tile of some scenes."""
    found = []
    for index in indices:
        values = read(index)
        found += [values[tile_place(file, tile)].max() for file in job.tiles(tile)[index]]
    if not found:
        raise DataError(f"no tile of {tile} pixels is clear in the scenes to train on: make tiles smaller")
    return np.array(found, np.float32)


def _brought(scenes: Sequence[Scene], maps: Mapping[int, Map], times: str | None) -> Callable[[int], Map]:
    """What reads the map of the scene of an index, brought to its pixels and weighed by a trivial measure of them."""

    def read(index: int) -> Map:
        values = upscaled(maps[index], (scenes[index].width, scenes[index].height))
        return values if times is None else values * TRIVIAL[times](read_image(scenes[index].path))

    return read


def _best(scenes: Sequence[Scene], indices: Collection[int], read: Callable[[int], Map]) -> tuple[float, float]:
    """The threshold of highest F1 over the pixels of some scenes, and their AUROC."""

    def images() -> Iterator[tuple[Map, NDArray[np.bool_]]]:
        for index in indices:
            yield read(index), scenes[index].clouds()

    found = pixel_metrics(images)
    # There a pixel counts from the threshold on, here above it.
    return float(np.nextafter(np.float32(found.f1_max_threshold), np.float32(-np.inf))), found.auroc


def mapped_trivially(name: str, job: Job, tile: int) -> Mapped:
    """A trivial measure of each pixel, with thresholds found in the same ways on the same scenes."""
    measure = TRIVIAL[name]

    def read(index: int) -> Map:
        return measure(read_image(job.scenes[index].path))

    thresholds: list[Mapping[str, float]] = [{}] * len(job.scenes)
    rates, areas = [], []
    for fold, tested in enumerate(job.folds):
        others = [index for other in range(len(job.folds)) if other != fold for index in job.folds[other]]
        found, reached = _conformal_by_tiles(_highest(job, tile, others, read))
        found[MASKS], area = _best(job.scenes, others, read)
        rates.append(reached)
        areas.append(area)
        for index in tested:
            thresholds[index] = found
        job.progress(f"{name}: thresholds", fold + 1, len(job.folds))
    return Mapped(
        name=name,
        settings="",
        trivial=True,
        read=read,
        thresholds=tuple(thresholds),
        rates={rule: max(one[rule] for one in rates) for rule in rates[0]},
        training=tuple(areas),
        trained=(0, 0),
    )
