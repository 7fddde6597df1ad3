"""The energy of logits, on its own and for the scores that change embeddings or heads before they take it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from oddsight.detectors.detector import Detector, detector
from oddsight.graphs.building import piece


def energy_lines(logits: str = "logits") -> str:
    """ONNX text from logits ``[N, K]`` of that name to ``confidence`` ``[N]``: the log of the sum of exponentials.

    Minus the energy, that is. Computed relative to the highest logit, so that none is too large; uses ``last``.
    """
    return f"""
        highest = ReduceMax ({logits}, last)
        below = Sub ({logits}, highest)
        shares = Exp (below)
        total = ReduceSum (shares, last)
        more = Log (total)
        logarithm = Add (highest, more)
        confidence = Squeeze (logarithm, last)
    """


@detector
@dataclass
class Energy(Detector):
    """Minus the logarithm of the sum of the exponentials of the logits, at temperature 1."""

    name = "energy"
    summary = "how low all logits are together"
    paper = "Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020"
    reads = "logits"
    learns_from = ("classes",)

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            energy (float[N, {self.classes_}] logits) => (float[N] score) <int64[1] last = {{1}}>
            {{
                {energy_lines()}
                score = Neg (confidence)
            }}
            """
        )
