"""Three ways to set a threshold on scores, without the test images: by hand, by a rule of thumb, and by a promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.model.calibration import decide, smallest_rate
from oddsight.studies.clouds.rows import Way

HAND = 0.02
"""Somebody's choice for the mean squared error of pixels from 0 to 1."""

DEVIATIONS = 3

METHODS = ("autoencoder", "dense-autoencoder", "denoising-autoencoder", "variational-autoencoder")
"""Methods whose scores are errors of reconstruction, for which such thresholds are usual."""


@dataclass(frozen=True)
class Threshold:
    """A threshold."""

    way: Way  # How it was set
    value: float  # A raw score; an image above it is an alarm
    asked: float | None  # The false-alarm rate that it promises, or None


def three_ways(
    training: NDArray[np.float32], calibration: NDArray[np.float32], hand: float, rate: float
) -> Iterator[Threshold]:
    """The three thresholds of one method."""
    yield Threshold("by hand", hand, None)
    yield Threshold("mean + 3 sd", rule_of_thumb(training), None)
    possible = feasible_rate(rate, len(calibration))
    yield Threshold("conformal", decide(calibration, possible).threshold, possible)


def rule_of_thumb(scores: NDArray[np.float32]) -> float:
    """Mean and three standard deviations."""
    values = scores.astype(np.float64)
    return float(values.mean() + DEVIATIONS * values.std())


def feasible_rate(rate: float, images: int) -> float:
    """The rate, or the smallest that so many calibration images can promise."""
    return max(rate, smallest_rate(images))
