"""From scores of several detectors to evidence that can be compared, weighed and combined.

A detector's scores of normal images that it did not learn from say how unusual a score is. Their upper tail is taken as
exponential in the logarithm, so that evidence goes on growing beyond anything seen: it is about the negative logarithm
of the probability that a normal image scores as high, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.graphs.building import piece
from oddsight.metrics.image import auroc

_TAIL = 0.8
_TINY = 1e-12
_TRUST, _DOUBT, _ALIKE, _SAME = 3.0, 400, 0.2, 0.1
_SEEING, _BLINDNESS, _HEARD, _ASIDE = 0.5, 0.8, 0.2, 0.7

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Tail:
    """How a detector scores normal images."""

    middle: float  # Its median score
    start: float  # Where the upper fifth begins, as `log(1 + score / middle)`
    excess: float  # How far beyond it lies on average, on that scale
    spread: float  # Standard deviation of the scores' logarithm

    @classmethod
    def of(cls, scores: Scores) -> Tail:
        """The tail of scores of normal images that the detector did not learn from, ``[n]``, none negative."""
        middle = max(float(np.median(scores)), _TINY)
        log = np.log1p(scores / middle)
        start = float(np.quantile(log, _TAIL))
        beyond = log[log > start] - start
        excess = max(float(beyond.mean()) if len(beyond) else 0.0, 1e-3)
        spread = float(np.log(np.maximum(scores, 1e-3 * middle)).std())
        return cls(middle, start, excess, max(spread, 1e-3))

    def evidence(self, scores: Scores) -> Scores:
        """In nats, for scores of any shape; ``log(5)`` where the tail starts."""
        return np.asarray((np.log1p(scores / self.middle) - self.start) / self.excess - np.log(1 - _TAIL), np.float64)


@dataclass(frozen=True)
class Voice:
    """One or more detectors that speak together, with the weight of what they say.

    Attributes:
        tails: Of each detector.
        weight: From 0 to 1.
        normal: Its evidence on normal images that it did not learn from, ascending ``[n]``.
        ability: How well it sees small synthetic defects in normal images, from 0 (not at all) to 1 (always): twice
            the AUROC less 1. None if it was not shown any.
    """

    tails: tuple[Tail, ...]
    weight: float
    normal: Scores
    ability: float | None = None

    @property
    def spread(self) -> float:
        """How little the scores of normal images hold together: the geometric mean over detectors."""
        return float(np.exp(np.mean([np.log(tail.spread) for tail in self.tails])))


def voice(scores: list[Scores], defective: list[Scores] | None = None) -> Voice:
    """A voice of full weight.

    Args:
        scores: For each detector, its scores of the same normal images, which it did not learn from, ``[n]``.
        defective: For each detector, its scores of copies of some of them with a small defect, ``[m]``.
    """
    tails = tuple(Tail.of(each) for each in scores)
    together = _together(tails, scores)
    if defective is None or not len(defective[0]):
        return Voice(tails, 1.0, together)
    return Voice(tails, 1.0, together, max(0.0, 2 * auroc(together, _together(tails, defective)) - 1))


def _together(tails: Sequence[Tail], scores: Sequence[Scores]) -> Scores:
    return np.asarray(np.mean([tail.evidence(each) for tail, each in zip(tails, scores, strict=True)], axis=0))


def weighed(depths: Sequence[Voice], patches: Sequence[Voice], images: int) -> list[Voice]:
    """Voices with weights: the less the scores of normal images spread, the more a voice counts.

    The weight of a depth is ``(smallest spread of a depth / own spread) ** power``. The scores of patches are maxima
    and so hardly spread. They count fully where the images are alike at some depth, that is where the smallest spread
    is at most 0.2, and as ``(0.2 / smallest spread) ** power`` elsewhere: there their details tell little. The power
    grows to 3 with the number of images, as few images say little about the spread.

    What voices say of small synthetic defects changes that in two ways. Patches that hardly see them count less, by
    ``(ability / 0.5) ** 2``, but at least a fifth: every image is new to them. And where patches see and count, a depth
    counts the less, the less it sees of what they see.

    The smaller the smallest spread is, from 0.2 down to 0.1, the more all images are one thing, whose anomalies are
    somewhere in it. If any patches see anything (an ability of 0.25), those that see most then count fully, others by
    ``(ability / highest) ** 2``, and depths down to 0.3 of their weight: they hear shifts and light.

    Args:
        depths: Of whole images.
        patches: Of their places.
        images: From how many images the spreads are known.
    """
    least = min(each.spread for each in depths)
    power = _TRUST * images / (images + _DOUBT)
    alike = min(1.0, _ALIKE / least) ** power
    seen = max(((each.ability or 0.0) for each in patches), default=0.0)
    one_thing = float(np.clip((_ALIKE - least) / (_ALIKE - _SAME), 0, 1)) * min(1.0, 2 * seen / _SEEING)
    local = [alike * _heard(each.ability, seen, one_thing) for each in patches]
    whole = [
        (least / each.spread) ** power
        * (1 - _BLINDNESS * max(local) * max(0.0, seen - (each.ability or 0.0)))
        * (1 - _ASIDE * max(local) * one_thing)
        for each in depths
    ]
    return [
        replace(each, weight=weight, normal=np.sort(np.logaddexp(0, weight * each.normal)))
        for each, weight in zip([*depths, *patches], [*whole, *local], strict=True)
    ]


def _heard(ability: float | None, seen: float, one_thing: float) -> float:
    """The part of the weight of patches that follows from what they, and others, see of small synthetic defects."""
    if ability is None:
        return 1.0
    alone = max(_HEARD, min(1.0, ability / _SEEING) ** 2)
    among = max(alone, (ability / max(seen, _TINY)) ** 2)
    return alone + one_thing * (among - alone)


def speaking(name: str, speaker: Voice, shape: str) -> onnx.ModelProto:
    """Inputs ``NAME_0``, ``NAME_1``, ... (scores) to ``NAME_evidence``, weighed, above 0: softplus keeps it raw above.

    Args:
        name: Of the voice.
        speaker: The voice.
        shape: Of each input and the output, such as ``N`` or ``N, 28, 28``.
    """
    lines, weights = [], {}
    for number, tail in enumerate(speaker.tails):
        lines.append(f"ratio_{number} = Mul ({name}_{number}, rate_{number})")
        lines.append(f"whole_{number} = Add (ratio_{number}, one)")
        lines.append(f"log_{number} = Log (whole_{number})")
        lines.append(f"steep_{number} = Mul (log_{number}, slope_{number})")
        slope = speaker.weight / tail.excess / len(speaker.tails)
        weights[f"rate_{number}"] = np.array(1 / tail.middle, np.float32)
        weights[f"slope_{number}"] = np.array(slope, np.float32)
    start = np.mean([tail.start / tail.excess + np.log(1 - _TAIL) for tail in speaker.tails])
    weights["offset"] = np.array(-speaker.weight * start, np.float32)
    inputs = ", ".join(f"float[{shape}] {name}_{number}" for number in range(len(speaker.tails)))
    terms = ", ".join(f"steep_{number}" for number in range(len(speaker.tails)))
    return piece(
        f"""
        {name} ({inputs}) => (float[{shape}] {name}_evidence) <float one = {{1}}>
        {{
            {" ".join(lines)}
            together = Sum ({terms}, offset)
            {name}_evidence = Softplus (together)
        }}
        """,
        weights,
    )
