"""The sections of what a model file says about itself."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from oddsight.data.reading import Reading

_Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=10_000)]


def _strict(value: JsonValue) -> JsonValue:
    """JSON that every reader takes: Python's own would write and read NaN, too."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        raise ValueError("a number that is not finite, or too many levels") from None
    return value


_Json = Annotated[JsonValue, AfterValidator(_strict)]
_Packed = Annotated[str, Field(pattern="^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")]
"""Base64, as :func:`oddsight.data.collection.pack` writes it."""


class Section(BaseModel):
    """Nothing but its fields, of their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class MethodInfo(Section):
    """The method and its settings."""

    name: Text
    paper: Text
    settings: dict[str, _Json]


class BackboneInfo(Section):
    """The feature network: its name, the SHA-256 of its weights, its layers and its input size in pixels.

    ``size``: the side of a square, or height and width.
    """

    name: Text
    sha256: Digest
    layers: list[Text]
    size: Positive | tuple[Positive, Positive]


class CurveInfo(Section):
    """One epoch of a training, see :class:`oddsight.model.curves.Epoch`; not how long it took, which differs."""

    epoch: Positive
    train_loss: _Finite
    validation_loss: _Finite
    accuracy: _Finite | None = None
    learning_rate: _Finite
    train_accuracy: _Finite | None = None
    losses: dict[str, _Finite] = Field(default_factory=dict)


class TrainingInfo(Section):
    """What it learned from.

    ``fingerprint`` is SHA-256 over the contents of all images; ``images_seen`` recognises each of them (the first 64
    bits of the SHA-256 of its pixels, sorted, base64), so that evaluating on them can be refused. ``curves``: of the
    network that the method trained, epoch by epoch; only from schema 4 on.
    """

    images: _Count
    duplicates: _Count
    unreadable: _Count
    fingerprint: Digest
    images_seen: _Packed
    seed: int
    curves: list[CurveInfo] = Field(default_factory=list)


class CalibrationInfo(Section):
    """How the calibration scores, which are a constant of the graph, were obtained.

    ``split``: from images kept out of training. ``cross``: each image scored by a model that did not see it.
    ``groups``: how many groups of related images (such as photos of one part) the calibration images came in, where
    they did, and there is one score for each; only from schema 5 on.
    """

    kind: Literal["split", "cross"]
    images: Positive
    folds: Positive
    groups: Positive | None = None

    @property
    def scores(self) -> int:
        """How many calibration scores there are: one for each image, or for each group."""
        return self.images if self.groups is None else self.groups

    @property
    def held_out(self) -> bool:
        """Whether the images were held out of what scored them; not so where there was only one image."""
        return self.kind == "split" or self.folds > 1

    @property
    def what(self) -> str:
        """What the scores are of."""
        return "calibration images" if self.groups is None else "groups of calibration images"


class DecisionInfo(Section):
    """The threshold on the score (anomalous is strictly greater) and the rate it was chosen for, if any.

    ``confidence``: the probability, over draws of the calibration images, with which the true rate is at most
    ``false_alarm_rate``, if that was asked for; only from schema 5 on.
    """

    threshold: _Finite
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] | None
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None


class ReadingInfo(Section):
    """How files of many bands or of values without a fixed range became RGB; the same is done when predicting.

    ``bands``: three bands counted from 1, or one that is grey; null if the file's own colours were taken. ``scale``:
    the values that became black and white; null if the full range of the numbers was taken.
    """

    bands: list[Positive] | None = None
    scale: tuple[_Finite, _Finite] | None = None

    @classmethod
    def of(cls, reading: Reading) -> ReadingInfo | None:
        """How images were read; None if as they declare it themselves."""
        if not reading.chosen:
            return None
        return cls(bands=list(reading.bands) if reading.bands is not None else None, scale=reading.scale)

    def to_reading(self) -> Reading:
        """What it was made of."""
        return Reading(tuple(self.bands) if self.bands is not None else None, self.scale)


class ExplanationInfo(Section):
    """What the outputs that explain a result refer to.

    ``normals``: the images that ``nearest`` counts, packed as ``images_seen`` is and in that order. ``voices``: names
    of the columns of ``evidence`` and ``voice_p_values``; empty if there are none.
    """

    normals: _Packed
    voices: list[Text]


class ClassesInfo(Section):
    """The classes that a model knows.

    ``names``: what ``class_index`` counts. ``head``: how the classifier was made. ``temperature``: divides the logits
    for ``class_probability``. ``thresholds``: one for each predicted class, or null if the decision's threshold holds
    for all.
    """

    names: Annotated[list[Text], Field(min_length=2)]
    head: dict[str, _Json]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    thresholds: list[_Finite] | None


class ConversionInfo(Section):
    """How a model was made of another one.

    ``to``: ``int8``, ``int8-weights``, ``fp16`` or ``openvino``. ``source_sha256``: ``graph_sha256`` of the other one.
    ``images``: how many images both scored, of which ``changed`` got another decision; ``largest_difference`` and
    ``median_difference`` are of their scores. ``raised``: how much was added to the calibration scores of the other
    one; null if the model was calibrated anew.
    """

    to: Literal["int8", "int8-weights", "fp16", "openvino"]
    source_sha256: Digest
    images: Positive
    changed: _Count
    largest_difference: _Finite
    median_difference: _Finite
    raised: _Finite | None


class PixelLevels(Section):
    """Values that pixels of normal images have in the map, which say how far regions reach.

    Of each calibration image the median and the 99th percentile of its map, by a model that did not see it; and of
    these the medians over the images.

    Attributes:
        median: Half of the normal pixels are below it.
        high: All but one in a hundred are below it.
    """

    median: _Finite
    high: _Finite


class FootageInfo(Section):
    """Scores of normal footage that the model did not learn from, which alarms of ``watch`` are calibrated on.

    Attributes:
        block: Length in seconds of the blocks whose maxima count.
        places: The zones and regions of interest that were looked at, as text.
        times: Of the frames, in milliseconds, base64 of little-endian uint32.
        scores: By zone, base64 of little-endian float32; NaN where a frame had nothing to score.
    """

    block: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    places: Text
    times: _Packed
    scores: dict[Text, _Packed]


class TypesInfo(Section):
    """The types of anomalies that a model names, and how the part of it that names them was made.

    All but ``flagged`` is as in a model that knows classes: here the classes are types of anomalies, and ``decision``
    says above which ``type_score`` an anomaly is of none of them. ``flagged``: how many of the calibration images of
    types, which all show anomalies, the model of normal flags.
    """

    method: MethodInfo
    backbone: BackboneInfo
    training: TrainingInfo
    calibration: CalibrationInfo
    decision: DecisionInfo
    classes: ClassesInfo
    flagged: _Count
