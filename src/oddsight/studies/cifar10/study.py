"""The study of CIFAR-10, or of any other labelled images: from the raw dataset to all that a report says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from oddsight.fitting.assembly import assemble
from oddsight.fitting.class_learner import ClassPlan, combine_classes
from oddsight.fitting.classifiers import Embeddings
from oddsight.fitting.parts import divide_classes
from oddsight.fitting.plan import Request
from oddsight.metrics.image import auroc
from oddsight.metrics.trivial import BASELINES, trivial_scores
from oddsight.model.calibration import check_rate
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress
from oddsight.studies.cifar10.recipes import RECIPES
from oddsight.studies.cifar10.results import DataFacts, Shipped, Study, Unknowns
from oddsight.studies.cifar10.training import Job, Sets, TrainedRun, train_recipe
from oddsight.studies.machine import machine

DEFAULT_RECIPES = ("textbook", "compact", "probe", "fine-tuned", "longer", "soup")

_CALIBRATION = 0.03  # share of the training images for calibration, with as many for validation
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
    data: Path,
    output: Path,
    *,
    unknown: Sequence[UnknownSource],
    seeds: Mapping[str, Sequence[int]],
    ship: tuple[str, str],
    rate: float,
    per_class: bool,
    epochs: int | None,
    limit: int | None,
    score_images: int | None,
    accelerator: str,
    command: str,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
) -> tuple[Study, Model]:
    """Train every recipe, score every set of unknown images by every score, and test the file that is shipped.

    What has been done before in the same output folder is taken from there. Keywords are the options of the command,
    whose help explains them: ``seeds`` are by recipe, ``ship`` is a recipe and a score. ``on_epoch`` gets each new row
    of learning curves.
    """
    _check(seeds, ship, rate)
    sets, facts, shared = _read(data, unknown, limit, progress)
    sets = replace(sets, fitted_on=score_images)
    common = [name for name in detectors.names("classes") if not name.startswith(PREFIX)]
    runs: list[TrainedRun] = []
    for name in seeds:
        scores = dict.fromkeys([*detectors.names("classes"), ship[1]] if name == ship[0] else common)
        changes = {"epochs": epochs} if epochs is not None and RECIPES[name].trains else {}
        for seed in seeds[name]:
            job = Job(RECIPES[name], sets, seed, output / "work", changes, accelerator, progress, on_epoch)
            runs.append(train_recipe(job, list(scores)))
    best = next(one for one in runs if one.run.name == ship[0])
    model = _model(best, sets, ship[1], rate, per_class=per_class)
    study = Study(
        name="cifar10",
        data=facts,
        unknowns=tuple(_unknown_facts(one, sets, shared[one.name], progress) for one in unknown),
        runs=tuple(one.run for one in runs),
        shipped=_test_file(model, best, sets, ship[1], rate, progress),
        command=command,
        machine=machine(),
    )
    return study, model


def _check(seeds: Mapping[str, Sequence[int]], ship: tuple[str, str], rate: float) -> None:
    check_rate(rate)
    unknown = [name for name in seeds if name not in RECIPES]
    if unknown or not seeds:
        what = f"no recipe {unknown[0]!r}" if unknown else "no recipe named"
        raise OddsightError(f"{what}: there are {', '.join(RECIPES)}")
    if ship[0] not in seeds:
        raise OddsightError(f"the recipe {ship[0]} is to be shipped, but is not among {', '.join(seeds)}")
    detectors.create(ship[1], "classes")
    if not all(own and min(own) >= 0 for own in seeds.values()):
        raise OddsightError("name a seed of 0 or more")


def _read(
    data: Path, unknown: Sequence[UnknownSource], limit: int | None, progress: Progress
) -> tuple[Sets, DataFacts, dict[str, int]]:
    """All images, facts about the labelled ones, and how many of each unknown set are among these, and left out."""
    splits = read_classes(data, progress=progress)
    if not {"train", "test"} <= splits.keys():
        raise DataError(f"{data} has {', '.join(splits)}: a study takes a training and a test split")
    train, test = splits["train"], splits["test"]
    parts = divide_classes(_limited(train, limit), _CALIBRATION, 0)
    learned = {image.content for image in parts.images}
    of_classes = learned | {image.content for image in test.images}
    unseen = test.subset([index for index, image in enumerate(test.images) if image.content not in learned])
    kept, shared = {}, {}
    for source in unknown:
        images = read_unlabelled(source.path, progress=progress)
        kept[source.name] = [image for image in images if image.content not in of_classes]
        shared[source.name] = len(images) - len(kept[source.name])
        if not kept[source.name]:
            raise DataError(f"all images of {source.path} are among those of the known classes")
    sets = Sets(parts, unseen, kept)
    return sets, _facts(train, sets, len(test) - len(unseen), len(train.errors) + len(test.errors)), shared


def _limited(data: ClassImages, limit: int | None) -> ClassImages:
    """At most ``limit`` images of each class, those whose contents come first."""
    if limit is None:
        return data
    order = np.array(sorted(range(len(data)), key=lambda index: data.images[index].content))
    kept = [
        index for label in range(len(data.classes)) for index in order[data.labels[order] == label][:limit].tolist()
    ]
    return data.subset(sorted(kept))


def _facts(train: ClassImages, sets: Sets, leaks: int, unreadable: int) -> DataFacts:
    parts, test = sets.parts, sets.test
    named = {"training": parts.training, "validation": parts.validation, "calibration": parts.calibration, "test": test}
    sizes = {(image.height, image.width) for image in (*parts.images, *test.images)}
    total, squares, pixels = np.zeros(3), np.zeros(3), 0
    for image in parts.training.images:
        values = image.read().reshape(-1, 3) / 255
        total, squares, pixels = total + values.sum(0), squares + np.square(values).sum(0), pixels + len(values)
    mean = total / pixels
    of_class = {name: np.flatnonzero(parts.training.labels == label) for label, name in enumerate(test.classes)}
    shown = {name: [parts.training.images[index] for index in own[:_A_CLASS]] for name, own in of_class.items()}
    return DataFacts(
        classes=test.classes,
        counts={name: tuple(part.counts().values()) for name, part in named.items()},
        size=sizes.pop() if len(sizes) == 1 else None,
        mean=tuple(mean.tolist()),
        std=tuple(np.sqrt(squares / pixels - mean**2).tolist()),
        duplicates={
            name: len(part) - len({image.content for image in part.images})
            for name, part in (("train", train), ("test", test))
        },
        leaks=leaks,
        unreadable=unreadable,
        examples={name: tuple(CaptionedImage(image.read()) for image in own) for name, own in shown.items() if own},
    )


def _unknown_facts(source: UnknownSource, sets: Sets, shared: int, progress: Progress) -> Unknowns:
    images = sets.unknown[source.name]
    progress("trivial baselines", 0, 1)
    known, unknown = (_trivial(own[:: max(1, len(own) // _BASELINE_IMAGES)]) for own in (sets.test.images, images))
    areas = [auroc(known[:, column], unknown[:, column]) for column in range(len(BASELINES))]
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


def _model(best: TrainedRun, sets: Sets, score: str, rate: float, *, per_class: bool) -> Model:
    """The model file of a run and a score, at a false-rejection rate of all classes together or of each."""
    known, classifier, seed = best.embeddings, best.classifier, best.run.seed
    fitted = detectors.create(score, "classes").fit(known["training"], sets.fitting.labels, classifier.head, seed=seed)
    embeddings = Embeddings(known["training"], known["validation"], known["calibration"])
    plan = ClassPlan.of(sets.parts, rate, Request(seed=seed))
    warmth = best.run.temperature
    return assemble(combine_classes(classifier, fitted, warmth, embeddings, plan, per_class=per_class), plan)


def _test_file(model: Model, best: TrainedRun, sets: Sets, score: str, rate: float, progress: Progress) -> Shipped:
    """What the file itself says of every test image and every unknown one."""
    images, names = sets.test.images, sets.test.classes
    found = evaluate_classes(model, sets.test, sets.unknown, progress=progress)
    results, right, rejected = found.known, found.right, found.rejected
    probability = np.array([result.label_probability for result in results], np.float32)
    known = model.metadata.classes
    assert known is not None
    surely = [index for index in np.argsort(-probability) if not right[index] and not rejected[index]][:_SHOWN]
    refused = sorted(np.flatnonzero(rejected & right), key=lambda index: results[index].p_value)[:_SHOWN]
    pairs = [pair for one, own in sets.unknown.items() for pair in zip(own, found.unknown[one], strict=True)]
    mistakes = {
        index: f"{names[found.labels[index]]}, named {results[index].label} ({probability[index]:.0%})"
        for index in surely
    }
    return Shipped(
        file=f"{best.run.name}-{score.replace(':', '-')}.onnx",
        run=best.run.name,
        seed=best.run.seed,
        score=score,
        bytes=len(model.to_bytes()),
        rate=rate,
        per_class=known.thresholds is not None,
        thresholds=tuple(known.thresholds or [model.decision.threshold]),
        labels=found.labels,
        predicted=found.predicted,
        known=scored(results),
        rejected=rejected,
        unknown={one: scored(own) for one, own in found.unknown.items()},
        found={one: flagged(own) for one, own in found.unknown.items()},
        milliseconds=_milliseconds(model, images[:_TIMED]),
        mistakes=tuple(CaptionedImage(images[index].read(), caption) for index, caption in mistakes.items()),
        missed=_shown(sorted((p for p in pairs if not p[1].anomalous), key=lambda pair: -pair[1].p_value)),
        caught=_shown(sorted((p for p in pairs if p[1].anomalous), key=lambda pair: -pair[1].score)),
        refused=tuple(
            CaptionedImage(images[index].read(), f"{results[index].label}, p {results[index].p_value:.2g}")
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
