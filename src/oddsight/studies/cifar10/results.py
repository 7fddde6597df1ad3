"""What a study of known classes found: plain values and arrays, which reports and tables are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.networks.settings import Epoch
from oddsight.report.image_grids import CaptionedImage


@dataclass(frozen=True)
class DataFacts:
    """The labelled data set.

    Attributes:
        classes: Names.
        counts: Images of each class, by the split: ``training``, ``validation``, ``calibration``, ``test``.
        size: Height and width of its pictures in pixels, or None if they differ.
        mean: Of each channel over the training pictures, 0 to 1.
        std: Of each channel over the training pictures, 0 to 1.
        duplicates: Pictures that occur more than once within a split, by split.
        leaks: Test pictures that are also among the images to learn from; left out.
        unreadable: Files that could not be read.
        examples: Some of each class.
    """

    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    size: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    duplicates: Mapping[str, int]
    leaks: int
    unreadable: int
    examples: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class Unknowns:
    """A set of images that belong to none of the classes.

    Attributes:
        name: As given.
        near: Whether they resemble the classes (other objects in photographs); otherwise far.
        count: How many.
        shared: Pictures that are also among the images of the known classes; left out.
        examples: Some.
        baselines: AUROC of measures that know nothing, such as mean brightness, by their names; the better direction.
    """

    name: str
    near: bool
    count: int
    shared: int
    examples: tuple[CaptionedImage, ...]
    baselines: Mapping[str, float]


@dataclass(frozen=True)
class Scored:
    """What an out-of-distribution score gave on a run.

    Attributes:
        name: Of the score.
        known: Of the test images, float32 ``[n]``; higher is less known.
        unknown: Of the images of each set of unknowns, by name.
        calibration: Of the calibration images.
        seconds: To fit the score.
    """

    name: str
    known: NDArray[np.float32]
    unknown: Mapping[str, NDArray[np.float32]]
    calibration: NDArray[np.float32]
    seconds: float


@dataclass(frozen=True)
class Run:
    """One training of one network, and what it gave.

    Attributes:
        name: Of the recipe, such as ``compact``.
        title: For people.
        description: What it is, in a sentence or two.
        seed: Of the run.
        settings: As recorded.
        curves: Learning curves; empty for a head on frozen features.
        seconds: That training took, summed over its epochs.
        parameters: Of the network with its head.
        size: Side in pixels of what the network reads.
        temperature: By which logits are divided for probabilities, fitted on the validation images.
        labels: Of the test images, int64 ``[n]``.
        logits: Of the test images, float32 ``[n, K]``.
        scores: Of every out-of-distribution score.
    """

    name: str
    title: str
    description: str
    seed: int
    settings: Mapping[str, Any]
    curves: tuple[Epoch, ...]
    seconds: float
    parameters: int
    size: int
    temperature: float
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    scores: tuple[Scored, ...]


@dataclass(frozen=True)
class Shipped:
    """The model file, and what it said itself: every number here comes from running the file.

    Attributes:
        file: Its name.
        run: The name of the run it holds.
        seed: Of that run.
        score: The name of the out-of-distribution score it holds.
        bytes: Its size.
        rate: The false-rejection rate that was asked for.
        per_class: Whether each class has a threshold of its own.
        thresholds: One, or one for each class.
        labels: Of the test images, int64 ``[n]``.
        predicted: Classes it named, int64 ``[n]``.
        probability: Of the classes it named.
        known: Scores of the test images.
        rejected: Which of the test images it called none of the classes, bool ``[n]``.
        unknown: Scores of each set of unknowns.
        found: Which of them it called none of the classes, bool, by set.
        milliseconds: For one image on the machine of the study, median.
        mistakes: The test images that it named most surely wrong.
        missed: Unknowns that it took most surely for one of the classes.
        caught: Unknowns that it rejected most clearly.
        refused: Test images that it rejected though it would have named them rightly, the furthest first.
    """

    file: str
    run: str
    seed: int
    score: str
    bytes: int
    rate: float
    per_class: bool
    thresholds: tuple[float, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float32]
    known: NDArray[np.float32]
    rejected: NDArray[np.bool_]
    unknown: Mapping[str, NDArray[np.float32]]
    found: Mapping[str, NDArray[np.bool_]]
    milliseconds: float
    mistakes: tuple[CaptionedImage, ...]
    missed: tuple[CaptionedImage, ...]
    caught: tuple[CaptionedImage, ...]
    refused: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class Study:
    """All that a study of known classes found.

    Attributes:
        name: Such as ``cifar10``.
        data: The labelled data set.
        unknowns: The sets of images that belong to none of its classes.
        runs: In the order of the report; several seeds of a recipe follow each other.
        shipped: The model file.
        command: That makes the study again.
        machine: Processor, cores, memory, operating system and versions of libraries, by name.
    """

    name: str
    data: DataFacts
    unknowns: tuple[Unknowns, ...]
    runs: tuple[Run, ...]
    shipped: Shipped
    command: str
    machine: Mapping[str, str]
