"""Detectors of one class, on the embeddings of a classifier: ``one-class:NAME``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from oddsight.detectors.detector import MEMORY, Detector, Labels
from oddsight.detectors.features import Rows, Vectors
from oddsight.detectors.head import Head
from oddsight.detectors.sampling import sample
from oddsight.errors import DataError, OddsightError
from oddsight.runtime.bounds import Count

PREFIX = "one-class:"

_FEWEST = 8  # Images that a detector learns from; some keep a few of them out


@dataclass
class OneClass(Detector):
    """A detector that takes training images of all classes together for normal images.

    Attributes:
        method: One that learns from normal images and reads embeddings; :meth:`fit` fits it itself.
        rows: Training images that it learns from, at most; beyond that, as many drawn at random. What learning
            takes grows with the images, for some detectors with their square.

    Raises:
        OddsightError: If the method reads or learns from something else.
    """

    learns_from = ("classes",)

    method: Detector
    rows: Count = 10000

    def __post_init__(self) -> None:
        if not isinstance(self.method, Detector) or "normal" not in self.method.learns_from:
            raise OddsightError("a one-class score takes a method, such as oddsight.detectors.METHODS['kde']()")
        if self.method.reads != "embedding":
            raise OddsightError(f"{self.method.name} reads {self.method.reads}, and a classifier has an embedding only")
        # For other detectors these are the same for all of a class.
        vars(self).update(name=f"{PREFIX}{self.method.name}", summary=self.method.summary, paper=self.method.paper)
        super().__post_init__()

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Fit the method; see :meth:`Detector.fit`."""
        if len(embeddings) < _FEWEST:
            raise DataError(
                f"{self.name} learns from at least {_FEWEST} images, and there are {len(embeddings)}: add images or "
                "choose another score"
            )
        features = Rows(sample(Rows(embeddings), self.rows, seed))
        memory = max(MEMORY, self.method.memory_needed(features.shape, len(features)))
        self.method.fit(features, memory=memory, seed=seed)

    def graph(self) -> onnx.ModelProto:
        return self.method.graph()

    def settings(self) -> dict[str, Any]:
        """Those of the method, and :attr:`rows`."""
        return {**self.method.settings(), "rows": self.rows}
