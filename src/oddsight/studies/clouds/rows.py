"""The rows of a study of clouds: what its CSV files hold. Rates, shares and areas are from 0 to 1; None is empty."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Literal

ALL = "all classes"
"""Stands for the images of all anomalous classes together."""

RATES = (0.01, 0.05)
"""False-alarm rates at which every method is compared."""

Way = Literal["by hand", "mean + 3 sd", "conformal"]
Role = Literal["training", "calibration", "normal test", "anomalous test"]

# One method by one seed against one anomalous class, or against :data:`ALL` of a side. `normal` is the side: `clear`,
# or the class that is normal. `threshold_1` is for a false-alarm rate of 1%, from the calibration images, and what ends
# in `_5` for 5%; None if they are too few for it. `learn_seconds` is with features at hand, `image_ms` of one core for
# one image by the whole file. A method that could not be run has an `error` and nothing else.
SceneRow = namedtuple(
    "SceneRow",
    "method seed normal anomalous training_images calibration_images normal_images anomalous_images auroc auroc_low "
    "auroc_high threshold_1 false_alarm_rate_1 precision_1 recall_1 f1_1 accuracy_1 threshold_5 false_alarm_rate_5 "
    "precision_5 recall_5 f1_5 accuracy_5 learn_seconds image_ms file_bytes error",
)

# A trivial baseline, read in whichever direction works better on these images; `anomalous_are` is `above` or `below`.
BaselineRow = namedtuple(
    "BaselineRow",
    "baseline seed normal anomalous normal_images anomalous_images auroc auroc_low auroc_high anomalous_are",
)

# One way to set a threshold for the scores of one method by one seed, and what follows for one anomalous class. `asked`
# is the false-alarm rate asked for, where the way takes one; `found` is the share of the class above the threshold.
ThresholdRow = namedtuple(
    "ThresholdRow",
    "method seed normal way threshold asked normal_images false_alarm_rate false_alarm_low false_alarm_high anomalous "
    "anomalous_images found",
)

# How many images of a class serve for what, on one side by one seed.
SplitRow = namedtuple("SplitRow", "normal seed class_ role images")

# One epoch of one training; `parts` of the loss are `name=value`, separated by semicolons.
CurveRow = namedtuple("CurveRow", "method normal seed epoch train_loss validation_loss learning_rate seconds parts")


@dataclass(frozen=True)
class CloudTables:
    """All rows of a study."""

    scenes: tuple[SceneRow, ...]
    baselines: tuple[BaselineRow, ...]
    thresholds: tuple[ThresholdRow, ...]
    splits: tuple[SplitRow, ...]
    curves: tuple[CurveRow, ...]
    confidence: float  # of all intervals
