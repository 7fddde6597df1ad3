"""The study of clouds: from class folders of satellite scenes to all that its report says of whole scenes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from oddsight.runtime.progress import Progress
from oddsight.studies.clouds.cells import Cell, compute, extractor_of, stored
from oddsight.studies.clouds.isolation import isolate
from oddsight.studies.clouds.isolation_scenes import dealt, read_scenes_with_masks
from oddsight.studies.clouds.protocol import Split, sides, split
from oddsight.studies.clouds.results import CloudStudy, Failed, Measured, SceneFacts, ShippedScenes, SplitFacts, Trivial
from oddsight.studies.clouds.scenes import Scenes, class_names, read_scenes
from oddsight.studies.clouds.severity import severity_curves
from oddsight.studies.clouds.shipping import run_file
from oddsight.studies.clouds.tables import THRESHOLD_METHODS
from oddsight.studies.clouds.variants import VARIANTS
from oddsight.studies.machine import machine

SEVERITY_METHODS = ("auto", "mahalanobis", "patchcore", "autoencoder")
"""Methods that are shown synthetic haze, smoke and dust unless others are named."""

_EXAMPLES = 8
_FOLDS = 4
_MEASURES = BASELINES[:-1]
"""All but the size of the image, which is one and the same here."""


@dataclass(frozen=True)
class Settings:
    """The options of the command, whose help explains them."""

    normal: Sequence[str]
    clouds: str
    ship: str | None
    seeds: Mapping[str, Sequence[int]]  # By method
    size: int
    limit: int | None
    rate: float
    hand: float
    threshold_methods: Sequence[str]
    masks: Path | None
    mask_methods: Sequence[str]
    severity_methods: Sequence[str] | None
    memory: str
    accelerator: str
    command: str

    @property
    def shipped(self) -> str:
        """The method of the model files."""
        default = detectors.DEFAULTS["normal"]
        return self.ship or (default if default in self.seeds else next(iter(self.seeds), default))

    @property
    def compared(self) -> tuple[str, ...]:
        """The methods whose thresholds are compared."""
        usual = [name for name in THRESHOLD_METHODS if name in self.seeds][:1]
        return tuple(dict.fromkeys(self.threshold_methods or [*usual, self.shipped]))

    def check(self) -> None:
        """Refuse what cannot work."""
        names = ", ".join(self.seeds)
        for name in self.seeds:
            detectors.by_name(name)
        if self.shipped not in self.seeds:
            raise OddsightError(f"the method {self.shipped} is to be shipped, but is not among {names}")
        if missing := [name for name in self.compared if name not in self.seeds]:
            raise OddsightError(f"thresholds of {missing[0]} were requested, but it is not among {names}")
        if not all(own and min(own) >= 0 for own in self.seeds.values()):
            raise OddsightError("name a seed of 0 or more")
        if not np.isfinite(self.hand):
            raise OddsightError(f"the threshold by hand must be a finite number, not {self.hand}")
        check_rate(self.rate)
        parse_bytes(self.memory)


def study_clouds(
    data: Path,
    output: Path,
    settings: Settings,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
    on_failure: Callable[[Failed], None],
) -> tuple[CloudStudy, dict[str, Model]]:
    """Train every method once on every side by every seed, score all classes, and test the files that are shipped.

    What has been done before in the same output folder is taken from there. ``on_epoch`` gets each new row of learning
    curves, and ``on_failure`` each method that cannot be run.

    Raises:
        DataError: Images that no study can be made of, or a normal class that is none.
        OddsightError: Any setting that cannot work; or the method that is to be shipped cannot be run.
    """
    started, work = time.perf_counter(), output / "work"
    settings.check()
    if settings.masks is not None:
        # What is wrong with them is said before long work.
        dealt(read_scenes_with_masks(settings.masks, progress=progress), _FOLDS, settings.seeds[settings.shipped][0])
    wanted = sides(class_names(data), settings.clouds, settings.normal)
    scenes = read_scenes(data, work, size=settings.size, limit=settings.limit, progress=progress)
    seeds = sorted({seed for own in settings.seeds.values() for seed in own})
    splits = [split(side, scenes.classes, seed) for side in wanted for seed in seeds]
    cells = _cells(splits, settings)
    found, failed = _run(cells, work, progress, on_epoch, on_failure)
    shipped, models = _ship([cell for cell in cells if cell.kept], found, failed, settings.rate, scenes, progress)
    study = CloudStudy(
        data=_facts(scenes, settings),
        sides=tuple(wanted),
        splits=tuple(_split_facts(one, list(found.values()), scenes.class_of) for one in splits),
        measured=tuple(found.values()),
        failed=tuple(failed),
        trivial=tuple(_trivial(splits, progress)),
        default=settings.shipped,
        compared=settings.compared,
        hand=settings.hand,
        rate=settings.rate,
        shipped=shipped,
        command=settings.command,
        machine=machine(),
        seconds={"learning and calibrating, all methods, sides and seeds": sum(one.seconds for one in found.values())},
    )
    study = _measure_parts(study, scenes, work, settings, progress)
    seconds = {"this run, without what it took from earlier ones": time.perf_counter() - started}
    return replace(study, seconds={**study.seconds, **seconds}), models


def _measure_parts(study: CloudStudy, scenes: Scenes, work: Path, settings: Settings, progress: Progress) -> CloudStudy:
    """Where clouds are, by methods with a map; and haze, smoke and dust."""
    names, seed = list(settings.seeds), settings.seeds[settings.shipped][0]
    if settings.masks is not None:
        methods = settings.mask_methods or [*(name for name in names if detectors.by_name(name).localises), *VARIANTS]
        options = {"methods": methods, "folds": _FOLDS, "seed": seed, "progress": progress}
        isolation = isolate(settings.masks, work / "isolation", **options)
        study = replace(study, isolation=isolation)
    shown = settings.severity_methods
    if shown is None:
        shown = [settings.shipped, *(name for name in SEVERITY_METHODS if name in names)]
    if shown:
        clear = [image for name, images in scenes.classes.items() if name != settings.clouds for image in images]
        options = {"methods": list(dict.fromkeys(shown)), "rate": settings.rate, "seed": seed, "progress": progress}
        severity = severity_curves(clear, work / "severity", **options)
        study = replace(study, severity=severity)
    return study


def _cells(splits: Sequence[Split], settings: Settings) -> list[Cell]:
    kept = (settings.shipped, settings.seeds[settings.shipped][0])
    options = (settings.memory, settings.accelerator)
    return [
        Cell(name, one, *options, training=name in settings.compared, kept=(name, one.seed) == kept)
        for one in splits
        for name, seeds in settings.seeds.items()
        if one.seed in seeds
    ]


_Place = tuple[str, int, str]


def _run(
    cells: Sequence[Cell],
    work: Path,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
    on_failure: Callable[[Failed], None],
) -> tuple[dict[_Place, Measured], list[Failed]]:
    """Every cell, from the folder where it was computed before; and those that cannot be."""
    folder = work / "cells"
    make_folder(folder)
    there = {cell.place: kept for cell in cells if (kept := stored(cell, folder)) is not None}
    missing = [cell for cell in cells if cell.place not in there]
    failed: list[Failed] = []
    with ExitStack() as stack:
        cache = _features(stack, missing, work, progress)
        for done, cell in enumerate(missing, 1):
            try:
                there[cell.place] = compute(cell, folder, cache, progress, on_epoch)
            except Exception as error:  # hours of work on other cells must not be lost to one method's mistake
                known = isinstance(error, OddsightError)
                reason = str(error) if known else f"unexpected {type(error).__name__}: {error}"
                failed.append(Failed(cell.method, cell.split.side.name, cell.split.seed, reason))
                on_failure(failed[-1])
            progress("methods, sides and seeds", done, len(missing))
    return {cell.place: there[cell.place] for cell in cells if cell.place in there}, failed


def _features(stack: ExitStack, cells: Sequence[Cell], work: Path, progress: Progress) -> FeatureCache | None:
    """A cache with all features that cells need, by one run of the backbone an image."""
    needed = [(extractor, cell.split) for cell in cells if (extractor := extractor_of(cell.method)) is not None]
    if not needed:
        return None
    images = [image for _, own in needed for image in (*own.trained, *own.test)]
    return stack.enter_context(shared_features((extractor for extractor, _ in needed), images, work, progress))


def _ship(
    cells: Sequence[Cell],
    found: Mapping[_Place, Measured],
    failed: Sequence[Failed],
    rate: float,
    scenes: Scenes,
    progress: Progress,
) -> tuple[tuple[ShippedScenes, ...], dict[str, Model]]:
    """The file of every side."""
    files, models = [], {}
    for cell in cells:
        kept = found.get(cell.place)
        if kept is None or kept.model is None:
            reason = next(one.reason for one in failed if (one.side, one.seed, one.method) == cell.place)
            raise OddsightError(f"{cell.method} is to be shipped for {cell.split.side.name}, but: {reason}")
        file, model = run_file(Model.load(kept.model), cell.split, kept, rate, scenes.class_of, progress)
        files.append(file)
        models[cell.split.side.name] = model
    return tuple(files), models


def _facts(scenes: Scenes, settings: Settings) -> SceneFacts:
    shown = [
        CaptionedImage(image.read(), name)
        for name, images in scenes.classes.items()
        for image in images[:: max(1, len(images) // _EXAMPLES)][:_EXAMPLES]
    ]
    return SceneFacts(
        classes={name: len(images) for name, images in scenes.classes.items()},
        clouds=settings.clouds,
        size=scenes.size,
        found=scenes.found,
        duplicates=scenes.duplicates,
        shared=scenes.shared,
        sizes=scenes.sizes,
        errors=tuple(map(str, scenes.errors)),
        limit=settings.limit,
        examples=tuple(shown),
    )


def _split_facts(one: Split, found: Sequence[Measured], class_of: Mapping[str, str]) -> SplitFacts:
    """What served for what; which images were calibrated on, those say that trained: all divide them alike."""
    first = next((own for own in found if (own.side, own.seed) == (one.side.name, one.seed)), None)

    def counts(contents: Iterable[str]) -> dict[str, int]:
        tally = Counter(class_of[content] for content in contents)
        return {name: tally[name] for name in one.side.normal}

    return SplitFacts(
        side=one.side.name,
        seed=one.seed,
        training=counts(first.trained_on if first else ()),
        calibration=counts(first.calibrated_on if first else ()),
        normal=counts(image.content for image in one.normal),
        anomalous={name: len(images) for name, images in one.anomalous.items()},
    )


def _trivial(splits: Sequence[Split], progress: Progress) -> Iterable[Trivial]:
    """Every trivial measure of every test image."""
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
