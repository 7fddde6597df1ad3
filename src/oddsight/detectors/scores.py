"""Scores: what detectors that learn from known classes were called while they were a concept of their own."""

from __future__ import annotations

from abc import abstractmethod

from oddsight.detectors.detector import DETECTORS, Detector, Labels, detector
from oddsight.detectors.features import Vectors
from oddsight.detectors.head import Head
from oddsight.detectors.registry import create

SCORES = DETECTORS["classes"]
"""What learns from known classes, by name."""

score = detector


class Score(Detector):
    """A detector that learns from known classes. Every such detector is an instance."""

    learns_from = ("classes",)

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return "classes" in getattr(other, "learns_from", ()) if cls is Score else NotImplemented

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        self._learn(embeddings, labels, head, seed)

    @abstractmethod
    def _learn(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """As :meth:`learn_classes`."""


def by_name(name: str) -> Detector:
    """The detector of that name, with its default settings; names joined by ``+`` are of a sum.

    Raises:
        OddsightError: Naming those that exist.
    """
    return create(name, "classes")
