"""What the steps of isolating clouds, and of curves over severities, leave in the work folder, to be taken up again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import oddsight
from oddsight import methods
from oddsight.calibration import smallest_rate
from oddsight.datasets.collection import ImageFile, Progress, look
from oddsight.datasets.grouping import NONE
from oddsight.files import make_folder
from oddsight.fitting import versions
from oddsight.model import Model
from oddsight.parallel import ordered_map
from oddsight.records import Arrays, read_arrays, write_arrays
from oddsight.studies.clouds.isolation_variants import Variant

FORMAT = 1
"""Of what is kept; another one makes everything anew."""


def state_of(*parts: object) -> str:
    """All that a step depends on, as a digest: what another state left is not taken."""
    text = json.dumps([FORMAT, versions()["oddsight"], *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def described(variant: Variant) -> list[Any]:
    """What a variant depends on, for :func:`state_of`."""
    settings = methods.by_name(variant.method)().settings() if variant.method in methods.METHODS else None
    return [variant.method, settings, variant.fitting, variant.tile, variant.overlap]


def place_of(variant: Variant, work: Path) -> Path:
    """Where a variant leaves what it made; variants that are fitted alike share it."""
    return work / f"{variant.method}-{state_of(described(variant))[:12]}"


def taken(path: Path, state: str) -> Arrays | None:
    """What a step left, if it was made of the same; None if there is nothing, or nothing that can be read."""
    arrays = read_arrays(path)
    if arrays is None or "state" not in arrays or str(arrays.pop("state")) != state:
        return None
    return arrays


def keep(path: Path, state: str, arrays: Arrays) -> Arrays:
    """Leave what a step made, and return it.

    Raises:
        OddsightError: If it cannot be written.
    """
    make_folder(path.parent)
    write_arrays(path, {"state": np.array(state), **arrays})
    return arrays


def learnt(
    variant: Variant,
    images: Sequence[str | os.PathLike[str]],
    rate: float,
    seed: int,
    progress: Progress,
    *,
    uncalibrated: bool = False,
) -> Model:
    """Fit a method on clear pictures, at a false-alarm rate or the smallest that their number can promise.

    Args:
        variant: What to fit.
        images: Files of pictures; the same picture counts once.
        rate: The false-alarm rate asked for.
        seed: Of every random choice.
        progress: Called with phase, done and total.
        uncalibrated: Whether only its scores matter: then one image is calibrated on, which saves five fits of six.

    Raises:
        OddsightError: What :func:`oddsight.fit` raises.
    """
    options = dict(variant.fitting)
    if uncalibrated:
        options["calibration_fraction"] = 0.5 / len(images)
    elif "calibration_fraction" not in options:
        # Tiles of one white are the same picture, which a fit counts once.
        contents = {known.content for known in ordered_map(look, map(Path, images)) if isinstance(known, ImageFile)}
        options["false_alarm_rate"] = max(rate, smallest_rate(len(contents)))
    return oddsight.fit(*images, method=variant.method, seed=seed, groups=NONE, progress=progress, **options)


def at_rate(model: Model, rate: float) -> Model:
    """The model at a false-alarm rate, or at the smallest that its calibration can promise."""
    return model.with_decision(false_alarm_rate=max(rate, smallest_rate(len(model.calibration_scores))))
