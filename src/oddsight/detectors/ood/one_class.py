"""Methods that know only one class, on the embeddings of a classifier: ``one-class:NAME``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from oddsight.detectors import Method, Rows
from oddsight.detectors.ood.head import Head
from oddsight.detectors.ood.score import Labels, Score, Vectors
from oddsight.detectors.sampling import sample
from oddsight.errors import DataError, OddsightError
from oddsight.runtime.bounds import Count

PREFIX = "one-class:"

_MEMORY = 2 * 10**9
"""Bytes for a method that makes use of what it is given."""

_FEWEST = 8
"""Images that a method learns from; some keep a few of them out."""


@dataclass
class OneClass(Score):
    """A method that learns what is normal from training images of all classes together.

    Attributes:
        method: One that reads embeddings; :meth:`fit` fits it itself.
        rows: Training images that it learns from, at most; beyond that, as many drawn at random. What methods take
            grows with the images, and that of some with their square.

    Raises:
        OddsightError: If the method reads something else.
    """

    method: Method
    rows: Count = 10000

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise OddsightError("a one-class score takes a method, such as oddsight.detectors.METHODS['kde']()")
        if self.method.reads != "embedding":
            raise OddsightError(f"{self.method.name} reads {self.method.reads}, and a classifier has an embedding only")
        self.name = f"{PREFIX}{self.method.name}"
        self.summary = self.method.summary
        self.paper = self.method.paper
        super().__post_init__()

    def _learn(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        if len(embeddings) < _FEWEST:
            raise DataError(
                f"{self.name} learns from at least {_FEWEST} images, and there are {len(embeddings)}: add images or "
                "choose another score"
            )
        features = Rows(sample(Rows(embeddings), self.rows, seed))
        memory = max(_MEMORY, self.method.memory_needed(features.shape, len(features)))
        self.method.fit(features, memory=memory, seed=seed)

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Score.graph`."""
        return self.method.graph()

    def settings(self) -> dict[str, Any]:
        """Those of the method, and :attr:`rows`."""
        return {**self.method.settings(), "rows": self.rows}
