"""The size to which a fit brings its images: their own shape, and where places matter nearly their own resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oddsight.backbones import Backbone
from oddsight.data.collection import ImageFile
from oddsight.detectors import Detector
from oddsight.errors import OddsightError
from oddsight.graphs.preprocessing import Size, sides


@dataclass(frozen=True)
class Speed:
    """What a detector of details reads and keeps.

    Attributes:
        pixels: Side of a square with as many pixels as are read of an image, at most; the network's own at least.
        bank: Patches in its memory bank, at most.
    """

    pixels: int
    bank: int


SPEEDS = {"fast": Speed(0, 1000), "balanced": Speed(640, 4000), "best": Speed(896, 10_000)}
"""From the quickest answers to the smallest defects."""

BALANCED = "balanced"

_WORTHWHILE = 1.5
"""How many times the network's side the images must have, so that they are read at more than it."""

_ALIKE = 0.1
"""By what share the shapes of most images differ, at most, so that theirs is taken."""

_LONGEST = 4.0
"""Of the two sides of what a network reads, one is at most so many times the other."""


def at_speed(detector: Detector, name: str) -> Speed:
    """The speed of that name; the detector has the bank of it from now on, unless its own was set.

    Raises:
        OddsightError: If there is no such speed, or the detector has but one.
    """
    if name not in SPEEDS:
        raise OddsightError(f"the speed is one of {', '.join(SPEEDS)}, not {name}")
    if name == BALANCED:
        return SPEEDS[name]
    settings, usual = vars(detector), vars(type(detector)())
    if not detector.detailed or "bank_size" not in settings:
        raise OddsightError(f"{detector.name} has only one speed: choose its size instead, or use auto or patchcore")
    if settings["bank_size"] == usual["bank_size"]:
        settings["bank_size"] = SPEEDS[name].bank
    return SPEEDS[name]


def input_size(
    images: Sequence[ImageFile],
    network: Backbone,
    detector: type[Detector],
    size: Size | None,
    speed: Speed = SPEEDS[BALANCED],
) -> Size:
    """The size for images of these shapes: the side of a square, or height and width.

    A network reads the shape of the images, so that objects keep theirs, with as many pixels as a square of ``size``.
    Where most images do not have the median shape, it reads squares. By default ``size`` is the network's, and for
    detectors that look at details that of the images, if that is much larger, at most that of the speed: what is small
    in a large image is gone in a small one.

    Args:
        images: Those to learn from.
        network: The backbone.
        detector: What reads them.
        size: What was asked for, if anything: the side of a square; or height and width, which are kept if images of
            these shapes could have been brought to them, and otherwise are the same number of pixels.
        speed: How many pixels they may have.
    """
    usual = detector.size or network.size
    if detector.reads == "pixels" or network.fixed or not images:
        return usual if size is None else _plain(size)
    shapes = np.array([(image.height, image.width) for image in images], np.float64)
    ratios = shapes[:, 1] / shapes[:, 0]
    shape = float(np.median(ratios))
    if np.median(np.abs(np.log(ratios / shape))) > _ALIKE:
        shape = 1.0
    if size is None:
        own = float(np.median(np.sqrt(shapes.prod(axis=1))))
        large = detector.detailed and own >= _WORTHWHILE * usual
        size = round(min(own, max(usual, speed.pixels))) if large else usual
    stretch = float(np.sqrt(np.clip(shape, 1 / _LONGEST, _LONGEST)))
    if isinstance(size, tuple):
        if _suits(size, stretch, network.multiple):
            return _plain(size)
        size = round(float(np.sqrt(size[0] * size[1])))
    return _plain(
        (_multiple(size / stretch, network.multiple), _multiple(size * stretch, network.multiple)),
    )


def _plain(size: Size) -> Size:
    """A square as its side."""
    height, width = sides(size)
    return height if height == width else (height, width)


def _suits(size: tuple[int, int], stretch: float, multiple: int) -> bool:
    """Whether images of this shape are brought to height and width for the side of some square."""
    height, width = size
    least = max((height - multiple / 2) * stretch, (width - multiple / 2) / stretch)
    return least <= min((height + multiple / 2) * stretch, (width + multiple / 2) / stretch)


def _multiple(side: float, of: int) -> int:
    return max(of, round(side / of) * of)
