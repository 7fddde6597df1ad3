"""What a study of clouds found: plain values and arrays, which reports and tables are made of."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.drawing.image_grids import CaptionedImage
from oddsight.model.curves import Epoch
from oddsight.studies.clouds.isolation import Isolation
from oddsight.studies.clouds.scenes import SceneFacts, Side
from oddsight.studies.clouds.severity import Severity

# How many images of a class serve for what, on one side by one seed. `role` is `training`, `calibration`, `normal test`
# or `anomalous test`.
SplitRow = namedtuple("SplitRow", "normal seed class_ role images")


@dataclass(frozen=True)
class Measurement:
    """One method on one side by one seed: trained once, and what it scored."""

    method: str  # Its name
    side: str  # Name of the side
    seed: int  # Of the split and of all that is random in learning
    calibration: NDArray[np.float32]  # Scores of the calibration images, float32
    # Scores of the images that it trained on, where thresholds are compared; else None
    training: NDArray[np.float32] | None
    normal: NDArray[np.float32]  # Scores of the normal test images
    anomalous: Mapping[str, NDArray[np.float32]]  # Scores of the test images of each anomalous class
    seconds: float  # To learn and calibrate, wall-clock time, with features of the backbone at hand
    milliseconds: float  # Of one core for one image, by the whole file; median
    bytes: int  # Of the model file
    curves: tuple[Epoch, ...]  # Learning curves; empty for what is not trained epoch by epoch
    trained_on: tuple[str, ...] = ()  # Contents of the images
    calibrated_on: tuple[str, ...] = ()  # Likewise
    model: Path | None = None  # The model file, if it was to be kept


@dataclass(frozen=True)
class Failure:
    """A method that could not be run on a side by a seed."""

    method: str
    side: str
    seed: int
    reason: str  # Why, a sentence


@dataclass(frozen=True)
class Trivial:
    """A measure that knows nothing, of the test images of a side by a seed."""

    name: str  # Of oddsight.metrics.trivial.BASELINES
    side: str  # Name of the side
    seed: int  # Of the split
    normal: NDArray[np.float64]  # Of the normal test images
    anomalous: Mapping[str, NDArray[np.float64]]  # Of those of each anomalous class


@dataclass(frozen=True)
class ShippedScenes:
    """The model file of one side, and what it said itself: every number here comes from running the file."""

    file: str  # Its name
    side: str  # Name of the side
    seed: int  # Of the split that it trained and was tested by
    bytes: int  # Its size
    rate: float  # The false-alarm rate of its decision
    threshold: float  # Above which a score is an alarm
    verdicts: tuple[str, str]  # Its words for a normal and an anomalous image
    calibration: int  # How many images it was calibrated on
    normal: NDArray[np.float32]  # Scores of the normal test images
    anomalous: Mapping[str, NDArray[np.float32]]  # Scores of the test images of each anomalous class
    difference: float  # The largest difference of any of these to the score in the tables, as a share of their spread
    missed: tuple[CaptionedImage, ...]  # Anomalous images that it passed, the lowest scores first
    alarms: tuple[CaptionedImage, ...]  # Normal images that it flagged, the highest scores first
    caught: tuple[CaptionedImage, ...]  # Anomalous images that it flagged, the highest scores of each class
    passed: tuple[CaptionedImage, ...]  # Normal images that it passed, around the median of their scores


@dataclass(frozen=True)
class CloudStudy:
    """All that a study of clouds found."""

    data: SceneFacts  # The scenes
    clouds: str  # The class of clouds
    limit: int | None  # The most images of each class, if that was set
    examples: Mapping[str, tuple[CaptionedImage, ...]]  # Some images of each class
    sides: tuple[Side, ...]  # What counted as normal, in order
    splits: tuple[SplitRow, ...]  # What served for what
    measured: tuple[Measurement, ...]  # Every method on every side by every seed that could be run
    failed: tuple[Failure, ...]  # Those that could not
    trivial: tuple[Trivial, ...]  # Every trivial measure on every side by every seed
    default: str  # The method that is shipped
    compared: tuple[str, ...]  # Methods whose ways to a threshold are set side by side
    hand: float  # The threshold that somebody would set by hand
    rate: float  # The false-alarm rate asked for
    shipped: tuple[ShippedScenes, ...]  # A file for each side
    command: str  # That makes the study again
    machine: Mapping[str, str]  # Processor, cores, memory, operating system and versions of libraries, by name
    seconds: Mapping[str, float]  # Wall-clock time, by what it was spent on
    isolation: Isolation | None = None  # Where the cloud is; None without masks
    severity: Severity | None = None  # What synthetic haze, smoke and dust change; None if that was not wanted

    def of(self, side: str, method: str | None = None) -> list[Measurement]:
        """What was measured on a side, of one method or of all, in the order of seeds."""
        return [one for one in self.measured if one.side == side and method in (None, one.method)]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of all splits, each once; a method may have fewer."""
        return tuple(dict.fromkeys(one.seed for one in self.splits))
