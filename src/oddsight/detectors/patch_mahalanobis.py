"""Mahalanobis distance of each patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oddsight.detectors.detector import detector
from oddsight.detectors.mahalanobis import Mahalanobis
from oddsight.detectors.patchwise import Patchwise


@detector
@dataclass
class PatchMahalanobis(Patchwise):
    """One Gaussian over the patches of all positions: PaDiM's distance without PaDiM's fixed places."""

    name: ClassVar[str] = "patch-mahalanobis"
    summary: ClassVar[str] = "Mahalanobis distance of each patch to the normal patches of all positions"
    paper: ClassVar[str] = (
        "Rippel et al., Modeling the Distribution of Normal Data in Pre-Trained Deep Features, ICPR 2020"
    )

    def of_vectors(self) -> Mahalanobis:
        return Mahalanobis()
