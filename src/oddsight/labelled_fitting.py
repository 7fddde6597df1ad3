"""fit_classes(): from labelled images to a model that names a class, or says that it is none of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import JsonValue

from oddsight import backbones, scores
from oddsight.backbones.cache import FeatureCache, default_cache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.calibration import DEFAULT_RATE, check_rate, decide, decide_by_class, images_needed, smallest_rate
from oddsight.classification_metrics import temperature
from oddsight.datasets.class_images import ClassImages, repeats, stratified
from oddsight.datasets.classes import read_classes
from oddsight.datasets.collection import ImageFile, Progress, pack, silent
from oddsight.errors import DataError, ImageError, MemoryBudgetError, OddsightError, plain
from oddsight.fitting import versions
from oddsight.graphs.building import chain, copied, digest
from oddsight.graphs.calibrating import calibrating, calibrating_by_class
from oddsight.graphs.naming import naming
from oddsight.graphs.neighbours import MOST, nearest
from oddsight.graphs.running import run, session
from oddsight.memory import parse_bytes, plan_memory
from oddsight.metadata import (
    CLASSES_VERSION,
    KEY,
    BackboneInfo,
    CalibrationInfo,
    ClassesInfo,
    DecisionInfo,
    ExplanationInfo,
    Metadata,
    MethodInfo,
    TrainingInfo,
)
from oddsight.model import Model
from oddsight.networks.classifier_settings import ClassifierSettings, as_json, classifier_settings
from oddsight.networks.classifiers import TrainedClassifier, make_folder, require_training, train_classifier
from oddsight.networks.picture_arrays import gathered
from oddsight.networks.settings import Epoch
from oddsight.result import NONE_OF_THESE
from oddsight.scores import Score
from oddsight.scores.head import Head

PROBE = "probe"
"""A classifier that is linear on frozen features."""

FINE_TUNED = "fine-tuned"
"""One whose backbone learns, too."""

CLASSIFIERS = (PROBE, FINE_TUNED, "compact", "textbook")

DEFAULT_FRACTION = 0.1

_INVERSE_PENALTY = 0.01
_ITERATIONS = 300
_CHECKED = 3
_LONGEST = 1000
"""Letters in the name of a class, at most."""

_COPIES = 4
"""Of the embeddings, that learning from them takes in memory at most."""


@dataclass(frozen=True)
class Parts:
    """Labelled images, divided class by class; each part is ordered by content.

    Attributes:
        training: Learnt from.
        validation: To watch a training by, and to fit the temperature of the probabilities.
        calibration: For thresholds and p-values, and nothing else.
        duplicates: Pictures that occurred again and were left out.
    """

    training: ClassImages
    validation: ClassImages
    calibration: ClassImages
    duplicates: int

    @property
    def images(self) -> tuple[ImageFile, ...]:
        """Of all parts."""
        return (*self.training.images, *self.validation.images, *self.calibration.images)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over classes, contents and labels of all parts, hex."""
        labels = np.concatenate([part.labels for part in (self.training, self.validation, self.calibration)])
        return ClassImages(self.images, labels, self.training.classes).fingerprint


@dataclass(frozen=True)
class Classifier:
    """A feature network, and what is linear on top of it.

    Attributes:
        extractor: From an image to its embedding.
        head: From the embedding to logits.
        classes: Their names.
        record: How it came to be, as JSON can hold it.
    """

    extractor: Extractor
    head: Head
    classes: tuple[str, ...]
    record: Mapping[str, JsonValue]


@dataclass(frozen=True)
class LabelledPlan:
    """What a fit is about to do, known before it starts.

    Attributes:
        parts: The images.
        errors: Files that could not be read.
        classifier: Of :data:`CLASSIFIERS`.
        rate: The false-rejection rate of the decision.
        settings: Of the training, or None for a probe.
    """

    parts: Parts
    errors: tuple[ImageError, ...]
    classifier: str
    rate: float
    settings: ClassifierSettings | None


def fit_classes(  # noqa: PLR0913 - one keyword for each option of the command
    data: str | os.PathLike[str] | ClassImages,
    *,
    classifier: str = PROBE,
    backbone: str | None = None,
    layers: Sequence[str] | None = None,
    size: int | None = None,
    score: str | Score = scores.DEFAULT,
    false_alarm_rate: float | None = None,
    per_class: bool = False,
    calibration_fraction: float | None = None,
    epochs: int | None = None,
    loss: str | None = None,
    extras: Sequence[str] | None = None,
    work: str | os.PathLike[str] | None = None,
    accelerator: str = "auto",
    memory: str | int = "1GB",
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: Progress = silent,
    on_plan: Callable[[LabelledPlan], None] = lambda plan: None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> Model:
    """Learn classes and return a calibrated model that names one, or says that an image belongs to none of them.

    Args:
        data: Labelled images in a form that :func:`oddsight.datasets.classes.read_classes` knows; its training split
            is learnt from, and no other is touched.
        classifier: ``probe`` (linear on frozen features; needs no PyTorch), ``fine-tuned`` (the backbone learns,
            too), ``compact`` or ``textbook`` (networks that start from scratch).
        backbone: For ``probe`` as :func:`oddsight.fit` takes it, for ``fine-tuned`` a name that PyTorch can learn; by
            default :data:`oddsight.backbones.DEFAULT`.
        layers: For ``probe``: stages whose averages are the embedding; by default the deepest.
        size: Side in pixels to which images are brought; by default the classifier's.
        score: How an image that belongs to none of the classes is told: a name of
            :data:`oddsight.scores.SCORES`, or a score with settings of its own.
        false_alarm_rate: Share of images of the known classes that may be rejected. By default 1 %, or the smallest
            rate that the number of images can promise.
        per_class: Whether the rate holds for each class that images are taken for, by a threshold for each.
        calibration_fraction: Share of the images of each class kept out for calibration; as many again are kept out
            for the temperature of the probabilities. By default a tenth.
        epochs: How often each image is seen; by default the classifier's.
        loss: See :class:`oddsight.networks.classifier_settings.ClassifierSettings`.
        extras: See there.
        work: A folder where training leaves its state, so that an interrupted one goes on.
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        memory: The budget of what is learnt from embeddings, and all that runs then; training a network takes more.
        seed: Of every random choice.
        cache: Where features are remembered; by default the user's.
        progress: Called with phase, done and total.
        on_plan: Called once with the plan before the work starts.
        on_epoch: Called with each new row of the learning curves of a training.

    Raises:
        DataError: Too few images or classes, one picture in two classes, or too few images for the rate.
        MemoryBudgetError: The budget cannot hold the work.
        OddsightError: Any setting that cannot work.
    """
    if classifier not in CLASSIFIERS:
        raise OddsightError(f"no classifier {classifier!r}: there are {', '.join(CLASSIFIERS)}")
    if seed < 0:
        raise OddsightError(f"the seed must be 0 or more, not {seed}")
    if false_alarm_rate is not None:
        check_rate(false_alarm_rate)
    chosen = scores.by_name(score) if isinstance(score, str) else deepcopy(score)
    parse_bytes(memory)
    start: Extractor | ClassifierSettings
    if classifier == PROBE:
        _check_probe(epochs=epochs, loss=loss, extras=extras, work=work, accelerator=accelerator)
        start = _extractor(backbone or backbones.DEFAULT, layers, size)
    else:
        start = _settings(classifier, backbone, layers, size, epochs, loss, extras, seed)
    read = data if isinstance(data, ClassImages) else _training_split(data, progress)
    parts = divided(read, DEFAULT_FRACTION if calibration_fraction is None else calibration_fraction, seed)
    rate = _reachable(parts.calibration, false_alarm_rate, per_class=per_class)
    on_plan(LabelledPlan(parts, read.errors, classifier, rate, None if isinstance(start, Extractor) else start))
    cache = cache or default_cache()
    with ExitStack() as stack:
        if isinstance(start, Extractor):
            found = Embeddings(start, parts, memory, cache, progress)
            known = probe(start, found.training, parts.training)
        else:
            folder = Path(work) if work is not None else Path(stack.enter_context(TemporaryDirectory()))
            known, _ = train(parts, start, folder, accelerator=accelerator, progress=progress, on_epoch=on_epoch)
            found = Embeddings(known.extractor, parts, memory, cache, progress)
        progress("learning", 0, 1)
        chosen.fit(found.training, parts.training.labels, known.head, seed=seed)
        progress("learning", 1, 1)
        warmth = temperature(known.head.logits(found.validation), parts.validation.labels)
        return assembled(
            known,
            chosen,
            warmth,
            found.training,
            found.calibration,
            parts,
            rate,
            per_class=per_class,
            seed=seed,
            unreadable=len(read.errors),
        )


def _check_probe(*, accelerator: str, **others: object) -> None:
    given = [name for name, value in others.items() if value is not None] + ["accelerator"] * (accelerator != "auto")
    if given:
        raise OddsightError(f"a probe trains no network, so it takes no {given[0]}: choose another classifier")


def _settings(
    classifier: str,
    backbone: str | None,
    layers: Sequence[str] | None,
    size: int | None,
    epochs: int | None,
    loss: str | None,
    extras: Sequence[str] | None,
    seed: int,
) -> ClassifierSettings:
    changes = {"epochs": epochs, "loss": loss, "extras": tuple(extras) if extras is not None else None}
    if backbone is not None and classifier != FINE_TUNED:
        raise OddsightError(f"the classifier {classifier} is a network of its own: leave the backbone out")
    if layers is not None:
        raise OddsightError(f"the classifier {classifier} reads the deepest layer of its network: leave the layers out")
    if size is not None:
        changes |= {"size": size, "first_size": 0}
    network = backbone or backbones.DEFAULT
    settings = classifier_settings(network if classifier == FINE_TUNED else classifier, seed=seed, **changes)
    require_training()
    return settings


def _training_split(data: str | os.PathLike[str], progress: Progress) -> ClassImages:
    splits = read_classes(data, progress=progress)
    if "train" not in splits:
        raise DataError(f"{os.fspath(data)} has no training images, only {', '.join(splits)}")
    return splits["train"]


def divided(data: ClassImages, fraction: float, seed: int) -> Parts:
    """Divide labelled images class by class: a share ``fraction`` for calibration and as many for validation.

    Raises:
        DataError: Too few images or classes for that, or one picture in two classes.
    """
    if not 0 < fraction < 0.5:
        raise DataError(f"the calibration fraction must lie above 0 and below 0.5, not {fraction:g}")
    _check_names(data.classes)
    for repeat in repeats({"train": data}):
        if repeat.contradicts:
            where = " and ".join(place.name for place in repeat.places[:2])
            raise DataError(f"{where} are the same picture in different classes")
    firsts = {image.content: index for index, image in reversed(list(enumerate(data.images)))}
    distinct = data.subset([firsts[content] for content in sorted(firsts)])
    few = [name for name, count in distinct.counts().items() if count < 3]
    if len(distinct.classes) < 2 or few:
        what = f"the class {plain(few[0])} has fewer than 3 distinct images" if few else "there is only one class"
        raise DataError(f"{what}, and learning classes takes two or more with at least 3 each")
    rest, calibration = stratified(distinct, fraction, seed)
    training, validation = stratified(rest, fraction / (1 - fraction), seed)
    if min(training.counts().values(), default=0) < 1:
        raise DataError(f"a calibration fraction of {fraction:g} leaves nothing to learn from: choose a smaller one")
    return Parts(training, validation, calibration, len(data) - len(distinct))


def _check_names(classes: Sequence[str]) -> None:
    """Refuse names that a model file cannot hold, or that could be taken for another verdict."""
    for name in classes:
        if name.strip().lower() == NONE_OF_THESE:
            raise DataError(f"a class is called {plain(name)!r}, which is the verdict on images of no class: rename it")
        if not name.strip() or len(name) > _LONGEST or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(
                f"the name of a class, {plain(name)[:40]!r}, is empty, longer than {_LONGEST:,} letters, or no text: "
                "rename it"
            )


def _reachable(calibration: ClassImages, rate: float | None, *, per_class: bool) -> float:
    """The rate asked for, or 1 %, or the smallest that this number of images promises."""
    count = min(calibration.counts().values()) if per_class else len(calibration)
    if rate is not None:
        if count < images_needed(rate):
            each = " of each class" * per_class
            raise DataError(
                f"a false-alarm rate of {rate:g} takes at least {images_needed(rate):,} calibration images{each}, and "
                f"there are {count:,}: add images or ask for {smallest_rate(count):.3g} or more"
            )
        return rate
    # Fewer images are taken for a class than belong to it where some are taken for another.
    return max(DEFAULT_RATE, smallest_rate(max(1, count // 2) if per_class else count))


def _extractor(name: str, layers: Sequence[str] | None, size: int | None) -> Extractor:
    network = backbones.backbone(name)
    stages = tuple(layers) if layers is not None else (list(network.stages)[-1],)
    network.check_layers(stages)
    extractor = Extractor(network, stages, network.size if size is None else size, "embedding")
    network.shapes(extractor.stages, extractor.size)
    return extractor


class Embeddings:
    """The embeddings of all parts, float32 ``[n, C]`` each.

    Args:
        extractor: What computes them.
        parts: Of which images.
        memory: Budget in bytes, or as text.
        cache: Where they are remembered, or None.
        progress: Called with phase, done and total.

    Raises:
        MemoryBudgetError: If the budget cannot hold them.
    """

    def __init__(
        self, extractor: Extractor, parts: Parts, memory: str | int, cache: FeatureCache | None, progress: Progress
    ) -> None:
        network, images = extractor.backbone, parts.images
        plan = plan_memory(
            parse_bytes(memory),
            images,
            extractor.size,
            activations=network.activations,
            weights=network.memory(extractor.stages),
        )
        needed = _COPIES * 4 * extractor.shape[0] * len(images)
        if needed > plan.method:
            raise MemoryBudgetError(
                f"learning from {len(images):,} embeddings of {extractor.shape[0]:,} numbers takes "
                f"{needed / 1e6:,.0f} MB, and the budget leaves {plan.method / 1e6:,.0f} MB: raise the memory budget, "
                "or use fewer images or a network with a smaller embedding"
            )
        self.training = embedded(extractor, parts.training.images, cache, progress)
        self.validation = embedded(extractor, parts.validation.images, cache, progress)
        self.calibration = embedded(extractor, parts.calibration.images, cache, progress)


def embedded(
    extractor: Extractor, images: Sequence[ImageFile], cache: FeatureCache | None = None, progress: Progress = silent
) -> NDArray[np.float32]:
    """Embeddings of images, float32 ``[n, C]``."""
    rows = np.empty((len(images), *extractor.shape), np.float32)
    for done, one in enumerate(Features(extractor, images, cache)):
        rows[done] = one
        progress("extracting features", done + 1, len(images))
    return rows


def probe(extractor: Extractor, embeddings: NDArray[np.float32], images: ClassImages) -> Classifier:
    """A classifier that is linear on frozen features: multinomial logistic regression.

    Args:
        extractor: Of the features.
        embeddings: ``[n, C]``.
        images: With their classes.
    """
    from sklearn.linear_model import LogisticRegression

    centre = embeddings.mean(axis=0)
    scale = embeddings.std(axis=0) + 1e-6
    learnt = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_ITERATIONS, tol=1e-4)
    learnt.fit((embeddings - centre) / scale, images.labels)
    rows, shifts = learnt.coef_, learnt.intercept_
    if len(rows) == 1:
        # Of two classes scikit-learn gives the difference only.
        rows, shifts = np.concatenate([-rows, rows]) / 2, np.concatenate([-shifts, shifts]) / 2
    weights = rows.T / scale[:, None]
    head = Head(weights.astype(np.float32), (shifts - centre @ weights).astype(np.float32))
    record: dict[str, JsonValue] = {"classifier": PROBE, "penalty": 1 / _INVERSE_PENALTY, "iterations": _ITERATIONS}
    return Classifier(extractor, head, images.classes, record)


def train(
    parts: Parts,
    settings: ClassifierSettings,
    folder: Path,
    *,
    start: Path | None = None,
    accelerator: str = "auto",
    progress: Progress = silent,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> tuple[Classifier, TrainedClassifier]:
    """A classifier whose network is trained, and what became of the training.

    Args:
        parts: Of the images; those for calibration are not touched.
        settings: Of the training.
        folder: See :func:`oddsight.networks.classifiers.train_classifier`, as for the other arguments.
        start: See there.
        accelerator: See there.
        progress: Called with phase, done and total.
        on_epoch: Called with each new row of the learning curves.
    """
    require_training()
    make_folder(folder)
    training, validation = (
        gathered(part.images, part.labels, settings.size, file=folder / f"{name}.npy", progress=progress)
        for name, part in (("training", parts.training), ("validation", parts.validation))
    )
    trained = train_classifier(
        training,
        validation,
        parts.training.classes,
        settings,
        folder,
        start=start,
        accelerator=accelerator,
        progress=progress,
        on_epoch=on_epoch,
    )
    network = backbones.backbone(trained.backbone)
    record: dict[str, JsonValue] = {"classifier": settings.network, "settings": as_json(trained.settings)}
    extractor = Extractor(network, (trained.layer,), settings.size, "embedding")
    head = Head(trained.weights, trained.bias)
    return Classifier(extractor, head, parts.training.classes, record), trained


def assembled(
    known: Classifier,
    score: Score,
    warmth: float,
    training: NDArray[np.float32],
    calibration: NDArray[np.float32],
    parts: Parts,
    rate: float,
    *,
    per_class: bool,
    seed: int,
    unreadable: int = 0,
) -> Model:
    """One graph of a classifier and a fitted score, calibrated.

    Args:
        known: The classifier.
        score: Fitted.
        warmth: The temperature of its probabilities.
        training: Embeddings of the training images ``[n, C]``.
        calibration: Embeddings of the calibration images ``[m, C]``.
        parts: Of the images.
        rate: The false-rejection rate of the decision.
        per_class: Whether for each class.
        seed: Of the fit.
        unreadable: Files that could not be read.

    Raises:
        DataError: Too few calibration images were taken for a class.
        OddsightError: If the score is not finite, or the whole graph does not score as its parts do.
    """
    extractor, names = known.extractor, known.classes
    neighbours = nearest(extractor.reading, extractor.shape, training[:MOST])
    pieces = [known.head.graph(), naming(len(names), warmth), score.graph(), neighbours]
    outputs = ["score", "class_index", "class_probability", "nearest"]
    tail = chain([copied(one) for one in pieces], outputs)
    values, taken = _scored(tail, calibration)
    if not np.isfinite(values).all():
        raise OddsightError(f"{score.name} gave scores that are not finite: choose another score or add images")
    calibrated = calibrating_by_class(values, taken, len(names)) if per_class else calibrating(values)
    outputs.insert(1, "p_value")
    whole = chain([copied(extractor.graph), *pieces, calibrated], outputs)
    _check(whole, parts.calibration.images[:_CHECKED], values, score.name)
    decision = decide(values, rate)
    thresholds = list(decide_by_class(values, taken, names, rate)) if per_class else None
    network = extractor.backbone
    metadata = Metadata(
        schema_version=CLASSES_VERSION,
        **versions(),
        graph_sha256=digest(whole),
        method=MethodInfo(name=score.name, paper=score.paper, settings=score.settings()),
        backbone=BackboneInfo(
            name=network.name, sha256=network.sha256, layers=list(extractor.layers), size=extractor.size
        ),
        map_size=None,
        training=TrainingInfo(
            images=len(parts.training),
            duplicates=parts.duplicates,
            unreadable=unreadable,
            fingerprint=parts.fingerprint,
            images_seen=pack(parts.images),
            seed=seed,
        ),
        calibration=CalibrationInfo(kind="split", images=len(values), folds=1),
        decision=DecisionInfo(threshold=decision.threshold, false_alarm_rate=decision.false_alarm_rate),
        explanation=ExplanationInfo(normals=pack(parts.training.images[:MOST]), voices=[]),
        classes=ClassesInfo(names=list(names), head=dict(known.record), temperature=warmth, thresholds=thresholds),
    )
    whole.metadata_props.add(key=KEY, value=metadata.to_json())
    return Model.from_bytes(whole.SerializeToString(deterministic=True))


def _scored(graph: onnx.ModelProto, embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores of embeddings, and the classes they are taken for."""
    loaded = session(graph.SerializeToString(), threads=1)
    rows = [run(loaded, {"embedding": one[None]}, "an embedding", ["score", "class_index"]) for one in embeddings]
    return np.array([row[0][0] for row in rows], np.float32), np.array([row[1][0] for row in rows], np.int64)


def _check(graph: onnx.ModelProto, images: Sequence[ImageFile], scores: NDArray[np.float32], name: str) -> None:
    loaded = session(graph.SerializeToString(), threads=1)
    whole = [run(loaded, {"image": one.read()[None]}, str(one.path), ["score"])[0][0] for one in images]
    if not np.allclose(whole, scores[: len(images)], rtol=1e-3, atol=1e-6):
        raise OddsightError(f"{name} does not score alike in one graph and in parts: its scores are unstable")
