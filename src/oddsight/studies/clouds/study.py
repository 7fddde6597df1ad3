"""The study of clouds: from class folders of satellite scenes to all that its report says of whole scenes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

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
from oddsight.model.result import Result
from oddsight.runtime.files import make_folder
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, track
from oddsight.studies.clouds.cells import Job, extractor_of, measure, stored
from oddsight.studies.clouds.isolation import isolate
from oddsight.studies.clouds.isolation_scenes import deal, read_scenes_with_masks
from oddsight.studies.clouds.results import CloudStudy, Failure, Measurement, ShippedScenes, SplitRow, Trivial
from oddsight.studies.clouds.scenes import Scenes, Side, Split, class_names, read_scenes, sides, split
from oddsight.studies.clouds.severity import severity_curves
from oddsight.studies.clouds.tables import THRESHOLD_METHODS
from oddsight.studies.clouds.variants import VARIANTS, feasible_rate
from oddsight.studies.machine import machine

SEVERITY_METHODS = ("auto", "mahalanobis", "patchcore", "autoencoder")
"""Methods that are shown synthetic haze, smoke and dust unless others are named."""

_EXAMPLES = 8
_SHOWN = 12
_FOLDS = 4


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
    on_failure: Callable[[Failure], None],
) -> tuple[CloudStudy, dict[str, Model]]:
    """Train every method once on every side by every seed, score all classes, and test the files that are shipped.

    What has been done before in the same output folder is taken from there. ``on_epoch`` gets each new row of learning
    curves, and ``on_failure`` each method that cannot be run.
    """
    started, work = time.perf_counter(), output / "work"
    settings.check()
    if settings.masks is not None:
        # What is wrong with them is said before long work.
        deal(read_scenes_with_masks(settings.masks, progress=progress), _FOLDS, settings.seeds[settings.shipped][0])
    wanted = sides(class_names(data), settings.clouds, settings.normal)
    scenes = read_scenes(data, work, size=settings.size, limit=settings.limit, progress=progress)
    seeds = sorted({seed for own in settings.seeds.values() for seed in own})
    splits = [split(side, scenes.classes, seed) for side in wanted for seed in seeds]
    jobs = _jobs(splits, settings)
    found, failed = _run(jobs, work, progress, on_epoch, on_failure)
    shipped, models = _ship([job for job in jobs if job.kept], found, failed, settings.rate, scenes, progress)
    study = CloudStudy(
        data=scenes.facts,
        clouds=settings.clouds,
        limit=settings.limit,
        examples=_examples(scenes),
        sides=tuple(wanted),
        splits=tuple(row for one in splits for row in _split_rows(one, found.values(), scenes.class_of)),
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
    names, seed = list(settings.seeds), settings.seeds[settings.shipped][0]
    if settings.masks is not None:
        methods = settings.mask_methods or [*(name for name in names if detectors.by_name(name).localises), *VARIANTS]
        isolation = isolate(
            settings.masks, work / "isolation", methods=methods, folds=_FOLDS, seed=seed, progress=progress
        )
        study = replace(study, isolation=isolation)
    shown = settings.severity_methods
    if shown is None:
        shown = [settings.shipped, *(name for name in SEVERITY_METHODS if name in names)]
    if shown:
        clear = [image for name, images in scenes.classes.items() if name != settings.clouds for image in images]
        severity = severity_curves(
            clear, work / "severity", methods=shown, rate=settings.rate, seed=seed, progress=progress
        )
        study = replace(study, severity=severity)
    return study


def _jobs(splits: Sequence[Split], settings: Settings) -> list[Job]:
    kept = (settings.shipped, settings.seeds[settings.shipped][0])
    options = (settings.memory, settings.accelerator)
    return [
        Job(name, one, *options, training=name in settings.compared, kept=(name, one.seed) == kept)
        for one in splits
        for name, seeds in settings.seeds.items()
        if one.seed in seeds
    ]


_Place = tuple[str, int, str]


def _run(
    jobs: Sequence[Job],
    work: Path,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
    on_failure: Callable[[Failure], None],
) -> tuple[dict[_Place, Measurement], list[Failure]]:
    """What came of every job, from the folder where it was computed before; and those that cannot be."""
    folder = work / "cells"
    make_folder(folder)
    there = {job.place: kept for job in jobs if (kept := stored(job, folder)) is not None}
    missing = [job for job in jobs if job.place not in there]
    failed: list[Failure] = []
    with _features(missing, work, progress) as cache:
        for done, job in enumerate(missing, 1):
            try:
                there[job.place] = measure(job, folder, cache, progress, on_epoch)
            except Exception as error:  # hours of work on other cells must not be lost to one method's mistake
                known = isinstance(error, OddsightError)
                reason = str(error) if known else f"unexpected {type(error).__name__}: {error}"
                failed.append(Failure(job.method, job.split.side.name, job.split.seed, reason))
                on_failure(failed[-1])
            progress("methods, sides and seeds", done, len(missing))
    return {job.place: there[job.place] for job in jobs if job.place in there}, failed


def _features(jobs: Sequence[Job], work: Path, progress: Progress) -> AbstractContextManager[FeatureCache | None]:
    """A cache with all features that jobs need, by one run of the backbone an image."""
    needed = [(extractor, job.split) for job in jobs if (extractor := extractor_of(job.method)) is not None]
    if not needed:
        return nullcontext()
    images = [image for _, own in needed for image in (*own.trained, *own.test)]
    return shared_features((extractor for extractor, _ in needed), images, work, progress)


def _ship(
    jobs: Sequence[Job],
    found: Mapping[_Place, Measurement],
    failed: Sequence[Failure],
    rate: float,
    scenes: Scenes,
    progress: Progress,
) -> tuple[tuple[ShippedScenes, ...], dict[str, Model]]:
    files, models = [], {}
    for job in jobs:
        kept = found.get(job.place)
        if kept is None or kept.model is None:
            reason = next(one.reason for one in failed if (one.side, one.seed, one.method) == job.place)
            raise OddsightError(f"{job.method} is to be shipped for {job.split.side.name}, but: {reason}")
        file, model = _run_file(Model.load(kept.model), job.split, kept, rate, scenes.class_of, progress)
        files.append(file)
        models[job.split.side.name] = model
    return tuple(files), models


def _run_file(
    model: Model, split: Split, measured: Measurement, rate: float, names: Mapping[str, str], progress: Progress
) -> tuple[ShippedScenes, Model]:
    """Run a file on all test images, as a user would."""
    side = split.side
    possible = feasible_rate(rate, len(model.calibration_scores))
    model = model.with_decision(false_alarm_rate=possible).with_verdicts(*side.verdicts)
    # Without maps, which are large, and not looked at from here on
    scored = ordered_map(lambda image: replace(model.score(image.read(), one_core=True), map=None), split.test)
    results = list(track(scored, f"running {side.name}.onnx", len(split.test), progress))
    scores = np.array([result.score for result in results], np.float32)
    recorded = np.concatenate([measured.normal, *measured.anomalous.values()]).astype(np.float64)
    normal, anomalous = split.parts(scores)
    file = ShippedScenes(
        file=f"{side.name}.onnx",
        side=side.name,
        seed=split.seed,
        bytes=len(model.to_bytes()),
        rate=possible,
        threshold=model.decision.threshold,
        verdicts=model.verdicts,
        calibration=len(model.calibration_scores),
        normal=normal,
        anomalous=anomalous,
        difference=float(np.abs(scores - recorded).max() / (recorded.std() or 1.0)),
        **_galleries(
            side, [(image, names[image.content], own) for image, own in zip(split.test, results, strict=True)]
        ),
    )
    return file, model


def _galleries(side: Side, answers: Iterable[tuple[ImageFile, str, Result]]) -> dict[str, tuple[CaptionedImage, ...]]:
    """Images that a file got right and wrong: the clearest mistakes, and some that are typical."""
    sorts: dict[tuple[bool, bool], list[tuple[ImageFile, str, Result]]] = {}
    for answer in sorted(answers, key=lambda answer: answer[2].score):
        sorts.setdefault((answer[1] in side.normal, answer[2].anomalous), []).append(answer)
    missed, alarms, caught, passed = (
        sorts.get(sort, []) for sort in ((False, False), (True, True), (False, True), (True, False))
    )
    start = max(0, (len(passed) - _SHOWN) // 2)  # around the median score
    classes = dict.fromkeys(name for name in side.anomalous if any(answer[1] == name for answer in caught))
    each = max(1, _SHOWN // max(1, len(classes)))
    in_turn = [answer for name in classes for answer in [own for own in caught[::-1] if own[1] == name][:each]]
    shown = {"missed": missed, "alarms": alarms[::-1], "caught": in_turn, "passed": passed[start:]}
    return {
        kind: tuple(
            CaptionedImage(image.read(), f"{name}\nsaid {result.verdict}\np {result.p_value:.2g}")
            for image, name, result in own[:_SHOWN]
        )
        for kind, own in shown.items()
    }


def _examples(scenes: Scenes) -> dict[str, tuple[CaptionedImage, ...]]:
    shown = {name: own[:: max(1, len(own) // _EXAMPLES)][:_EXAMPLES] for name, own in scenes.classes.items()}
    return {name: tuple(CaptionedImage(image.read()) for image in images) for name, images in shown.items()}


def _split_rows(one: Split, found: Iterable[Measurement], class_of: Mapping[str, str]) -> Iterator[SplitRow]:
    """What served for what; which images were calibrated on, those say that trained: all divide them alike."""
    first = next((own for own in found if (own.side, own.seed) == (one.side.name, one.seed)), None)
    roles = {
        "training": first.trained_on if first else (),
        "calibration": first.calibrated_on if first else (),
        "normal test": [image.content for image in one.normal],
        "anomalous test": [image.content for image in one.test[len(one.normal) :]],
    }
    for role, contents in roles.items():
        tally = Counter(class_of[content] for content in contents)
        for name in one.side.anomalous if role == "anomalous test" else one.side.normal:
            yield SplitRow(one.side.name, one.seed, name, role, tally[name])


def _trivial(splits: Sequence[Split], progress: Progress) -> Iterator[Trivial]:
    for one in track(splits, "trivial baselines", len(splits), progress):
        values = np.array(list(ordered_map(lambda image: trivial_scores(image.read()), one.test)))
        for column, name in enumerate(BASELINES[:-1]):  # all but the size of the image, which is one and the same here
            yield Trivial(name, one.side.name, one.seed, *one.parts(values[:, column]))
