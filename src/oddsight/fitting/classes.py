"""fit_classes(): from labelled images to a model that names a class, or says that it is none of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from oddsight import backbones, detectors
from oddsight.backbones.cache import FeatureCache, default_cache
from oddsight.data.class_images import ClassImages
from oddsight.data.grouping import AUTO, Groups
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.detectors import Detector
from oddsight.errors import OddsightError
from oddsight.fitting.choosing import Open
from oddsight.fitting.class_learner import ClassLearner, ClassPlan
from oddsight.fitting.classifiers import (
    PROBE,
    Probe,
    TrainedNetwork,
)
from oddsight.fitting.pipeline import run
from oddsight.fitting.plan import Request
from oddsight.fitting.types import add_types, attention_of, check_anomalies, check_normal
from oddsight.model.curves import Epoch
from oddsight.model.model import Model
from oddsight.runtime.bounds import check_whole
from oddsight.runtime.progress import Progress, silent
from oddsight.training.classifier_settings import NETWORKS, ClassifierSettings, classifier_settings
from oddsight.training.libraries import require_training
from oddsight.training.workplace import Workplace

FINE_TUNED = "fine-tuned"
"""A classifier whose backbone learns, too."""

CLASSIFIERS = (PROBE, FINE_TUNED, *NETWORKS)


def fit_classes(  # noqa: PLR0913 - one keyword for each option of the command
    data: str | os.PathLike[str] | ClassImages,
    *,
    classifier: str = PROBE,
    backbone: str | None = None,
    layers: Sequence[str] | None = None,
    size: int | None = None,
    score: str | Detector | None = None,
    normal: Model | str | os.PathLike[str] | None = None,
    false_alarm_rate: float | None = None,
    confidence: float | None = None,
    per_class: bool = False,
    groups: Groups = AUTO,
    reading: Reading = AS_DECLARED,
    calibration_fraction: float | None = None,
    epochs: int | None = None,
    loss: str | None = None,
    extras: Sequence[str] | None = None,
    mirrored: bool | None = None,
    work: str | os.PathLike[str] | None = None,
    accelerator: str = "auto",
    memory: str | int = "1GB",
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: Progress = silent,
    on_plan: Callable[[ClassPlan], None] = lambda plan: None,
    on_epoch: Callable[[Epoch], None] = lambda row: None,
) -> Model:
    """Train a classifier and return a calibrated model, which predicts a class or says that it is none of them.

    Example:
        >>> model = oddsight.fit_classes("animals", size=64, false_alarm_rate=0.2)
        >>> model.classes
        ('cat', 'dog')
        >>> model.predict("animals/cat/0000.png").label
        'cat'

    Args:
        data: Labelled images, in a form that :func:`oddsight.data.classes.read_classes` reads. Only the training split
            is used.
        classifier: ``probe`` (linear on frozen features; needs no PyTorch), ``fine-tuned`` (the backbone is trained,
            too), ``compact``, ``wide`` or ``textbook`` (networks trained from scratch).
        backbone: For ``probe`` as :func:`oddsight.fit` takes it, for ``fine-tuned`` the name of a network that PyTorch
            can train; by default :data:`oddsight.backbones.DEFAULT`.
        layers: For ``probe``: the stages that are averaged for the embedding; by default chosen.
        size: Side in pixels to which images are resized; by default chosen for ``probe``, otherwise the classifier's.
            With ``normal``, by default as that model reads images, if it reads the same backbone.
        score: The score that detects images of none of the classes: a name that ``oddsight scores`` lists, names
            joined by ``+``, or a detector with other settings. By default chosen for ``probe``, otherwise ``knn``. What
            is chosen depends on the training images only (:class:`oddsight.fitting.choosing.Open`).
        normal: A model of normal images, or its file. The labelled images are then types of anomalies, and the result
            is a copy of that model which also names the types (:attr:`oddsight.Result.type`). ``false_alarm_rate`` is
            the share of anomalies of these types that may be said to be of an unknown type. If the model has anomaly
            maps, a ``probe`` counts a place of the image by how high the map rises there.
        false_alarm_rate: Share of images of the known classes that may be rejected. By default 1%, or the smallest rate
            that the number of images can promise.
        confidence: The probability with which the true rate is at most that, such as 0.95; see :func:`oddsight.fit`.
        per_class: Whether the rate holds for each predicted class, by a threshold for each.
        groups: Which images belong together, as for :func:`oddsight.fit`. By default near copies within each class form
            groups.
        reading: Which bands and values of TIFF files to take. The model stores it and reads other images in the same
            way.
        calibration_fraction: Share of the images of each class held out for calibration, by default a tenth. If a
            network is trained, as many again are held out for the temperature of the probabilities. A ``probe`` needs
            none for that, and where a tenth is not enough for a rate of 1%, its default is 0: every image is then
            scored by a probe that was not trained on it (five folds), and the final one is trained on all images.
        epochs: Number of epochs; by default the classifier's.
        loss: See :class:`oddsight.training.classifier_settings.ClassifierSettings`.
        extras: See :class:`oddsight.training.classifier_settings.ClassifierSettings`.
        mirrored: See :class:`oddsight.training.classifier_settings.ClassifierSettings`.
        work: A folder for checkpoints, to continue after an interruption.
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        memory: Memory budget of the process while it trains on embeddings; training a network takes more.
        seed: Seed of every random choice.
        cache: The feature cache; by default the user's.
        progress: Called with phase, done and total.
        on_plan: Called once with the plan before the work starts.
        on_epoch: Called with each new row of the learning curves.

    Raises:
        DataError: There are too few images or classes, or too few images for the rate, or an image is in two classes.
        MemoryBudgetError: The memory budget is too small.
        OddsightError: A setting is invalid.
    """
    if classifier not in CLASSIFIERS:
        raise OddsightError(f"no classifier {classifier!r}: there are {', '.join(CLASSIFIERS)}")
    base = None if normal is None else check_normal(normal if isinstance(normal, Model) else Model.load(normal))
    if base is not None and per_class:
        raise OddsightError("types of anomalies have one threshold together: leave the rate of each class out")
    if base is not None and reading not in {AS_DECLARED, base.reading}:
        raise OddsightError("labelled anomalies are read as the model of normal images is: leave bands and scale out")
    reading = reading if base is None else base.reading
    request = Request(
        rate=false_alarm_rate,
        confidence=confidence,
        fraction=calibration_fraction,
        groups=groups,
        memory=memory,
        seed=seed,
    )
    size = None if size is None else check_whole(size, "the size", None)
    detector = detectors.create(detectors.DEFAULTS["classes"] if score is None else score, "classes")
    changes = {"epochs": epochs, "loss": loss, "extras": extras, "mirrored": mirrored}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary if work is None else work)
        source: Probe | TrainedNetwork
        if classifier == PROBE:
            _check_probe(**changes, work=work, accelerator=None if accelerator == "auto" else accelerator)
            attention = None if base is None else attention_of(base)
            source = Probe(backbones.DEFAULT if backbone is None else backbone, layers, size, attention)
        else:
            settings = _settings(classifier, backbone, layers, size, {**changes, "seed": request.seed})
            source = TrainedNetwork(settings, Workplace(folder, accelerator, progress, on_epoch))
        left = Open(size is None, layers is None, score is None)
        cache = cache or default_cache()
        learner = ClassLearner(detector, source, data, request, per_class, reading, cache, progress, left)
        plans: list[ClassPlan] = []

        def start(plan: ClassPlan) -> None:
            if base is not None:
                check_anomalies(base, plan.images, plan.parts.training.classes)
            plans.append(plan)
            on_plan(plan)

        model = run(learner, start)
        return model if base is None else add_types(base, model, plans[0].calibration, progress)


def _check_probe(**options: object) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise OddsightError(f"a probe trains no network, so it takes no {given[0]}: choose another classifier")


def _settings(
    classifier: str,
    backbone: str | None,
    layers: Sequence[str] | None,
    size: int | None,
    changes: Mapping[str, object],
) -> ClassifierSettings:
    if backbone is not None and classifier != FINE_TUNED:
        raise OddsightError(f"the classifier {classifier} is a network of its own: leave the backbone out")
    if layers is not None:
        raise OddsightError(f"the classifier {classifier} reads the deepest layer of its network: leave the layers out")
    if size is not None:
        changes = {**changes, "size": size, "first_size": 0}
    network = backbones.DEFAULT if backbone is None else backbone
    settings = classifier_settings(network if classifier == FINE_TUNED else classifier, **changes)
    require_training()
    return settings
