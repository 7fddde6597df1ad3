"""Methods with the settings under which a study runs them: layers and sides of the backbone, and tiles."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight import detectors
from oddsight.data.collection import ImageFile, look
from oddsight.data.grouping import NONE
from oddsight.detectors import METHODS
from oddsight.evaluation.compare.store import key_of
from oddsight.fitting.normal import fit
from oddsight.model.calibration import smallest_rate
from oddsight.model.model import Model
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress


@dataclass(frozen=True)
class Variant:
    """A method as a study runs it."""

    name: str  # In tables; of letters that a file may be called by
    method: str  # A name of oddsight.METHODS
    tile: int = 64  # Side in pixels of the tiles that are trained on and that scenes are cut into
    overlap: int = 32  # Of neighbouring tiles of a scene, in pixels
    layers: tuple[str, ...] | None = None  # As oddsight.fit takes it; its default if None
    size: int | None = None  # Likewise
    calibration_fraction: float | None = None  # Likewise
    # A trivial measure of each pixel that the map is multiplied by, such as `brightness`: what is new *and*
    # bright. It is then no longer what the model file alone says
    times: str | None = None

    @property
    def fitting(self) -> Mapping[str, Any]:
        """Settings of the fit that differ from its defaults."""
        names = ("layers", "size", "calibration_fraction")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def says(self) -> str:
        """The settings in words."""
        named = [f"tiles of {self.tile} pixels, {self.overlap} of them shared"]
        named += [f"layers {', '.join(self.layers)}"] if self.layers is not None else []
        named += [f"brought to {self.size} pixels"] if self.size is not None else []
        if self.times is not None:
            named.append(f"map times the {self.times} of each pixel, which the model file alone does not give")
        return "; ".join(named)

    @property
    def key(self) -> list[Any]:
        """What its models depend on."""
        return [self.method, detectors.by_name(self.method)().settings(), self.fitting, self.tile, self.overlap]

    def folder(self, work: Path) -> Path:
        """Where it leaves what it made; variants that are fitted alike share it."""
        return work / f"{self.method}-{key_of(self.key)[:12]}"


_TRAINED_FRACTION = 0.25

_FINE = Variant("patchcore-fine", "patchcore", layers=("stage1", "stage2"), size=64)

VARIANTS = {one.name: one for one in (_FINE, replace(_FINE, name="patchcore-fine-bright", times="brightness"))}
"""Compositions that can be named as methods: what the first stages of the backbone see, at 2 pixels a cell."""


def as_variant(method: str | Variant, tile: int) -> Variant:
    """A method by its name with the settings that it has by default, or a variant as it is."""
    if isinstance(method, Variant):
        return method
    if method in VARIANTS:
        return replace(VARIANTS[method], tile=tile, overlap=tile // 2)
    # Where a network is trained, once and not five times more for the calibration.
    fraction = _TRAINED_FRACTION if method in METHODS and METHODS[method].needs else None
    return Variant(method, method, tile, tile // 2, calibration_fraction=fraction)


def fit_clear(
    variant: Variant,
    images: Sequence[str | os.PathLike[str]],
    rate: float,
    seed: int,
    progress: Progress,
    *,
    uncalibrated: bool = False,
) -> Model:
    """Fit a method on clear images, at a false-alarm rate or the smallest that their number can promise."""
    options = dict(variant.fitting)
    if uncalibrated:
        options["calibration_fraction"] = 0.5 / len(images)
    elif "calibration_fraction" not in options:
        # Tiles of one white are the same image, which a fit counts once.
        contents = {known.content for known in ordered_map(look, map(Path, images)) if isinstance(known, ImageFile)}
        options["false_alarm_rate"] = feasible_rate(rate, len(contents))
    return fit(*images, method=variant.method, seed=seed, groups=NONE, progress=progress, **options)


def feasible_rate(rate: float, images: int) -> float:
    """The rate, or the smallest that so many calibration images can promise."""
    return max(rate, smallest_rate(images))


def at_rate(model: Model, rate: float) -> Model:
    """The model at a false-alarm rate, or at the smallest that its calibration can promise."""
    return model.with_decision(false_alarm_rate=feasible_rate(rate, len(model.calibration_scores)))


def as_array(model: Model) -> NDArray[np.uint8]:
    """The file of a model, to be kept among arrays."""
    return np.frombuffer(model.to_bytes(), np.uint8)


def add_prefix(progress: Progress, prefix: str) -> Progress:
    """Progress that says what it is about."""
    return lambda phase, done, total: progress(f"{prefix}{phase}", done, total)
