"""The study of clouds: from class folders of satellite scenes to all that its report says of whole scenes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight import detectors
from oddsight.backbones.cache import FeatureCache
from oddsight.data.collection import ImageFile
from oddsight.data.memory import parse_bytes
from oddsight.drawing.image_grids import CaptionedImage
from oddsight.errors import OddsightError
from oddsight.evaluation.compare.running import shared_features
from oddsight.metrics.trivial import BASELINES, trivial_scores
from oddsight.model.calibration import check_rate
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.runtime.files import make_folder
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent
from oddsight.studies.clouds import thresholds
from oddsight.studies.clouds.cells import Cell, Found, compute, extractor_of, stored
from oddsight.studies.clouds.isolation import Isolation, isolate
from oddsight.studies.clouds.isolation_scenes import dealt, read_scenes_with_masks
from oddsight.studies.clouds.isolation_variants import VARIANTS
from oddsight.studies.clouds.protocol import DEFAULT_CLOUDS, Split, sides, split
from oddsight.studies.clouds.results import (
    CloudStudy,
    Failed,
    SceneFacts,
    ShippedScenes,
    SplitFacts,
    Trivial,
)
from oddsight.studies.clouds.scenes import DEFAULT_SIZE, Scenes, class_names, read_scenes
from oddsight.studies.clouds.severity import severity_curves
from oddsight.studies.clouds.shipping import judged
from oddsight.studies.machine import machine

DEFAULT_SEEDS = (0, 1, 2)
DEFAULT_RATE = 0.01

SEVERITY_METHODS = ("auto", "mahalanobis", "patchcore", "autoencoder")
"""Methods that are shown synthetic haze, smoke and dust unless others are named."""

_EXAMPLES = 8
_FOLDS = 4
_MEASURES = BASELINES[:-1]
"""All but the size of the image, which is one and the same here."""


def study_clouds(  # noqa: PLR0913 - one keyword for each option of the command
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    normal: Sequence[str] = (),
    clouds: str = DEFAULT_CLOUDS,
    method_names: Sequence[str] = (),
    ship: str | None = None,
    seeds: Sequence[int] | Mapping[str, Sequence[int]] = DEFAULT_SEEDS,
    size: int = DEFAULT_SIZE,
    limit: int | None = None,
    rate: float = DEFAULT_RATE,
    hand: float = thresholds.HAND,
    threshold_methods: Sequence[str] = (),
    memory: str = "4GB",
    accelerator: str = "auto",
    masks: str | os.PathLike[str] | None = None,
    mask_methods: Sequence[str] = (),
    severity_methods: Sequence[str] | None = None,
    command: str = "",
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
    on_failure: Callable[[Failed], None] = lambda failed: None,
) -> tuple[CloudStudy, dict[str, Model]]:
    """Train every method once on every side by every seed, score all classes, and test the files that are shipped.

    What has been done before in the same output folder is taken from there. Keywords are the options of the command,
    whose help explains them; ``hand`` is the threshold by hand. ``on_epoch`` gets each new row of learning curves, and
    ``on_failure`` each method that cannot be run.

    Raises:
        DataError: Images that no study can be made of, or a normal class that is none.
        OddsightError: Any setting that cannot work; or the method that is to be shipped cannot be run.
    """
    started = time.perf_counter()
    names = tuple(dict.fromkeys(method_names or detectors.METHODS))
    chosen = ship or (detectors.DEFAULTS["normal"] if detectors.DEFAULTS["normal"] in names else names[0])
    compared = _compared(names, chosen, threshold_methods)
    by_method = {name: tuple(_seeds(seeds, name)) for name in names}
    _check(names, chosen, by_method, rate, hand, memory)
    first = by_method[chosen][0]
    work = Path(output) / "work"
    if masks is not None:
        # What is wrong with them is said before long work.
        dealt(read_scenes_with_masks(masks, progress=progress), _FOLDS, first)
    wanted = sides(class_names(data), clouds, normal)
    scenes = read_scenes(data, work, size=size, limit=limit, progress=progress)
    every = sorted({seed for own in by_method.values() for seed in own})
    splits = [split(side, scenes.classes, seed) for side in wanted for seed in every]
    cells = [
        Cell(name, one, memory, accelerator, training=name in compared, kept=name == chosen and one.seed == first)
        for one in splits
        for name in names
        if one.seed in by_method[name]
    ]
    found, failed = _run(cells, work, progress, on_epoch, on_failure)
    own = {image.content: name for name, images in scenes.classes.items() for image in images}
    shipped, models = _shipped([one for one in cells if one.kept], found, failed, rate, own, progress)
    measured = tuple(one.measured for one in found.values())
    trivial = tuple(_trivial(splits, progress))
    shown = severity_methods if severity_methods is not None else [chosen, *(n for n in SEVERITY_METHODS if n in names)]
    clear = [image for name, images in scenes.classes.items() if name != clouds for image in images]
    study = CloudStudy(
        data=_facts(scenes, clouds, limit),
        sides=tuple(wanted),
        splits=tuple(_split_facts(one, found, own) for one in splits),
        measured=measured,
        failed=tuple(failed),
        trivial=trivial,
        default=chosen,
        compared=compared,
        hand=hand,
        rate=rate,
        shipped=shipped,
        command=command,
        machine=machine(),
        seconds={"learning and calibrating, all methods, sides and seeds": sum(one.seconds for one in measured)},
        isolation=_isolation(
            masks,
            work,
            mask_methods or [*(name for name in names if detectors.by_name(name).localises), *VARIANTS],
            first,
            progress,
        ),
        severity=severity_curves(
            clear,
            _folder(work / "severity"),
            methods=list(dict.fromkeys(shown)),
            rate=rate,
            seed=first,
            progress=progress,
        )
        if shown
        else None,
    )
    took = {"this run, without what it took from earlier ones": time.perf_counter() - started}
    return replace(study, seconds={**study.seconds, **took}), models


def _isolation(
    masks: str | os.PathLike[str] | None, work: Path, names: Sequence[str], seed: int, progress: Progress
) -> Isolation | None:
    """Where clouds are found, by methods with a map."""
    if masks is None:
        return None
    return isolate(masks, _folder(work / "isolation"), methods=names, folds=_FOLDS, seed=seed, progress=progress)


def _seeds(seeds: Sequence[int] | Mapping[str, Sequence[int]], name: str) -> Sequence[int]:
    return seeds.get(name, DEFAULT_SEEDS) if isinstance(seeds, Mapping) else seeds


def _folder(path: Path) -> Path:
    make_folder(path)
    return path


def _check(
    names: Sequence[str], ship: str, seeds: Mapping[str, Sequence[int]], rate: float, hand: float, memory: str
) -> None:
    for name in names:
        detectors.by_name(name)
    if ship not in names:
        raise OddsightError(f"the method {ship} is to be shipped, but is not among {', '.join(names)}")
    if not all(own and min(own) >= 0 for own in seeds.values()):
        raise OddsightError("name a seed of 0 or more")
    if not np.isfinite(hand):
        raise OddsightError(f"the threshold by hand must be a finite number, not {hand}")
    check_rate(rate)
    parse_bytes(memory)


def _compared(names: Sequence[str], ship: str, asked: Sequence[str]) -> tuple[str, ...]:
    missing = [name for name in asked if name not in names]
    if missing:
        raise OddsightError(f"thresholds of {missing[0]} were requested, but it is not among {', '.join(names)}")
    usual = [name for name in thresholds.METHODS if name in names][:1]
    return tuple(dict.fromkeys(asked or [*usual, ship]))


_Key = tuple[str, int, str]


def _key(cell: Cell) -> _Key:
    return cell.split.side.name, cell.split.seed, cell.method


def _run(
    cells: Sequence[Cell],
    work: Path,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
    on_failure: Callable[[Failed], None],
) -> tuple[dict[_Key, Found], list[Failed]]:
    """Every cell, from the folder where it was computed before; and those that cannot be."""
    folder = _folder(work / "cells")
    there = {_key(cell): kept for cell in cells if (kept := stored(cell, folder)) is not None}
    missing = [cell for cell in cells if _key(cell) not in there]
    failed: list[Failed] = []
    with ExitStack() as stack:
        cache = _features(stack, missing, work, progress)
        for done, cell in enumerate(missing, 1):
            outcome = _attempt(cell, folder, cache, progress, on_epoch)
            if isinstance(outcome, Failed):
                failed.append(outcome)
                on_failure(outcome)
            else:
                there[_key(cell)] = outcome
            progress("methods, sides and seeds", done, len(missing))
    return {_key(cell): there[_key(cell)] for cell in cells if _key(cell) in there}, failed


def _features(stack: ExitStack, cells: Sequence[Cell], work: Path, progress: Progress) -> FeatureCache | None:
    """A cache with all features that cells need, by one run of the backbone an image."""
    extractors = [(extractor_of(cell.method), cell.split) for cell in cells]
    needed = [(extractor, one) for extractor, one in extractors if extractor is not None]
    if not needed:
        return None
    images = [image for _, one in needed for image in (*one.trained, *one.test)]
    return stack.enter_context(shared_features((extractor for extractor, _ in needed), images, work, progress))


def _attempt(
    cell: Cell, folder: Path, cache: FeatureCache | None, progress: Progress, on_epoch: Callable[[Epoch], None]
) -> Found | Failed:
    about = (cell.method, cell.split.side.name, cell.split.seed)
    try:
        return compute(cell, folder, cache, progress, on_epoch)
    except OddsightError as error:
        return Failed(*about, str(error))
    except Exception as error:  # hours of work on other cells must not be lost to one method's mistake
        return Failed(*about, f"unexpected {type(error).__name__}: {error}")


def _shipped(
    cells: Sequence[Cell],
    found: Mapping[_Key, Found],
    failed: Sequence[Failed],
    rate: float,
    names: Mapping[str, str],
    progress: Progress,
) -> tuple[tuple[ShippedScenes, ...], dict[str, Model]]:
    """The file of every side."""
    files, models = [], {}
    for cell in cells:
        kept = found.get(_key(cell))
        if kept is None or kept.model is None:
            reason = next(one.reason for one in failed if (one.side, one.seed, one.method) == _key(cell))
            raise OddsightError(f"{cell.method} is to be shipped for {cell.split.side.name}, but: {reason}")
        file, model = judged(Model.load(kept.model), cell.split, kept.measured, rate, names, progress)
        files.append(file)
        models[cell.split.side.name] = model
    return tuple(files), models


def _facts(scenes: Scenes, clouds: str, limit: int | None) -> SceneFacts:
    shown = [
        CaptionedImage(image.read(), name)
        for name, images in scenes.classes.items()
        for image in images[:: max(1, len(images) // _EXAMPLES)][:_EXAMPLES]
    ]
    return SceneFacts(
        classes={name: len(images) for name, images in scenes.classes.items()},
        clouds=clouds,
        size=scenes.size,
        found=scenes.found,
        duplicates=scenes.duplicates,
        shared=scenes.shared,
        sizes=scenes.sizes,
        errors=tuple(map(str, scenes.errors)),
        limit=limit,
        examples=tuple(shown),
    )


def _split_facts(one: Split, found: Mapping[_Key, Found], names: Mapping[str, str]) -> SplitFacts:
    """What served for what; which images were calibrated on, those say that trained: all divide them alike."""
    first = next((kept for (side, seed, _), kept in found.items() if (side, seed) == (one.side.name, one.seed)), None)

    def counts(contents: Iterable[str], classes: Sequence[str]) -> dict[str, int]:
        tally = Counter(names[content] for content in contents)
        return {name: tally[name] for name in classes}

    return SplitFacts(
        side=one.side.name,
        seed=one.seed,
        training=counts(first.training if first else (), one.side.normal),
        calibration=counts(first.calibration if first else (), one.side.normal),
        normal=counts((image.content for image in one.normal), one.side.normal),
        anomalous={name: len(images) for name, images in one.anomalous.items()},
    )


def _trivial(splits: Sequence[Split], progress: Progress) -> Iterable[Trivial]:
    """Every measure that knows nothing, of every test image."""
    images = list({image.content: image for one in splits for image in one.test}.values())
    values: dict[str, tuple[float, ...]] = {}
    looks = ordered_map(lambda image: trivial_scores(image.read()), images)
    for done, (image, measures) in enumerate(zip(images, looks, strict=True), 1):
        values[image.content] = measures
        progress("trivial baselines", done, len(images))

    def measured(chosen: Sequence[ImageFile], column: int) -> NDArray[np.float64]:
        return np.array([values[image.content][column] for image in chosen])

    for one in splits:
        for column, name in enumerate(_MEASURES):
            anomalous = {kind: measured(chosen, column) for kind, chosen in one.anomalous.items()}
            yield Trivial(name, one.side.name, one.seed, measured(one.normal, column), anomalous)
