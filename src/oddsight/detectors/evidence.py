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
_TRUST, _DOUBT, _ALIKE, _SAME = 3.0, 400, 0.2, 0.15
_KIND, _THING = 1.0, 1.15
_SEEING, _BLINDNESS, _HEARD, _ASIDE = 0.5, 0.8, 0.2, 0.7
_LIFT, _LITTLE = 4.0, 1e-3

_NO_COPIES = np.array([], np.intp)

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
        rise: By how much its evidence on a normal image rises with such a defect, on average, in standard deviations
            of that on normal images. None if it was not shown any.
    """

    tails: tuple[Tail, ...]
    weight: float
    normal: Scores
    ability: float | None = None
    rise: float | None = None

    @property
    def spread(self) -> float:
        """How little the scores of normal images hold together: the geometric mean over detectors."""
        return float(np.exp(np.mean([np.log(tail.spread) for tail in self.tails])))

    def weighing(self, weight: float) -> Voice:
        """The same voice, of full weight so far, with another weight."""
        return replace(self, weight=weight, normal=np.sort(np.logaddexp(0, weight * self.normal)))


@dataclass(frozen=True)
class Places:
    """Detectors that score the same places of an image, and speak as one, by the mean of their evidence at each place.

    The mean is geometric, so that it is high where all see something; softplus keeps the evidence above 0.

    Attributes:
        alone: Each of the detectors, with the weight that they have together.
        shares: How much each counts; they sum to 1.
        lift: How steeply the map rises towards its peak where the whole image decides: a power of its values.
    """

    alone: tuple[Voice, ...]
    shares: tuple[float, ...]
    lift: float

    @property
    def weight(self) -> float:
        """From 0 to 1."""
        return self.alone[0].weight

    def together(self, maps: NDArray[np.float32]) -> NDArray[np.float64]:
        """What they say, ``[h, w]``, given the scores that each of them gives to the places, ``[detectors, h, w]``."""
        raw = [self.weight * one.tails[0].evidence(scores) for one, scores in zip(self.alone, maps, strict=True)]
        logs = np.log(np.maximum(np.logaddexp(0, raw), _LITTLE))
        return np.asarray(np.exp(np.tensordot(self.shares, logs, 1)), np.float64)

    def graph(self, names: Sequence[str], shape: str) -> onnx.ModelProto:
        """``NAME_evidence`` of each, of that shape, to ``together``, of the same."""
        inputs = ", ".join(f"float[{shape}] {name}_evidence" for name in names)
        return piece(
            f"""
            together ({inputs}) => (float[{shape}] together) <float little = {{{_LITTLE}}}>
            {{
                {" ".join(f"floored_{name} = Max ({name}_evidence, little)" for name in names)}
                {" ".join(f"log_{name} = Log (floored_{name})" for name in names)}
                {" ".join(f"part_{name} = Mul (log_{name}, share_{name})" for name in names)}
                logs = Sum ({", ".join(f"part_{name}" for name in names)})
                together = Exp (logs)
            }}
            """,
            {f"share_{name}": np.array(share, np.float32) for name, share in zip(names, self.shares, strict=True)},
        )


def voice(scores: Sequence[Scores], defective: Sequence[Scores] = (), numbers: NDArray[np.intp] = _NO_COPIES) -> Voice:
    """A voice of full weight.

    Args:
        scores: For each detector, its scores of the same normal images, which it did not learn from, ``[n]``.
        defective: For each detector, its scores of copies of some of them with a small defect, ``[m]``.
        numbers: Of which image each is a copy, ``[m]``.
    """
    tails = tuple(Tail.of(each) for each in scores)
    together = _together(tails, scores)
    if not len(numbers):
        return Voice(tails, 1.0, together)
    changed = _together(tails, defective)
    ability = max(0.0, 2 * auroc(together, changed) - 1)
    rise = float((changed - together[numbers]).mean()) / max(float(together.std()), _TINY)
    return Voice(tails, 1.0, together, ability, rise)


def _together(tails: Sequence[Tail], scores: Sequence[Scores]) -> Scores:
    return np.asarray(np.mean([tail.evidence(each) for tail, each in zip(tails, scores, strict=True)], axis=0))


def weighed(depths: Sequence[Voice], places: Sequence[Voice], images: int) -> tuple[list[Voice], Places]:
    """Depths with weights, and what the detectors of places say together: the less scores spread, the more they count.

    The weight of a depth is ``(smallest spread of a depth / own spread) ** power``. The scores of places are maxima
    and so hardly spread. They count fully where the images are alike at some depth, that is where the smallest spread
    is at most 0.2, and as ``(0.2 / smallest spread) ** power`` elsewhere: there their details tell little. The power
    grows to 3 with the number of images, as few images say little about the spread.

    What voices say of small synthetic defects changes that in three ways. Detectors of places that hardly see them
    count less beside those that do, by ``min(1, rise) ** 2``. If none of them sees much, all count less, by the highest
    ``(ability / 0.5) ** 2``, but at least a fifth: every image is new to them. And where they see and count, a depth
    counts the less, the less it sees of what they see.

    The smaller the smallest spread is, from 0.2 down to 0.15, the more all images are one thing, whose anomalies are
    somewhere in it. If places show anything (an ability of 0.25), they then count fully, and depths down to 0.3 of
    their weight: they hear shifts and light. If a depth decides nevertheless, only peaks of the map rise for that.
    Images that are most alike at the deepest depth, which distinguishes kinds, are of one kind instead, such as
    airplanes: they are one thing as far as the deepest depth spreads more than the others, from as much up to 1.15 as
    much.

    Args:
        depths: Of whole images.
        places: Of each detector of places.
        images: From how many images the spreads are known.
    """
    least = min(each.spread for each in depths)
    power = _TRUST * images / (images + _DOUBT)
    seen = max((each.ability or 0.0) for each in places)
    one_thing = float(np.clip((_ALIKE - least) / (_ALIKE - _SAME), 0, 1)) * min(1.0, 2 * seen / _SEEING)
    one_thing *= _no_kind(depths)
    alone = 1.0 if places[0].ability is None else max(_HEARD, min(1.0, seen / _SEEING) ** 2)
    local = min(1.0, _ALIKE / least) ** power * (alone + one_thing * (1 - alone))
    whole = [
        (least / each.spread) ** power
        * (1 - _BLINDNESS * local * max(0.0, seen - (each.ability or 0.0)))
        * (1 - _ASIDE * local * one_thing)
        for each in depths
    ]
    weighing = [each.weighing(weight) for each, weight in zip(depths, whole, strict=True)]
    together = Places(tuple(each.weighing(local) for each in places), _shares(places), 1 + _LIFT * one_thing)
    return weighing, together


def _no_kind(depths: Sequence[Voice]) -> float:
    """From 0, where images are most alike at the deepest depth, to 1; one depth alone tells nothing."""
    if len(depths) == 1:
        return 1.0
    *others, deepest = (each.spread for each in depths)
    return float(np.clip((deepest / min(others) - _KIND) / (_THING - _KIND), 0, 1))


def _shares(places: Sequence[Voice]) -> tuple[float, ...]:
    """By what each sees of small synthetic defects; the same for all if they were not shown any."""
    parts = np.array([min(1.0, max(_TINY, one.rise or 0.0)) ** 2 for one in places])
    return tuple((parts / parts.sum()).tolist())


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
