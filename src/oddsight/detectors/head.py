"""The linear layer that ends a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.errors import OddsightError
from oddsight.graphs.building import piece


@dataclass(frozen=True)
class Head:
    """From embeddings to logits: ``embedding @ weights + bias``.

    Attributes:
        weights: float32 ``[C, K]``, a column for each class.
        bias: float32 ``[K]``.

    Raises:
        OddsightError: The shapes do not match, there is only one class, or a weight is not finite.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[1:]:
            raise OddsightError(
                f"a head takes weights [C, K] and a bias [K], not {self.weights.shape} and {self.bias.shape}"
            )
        if self.weights.shape[1] < 2 or not self.weights.shape[0]:
            raise OddsightError("a head takes embeddings of at least one channel to at least two classes")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise OddsightError("the head's weights are not all finite: the training has diverged")

    @property
    def channels(self) -> int:
        """Channels of an embedding: ``C``."""
        return int(self.weights.shape[0])

    @property
    def classes(self) -> int:
        """Number of classes: ``K``."""
        return int(self.weights.shape[1])

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits ``[n, K]`` of embeddings ``[n, C]``."""
        return np.asarray(embeddings @ self.weights + self.bias, np.float32)

    def graph(self) -> onnx.ModelProto:
        """``embedding`` float32 ``[N, C]`` to ``logits`` float32 ``[N, K]``."""
        return piece(
            f"""
            head (float[N, {self.channels}] embedding) => (float[N, {self.classes}] logits)
            {{
                logits = Gemm (embedding, weights, bias)
            }}
            """,
            self.constants,
        )

    @property
    def constants(self) -> dict[str, NDArray[np.float32]]:
        """``weights`` and ``bias`` as constants of a graph."""
        return {"weights": self.weights.astype(np.float32), "bias": self.bias.astype(np.float32)}
