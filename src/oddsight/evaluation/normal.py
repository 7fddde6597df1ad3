"""How well a model distinguishes normal from anomalous images, with its threshold as it is."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from oddsight import metrics
from oddsight.data.anomaly_folders import LabelledFile, LabelledFiles, mask_like
from oddsight.data.anomaly_images import ImageLook, gather_images, look_at
from oddsight.data.collection import seen
from oddsight.data.dataset import Dataset
from oddsight.data.grouping import NONE, Groups, group_images
from oddsight.data.images import read_valid_image
from oddsight.data.masks import MaskCoverage
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import ImageError, without_traceback
from oddsight.evaluation.maps import map_metrics
from oddsight.evaluation.overlap import refuse_overlap
from oddsight.metrics.pixel import PixelScores
from oddsight.metrics.trivial import BASELINES, trivial_scores
from oddsight.model.calibration import chance_of_alarms
from oddsight.model.metadata import Metadata
from oddsight.model.model import Model
from oddsight.model.result import Result, Voice
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, track


@dataclass(frozen=True)
class ImageOutcome:
    """One test image: the truth about it and what the model said."""

    path: str  # The image
    kind: str | None  # The type of anomaly, or None if it is normal
    mask: str | None  # The path of its mask, or of the folder with the parts of it, or None
    score: float  # Raw
    p_value: float  # In (0, 1]
    flagged: bool  # Whether the model called it anomalous
    # What the detectors inside the method said, the decisive one first: `oddsight.model.result.Voice`
    voices: tuple[Voice, ...] = ()
    # The content of the most similar normal image the model learned from, as in `oddsight.Result`
    nearest: str | None = None
    mask_turn: int = 1  # The EXIF orientation to apply to its mask, as `oddsight.data.mask_files.read_mask` takes it
    verdict: str = ""  # What `oddsight.Result` says, such as the type of anomaly


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`. Rates and areas are in [0, 1]; intervals are ``(low, high)``.

    Attributes:
        metadata: Metadata of the model.
        judged: Every readable test image with its result, in order.
        image: Metrics over images: ``auroc, auroc_ci, average_precision, fpr95, fpr95_normal_positive, precision,
            recall, f1, f1_max, false_alarm_rate, false_alarm_rate_ci, recall_ci``.
        pixel: ``auroc, average_precision, aupro, aupro_limit, f1_max``, or None without masks or maps.
        by_type: For each type of anomaly: ``auroc, auroc_ci, average_precision, recall, recall_ci, images``.
        baselines: AUROC of trivial features of the image (mean brightness, ...), each in the direction that favours it.
        confidence: Confidence of the intervals.
        counts: ``normal, anomalous, flagged_normal, flagged_anomalous, masks, empty_masks, pixel_images, without_mask,
            unmatched_masks, unreadable, ignored, normal_groups, anomalous_groups``: ``masks`` is the number of readable
            masks, and ``pixel_images`` the number of anomalous images in the pixel metrics.
        masks: The images that the pixel metrics use, and remarks on suspicious masks; None without masks.
        warnings: Caveats for the reader, one sentence each.
        errors: Images and masks that could not be used.
        reading: How TIFF files were read.
    """

    metadata: Metadata
    judged: tuple[ImageOutcome, ...]
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

    @property
    def named(self) -> dict[str | None, dict[str, int]]:
        """How often the images of each type (None: normal images) got each verdict; empty if it names no types."""
        if self.metadata.types is None:
            return {}
        kinds = {kind: [one.verdict for one in self.judged if one.kind == kind] for kind in (None, *self.by_type)}
        return {kind: dict(Counter(verdicts).most_common()) for kind, verdicts in kinds.items()}

    def to_json(self) -> dict[str, Any]:
        """As ``evaluate --json`` writes it."""
        named = self.named
        by_type = {kind: {**values, "decided_by": self.decided_by(kind)} for kind, values in self.by_type.items()}
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
            "by_type": {
                kind: values | ({"verdicts": named[kind]} if named else {}) for kind, values in by_type.items()
            },
            "normal_decided_by": self.decided_by(None),
            **({"normal_verdicts": named[None]} if named else {}),
            "baselines": dict(self.baselines),
            "confidence": self.confidence,
            "counts": dict(self.counts),
            "masks": self.masks.to_json() if self.masks is not None else None,
            "warnings": list(self.warnings),
            "errors": [{"path": error.path, "error": error.reason} for error in self.errors],
        }


def evaluate_normal(
    model: Model,
    files: LabelledFiles,
    reading: Reading,
    *,
    groups: Groups,
    aupro_limit: float,
    confidence: float,
    seed: int,
    progress: Progress,
) -> Evaluation:
    """Evaluate a model on normal and anomalous images; see :func:`oddsight.evaluate`."""
    with tempfile.TemporaryFile() as maps:
        looks, results, trivial = _score_all(model, files.images, reading, maps, progress)
        data = gather_images(files, looks)
        data = replace(data, images=group_images(data.images, groups, progress=progress))
        known = seen(model.images_seen)
        refuse_overlap(data.images, known, "test images", "were used to fit this model")
        pixel = map_metrics(maps, model.metadata.map_size, data, limit=aupro_limit)
    sample = _Sample.of(results, data, grouped=not (isinstance(groups, str) and groups == NONE))
    truth, features = data.anomalous, np.array(trivial)
    normal = sample.part(~truth)
    image = _image_metrics(normal, sample.part(truth), confidence, seed)
    by_type = {
        kind: _type_metrics(normal, sample.part(data.labels == label), confidence, seed)
        for label, kind in enumerate(data.classes[1:], 1)
    }
    baselines = {
        name: metrics.trivial_baseline_auroc(features[~truth, column], features[truth, column])
        for column, name in enumerate(BASELINES)
    }
    counts = _counts(data, sample, with_maps=pixel is not None)
    about_masks = data.coverage.sentences() if data.coverage is not None else mask_like(by_type)
    return Evaluation(
        metadata=model.metadata,
        judged=tuple(_outcomes(data, results)),
        image=image,
        pixel=_pixel_json(pixel),
        by_type=by_type,
        baselines=baselines,
        confidence=confidence,
        counts=counts,
        warnings=(*about_masks, *_warnings(image, baselines, counts, model.metadata)),
        errors=data.errors,
        masks=data.coverage,
        reading=reading,
    )


def _score_all(
    model: Model, files: Sequence[LabelledFile], reading: Reading, maps: IO[bytes], progress: Progress
) -> tuple[list[ImageLook | ImageError], list[Result], list[tuple[float, ...]]]:
    """Read and score everything once; maps go to a file, so that memory does not grow with them."""
    looks: list[ImageLook | ImageError] = []
    results, trivial = [], []
    outcomes = map_jobs(partial(_score, model, reading), files)
    for outcome in track(outcomes, "evaluating", len(files), progress):
        if isinstance(outcome, ImageError):
            looks.append(outcome)
        else:
            look, result, features = outcome
            if result.map is not None:
                maps.write(result.map.tobytes())
            looks.append(look)
            results.append(result)
            trivial.append(features)
    return looks, results, trivial


def _score(
    model: Model, reading: Reading, file: LabelledFile
) -> tuple[ImageLook, Result, tuple[float, ...]] | ImageError:
    try:
        pixels, valid = read_valid_image(file.path, reading=reading)
        result = model.score(pixels, valid=valid, source=str(file.path), one_core=True)
    except ImageError as error:
        return without_traceback(error)
    return look_at(file, pixels, reading), result, trivial_scores(pixels)


def _outcomes(data: Dataset, results: Sequence[Result]) -> Iterator[ImageOutcome]:
    for image, kind, mask, result in zip(data.images, data.kinds, data.masks, results, strict=True):
        yield ImageOutcome(
            path=str(image.path),
            kind=kind,
            mask=str(mask.path) if mask is not None else None,
            score=result.score,
            p_value=result.p_value,
            flagged=result.anomalous,
            voices=result.voices,
            nearest=result.nearest,
            mask_turn=mask.turn if mask is not None else 1,
            verdict=result.verdict,
        )


def _counts(data: Dataset, sample: _Sample, *, with_maps: bool) -> dict[str, int]:
    truth, flags, masks = data.anomalous, sample.flags, data.coverage
    return {
        "normal": int((~truth).sum()),
        "anomalous": int(truth.sum()),
        "flagged_normal": int(flags[~truth].sum()),
        "flagged_anomalous": int(flags[truth].sum()),
        "masks": sum(mask is not None for mask in data.masks),
        "empty_masks": len(masks.empty) if masks is not None else 0,
        "pixel_images": masks.used if masks is not None and with_maps else 0,
        "without_mask": len(masks.without) if masks is not None else 0,
        "unmatched_masks": len(masks.unmatched) if masks is not None else 0,
        "unreadable": len(data.errors),
        "ignored": data.ignored,
        "normal_groups": sample.part(~truth).count,
        "anomalous_groups": sample.part(truth).count,
    }


@dataclass(frozen=True, eq=False)
class _Sample:
    """Scores of test images, whether each is flagged, and the group of each, or None where every image counts."""

    scores: NDArray[np.float64]
    flags: NDArray[np.bool_]
    groups: NDArray[np.str_] | None

    @classmethod
    def of(cls, results: Sequence[Result], data: Dataset, *, grouped: bool) -> Self:
        groups = np.array([image.unit for image in data.images]) if grouped else None
        return cls(np.array([one.score for one in results]), np.array([one.anomalous for one in results]), groups)

    def part(self, chosen: NDArray[np.bool_]) -> _Sample:
        groups = self.groups[chosen] if self.groups is not None else None
        return _Sample(self.scores[chosen], self.flags[chosen], groups)

    @property
    def count(self) -> int:
        """The number of groups, or of images."""
        return len(self.flags) if self.groups is None else len(np.unique(self.groups))

    def flagged_interval(self, confidence: float) -> tuple[float, float]:
        """Of the share that is flagged. Images of a group may all be flagged together, so that groups count."""
        return metrics.binomial_interval(self.flags.sum() * self.count / len(self.flags), self.count, confidence)

    def auroc_interval(self, anomalous: _Sample, confidence: float, seed: int) -> tuple[float, float]:
        groups = (self.groups, anomalous.groups) if self.groups is not None and anomalous.groups is not None else None
        return metrics.bootstrap_interval(
            self.scores, anomalous.scores, metrics.auroc, confidence=confidence, seed=seed, groups=groups
        )


def _image_metrics(normal: _Sample, anomalous: _Sample, confidence: float, seed: int) -> dict[str, Any]:
    decided = metrics.decision(normal.flags, anomalous.flags)
    return {
        "auroc": metrics.auroc(normal.scores, anomalous.scores),
        "auroc_ci": normal.auroc_interval(anomalous, confidence, seed),
        "average_precision": metrics.average_precision(normal.scores, anomalous.scores),
        "fpr95": metrics.fpr_at_tpr(normal.scores, anomalous.scores, 0.95, positive="anomalous"),
        "fpr95_normal_positive": metrics.fpr_at_tpr(normal.scores, anomalous.scores, 0.95, positive="normal"),
        "precision": decided.precision,
        "recall": decided.recall,
        "recall_ci": anomalous.flagged_interval(confidence),
        "f1": decided.f1,
        "f1_max": metrics.f1_max(normal.scores, anomalous.scores)[0],
        "false_alarm_rate": decided.false_alarm_rate,
        "false_alarm_rate_ci": normal.flagged_interval(confidence),
    }


def _type_metrics(normal: _Sample, own: _Sample, confidence: float, seed: int) -> dict[str, Any]:
    return {
        "auroc": metrics.auroc(normal.scores, own.scores),
        "auroc_ci": normal.auroc_interval(own, confidence, seed),
        "average_precision": metrics.average_precision(normal.scores, own.scores),
        "recall": float(own.flags.mean()),
        "recall_ci": own.flagged_interval(confidence),
        "images": len(own.flags),
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
    flagged, normal, groups = counts["flagged_normal"], counts["normal"], counts["normal_groups"]
    alike = flagged * groups // normal  # images of a group may be flagged together by one chance
    if rate is not None and chance_of_alarms(alike, groups, rate, metadata.calibration.scores, confidence) < 0.01:
        yield (
            f"{flagged} of {normal} normal images were flagged at a rate of {rate:.2%}, "
            "more than chance explains (1 evaluation in 100): these normal images differ from those the model "
            "was calibrated on."
        )
    anomalous, what = counts["anomalous_groups"], "images"
    if (groups, anomalous) != (normal, counts["anomalous"]):
        what = "groups of images"
    if min(groups, anomalous) < 20:
        yield f"{groups} normal and {anomalous} anomalous {what} are few: mind the width of the intervals."
