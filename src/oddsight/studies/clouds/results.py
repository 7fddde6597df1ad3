"""What a study of clouds found: plain values and arrays, which reports and tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.networks.settings import Epoch
from oddsight.report.image_grids import CaptionedImage
from oddsight.studies.clouds.isolation import Isolation
from oddsight.studies.clouds.protocol import Side
from oddsight.studies.clouds.severity import Severity


@dataclass(frozen=True)
class SceneFacts:
    """The data set.

    Attributes:
        classes: Names, and how many distinct pictures each has.
        clouds: Which of them is that of clouds.
        size: Side in pixels to which all were brought.
        found: Pictures of each class that could be read.
        duplicates: Those that were there already, in the same class.
        shared: Pictures in several classes, left out of all.
        sizes: How many pictures of each class had which width and height before.
        errors: What could not be read, a sentence each.
        limit: The most pictures of each class, if that was set.
        examples: Some of each class, captioned by its name.
    """

    classes: Mapping[str, int]
    clouds: str
    size: int
    found: Mapping[str, int]
    duplicates: Mapping[str, int]
    shared: int
    sizes: Mapping[str, Mapping[tuple[int, int], int]]
    errors: tuple[str, ...]
    limit: int | None
    examples: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class SplitFacts:
    """How many images of each class serve for what, on one side by one seed.

    Attributes:
        side: Name of the side.
        seed: Of the split.
        training: Images to learn from, by class.
        calibration: Images that thresholds come from, by class.
        normal: Test images of the normal classes.
        anomalous: Test images of the others.
    """

    side: str
    seed: int
    training: Mapping[str, int]
    calibration: Mapping[str, int]
    normal: Mapping[str, int]
    anomalous: Mapping[str, int]


@dataclass(frozen=True)
class Measured:
    """One method on one side by one seed: learnt once, and what it scored.

    Attributes:
        method: Its name.
        side: Name of the side.
        seed: Of the split and of all that is random in learning.
        settings: Of the method.
        calibration: Scores of the calibration images, float32.
        training: Scores of the images that it learnt from, where thresholds are compared; else None.
        normal: Scores of the normal test images.
        anomalous: Scores of the test images of each anomalous class.
        seconds: To learn and calibrate, wall-clock time, with features of the backbone at hand.
        milliseconds: Of one core for one image, by the whole file; median.
        bytes: Of the model file.
        curves: Learning curves; empty for what is not trained epoch by epoch.
    """

    method: str
    side: str
    seed: int
    settings: Mapping[str, Any]
    calibration: NDArray[np.float32]
    training: NDArray[np.float32] | None
    normal: NDArray[np.float32]
    anomalous: Mapping[str, NDArray[np.float32]]
    seconds: float
    milliseconds: float
    bytes: int
    curves: tuple[Epoch, ...]


@dataclass(frozen=True)
class Failed:
    """A method that could not be run on a side by a seed.

    Attributes:
        reason: Why, a sentence.
    """

    method: str
    side: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Trivial:
    """A measure that knows nothing, of the test images of a side by a seed.

    Attributes:
        name: Of :data:`oddsight.trivial.BASELINES`.
        side: Name of the side.
        seed: Of the split.
        normal: Of the normal test images.
        anomalous: Of those of each anomalous class.
    """

    name: str
    side: str
    seed: int
    normal: NDArray[np.float64]
    anomalous: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ShippedScenes:
    """The model file of one side, and what it said itself: every number here comes from running the file.

    Attributes:
        file: Its name.
        side: Name of the side.
        seed: Of the split that it learnt and was tested by.
        bytes: Its size.
        rate: The false-alarm rate of its decision.
        threshold: Above which a score is an alarm.
        verdicts: Its words for a normal and an anomalous image.
        calibration: How many images it was calibrated on.
        normal: Scores of the normal test images.
        anomalous: Scores of the test images of each anomalous class.
        difference: The largest difference of any of these to the score in the tables, as a share of their spread.
        missed: Anomalous images that it passed, the lowest scores first.
        alarms: Normal images that it flagged, the highest scores first.
        caught: Anomalous images that it flagged, the highest scores of each class.
        passed: Normal images that it passed, around the median of their scores.
    """

    file: str
    side: str
    seed: int
    bytes: int
    rate: float
    threshold: float
    verdicts: tuple[str, str]
    calibration: int
    normal: NDArray[np.float32]
    anomalous: Mapping[str, NDArray[np.float32]]
    difference: float
    missed: tuple[CaptionedImage, ...]
    alarms: tuple[CaptionedImage, ...]
    caught: tuple[CaptionedImage, ...]
    passed: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class CloudStudy:
    """All that a study of clouds found.

    Attributes:
        data: The scenes.
        sides: What counted as normal, in order.
        splits: What served for what.
        measured: Every method on every side by every seed that could be run.
        failed: Those that could not.
        trivial: Every trivial measure on every side by every seed.
        default: The method that is shipped.
        compared: Methods whose ways to a threshold are set side by side.
        hand: The threshold that somebody would set by hand.
        rate: The false-alarm rate asked for.
        shipped: A file for each side.
        command: That makes the study again.
        machine: Processor, cores, memory, operating system and versions of libraries, by name.
        seconds: Wall-clock time, by what it was spent on.
        isolation: Where the cloud is; None without masks.
        severity: What synthetic haze, smoke and dust change; None if that was not wanted.
    """

    data: SceneFacts
    sides: tuple[Side, ...]
    splits: tuple[SplitFacts, ...]
    measured: tuple[Measured, ...]
    failed: tuple[Failed, ...]
    trivial: tuple[Trivial, ...]
    default: str
    compared: tuple[str, ...]
    hand: float
    rate: float
    shipped: tuple[ShippedScenes, ...]
    command: str
    machine: Mapping[str, str]
    seconds: Mapping[str, float]
    isolation: Isolation | None = None
    severity: Severity | None = None

    def of(self, side: str, method: str | None = None) -> list[Measured]:
        """What was measured on a side, of one method or of all, in the order of seeds."""
        return [one for one in self.measured if one.side == side and method in (None, one.method)]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of all splits, each once; a method may have fewer."""
        return tuple(dict.fromkeys(one.seed for one in self.splits))
