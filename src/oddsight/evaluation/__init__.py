"""Models against labelled images: one model with :func:`evaluate`, many methods side by side in ``compare``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import overload

from oddsight import metrics
from oddsight.data.anomaly_folders import Folder, from_folders, from_mvtec
from oddsight.data.classes import read_classes
from oddsight.data.folder import as_path
from oddsight.data.grouping import NONE, Groups
from oddsight.data.outliers import read_unlabelled
from oddsight.data.reading import Reading
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.evaluation.classes import ClassEvaluation, evaluate_classes
from oddsight.evaluation.normal import Evaluation, evaluate_normal
from oddsight.metrics.pixel import check_limit
from oddsight.model.model import Model
from oddsight.runtime.bounds import check_seed
from oddsight.runtime.progress import Progress, silent


@overload
def evaluate(
    model: Model,
    folder: Folder | None = None,
    *,
    normal: Folder | None = None,
    anomalous: Folder | None = None,
    masks: Folder | None = None,
    labelled: None = None,
    unknown: None = None,
    groups: Groups = NONE,
    reading: Reading | None = None,
    aupro_limit: float = 0.3,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation: ...


@overload
def evaluate(
    model: Model, *, labelled: Folder, unknown: Mapping[str, Folder] | None = None, progress: Progress = silent
) -> ClassEvaluation: ...


def evaluate(  # noqa: PLR0913 - one keyword for each option of the command
    model: Model,
    folder: Folder | None = None,
    *,
    normal: Folder | None = None,
    anomalous: Folder | None = None,
    masks: Folder | None = None,
    labelled: Folder | None = None,
    unknown: Mapping[str, Folder] | None = None,
    groups: Groups = NONE,
    reading: Reading | None = None,
    aupro_limit: float = 0.3,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation | ClassEvaluation:
    """Evaluate a model at its own threshold: on normal and anomalous images, or on images of the classes it knows.

    Example:
        >>> model = oddsight.load("parts.onnx")
        >>> evaluation = oddsight.evaluate(model, normal="test/good", anomalous="test/bad")
        >>> evaluation.image["auroc"]
        1.0
        >>> evaluation.counts["normal"], evaluation.counts["anomalous"]
        (6, 6)

    Args:
        model: The model, as fitted or loaded; it is not changed.
        folder: A folder in MVTec AD's layout; or
        normal: a folder of normal images, with
        anomalous: a folder of anomalous ones, whose sub-folders are types of anomaly.
        masks: A folder of masks, with the same layout as ``anomalous``; see :func:`oddsight.data.images.read_mask` and
            :func:`oddsight.data.masks.match_masks`.
        labelled: For a model that knows classes: labelled images, as :func:`oddsight.data.classes.read_classes` reads
            them. The test split is used if there is one.
        unknown: With ``labelled``: images of none of the classes, by the name of each set, as
            :func:`oddsight.data.outliers.read_unlabelled` reads them.
        groups: Which images belong together, such as photos of one part, as :func:`oddsight.fit` takes it: intervals
            then count groups, not images. By default every image counts.
        reading: Bands and scale of TIFF files, instead of those that the model was trained with.
        aupro_limit: False-positive rate up to which the area under the per-region overlap curve is computed.
        confidence: Confidence of the intervals; 0.95 with ``labelled``.
        seed: Seed of the bootstrap.
        progress: Called with phase, done and total.

    Returns:
        With ``labelled`` a :class:`ClassEvaluation`, otherwise an :class:`Evaluation`.

    Raises:
        OddsightError: The limit, confidence or seed is invalid.
        DataError: Images are missing, were used to fit the model, or are of two kinds; or the model has a threshold for
            each class, for which there is no single curve, and no labelled images are given.
    """
    if not isinstance(model, Model):
        raise OddsightError(f"evaluate takes a model, as oddsight.load returns it, not a {type(model).__name__}")
    check_limit(aupro_limit)
    metrics.check_confidence(confidence)
    check_seed(seed)
    for given in (folder, normal, anomalous, masks, labelled):
        if given is not None:
            as_path(given, "a folder")
    if labelled is not None:
        grouped = not (isinstance(groups, str) and groups == NONE)
        if (folder, normal, anomalous, masks, reading, confidence) != (None, None, None, None, None, 0.95) or grouped:
            raise DataError("labelled images go with unknown ones only, and with intervals of 95% confidence")
        return _evaluate_labelled(model, labelled, unknown or {}, progress)
    if unknown:
        raise DataError("unknown images go with labelled ones")
    if model.metadata.classes is not None and model.metadata.classes.thresholds is not None:
        raise DataError("the model has a threshold for each class: evaluate it with --labelled and --unknown")
    if folder is not None and (normal, anomalous, masks) == (None, None, None):
        files = from_mvtec(folder)
    elif folder is None and normal is not None and anomalous is not None:
        files = from_folders(normal, anomalous, masks)
    else:
        raise DataError("name either one folder in MVTec AD's layout, or a normal and an anomalous folder")
    return evaluate_normal(
        model,
        files,
        model.reading.override(reading),
        groups=groups,
        aupro_limit=aupro_limit,
        confidence=confidence,
        seed=seed,
        progress=progress,
    )


def _evaluate_labelled(
    model: Model, labelled: Folder, unknown: Mapping[str, Folder], progress: Progress
) -> ClassEvaluation:
    errors: list[ImageError] = []
    splits = read_classes(labelled, reading=model.reading, progress=progress)
    sets = {
        name: read_unlabelled(
            as_path(path, "a folder"), reading=model.reading, on_error=errors.append, progress=progress
        )
        for name, path in unknown.items()
    }
    found = evaluate_classes(model, splits.get("test") or next(iter(splits.values())), sets, progress=progress)
    return replace(found, errors=(*found.errors, *errors))
