"""The study of CIFAR-10, or of any other labelled images: from the raw dataset to all that a report says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight import detectors
from oddsight.data.class_images import ClassImages
from oddsight.data.classes import read_classes
from oddsight.data.collection import ImageFile
from oddsight.data.outliers import read_unlabelled
from oddsight.detectors.one_class import PREFIX
from oddsight.drawing.image_grids import CaptionedImage
from oddsight.errors import DataError, OddsightError
from oddsight.evaluation.classes import evaluate_classes, flagged, scored
from oddsight.fitting.parts import divide_classes
from oddsight.metrics.image import auroc
from oddsight.metrics.trivial import BASELINES, trivial_scores
from oddsight.model.calibration import check_rate
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent
from oddsight.studies.cifar10.results import DataFacts, Shipped, Study, Unknowns
from oddsight.studies.cifar10.training import Sets, Trained, recipes, shipped_model, trained
from oddsight.studies.machine import machine

DEFAULT_RECIPES = ("textbook", "compact", "probe", "fine-tuned", "longer", "soup")
DEFAULT_RATE = 0.05

_SHOWN = 12
_A_CLASS = 6
_BASELINE_IMAGES = 2000
_TIMED = 50


@dataclass(frozen=True)
class UnknownSource:
    """Where images of none of the classes come from."""

    name: str  # Of the set
    path: Path  # See oddsight.data.outliers.read_unlabelled
    near: bool  # Whether they resemble the classes


def study_classes(  # noqa: PLR0913 - one keyword for each option of the command
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str = "cifar10",
    unknown: Sequence[UnknownSource] = (),
    recipe_names: Sequence[str] = DEFAULT_RECIPES,
    seeds: Mapping[str, Sequence[int]] | None = None,
    score_names: Sequence[str] | None = None,
    ship: tuple[str, str] | None = None,
    rate: float = DEFAULT_RATE,
    per_class: bool = False,
    calibration_fraction: float = 0.03,
    epochs: int | None = None,
    limit: int | None = None,
    accelerator: str = "auto",
    command: str = "",
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> tuple[Study, Model]:
    """Train every recipe, score every set of unknown images by every score, and test the file that is shipped.

    What has been done before in the same output folder is taken from there. Keywords are the options of the command,
    whose help explains them; ``ship`` is a recipe and a score, and ``calibration_fraction`` the share of the training
    images for calibration, with as many for validation. ``on_epoch`` gets each new row of learning curves.

    Raises:
        DataError: No test split, or unknown images that are also trained on and no others.
        OddsightError: Any setting that cannot work.
    """
    check_rate(rate)
    wanted = recipes(recipe_names)
    chosen = ship or (wanted[-1].name, detectors.DEFAULTS["classes"])
    if chosen[0] not in recipe_names:
        raise OddsightError(f"the recipe {chosen[0]} is to be shipped, but is not among {', '.join(recipe_names)}")
    detectors.create(chosen[1], "classes")
    by_recipe = {recipe.name: tuple((seeds or {}).get(recipe.name, (0,))) for recipe in wanted}
    if not all(own and min(own) >= 0 for own in by_recipe.values()):
        raise OddsightError("name a seed of 0 or more")
    work = Path(output) / "work"
    splits = read_classes(data, progress=progress)
    if not {"train", "test"} <= splits.keys():
        raise DataError(f"{os.fspath(data)} has {', '.join(splits)}: a study takes a training and a test split")
    train = _limited(splits["train"], limit)
    parts = divide_classes(train, calibration_fraction, 0)
    training_contents = {image.content for image in parts.images}
    test = splits["test"]
    of_classes = training_contents | {image.content for image in test.images}
    read = {one.name: _unknown(one, of_classes, progress) for one in unknown}
    unseen = test.subset([index for index, image in enumerate(test.images) if image.content not in training_contents])
    sets = Sets(parts, unseen, {name: images for name, (images, _) in read.items()})
    every = [one for one in detectors.names("classes") if not one.startswith(PREFIX)]
    runs: list[Trained] = []
    for recipe in wanted:
        own = score_names or (detectors.names("classes") if recipe.name == chosen[0] else every)
        for seed in by_recipe[recipe.name]:
            runs.append(
                trained(
                    recipe,
                    sets,
                    seed,
                    work,
                    list(dict.fromkeys([*own, *([chosen[1]] if recipe.name == chosen[0] else [])])),
                    changes={"epochs": epochs} if epochs is not None and recipe.network != "probe" else None,
                    accelerator=accelerator,
                    progress=progress,
                    on_epoch=on_epoch,
                )
            )
    best = next(one for one in runs if one.run.name == chosen[0])
    model = shipped_model(best, sets, chosen[1], rate, per_class=per_class)
    study = Study(
        name=name,
        data=_facts(splits["train"], sets, len(test) - len(unseen), len(train.errors) + len(splits["test"].errors)),
        unknowns=tuple(_unknown_facts(one, *read[one.name], sets, progress) for one in unknown),
        runs=tuple(one.run for one in runs),
        shipped=_judged(model, best, sets, chosen[1], rate, progress),
        command=command,
        machine=machine(),
    )
    return study, model


def _limited(data: ClassImages, limit: int | None) -> ClassImages:
    """At most ``limit`` images of each class, those whose contents come first."""
    if limit is None:
        return data
    order = sorted(range(len(data)), key=lambda index: data.images[index].content)
    kept = [index for label in range(len(data.classes)) for index in _first(order, data, label, limit)]
    return data.subset(sorted(kept))


def _first(order: Sequence[int], data: ClassImages, label: int, limit: int) -> list[int]:
    return [index for index in order if data.labels[index] == label][:limit]


def _unknown(source: UnknownSource, of_classes: set[str], progress: Progress) -> tuple[list[ImageFile], int]:
    """Images of none of the classes, without those that are among the classes' images, and how many these were."""
    images = read_unlabelled(source.path, progress=progress)
    kept = [image for image in images if image.content not in of_classes]
    if not kept:
        raise DataError(f"all images of {source.path} are among those of the known classes")
    return kept, len(images) - len(kept)


def _facts(train: ClassImages, sets: Sets, leaks: int, unreadable: int) -> DataFacts:
    parts, test = sets.parts, sets.test
    named = {"training": parts.training, "validation": parts.validation, "calibration": parts.calibration}
    sizes = {(image.height, image.width) for image in (*parts.images, *test.images)}
    total, squares, pixels = np.zeros(3), np.zeros(3), 0
    for image in parts.training.images:
        values = image.read().reshape(-1, 3) / 255
        total, squares, pixels = total + values.sum(0), squares + np.square(values).sum(0), pixels + len(values)
    mean = total / pixels
    shown = [
        CaptionedImage(parts.training.images[index].read(), name)
        for label, name in enumerate(test.classes)
        for index in np.flatnonzero(parts.training.labels == label)[:_A_CLASS]
    ]
    return DataFacts(
        classes=test.classes,
        counts={name: tuple(part.counts().values()) for name, part in {**named, "test": test}.items()},
        size=sizes.pop() if len(sizes) == 1 else None,
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(squares / pixels - mean**2).tolist()),
        duplicates={
            "train": len(train) - len({image.content for image in train.images}),
            "test": len(test) - len({image.content for image in test.images}),
        },
        leaks=leaks,
        unreadable=unreadable,
        examples=tuple(shown),
    )


def _unknown_facts(
    source: UnknownSource, images: Sequence[ImageFile], shared: int, sets: Sets, progress: Progress
) -> Unknowns:
    progress("trivial baselines", 0, 1)
    ours = _trivial(sets.test.images[:: max(1, len(sets.test) // _BASELINE_IMAGES)])
    theirs = _trivial(images[:: max(1, len(images) // _BASELINE_IMAGES)])
    areas = [auroc(ours[:, column], theirs[:, column]) for column in range(len(BASELINES))]
    progress("trivial baselines", 1, 1)
    return Unknowns(
        name=source.name,
        near=source.near,
        count=len(images),
        shared=shared,
        examples=tuple(CaptionedImage(image.read(), "") for image in images[:: max(1, len(images) // _SHOWN)][:_SHOWN]),
        baselines={name: max(area, 1 - area) for name, area in zip(BASELINES, areas, strict=True)},
    )


def _trivial(images: Sequence[ImageFile]) -> NDArray[np.float64]:
    return np.array(list(ordered_map(lambda image: trivial_scores(image.read()), images)))


def _judged(model: Model, best: Trained, sets: Sets, score: str, rate: float, progress: Progress) -> Shipped:
    """What the file itself says of every test image and every unknown one."""
    run, names = best.run, sets.test.classes
    found = evaluate_classes(model, sets.test, sets.unknown, progress=progress)
    results, right, rejected = found.known, found.right, found.rejected
    probability = np.array([result.label_probability for result in results], np.float32)
    known = model.metadata.classes
    assert known is not None
    thresholds = known.thresholds or [model.decision.threshold]
    surely = [index for index in np.argsort(-probability) if not right[index] and not rejected[index]][:_SHOWN]
    refused = sorted(np.flatnonzero(rejected & right), key=lambda index: results[index].p_value)[:_SHOWN]
    pairs = [pair for one, images in sets.unknown.items() for pair in zip(images, found.unknown[one], strict=True)]
    return Shipped(
        file=f"{run.name}-{score.replace(':', '-')}.onnx",
        run=run.name,
        seed=run.seed,
        score=score,
        bytes=len(model.to_bytes()),
        rate=rate,
        per_class=known.thresholds is not None,
        thresholds=tuple(thresholds),
        labels=found.labels,
        predicted=found.predicted,
        probability=probability,
        known=scored(results),
        rejected=rejected,
        unknown={one: scored(said) for one, said in found.unknown.items()},
        found={one: flagged(said) for one, said in found.unknown.items()},
        milliseconds=_milliseconds(model, sets.test.images[:_TIMED]),
        mistakes=tuple(
            CaptionedImage(
                sets.test.images[index].read(),
                f"{names[found.labels[index]]}, named {results[index].label} ({probability[index]:.0%})",
            )
            for index in surely
        ),
        missed=_shown(sorted((p for p in pairs if not p[1].anomalous), key=lambda pair: -pair[1].p_value)),
        caught=_shown(sorted((p for p in pairs if p[1].anomalous), key=lambda pair: -pair[1].score)),
        refused=tuple(
            CaptionedImage(sets.test.images[index].read(), f"{results[index].label}, p {results[index].p_value:.2g}")
            for index in refused
        ),
    )


def _shown(pairs: Sequence[tuple[ImageFile, Result]]) -> tuple[CaptionedImage, ...]:
    return tuple(
        CaptionedImage(image.read(), f"{result.label} ({result.label_probability:.0%}), p {result.p_value:.2g}")
        for image, result in pairs[:_SHOWN]
    )


def _milliseconds(model: Model, images: Sequence[ImageFile]) -> float:
    times = []
    for image in images:
        pixels = image.read()
        started = time.perf_counter()
        model.score(pixels)
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))
