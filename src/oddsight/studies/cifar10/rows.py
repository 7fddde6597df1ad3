"""The rows of a study's tables, which are its CSV files.

Every row is flat. Shares, areas and probabilities are from 0 to 1; what does not apply is None, an empty field of the
file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Nearness = Literal["near", "far"]


@dataclass(frozen=True)
class ClassificationRow:
    """How well a run names classes; ``_scaled`` numbers are of probabilities after temperature scaling.

    Attributes:
        epochs: 0 for a head on frozen features, and for an average of trained networks.
        seconds_with_start: Training, and that of the runs it is made from.
        nll: Mean negative log-likelihood in nats.
        brier: 0 to 2.
    """

    run: str
    seed: int
    title: str
    size: int
    parameters: int
    epochs: int
    train_seconds: float
    seconds_with_start: float
    test_images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    nll: float
    nll_scaled: float
    brier: float
    brier_scaled: float
    ece: float
    ece_scaled: float
    temperature: float


@dataclass(frozen=True)
class PerClassRow:
    """How well a run names one class."""

    run: str
    seed: int
    class_: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ConfusionRow:
    """How many test images of one class a run took for one class; pairs that do not occur have no row."""

    run: str
    seed: int
    truth: str
    predicted: str
    count: int


@dataclass(frozen=True)
class CurveRow:
    """One epoch of one run."""

    run: str
    seed: int
    epoch: int
    train_loss: float
    validation_loss: float
    train_accuracy: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class OodRow:
    """How well one score of one run tells one set of unknowns from the test images.

    Attributes:
        fpr95: Test images rejected when 95% of the unknowns are, as OpenOOD v1.5 counts.
        fpr95_id_positive: Unknowns accepted when 95% of the test images are, as OpenOOD v1 counted.
        fit_seconds: To fit the score.
        threshold: For the study's rate, from the calibration images of this run; None if they are too few for it, and
            then so is all that follows.
        false_rejection_rate: Test images above it.
        detection_rate: Unknowns above it; the recall of precision and F1.
    """

    run: str
    seed: int
    score: str
    unknown: str
    nearness: Nearness
    known_images: int
    unknown_images: int
    auroc: float
    auroc_low: float
    auroc_high: float
    aupr_in: float
    aupr_out: float
    fpr95: float
    fpr95_low: float
    fpr95_high: float
    fpr95_id_positive: float
    fpr95_id_positive_low: float
    fpr95_id_positive_high: float
    oscr: float
    fit_seconds: float
    threshold: float | None
    false_rejection_rate: float | None
    false_rejection_low: float | None
    false_rejection_high: float | None
    detection_rate: float | None
    detection_low: float | None
    detection_high: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ShippedRow:
    """One thing that the shipped file said of test images or of unknowns, from running the file itself.

    Attributes:
        measure: ``accuracy``, ``accuracy of accepted``, ``rejected`` or ``rejected of mistakes``.
        images_of: ``all classes``, ``class`` or ``near`` or ``far`` unknowns.
        name: Of the class or set.
        images: Whose share it is.
        count: Of them.
        share: None if there are no images.
        asked: The rate that the file promises, where it does.
    """

    measure: str
    images_of: str
    name: str
    images: int
    count: int
    share: float | None
    low: float | None
    high: float | None
    asked: float | None


@dataclass(frozen=True)
class BaselineRow:
    """AUROC of a measure that knows nothing, in its better direction."""

    unknown: str
    nearness: Nearness
    images: int
    baseline: str
    auroc: float


@dataclass(frozen=True)
class Tables:
    """All rows of a study, in the order of its runs, their scores and the sets of unknowns.

    Attributes:
        confidence: Of all intervals.
    """

    classification: tuple[ClassificationRow, ...]
    per_class: tuple[PerClassRow, ...]
    confusion: tuple[ConfusionRow, ...]
    curves: tuple[CurveRow, ...]
    ood: tuple[OodRow, ...]
    shipped: tuple[ShippedRow, ...]
    baselines: tuple[BaselineRow, ...]
    confidence: float
