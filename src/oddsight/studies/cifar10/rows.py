"""The rows of the tables of the study, which are its CSV files.

Shares, areas and probabilities are from 0 to 1; what does not apply is None, an empty field of the file.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Literal

Nearness = Literal["near", "far"]

# How well a run predicts classes; `_scaled` numbers are of probabilities after temperature scaling. `epochs` is 0 for a
# head on frozen features and for an average of networks; `seconds_with_start` includes the runs it is made from; `nll`
# is in nats, `brier` from 0 to 2.
ClassificationRow = namedtuple(
    "ClassificationRow",
    "run seed title size parameters epochs train_seconds seconds_with_start test_images accuracy accuracy_low "
    "accuracy_high macro_precision macro_recall macro_f1 nll nll_scaled brier brier_scaled ece ece_scaled temperature",
)

# How well a run predicts one class.
PerClassRow = namedtuple("PerClassRow", "run seed class_ precision recall f1 support")

# How many test images of one class a run predicted as one class; pairs that do not occur have no row.
ConfusionRow = namedtuple("ConfusionRow", "run seed truth predicted count")

# One epoch of one run.
CurveRow = namedtuple(
    "CurveRow",
    "run seed epoch train_loss validation_loss train_accuracy validation_accuracy learning_rate seconds",
)

# How well one score of one run distinguishes one set of unknown images from the test images. `fpr95` counts test
# images rejected when 95% of the unknown ones are, as OpenOOD v1.5; `fpr95_id_positive` unknown images accepted when
# 95% of the test images are, as OpenOOD v1. `threshold` is for the rate of the study, from the calibration images of
# this run; None if they are too few for it, and then so is all that follows.
OodRow = namedtuple(
    "OodRow",
    "run seed score unknown nearness known_images unknown_images auroc auroc_low auroc_high aupr_in aupr_out fpr95 "
    "fpr95_low fpr95_high fpr95_id_positive fpr95_id_positive_low fpr95_id_positive_high oscr fit_seconds threshold "
    "false_rejection_rate false_rejection_low false_rejection_high detection_rate detection_low detection_high "
    "precision recall f1",
)

# One answer of the shipped file about test images or unknown ones. `measure` is `accuracy`, `accuracy of accepted`,
# `rejected` or `rejected of mistakes`; `images_of` is `all classes`, `class`, or `near` or `far unknowns`; `asked` is
# the rate that the file promises, where it does.
ShippedRow = namedtuple("ShippedRow", "measure images_of name images count share low high asked")

# AUROC of a trivial baseline, in its better direction.
BaselineRow = namedtuple("BaselineRow", "unknown nearness images baseline auroc")


@dataclass(frozen=True)
class Tables:
    """All rows of a study, in the order of its runs, their scores and the sets of unknown images."""

    classification: tuple[ClassificationRow, ...]
    per_class: tuple[PerClassRow, ...]
    confusion: tuple[ConfusionRow, ...]
    curves: tuple[CurveRow, ...]
    ood: tuple[OodRow, ...]
    shipped: tuple[ShippedRow, ...]
    baselines: tuple[BaselineRow, ...]
    confidence: float  # of all intervals
