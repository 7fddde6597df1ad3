"""Methods with the settings under which a study runs them: layers and sides of the backbone, and tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from oddsight.errors import OddsightError, plain
from oddsight.methods import METHODS


@dataclass(frozen=True)
class Variant:
    """A method as a study runs it.

    Attributes:
        name: In tables; of letters that a file may be called by.
        method: A name of :data:`oddsight.methods.METHODS`.
        tile: Side in pixels of the tiles that are learnt from and that scenes are cut into.
        overlap: Of neighbouring tiles of a scene, in pixels.
        backbone: As :func:`oddsight.fit` takes it; its default if None.
        layers: Likewise.
        size: Likewise.
        calibration_fraction: Likewise.
        times: A trivial measure of each pixel that the map is multiplied by, such as ``brightness``: what is new *and*
            bright. It is then no longer what the model file alone says.
    """

    name: str
    method: str
    tile: int = 64
    overlap: int = 32
    backbone: str | None = None
    layers: tuple[str, ...] | None = None
    size: int | None = None
    calibration_fraction: float | None = None
    times: str | None = None

    @property
    def fitting(self) -> Mapping[str, Any]:
        """Settings of the fit that differ from its defaults."""
        named = {
            "backbone": self.backbone,
            "layers": self.layers,
            "size": self.size,
            "calibration_fraction": self.calibration_fraction,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def says(self) -> str:
        """The settings in words."""
        named = [f"tiles of {self.tile} pixels, {self.overlap} of them shared"]
        named += [f"backbone {self.backbone}"] if self.backbone is not None else []
        named += [f"layers {', '.join(self.layers)}"] if self.layers is not None else []
        named += [f"brought to {self.size} pixels"] if self.size is not None else []
        named += [f"map times the {self.times} of each pixel, which the model file alone does not give"] * bool(
            self.times
        )
        return "; ".join(named)


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
    if not method or "/" in method or "\\" in method or method.startswith("."):
        raise OddsightError(f"no method can be called {plain(method)!r}")
    # Where a network is trained, once and not five times more for the calibration.
    fraction = _TRAINED_FRACTION if method in METHODS and METHODS[method].needs else None
    return Variant(method, method, tile, tile // 2, calibration_fraction=fraction)
