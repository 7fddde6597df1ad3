"""evaluate(): a model against labelled images, with the threshold as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from oddsight import metrics
from oddsight.data.anomaly_folders import Folder, LabelledImage, LabelledSet, from_folders, from_mvtec, mask_like
from oddsight.data.collection import seen
from oddsight.data.folder import as_path
from oddsight.data.images import content_hash, read_valid_image
from oddsight.data.masks import MaskCoverage, MaskLook, inspect_mask, settle_turns, summarize_masks
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.evaluation.maps import Mapped, map_metrics
from oddsight.metrics.pixel import PixelScores, check_limit
from oddsight.metrics.trivial import BASELINES, trivial_scores
from oddsight.model.calibration import alarms
from oddsight.model.metadata import Metadata
from oddsight.model.model import Model
from oddsight.model.result import Result, Voice
from oddsight.runtime.bounds import check_seed
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent


@dataclass(frozen=True)
class Judged:
    """One test image: the truth about it and what the model said.

    Attributes:
        path: The image.
        kind: The type of anomaly, or None if it is normal.
        mask: The path of its mask, or of the folder with the parts of it, or None.
        score: Raw.
        p_value: In (0, 1].
        flagged: Whether the model called it anomalous.
        voices: What the detectors inside the method said, the decisive one first: :class:`oddsight.model.result.Voice`.
        nearest: The content of the most similar normal image the model learned from, as in :class:`oddsight.Result`.
        mask_turn: The EXIF orientation to apply to its mask, as :func:`oddsight.data.mask_files.read_mask` takes it.
    """

    path: str
    kind: str | None
    mask: str | None
    score: float
    p_value: float
    flagged: bool
    voices: tuple[Voice, ...] = ()
    nearest: str | None = None
    mask_turn: int = 1


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`. Rates and areas are in [0, 1]; intervals are ``(low, high)``.

    Attributes:
        metadata: Metadata of the model.
        judged: Every readable test image with its result, in order.
        image: Metrics over images: ``auroc, auroc_ci, average_precision, fpr95, fpr95_normal_positive, precision,
            recall, f1, f1_max, false_alarm_rate, false_alarm_rate_ci, recall_ci``.
        pixel: ``auroc, average_precision, aupro, aupro_limit, f1_max``, or None without masks or maps.
        by_type: For each type of anomaly: ``auroc, auroc_ci, average_precision, recall, images``.
        baselines: AUROC of trivial features of the image (mean brightness, ...), each in the direction that favours it.
        confidence: Confidence of the intervals.
        counts: ``normal, anomalous, flagged_normal, flagged_anomalous, masks, empty_masks, pixel_images, without_mask,
            unmatched_masks, unreadable, ignored``: ``masks`` is the number of readable masks, and ``pixel_images`` the
            number of anomalous images in the pixel metrics.
        masks: The images that the pixel metrics use, and remarks on suspicious masks; None without masks.
        warnings: Caveats for the reader, one sentence each.
        errors: Images and masks that could not be used.
        reading: How TIFF files were read.
    """

    metadata: Metadata
    judged: tuple[Judged, ...]
    image: Mapping[str, Any]
    pixel: Mapping[str, float] | None
    by_type: Mapping[str, Mapping[str, Any]]
    baselines: Mapping[str, float]
    confidence: float
    counts: Mapping[str, int]
    warnings: tuple[str, ...]
    errors: tuple[ImageError, ...]
    masks: MaskCoverage | None = None
    reading: Reading = AS_DECLARED

    def scores(self, kind: str | None) -> NDArray[np.float64]:
        """Scores of the images of one type of anomaly, or (None) of the normal images."""
        return np.array([judged.score for judged in self.judged if judged.kind == kind])

    def decided_by(self, kind: str | None) -> dict[str, float]:
        """Share of the images of one type (None: normal images) in which each voice decided; empty without voices."""
        explanation = self.metadata.explanation
        first = [judged.voices[0].name for judged in self.judged if judged.kind == kind and judged.voices]
        if explanation is None or not first:
            return {}
        return {name: first.count(name) / len(first) for name in explanation.voices}

    def to_json(self) -> dict[str, Any]:
        """As ``evaluate --json`` writes it."""
        return {
            "model": {
                "method": self.metadata.method.name,
                "backbone": self.metadata.backbone.name,
                "graph_sha256": self.metadata.graph_sha256,
                "threshold": self.metadata.decision.threshold,
                "false_alarm_rate": self.metadata.decision.false_alarm_rate,
            },
            "image": dict(self.image),
            "pixel": dict(self.pixel) if self.pixel is not None else None,
            "by_type": {kind: {**values, "decided_by": self.decided_by(kind)} for kind, values in self.by_type.items()},
            "normal_decided_by": self.decided_by(None),
            "baselines": dict(self.baselines),
            "confidence": self.confidence,
            "counts": dict(self.counts),
            "masks": self.masks.to_json() if self.masks is not None else None,
            "warnings": list(self.warnings),
            "errors": [{"path": error.path, "error": error.reason} for error in self.errors],
        }


def evaluate(
    model: Model,
    folder: Folder | None = None,
    *,
    normal: Folder | None = None,
    anomalous: Folder | None = None,
    masks: Folder | None = None,
    reading: Reading | None = None,
    aupro_limit: float = 0.3,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate a model on normal and anomalous images, at its own threshold.

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
        masks: A folder of masks, with the same layout as ``anomalous``; see
            :func:`oddsight.data.mask_files.read_mask` and :func:`oddsight.data.masks.match_masks`.
        reading: Bands and scale of TIFF files, instead of those that the model was trained with.
        aupro_limit: False-positive rate up to which the area under the per-region overlap curve is computed.
        confidence: Confidence of the intervals.
        seed: Seed of the bootstrap.
        progress: Called with phase, done and total.

    Raises:
        OddsightError: The limit, confidence or seed is invalid.
        DataError: Images are missing, were used to fit the model, or are both normal and anomalous; or the model has a
            threshold for each class, for which there is no single curve.
    """
    if not isinstance(model, Model):
        raise OddsightError(f"evaluate takes a model, as oddsight.load returns it, not a {type(model).__name__}")
    check_limit(aupro_limit)
    metrics.check_confidence(confidence)
    check_seed(seed)
    if model.metadata.classes is not None and model.metadata.classes.thresholds is not None:
        raise DataError("the model has a threshold for each class: evaluate it with --labelled and --unknown")
    for given in (folder, normal, anomalous, masks):
        if given is not None:
            as_path(given, "a folder")
    if folder is not None and (normal, anomalous, masks) == (None, None, None):
        labelled = from_mvtec(folder)
    elif folder is None and normal is not None and anomalous is not None:
        labelled = from_folders(normal, anomalous, masks)
    else:
        raise DataError("name either one folder in MVTec AD's layout, or a normal and an anomalous folder")
    with tempfile.TemporaryFile() as maps:
        used = model.reading.override(reading)
        looks, errors = _look_at_all(model, labelled.images, used, maps, progress)
        _check_leaks(looks, model)
        tests = [look.mapped for look in looks]
        pixel = map_metrics(maps, model.metadata.map_size, tests, limit=aupro_limit)
    mask_errors = [look.mask_error for look in looks if look.mask_error is not None]
    errors = [*labelled.problems, *errors, *mask_errors]
    return replace(_evaluation(model, labelled, looks, errors, pixel, confidence, seed), reading=used)


@dataclass(frozen=True)
class _Look:
    labelled: LabelledImage
    content: str
    result: Result
    trivial: tuple[float, ...]
    mask: MaskLook | None
    mask_error: ImageError | None

    @property
    def mapped(self) -> Mapped:
        """What the metrics of its map take."""
        return Mapped((self.result.width, self.result.height), self.labelled.kind is not None, self.mask)


def _look_at_all(
    model: Model, images: Sequence[LabelledImage], reading: Reading, maps: IO[bytes], progress: Progress
) -> tuple[list[_Look], list[ImageError]]:
    """Score everything once; maps go to a file, so that memory does not grow with them."""
    looks, errors = [], []
    for done, look in enumerate(map_jobs(partial(_look_at, model, reading), images), 1):
        if isinstance(look, ImageError):
            errors.append(look)
        else:
            if look.result.map is not None:
                maps.write(look.result.map.tobytes())
            looks.append(look)
        progress("evaluating", done, len(images))
    for what in ("normal", "anomalous"):
        if not any((look.labelled.kind is None) == (what == "normal") for look in looks):
            reason = f"; the first is {errors[0]}" if errors else ""
            raise DataError(f"none of the {what} images could be read{reason}")
    settled = settle_turns([look.mask for look in looks])
    return [replace(look, mask=mask) for look, mask in zip(looks, settled, strict=True)], errors


def _look_at(model: Model, reading: Reading, labelled: LabelledImage) -> _Look | ImageError:
    try:
        pixels, valid = read_valid_image(labelled.path, reading=reading)
        result = model.score(pixels, valid=valid, source=str(labelled.path), one_core=True)
    except ImageError as error:
        # Without its traceback, which would hold on to the pixels.
        return ImageError(error.path, error.reason)
    mask, mask_error = None, None
    if labelled.mask is not None:
        try:
            mask = inspect_mask(labelled.mask, labelled.path, pixels.shape[1::-1])
        except ImageError as error:
            mask_error = ImageError(error.path, error.reason)
    return _Look(labelled, content_hash(pixels), result, trivial_scores(pixels), mask, mask_error)


def _check_leaks(looks: Sequence[_Look], model: Model) -> None:
    known = seen(model.metadata.training.images_seen)
    leaked = [look for look in looks if known(look.content)]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(looks)} test images were used to fit this model, such as "
            f"{leaked[0].labelled.path}: remove them, as results on them mean nothing"
        )
    normal = {look.content: look.labelled.path for look in looks if look.labelled.kind is None}
    for look in looks:
        if look.labelled.kind is not None and look.content in normal:
            raise DataError(f"{look.labelled.path} is the same image as {normal[look.content]}, which counts as normal")


def _evaluation(
    model: Model,
    labelled: LabelledSet,
    looks: Sequence[_Look],
    errors: Sequence[ImageError],
    pixel: PixelScores | None,
    confidence: float,
    seed: int,
) -> Evaluation:
    judged = tuple(
        Judged(
            str(look.labelled.path),
            look.labelled.kind,
            str(look.labelled.mask) if look.labelled.mask else None,
            look.result.score,
            look.result.p_value,
            look.result.anomalous,
            look.result.voices,
            look.result.nearest,
            look.mask.turn if look.mask is not None else 1,
        )
        for look in looks
    )
    truth = np.array([one.kind is not None for one in judged])
    scores = np.array([one.score for one in judged])
    flags = np.array([one.flagged for one in judged])
    image = _image_metrics(scores, flags, truth, confidence, seed)
    kinds = sorted({one.kind for one in judged if one.kind is not None})
    by_type = {}
    for kind in kinds:
        own = np.array([one.kind == kind for one in judged])
        by_type[kind] = _type_metrics(scores[~truth], scores[own], flags[own], confidence, seed)
    trivial = np.array([look.trivial for look in looks])
    baselines = {
        name: metrics.trivial_baseline_auroc(trivial[~truth, column], trivial[truth, column])
        for column, name in enumerate(BASELINES)
    }
    masks = _mask_coverage(labelled, looks)
    counts = {
        "normal": int((~truth).sum()),
        "anomalous": int(truth.sum()),
        "flagged_normal": int(flags[~truth].sum()),
        "flagged_anomalous": int(flags[truth].sum()),
        "masks": sum(look.mask is not None for look in looks),
        "empty_masks": len(masks.empty) if masks is not None else 0,
        "pixel_images": masks.used if masks is not None and pixel is not None else 0,
        "without_mask": len(masks.without) if masks is not None else 0,
        "unmatched_masks": len(masks.unmatched) if masks is not None else 0,
        "unreadable": len(errors),
        "ignored": labelled.ignored,
    }
    return Evaluation(
        metadata=model.metadata,
        judged=judged,
        image=image,
        pixel=_pixel_json(pixel),
        by_type=by_type,
        baselines=baselines,
        confidence=confidence,
        counts=counts,
        warnings=(
            *(masks.sentences() if masks is not None else mask_like(by_type)),
            *_warnings(image, baselines, counts, model.metadata),
        ),
        errors=tuple(errors),
        masks=masks,
    )


def _mask_coverage(labelled: LabelledSet, looks: Sequence[_Look]) -> MaskCoverage | None:
    if labelled.unmatched is None:
        return None
    anomalous = [look for look in looks if look.labelled.kind is not None]
    without = [str(look.labelled.path) for look in anomalous if look.labelled.mask is None]
    return summarize_masks([look.mask for look in anomalous], without, labelled.unmatched)


def _image_metrics(
    scores: NDArray[np.float64], flags: NDArray[np.bool_], truth: NDArray[np.bool_], confidence: float, seed: int
) -> dict[str, Any]:
    normal, anomalous = scores[~truth], scores[truth]
    decided = metrics.decision(flags[~truth], flags[truth])
    return {
        "auroc": metrics.auroc(normal, anomalous),
        "auroc_ci": metrics.bootstrap_interval(normal, anomalous, metrics.auroc, confidence=confidence, seed=seed),
        "average_precision": metrics.average_precision(normal, anomalous),
        "fpr95": metrics.fpr_at_tpr(normal, anomalous, 0.95, positive="anomalous"),
        "fpr95_normal_positive": metrics.fpr_at_tpr(normal, anomalous, 0.95, positive="normal"),
        "precision": decided.precision,
        "recall": decided.recall,
        "recall_ci": metrics.binomial_interval(decided.tp, decided.tp + decided.fn, confidence),
        "f1": decided.f1,
        "f1_max": metrics.f1_max(normal, anomalous)[0],
        "false_alarm_rate": decided.false_alarm_rate,
        "false_alarm_rate_ci": metrics.binomial_interval(decided.fp, decided.fp + decided.tn, confidence),
    }


def _type_metrics(
    normal: NDArray[np.float64], own: NDArray[np.float64], flags: NDArray[np.bool_], confidence: float, seed: int
) -> dict[str, Any]:
    return {
        "auroc": metrics.auroc(normal, own),
        "auroc_ci": metrics.bootstrap_interval(normal, own, metrics.auroc, confidence=confidence, seed=seed),
        "average_precision": metrics.average_precision(normal, own),
        "recall": float(flags.mean()),
        "images": len(own),
    }


def _pixel_json(pixel: PixelScores | None) -> dict[str, float] | None:
    if pixel is None:
        return None
    return {
        "auroc": pixel.auroc,
        "average_precision": pixel.average_precision,
        "aupro": pixel.aupro,
        "aupro_limit": pixel.limit,
        "f1_max": pixel.f1_max,
    }


def _warnings(
    image: Mapping[str, Any], baselines: Mapping[str, float], counts: Mapping[str, int], metadata: Metadata
) -> Iterator[str]:
    name, best = max(baselines.items(), key=lambda item: item[1])
    if best >= image["auroc"]:
        yield (
            f"The trivial baseline '{name}' reaches an AUROC of {best:.3f}, no less than the model's "
            f"{image['auroc']:.3f}: on these images the model is not needed, or they differ by an artefact."
        )
    rate, confidence = metadata.decision.false_alarm_rate, metadata.decision.confidence
    if rate is not None and _chance_of_alarms(counts, rate, metadata.calibration.scores, confidence) < 0.01:
        yield (
            f"{counts['flagged_normal']} of {counts['normal']} normal images were flagged at a rate of {rate:.2%}, "
            "more than chance explains (1 evaluation in 100): these normal images differ from those the model "
            "was calibrated on."
        )
    if counts["normal"] < 20 or counts["anomalous"] < 20:
        yield (
            f"{counts['normal']} normal and {counts['anomalous']} anomalous images are few: mind the width of the "
            "intervals."
        )


def _chance_of_alarms(
    counts: Mapping[str, int], rate: float, calibration: int, confidence: float | None = None
) -> float:
    """The chance of as many false alarms or more, over draws of both test images and ``calibration`` scores."""
    from scipy.stats import betabinom

    reached = max(1, alarms(calibration, rate, confidence))
    return float(betabinom(counts["normal"], reached, calibration + 1 - reached).sf(counts["flagged_normal"] - 1))
