"""The rows of a study of clouds: what its CSV files hold. Rates, shares and areas are from 0 to 1; None is empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ALL = "all classes"
"""Stands for the images of all anomalous classes together."""

RATES = (0.01, 0.05)
"""False-alarm rates that every method is judged at."""

Way = Literal["by hand", "mean + 3 sd", "conformal"]
Role = Literal["training", "calibration", "normal test", "anomalous test"]


@dataclass(frozen=True)
class SceneRow:
    """One method by one seed against one anomalous class, or against all of a side together.

    Attributes:
        normal: The side: ``clear``, or the class that is normal.
        anomalous: The class, or :data:`ALL`; empty if the method could not be run.
        threshold_1: For a false-alarm rate of 1%, from the calibration images; None if they are too few for it, and
            then so is all that is named for it. Those that end in ``_5`` are for 5%.
        false_alarm_rate_1: Normal test images above it.
        precision_1: Among as many images of the class as normal ones; of :data:`ALL` among all.
        learn_seconds: To learn and to calibrate, with the features of the backbone at hand.
        image_ms: Of one core for one image, by the whole file.
        error: Why the method could not be run.
    """

    method: str
    seed: int
    normal: str
    anomalous: str
    training_images: int | None = None
    calibration_images: int | None = None
    normal_images: int | None = None
    anomalous_images: int | None = None
    auroc: float | None = None
    auroc_low: float | None = None
    auroc_high: float | None = None
    threshold_1: float | None = None
    false_alarm_rate_1: float | None = None
    precision_1: float | None = None
    recall_1: float | None = None
    f1_1: float | None = None
    accuracy_1: float | None = None
    threshold_5: float | None = None
    false_alarm_rate_5: float | None = None
    precision_5: float | None = None
    recall_5: float | None = None
    f1_5: float | None = None
    accuracy_5: float | None = None
    learn_seconds: float | None = None
    image_ms: float | None = None
    file_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True)
class BaselineRow:
    """A measure that knows nothing, read in whichever direction works better on these very images.

    Attributes:
        anomalous_are: ``above`` or ``below``: what anomalous images then are.
    """

    baseline: str
    seed: int
    normal: str
    anomalous: str
    normal_images: int
    anomalous_images: int
    auroc: float
    auroc_low: float
    auroc_high: float
    anomalous_are: Literal["above", "below"]


@dataclass(frozen=True)
class ThresholdRow:
    """One way to set a threshold for the scores of one method by one seed, and what follows for one anomalous class.

    Attributes:
        asked: The false-alarm rate asked for, where the way takes one.
        false_alarm_rate: Normal test images above the threshold; low and high are its exact interval.
        found: Images of the class above it, as a share.
    """

    method: str
    seed: int
    normal: str
    way: Way
    threshold: float
    asked: float | None
    normal_images: int
    false_alarm_rate: float
    false_alarm_low: float
    false_alarm_high: float
    anomalous: str
    anomalous_images: int
    found: float


@dataclass(frozen=True)
class SplitRow:
    """How many images of a class serve for what, on one side by one seed."""

    normal: str
    seed: int
    class_: str
    role: Role
    images: int


@dataclass(frozen=True)
class CurveRow:
    """One epoch of one training.

    Attributes:
        parts: Parts of the loss that have names, as ``name=value`` separated by semicolons.
    """

    method: str
    normal: str
    seed: int
    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    seconds: float
    parts: str


@dataclass(frozen=True)
class CloudTables:
    """All rows of a study.

    Attributes:
        confidence: Of all intervals.
    """

    scenes: tuple[SceneRow, ...]
    baselines: tuple[BaselineRow, ...]
    thresholds: tuple[ThresholdRow, ...]
    splits: tuple[SplitRow, ...]
    curves: tuple[CurveRow, ...]
    confidence: float
