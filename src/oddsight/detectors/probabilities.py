"""Scores of the logits or of their softmax alone; nothing is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import onnx

from oddsight.detectors.detector import Detector, detector
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Positive, Share, Whole


class _OfLogits(Detector):
    """Learns nothing."""

    reads = "logits"
    learns_from = ("classes",)

    def _ranked(self, name: str, lines: str, constants: str = "float one = {1}") -> onnx.ModelProto:
        """A piece whose lines find the softmax of all classes but the highest, before it is divided by its sum.

        Confident networks give probabilities that 32 bits cannot tell from 1; what is left to the other classes keeps
        its digits. The lines find ``below`` ``[N, K - 1]``, the other logits minus the highest, descending, ``shares``,
        their exponentials, and ``others`` ``[N, 1]``, the sum of these: the probability of the highest is
        ``1 / (1 + others)``.
        """
        return piece(
            f"""
            {name} (float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}, int64[1] all = {{{self.classes_}}}, int64[2] parts = {{1, {self.classes_ - 1}}},
             {constants}>
            {{
                descending, index = TopK <axis = 1> (logits, all)
                top, rest = Split <axis = 1> (descending, parts)
                below = Sub (rest, top)
                shares = Exp (below)
                others = ReduceSum (shares, last)
                {lines}
            }}
            """
        )


_LOG_TOTAL = """
    more = Add (others, two)
    ratio = Div (others, more)
    half_total = Atanh (ratio)
    log_total = Mul (half_total, two)
"""
"""``log(1 + others)``, also where others is so small that 1 would swallow it."""


@detector
@dataclass
class MSP(_OfLogits):
    """One minus the highest softmax probability, between 0 and ``1 - 1 / K``."""

    name = "msp"
    summary = "how low the highest softmax probability is"
    paper = (
        "Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural "
        "Networks, ICLR 2017"
    )

    def graph(self) -> onnx.ModelProto:
        return self._ranked(
            "msp",
            """
            total = Add (others, one)
            share = Div (others, total)
            score = Squeeze (share, last)
            """,
        )


@detector
@dataclass
class MaxLogit(_OfLogits):
    """Minus the highest logit."""

    name = "max-logit"
    summary = "how low the highest logit is"
    paper = "Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022"

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            max_logit (float[N, {self.classes_}] logits) => (float[N] score) <int64[1] last = {{1}}>
            {{
                highest = ReduceMax <keepdims = 0> (logits, last)
                score = Neg (highest)
            }}
            """
        )


@detector
@dataclass
class Entropy(_OfLogits):
    """Entropy of the softmax probabilities, in nats: between 0 and ``log K``."""

    name = "entropy"
    summary = "how undecided the softmax probabilities are"
    paper = "Shannon, A Mathematical Theory of Communication, Bell System Technical Journal 1948"

    def graph(self) -> onnx.ModelProto:
        return self._ranked(
            "entropy",
            f"""
            {_LOG_TOTAL}
            weighted = Mul (shares, below)
            sum = ReduceSum (weighted, last)
            total = Add (others, one)
            mean = Div (sum, total)
            entropy = Sub (log_total, mean)
            score = Squeeze (entropy, last)
            """,
            "float one = {1}, float two = {2}",
        )


@detector
@dataclass
class GEN(_OfLogits):
    """Generalised entropy: the sum of ``p ** gamma * (1 - p) ** gamma`` over the most probable classes.

    Attributes:
        gamma: Above 0 and below 1; the smaller, the more the improbable classes count.
        top: Classes that count, at most.
    """

    name = "gen"
    summary = "how undecided the softmax probabilities are, the improbable classes included"
    paper = "Liu et al., GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection, CVPR 2023"

    gamma: Share = 0.1
    top: Annotated[int, Whole(2)] = 100

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Detector.graph`.

        In logarithms, as a small power of a probability counts long after the probability itself has underflown.
        """
        return self._ranked(
            "gen",
            f"""
            {_LOG_TOTAL}
            second = ReduceMax (below, last)
            below_second = Sub (below, second)
            shares_of_second = Exp (below_second)
            sum = ReduceSum (shares_of_second, last)
            log_sum = Log (sum)
            log_others = Add (second, log_sum)
            twice = Mul (log_total, two)
            both = Sub (log_others, twice)
            first_exponent = Mul (both, gamma)
            first = Exp (first_exponent)
            counted = Slice (below, start, end, last)
            log_p = Sub (counted, log_total)
            exponents = Mul (log_p, gamma)
            powers = Exp (exponents)
            p = Exp (log_p)
            against = Sub (one, p)
            powers_against = Pow (against, gamma)
            products = Mul (powers, powers_against)
            later = ReduceSum (products, last)
            entropy = Add (first, later)
            score = Squeeze (entropy, last)
            """,
            f"""float one = {{1}}, float two = {{2}}, float gamma = {{{self.gamma:.9g}}},
            int64[1] start = {{0}}, int64[1] end = {{{self.top - 1}}}""",
        )


@detector
@dataclass
class ODIN(_OfLogits):
    """The highest softmax probability ``p`` at a high temperature ``T``, as ``-T log(K p)``.

    At such a temperature all probabilities are nearly ``1 / K``; this function of them orders images as they do, and
    keeps digits. It is in the units of logits, 0 if all are equal, and otherwise below. The paper's other part, to
    perturb the image along the gradient of the network, is not in the file, which runs the network once and forwards.

    Attributes:
        temperature: By which logits are divided.
    """

    name = "odin"
    summary = "how low the highest softmax probability is at a high temperature"
    paper = (
        "Liang et al., Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks, ICLR 2018"
    )

    temperature: Positive = 1000.0

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            odin (float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}, double temperature = {{{self.temperature:.17g}}}>
            {{
                wide = Cast <to = 11> (logits)
                highest = ReduceMax (wide, last)
                below = Sub (wide, highest)
                cool = Div (below, temperature)
                shares = Exp (cool)
                mean = ReduceMean (shares, last)
                logarithm = Log (mean)
                warm = Mul (logarithm, temperature)
                narrow = Cast <to = 1> (warm)
                score = Squeeze (narrow, last)
            }}
            """
        )
