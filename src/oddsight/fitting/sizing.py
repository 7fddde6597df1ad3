"""The size to which a fit brings its images: their own shape, and where places matter nearly their own resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oddsight.backbones import Backbone
from oddsight.data.collection import ImageFile
from oddsight.detectors import Detector
from oddsight.graphs.preprocessing import Size

MOST = 640
"""Side of a square with as many pixels as are read by default, at most."""

_WORTHWHILE = 1.5
"""How many times the network's side the images must have, so that they are read at more than it."""

_ALIKE = 0.1
"""By what share the shapes of most images differ, at most, so that theirs is taken."""

_LONGEST = 4.0
"""Of the two sides of what a network reads, one is at most so many times the other."""


def input_size(images: Sequence[ImageFile], network: Backbone, detector: type[Detector], size: int | None) -> Size:
    """The size for images of these shapes: the side of a square, or height and width.

    A network reads the shape of the images, so that objects keep theirs, with as many pixels as a square of ``size``.
    Where most images do not have the median shape, it reads squares. By default ``size`` is the network's, and for
    detectors that look at details that of the images, if that is much larger, at most :data:`MOST`: what is small in a
    large image is gone in a small one.

    Args:
        images: Those to learn from.
        network: The backbone.
        detector: What reads them.
        size: What was asked for, if anything.
    """
    usual = detector.size or network.size
    if detector.reads == "pixels" or network.fixed or not images:
        return usual if size is None else size
    shapes = np.array([(image.height, image.width) for image in images], np.float64)
    ratios = shapes[:, 1] / shapes[:, 0]
    shape = float(np.median(ratios))
    if np.median(np.abs(np.log(ratios / shape))) > _ALIKE:
        shape = 1.0
    if size is None:
        own = float(np.median(np.sqrt(shapes.prod(axis=1))))
        large = detector.detailed and own >= _WORTHWHILE * usual
        size = round(min(own, max(usual, MOST))) if large else usual
    stretch = float(np.sqrt(np.clip(shape, 1 / _LONGEST, _LONGEST)))
    height, width = (_multiple(side, network.multiple) for side in (size / stretch, size * stretch))
    return height if height == width else (height, width)


def _multiple(side: float, of: int) -> int:
    return max(of, round(side / of) * of)
