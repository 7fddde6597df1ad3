"""What a study of known classes found: plain values and arrays, which reports and tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.drawing.image_grids import CaptionedImage
from oddsight.model.curves import Epoch


@dataclass(frozen=True)
class DataFacts:
    """The labelled dataset."""

    classes: tuple[str, ...]  # Names
    # Images of each class, by the split: `training`, `validation`, `calibration`, `test`
    counts: Mapping[str, tuple[int, ...]]
    size: tuple[int, int] | None  # Height and width of its images in pixels, or None if they differ
    mean: tuple[float, ...]  # Of each channel over the training images, 0 to 1
    std: tuple[float, ...]  # Of each channel over the training images, 0 to 1
    duplicates: Mapping[str, int]  # Images that occur more than once within a split, by split
    leaks: int  # Test images that are also among the images to train on; left out
    unreadable: int  # Files that could not be read
    examples: Mapping[str, tuple[CaptionedImage, ...]]  # Some of each class


@dataclass(frozen=True)
class Unknowns:
    """A set of images that belong to none of the classes."""

    name: str  # As given
    near: bool  # Whether they resemble the classes (other objects in photographs); otherwise far
    count: int  # How many
    shared: int  # Images that are also among the images of the known classes; left out
    examples: tuple[CaptionedImage, ...]  # Some
    # AUROC of measures that know nothing, such as mean brightness, by their names; the better direction
    baselines: Mapping[str, float]


@dataclass(frozen=True)
class Scored:
    """What an out-of-distribution score gave on a run."""

    name: str  # Of the score
    known: NDArray[np.float32]  # Of the test images, float32 `[n]`; higher is less known
    unknown: Mapping[str, NDArray[np.float32]]  # Of the images of each set of unknowns, by name
    calibration: NDArray[np.float32]  # Of the calibration images
    seconds: float  # To fit the score


@dataclass(frozen=True)
class Run:
    """One training of one network, and what it gave."""

    name: str  # Of the recipe, such as `compact`
    title: str  # For people
    description: str  # What it is, in a sentence or two
    seed: int  # Of the run
    settings: Mapping[str, Any]  # As recorded
    curves: tuple[Epoch, ...]  # Learning curves; empty for a head on frozen features
    seconds: float  # That training took, summed over its epochs
    parameters: int  # Of the network with its head
    size: int  # Side in pixels of what the network reads
    temperature: float  # By which logits are divided for probabilities, fitted on the validation images
    labels: NDArray[np.int64]  # Of the test images, int64 `[n]`
    logits: NDArray[np.float32]  # Of the test images, float32 `[n, K]`
    scores: tuple[Scored, ...]  # Of every out-of-distribution score


@dataclass(frozen=True)
class Shipped:
    """The model file, and what it said itself: every number here comes from running the file."""

    file: str  # Its name
    run: str  # The name of the run it holds
    seed: int  # Of that run
    score: str  # The name of the out-of-distribution score it holds
    bytes: int  # Its size
    rate: float  # The false-rejection rate that was asked for
    per_class: bool  # Whether each class has a threshold of its own
    thresholds: tuple[float, ...]  # One, or one for each class
    labels: NDArray[np.int64]  # Of the test images, int64 `[n]`
    predicted: NDArray[np.int64]  # Classes it named, int64 `[n]`
    known: NDArray[np.float32]  # Scores of the test images
    rejected: NDArray[np.bool_]  # Which of the test images it called none of the classes, bool `[n]`
    unknown: Mapping[str, NDArray[np.float32]]  # Scores of each set of unknowns
    found: Mapping[str, NDArray[np.bool_]]  # Which of them it called none of the classes, bool, by set
    milliseconds: float  # For one image on the machine of the study, median
    mistakes: tuple[CaptionedImage, ...]  # The test images that it named most surely wrong
    missed: tuple[CaptionedImage, ...]  # Unknowns that it took most surely for one of the classes
    caught: tuple[CaptionedImage, ...]  # Unknowns that it rejected most clearly
    # Test images that it rejected though it would have named them rightly, the furthest first
    refused: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class Study:
    """All that a study of known classes found."""

    name: str  # Such as `cifar10`
    data: DataFacts  # The labelled dataset
    unknowns: tuple[Unknowns, ...]  # The sets of images that belong to none of its classes
    runs: tuple[Run, ...]  # In the order of the report; several seeds of a recipe follow each other
    shipped: Shipped  # The model file
    command: str  # That makes the study again
    machine: Mapping[str, str]  # Processor, cores, memory, operating system and versions of libraries, by name
