"""The memory budget of a fit: what it is made of, said before the start, refused if it cannot hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from oddsight.data.collection import ImageFile
from oddsight.errors import MemoryBudgetError, OddsightError, plain
from oddsight.graphs.preprocessing import Size, sides
from oddsight.runtime.parallel import cores

RUNNING = 300 * 10**6
"""Python, the libraries and ONNX Runtime with a backbone, in bytes, and what the allocator keeps of freed pieces.

A process with scikit-learn and SciPy that has run a network holds 270 MB; peaks of equal fits differ by up to 45 MB.
"""

_PER_PIXEL = 18  # Bytes that decoding takes for each pixel of an image, at its peak, where its format is not known

_PER_ROW = 3 * 1024  # Bytes that resizing takes for each row

_PER_INPUT_PIXEL = 400
"""Bytes that a network's features take for each pixel of its input: EfficientNet-Lite0's first stages, rounded up."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str | int) -> int:
    """Bytes from ``1GB``, ``512 MiB``, ``800m`` or a plain number."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(text).lower())
    if match is None:
        raise OddsightError(f"{text!r} is not an amount of memory: write 1GB, 512MB or a number of bytes")
    amount = float(match[1]) * _UNITS[match[2] or ""]
    if amount > _UNITS["ti"] * 1024:
        raise OddsightError(f"{plain(str(text))[:40]!r} is more memory than any machine has")
    return int(amount)


@dataclass(frozen=True)
class MemoryPlan:
    """How a budget is divided, in bytes.

    Attributes:
        budget: All of it.
        running: The process itself, and networks at work.
        workers: How many networks are at work at once: one on every core, or fewer in half of what the process leaves.
        images: Images being decoded: the largest on every core, or fewer at once in half of what is left.
        method: What is left for the method.
    """

    budget: int
    running: int
    images: int
    workers: int = 1

    @property
    def method(self) -> int:
        """What is left for the method."""
        return self.budget - self.running - self.images

    def __str__(self) -> str:
        parts = f"{self.running / 1e6:,.0f} MB to run, {self.images / 1e6:,.0f} MB for images being decoded"
        return f"{self.budget / 1e6:,.0f} MB: {parts}, {self.method / 1e6:,.0f} MB for the method"


def plan_memory(
    budget: int,
    images: Sequence[ImageFile],
    size: Size,
    *,
    activations: int = _PER_INPUT_PIXEL,
    weights: int = 0,
    largest: int | None = None,
) -> MemoryPlan:
    """Divide a budget for these images, brought to ``size``.

    Args:
        budget: In bytes.
        images: All that will be read.
        size: In pixels: the side of a square, or height and width.
        activations: Bytes that the network takes for each pixel of its input, while it runs.
        weights: Bytes that the network's weights take beyond those of EfficientNet-Lite0.
        largest: Bytes that decoding the largest image takes, if that is known to be more than usual.
    """
    estimates = (image.width * image.height * _PER_PIXEL + image.height * _PER_ROW for image in images)
    largest = max(estimates, default=0) if largest is None else max(largest, *estimates, 0)
    height, width = sides(size)
    at_work = (budget - RUNNING - weights) // (2 * height * width * activations)
    workers = max(1, min(cores(), at_work))
    running = running_memory(size, activations=activations, weights=weights, workers=workers)
    decoding = min(cores() * largest, max(largest, (budget - running) // 2))
    plan = MemoryPlan(budget, running, decoding, workers)
    if plan.method <= 0:
        raise MemoryBudgetError(
            f"a budget of {budget / 1e6:,.0f} MB is too small: running at {width} x {height} pixels takes "
            f"{plan.running / 1e6:,.0f} MB and decoding the largest image takes {largest / 1e6:,.0f} MB"
        )
    return plan


def running_memory(
    size: Size, *, activations: int = _PER_INPUT_PIXEL, weights: int = 0, workers: int | None = None
) -> int:
    """Bytes of the process itself, and of networks at work, by default one on every core; see :func:`plan_memory`."""
    height, width = sides(size)
    return RUNNING + weights + (workers or cores()) * height * width * activations
