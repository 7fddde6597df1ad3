"""Footage of noise with a bright blot now and then, and a model that alarms on it."""

from __future__ import annotations

import numpy as np

from oddsight.model.model import Model
from oddsight.sources.arrays import Arrays
from oddsight.watch.recalibrating import recalibrate
from tiny_model import tiny_model

RATE = 10
"""Frames a second."""


def clip(seconds: float, *, seed: int = 0, blots: tuple[tuple[float, float], ...] = (), gain: float = 1.0) -> Arrays:
    """Frames of 16 x 16 pixels.

    Args:
        seconds: How many seconds of it.
        seed: Of the noise.
        blots: From when to when it has a blot.
        gain: What brightness is multiplied by.
    """
    count = round(seconds * RATE)
    times = np.arange(count) / RATE
    pixels = np.random.default_rng(seed).integers(60, 100, (count, 16, 16, 3)) * gain
    for start, end in blots:
        pixels[(times >= start) & (times < end), 4:12, 4:12] = 200
    names = [f"frame {seed}#{index}" for index in range(count)]
    return Arrays(pixels.astype(np.uint8), names=names, times=times.tolist())


def watching_model(seconds: float = 120, *, block: float = 2.0, seed: int = 0) -> Model:
    """A model with normal footage of that length."""
    return recalibrate(tiny_model(), clip(seconds, seed=seed), block=block)
