"""Mahalanobis distance of each patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from oddsight.detectors import method
from oddsight.detectors.mahalanobis import Mahalanobis
from oddsight.detectors.patchwise import Patchwise


@method
@dataclass
class PatchMahalanobis(Patchwise):
    """One Gaussian over the patches of all positions: PaDiM's distance without PaDiM's fixed places."""

    name: ClassVar[str] = "patch-mahalanobis"
    summary: ClassVar[str] = "Mahalanobis distance of each patch to the normal patches of all positions"
    paper: ClassVar[str] = Mahalanobis.paper

    def of_vectors(self) -> Mahalanobis:
        """See :meth:`Patchwise.of_vectors`."""
        return Mahalanobis()
