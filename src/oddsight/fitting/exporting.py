"""export(): a finished model with smaller numbers or for another runtime, compared with the one it is made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.data.collection import Collection, ImageFile, count_groups, one_of_each, seen, split
from oddsight.data.grouping import AUTO, Groups, group_images
from oddsight.errors import DataError, ImageError, OddsightError, plain
from oddsight.fitting.assembly import with_metadata
from oddsight.fitting.scoring import Scores, score
from oddsight.fitting.settings import calibration_fraction
from oddsight.graphs.calibrating import recalibrate as replace_calibration
from oddsight.graphs.precision import quantize_backbone, store_half, store_int8
from oddsight.model.model import Model
from oddsight.model.openvino import OpenvinoModel, import_openvino
from oddsight.model.regions import typical_levels
from oddsight.model.sections import CalibrationInfo, ConversionInfo, DecisionInfo, PixelLevels
from oddsight.runtime.bounds import check_number
from oddsight.runtime.progress import Progress, silent
from oddsight.runtime.records import as_json
from oddsight.sources.collecting import collect_sources
from oddsight.sources.source import ImagesLike

FORMS = ("int8", "int8-weights", "fp16", "openvino")
LIMIT = 0.05
SCORE_LIMIT = 0.5

_FEWEST = 8
_MOST_FOR_RANGES = 100
_TIMED, _ROUNDS = 10, 3


@dataclass(frozen=True)
class Parity:
    """How a converted model compares with the one it was made of, on images that both scored.

    Attributes:
        images: How many images.
        learned: How many of these the model was fitted on, which it may score otherwise than new ones.
        changed: How many got another decision.
        largest_difference: Of the scores.
        median_difference: Of the scores.
        spread: Standard deviation of the calibration scores, to compare differences with.
        bytes: Sizes of both, before and after.
        milliseconds_p50: Median time to score one image on one core, before and after, measured in turns.
        milliseconds_p95: The time that 95% of the runs took at most.
    """

    images: int
    learned: int
    changed: int
    largest_difference: float
    median_difference: float
    spread: float
    bytes: tuple[int, int]
    milliseconds_p50: tuple[float, float]
    milliseconds_p95: tuple[float, float]

    @property
    def relative_difference(self) -> float:
        """The median difference of the scores, in units of the spread of the calibration scores."""
        return self.median_difference / max(self.spread, float(np.finfo(np.float32).tiny))

    def to_json(self) -> dict[str, Any]:
        """As ``export --json`` writes it."""
        return as_json(self)


@dataclass(frozen=True, eq=False)
class Export:
    """A converted model.

    Attributes:
        model: Scores as the files that its ``save`` writes do.
        parity: How it compares with the model it was made of.
        errors: Images that could not be read.
    """

    model: Model
    parity: Parity
    errors: tuple[ImageError, ...]


def export(
    model: Model,
    to: str,
    images: ImagesLike,
    *,
    recalibrate: ImagesLike | None = None,
    groups: Groups = AUTO,
    limit: float = LIMIT,
    score_limit: float = SCORE_LIMIT,
    progress: Progress = silent,
) -> Export:
    """Convert a model to smaller numbers or for OpenVINO, and compare both on images of yours.

    The converted model has its own digest and calibration. With ``recalibrate``, its calibration scores are its own
    scores of those images. Otherwise they are those of the model it is made of, raised by the largest rise of the
    score among the images that are not flagged: the false-alarm rate then holds as long as no normal image rises more.

    Example:
        >>> model = oddsight.load("parts.onnx")
        >>> smaller = oddsight.export(model, "fp16", ["test/good", "test/bad"])
        >>> smaller.parity.images
        12
        >>> smaller.model.save("parts-fp16.onnx")

    Args:
        model: As fitted or loaded.
        to: ``int8``: the backbone computes with integers of 8 bits. ``int8-weights``: large matrices are stored in 8
            bits, and other large constants in half precision. ``fp16``: weights are stored in half precision.
            ``openvino``: an ``.xml`` and a ``.bin`` file for OpenVINO (needs ``oddsight[openvino]``).
        images: At least 8 images like those that the model will score: files, folders, globs, arrays. For ``int8``,
            half of them show the ranges of values, and the others are compared.
        recalibrate: Normal images that the model was not fitted on, to calibrate the converted model on. If the model
            was calibrated on a part of the images that it was fitted on, these images will do, too: the same part is
            used again.
        groups: Which images of ``recalibrate`` belong together; see :func:`oddsight.fit`.
        limit: Largest share of decisions that may change. A single one may always change, unless the limit is 0.
        score_limit: Largest median difference of the scores, in units of the standard deviation of the calibration
            scores.
        progress: Called with phase, done and total.

    Raises:
        DataError: The images are too few, or those to recalibrate on were used to fit the model or are too few for its
            false-alarm rate.
        ModelError: The model cannot be converted.
        OddsightError: The models differ by more than a limit; a setting is invalid; OpenVINO is not installed.
    """
    _check(model, to, limit, score_limit)
    collection, _ = collect_sources(images, reading=model.reading, progress=progress)
    if len(collection.images) < _FEWEST:
        raise DataError(
            f"there are {len(collection.images)} distinct images to compare, and at least {_FEWEST} are needed"
        )
    fresh = _fresh_images(model, recalibrate, groups, progress) if recalibrate is not None else None
    tests: Sequence[ImageFile] = collection.images
    ranges: Sequence[ImageFile] = ()
    if to == "int8":
        ranges, tests = _divided(tests, fresh.images if fresh is not None else [])

    converted = _converted(model, to, ranges)
    before, after = (score(one, tests, progress) for one in (model, converted))
    if fresh is not None:
        raised, own = None, score(converted, fresh.images, progress)
        calibrated = _calibrated(converted, own.values, own.labels, fresh.info, typical_levels(own.levels))
    else:
        raised = _rise(before, after, model)
        scores = model.calibration_scores + np.float32(raised)
        pixels = model.metadata.pixels
        if pixels is not None:
            pixels = PixelLevels(median=pixels.median + raised, high=pixels.high + raised)
        calibrated = _calibrated(converted, scores, None, model.metadata.calibration, pixels)
    parity = _parity((model, calibrated), (before, after), tests)
    _check_limits(parity, limit, score_limit, recalibrated=fresh is not None)
    final = _recorded(calibrated, model, to, parity, raised)
    errors = (*collection.errors, *(fresh.errors if fresh is not None else ()))
    return Export(final, replace(parity, bytes=(_size(model), _size(final))), errors)


def _check(model: Model, to: str, limit: float, score_limit: float) -> None:
    if to not in FORMS:
        raise OddsightError(f"a model can be exported to {', '.join(FORMS)}, not to {plain(to)!r}")
    if model.types:
        raise OddsightError(
            "the model names types of anomalies: export the model of normal images, and then name the types "
            "(fit-classes --normal)"
        )
    for value, what in (
        (limit, "the limit of changed decisions"),
        (score_limit, "the limit of the scores' difference"),
    ):
        if check_number(value, what) < 0:
            raise OddsightError(f"{what} must be at least 0, not {value:g}")
    if model.metadata.conversion is not None:
        raise OddsightError(
            f"the model was already converted to {model.metadata.conversion.to}: export the model that it was made of"
        )
    if model.metadata.explanation is None:
        raise OddsightError("a model file of schema 1 cannot be converted: fit the model again")
    if to == "openvino":
        import_openvino()


@dataclass(frozen=True)
class _Fresh:
    """Images to calibrate on, and how they are counted."""

    images: Sequence[ImageFile]
    info: CalibrationInfo
    errors: tuple[ImageError, ...]


def _fresh_images(model: Model, given: ImagesLike, groups: Groups, progress: Progress) -> _Fresh:
    """One image of each group among those that the model was not fitted on."""
    collection, names = collect_sources(given, reading=model.reading, progress=progress)
    images = group_images(collection.images, groups, names=names, progress=progress)
    held = _held_out(model, collection, images)
    chosen = one_of_each(held, model.metadata.training.seed)
    many = len(held) > len(chosen)
    info = CalibrationInfo(kind="split", images=len(held), folds=1, groups=len(chosen) if many else None)
    return _Fresh(chosen, info, collection.errors)


def _held_out(model: Model, collection: Collection, images: Sequence[ImageFile]) -> Sequence[ImageFile]:
    """Those of the images that the model was not fitted on: all, or the part that its fit calibrated on.

    Raises:
        DataError: If that cannot be told.
    """
    known, training = seen(model.metadata.training.images_seen), model.metadata.training
    learned = [image for image in images if known(image.content)]
    if not learned:
        return images
    info = model.metadata.calibration
    if info.kind == "split" and collection.fingerprint == training.fingerprint:
        rest, held = split(images, calibration_fraction(model.metadata, count_groups(images)), training.seed)
        if (len(rest), len(held)) == (training.images, info.images):
            scores = np.sort(score(model, one_of_each(held, training.seed), silent).values)
            if np.allclose(scores, model.calibration_scores, rtol=1e-3, atol=1e-6):
                return held
    raise DataError(
        f"{len(learned):,} of {len(images):,} images to recalibrate on were used to fit the model, such as "
        f"{learned[0].path}: give normal images that it has not seen"
    )


def _divided(images: Sequence[ImageFile], calibration: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Images that show the ranges of values, and those to compare; calibration images are never among the first."""
    apart = {image.content for image in calibration}
    ranges = [image for image in images if image.content not in apart][::2][:_MOST_FOR_RANGES]
    if not ranges:
        raise DataError("int8 needs images besides those to recalibrate on: give others to compare")
    shown = {image.content for image in ranges}
    return ranges, [image for image in images if image.content not in shown]


def _converted(model: Model, to: str, ranges: Sequence[ImageFile]) -> Model:
    """The model in another form, with its calibration as it was."""
    proto = onnx.load_model_from_string(model.to_bytes())
    if to == "int8":
        proto = quantize_backbone(proto, (image.read() for image in ranges))
    elif to == "int8-weights":
        store_int8(proto)
    elif to == "fp16":
        store_half(proto)
    kind, metadata = Model, model.metadata
    if to == "openvino":
        kind = OpenvinoModel
        metadata = metadata.model_copy(update={"versions": metadata.versions | {"openvino": version("openvino")}})
    return with_metadata(kind, proto.SerializeToString(deterministic=True), metadata)


def _recorded(model: Model, source: Model, to: str, parity: Parity, raised: float | None) -> Model:
    """The model, with what it was made of in its metadata."""
    conversion = ConversionInfo(
        to=to,  # type: ignore[arg-type]
        source_sha256=source.metadata.graph_sha256,
        images=parity.images,
        changed=parity.changed,
        largest_difference=parity.largest_difference,
        median_difference=parity.median_difference,
        raised=raised,
    )
    metadata = model.metadata.model_copy(update={"conversion": conversion, "footage": None})
    return with_metadata(type(model), model.to_bytes(), metadata)


def _calibrated(
    model: Model,
    scores: NDArray[np.float32],
    labels: Sequence[int | None] | None,
    info: CalibrationInfo,
    pixels: PixelLevels | None,
) -> Model:
    """The model with other calibration scores, and a threshold for the same rate.

    Args:
        model: The model.
        scores: The scores ``[n]``.
        labels: Predicted classes of the images, if it knows classes; None if they are as before.
        info: How the scores were obtained.
        pixels: What pixels of these images have in the map.

    Raises:
        DataError: If they are too few for the rate.
    """
    proto, metadata = onnx.load_model_from_string(model.to_bytes()), model.metadata
    classes = model.calibration_classes
    if classes is not None and labels is not None:
        classes = np.array(labels, np.int64)
    replace_calibration(proto, scores, classes, len(model.classes))
    changes: dict[str, Any] = {"calibration": info, "pixels": pixels}
    rate, confidence = metadata.decision.false_alarm_rate, metadata.decision.confidence
    if rate is not None:
        changes["decision"] = DecisionInfo(threshold=0.0, false_alarm_rate=None)
    if metadata.classes is not None:
        changes["classes"] = metadata.classes.model_copy(update={"thresholds": None})
    changed = with_metadata(type(model), proto.SerializeToString(), metadata.model_copy(update=changes))
    return changed if rate is None else changed.with_decision(false_alarm_rate=rate, confidence=confidence)


def with_calibration(model: Model, scores: NDArray[np.float32], rate: float) -> Model:
    """The model with other calibration scores ``[n]``, of normal images that it did not learn from, and a threshold.

    Raises:
        DataError: They are too few for the rate.
    """
    info = CalibrationInfo(kind="split", images=len(scores), folds=1)
    hand_set = model.with_decision(threshold=model.decision.threshold)
    return _calibrated(hand_set, scores, None, info, model.metadata.pixels).with_decision(false_alarm_rate=rate)


def _rise(before: Scores, after: Scores, model: Model) -> float:
    """By how much a score rises at most among images that the model does not flag, or among all if it flags all."""
    rises = after.values - before.values
    passed = np.array([not flag for flag, _ in before.decisions(model)])
    return max(0.0, float((rises[passed] if passed.any() else rises).max()))


def _parity(models: tuple[Model, Model], scores: tuple[Scores, Scores], images: Sequence[ImageFile]) -> Parity:
    before, after = (said.decisions(model) for said, model in zip(scores, models, strict=True))
    differences = np.abs(scores[1].values - scores[0].values)
    known = seen(models[0].metadata.training.images_seen)
    p50, p95 = _latency(models, images[:_TIMED])
    return Parity(
        images=len(images),
        learned=sum(known(image.content) for image in images),
        changed=sum(one != other for one, other in zip(before, after, strict=True)),
        largest_difference=float(differences.max()),
        median_difference=float(np.median(differences)),
        spread=float(np.std(models[0].calibration_scores)),
        bytes=(_size(models[0]), _size(models[1])),
        milliseconds_p50=p50,
        milliseconds_p95=p95,
    )


def _size(model: Model) -> int:
    return sum(map(len, model.files)) if isinstance(model, OpenvinoModel) else len(model.to_bytes())


def _latency(
    models: tuple[Model, Model], images: Sequence[ImageFile]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Milliseconds to score an image: 50th and 95th percentiles of both models, which take turns."""
    times: tuple[list[float], list[float]] = [], []
    for image in images:
        pixels = image.read()
        for number in range(_ROUNDS + 1):
            for model, taken in zip(models, times, strict=True):
                started = time.perf_counter()
                model.score(pixels, one_core=True)
                if number:  # the first run plans for the size of the image
                    taken.append(1000 * (time.perf_counter() - started))
    (fast, slow), (other_fast, other_slow) = (np.percentile(taken, [50, 95]).tolist() for taken in times)
    return (fast, other_fast), (slow, other_slow)


def _check_limits(parity: Parity, limit: float, score_limit: float, *, recalibrated: bool) -> None:
    first = "recalibrate on images like those of the fit" if recalibrated else "recalibrate it (--recalibrate)"
    if parity.changed > max(limit * parity.images, float(limit > 0)):
        raise OddsightError(
            f"the converted model decides otherwise on {parity.changed:,} of {parity.images:,} images, and the limit "
            f"is {100 * limit:g}%: {first}, export the model to another form (--to) or raise the limit (--limit)"
        )
    if parity.relative_difference > score_limit:
        raise OddsightError(
            f"half of the scores differ by {parity.relative_difference:.3g} times the spread of the calibration scores "
            f"or more, and the limit is {score_limit:g}: export the model to another form (--to) or raise the limit "
            "(--score-limit)"
        )
