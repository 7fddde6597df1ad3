"""The memory budget of a fit: what it is made of, said before the start, refused if it cannot hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from oddsight.datasets.collection import ImageFile
from oddsight.errors import MemoryBudgetError, OddsightError
from oddsight.parallel import cores

RUNNING = 300 * 10**6
"""Python, the libraries and ONNX Runtime with a backbone on every core, in bytes: measured, see ``benchmarks``."""

_PER_PIXEL = 10
"""Bytes that decoding takes for each pixel of a picture, at its peak."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str | int) -> int:
    """Bytes from ``1GB``, ``512 MiB``, ``800m`` or a plain number.

    Raises:
        OddsightError: If it is none of these.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(text).lower())
    if match is None:
        raise OddsightError(f"{text!r} is no amount of memory: write 1GB, 512MB or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2] or ""])


@dataclass(frozen=True)
class MemoryPlan:
    """How a budget is divided, in bytes.

    Attributes:
        budget: All of it.
        running: The process itself.
        images: Pictures being decoded, the largest on every core.
        method: What is left for the method.
    """

    budget: int
    running: int
    images: int

    @property
    def method(self) -> int:
        """What is left for the method."""
        return self.budget - self.running - self.images

    def __str__(self) -> str:
        parts = f"{self.running / 1e6:,.0f} MB to run, {self.images / 1e6:,.0f} MB for pictures being decoded"
        return f"{self.budget / 1e6:,.0f} MB: {parts}, {self.method / 1e6:,.0f} MB for the method"


def plan_memory(budget: int, images: Sequence[ImageFile]) -> MemoryPlan:
    """Divide a budget for these images.

    Raises:
        MemoryBudgetError: If not even the running process and the largest pictures fit.
    """
    largest = max((image.width * image.height for image in images), default=0)
    plan = MemoryPlan(budget, RUNNING, cores() * largest * _PER_PIXEL)
    if plan.method <= 0:
        raise MemoryBudgetError(
            f"a budget of {budget / 1e6:,.0f} MB is too small: running takes {RUNNING / 1e6:,.0f} MB and pictures of "
            f"{largest / 1e6:,.1f} megapixels take {plan.images / 1e6:,.0f} MB to decode"
        )
    return plan
