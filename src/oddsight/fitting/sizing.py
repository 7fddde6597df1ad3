"""The size to which a fit brings its images: their own shape, and where places matter nearly their own resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oddsight.backbones import Backbone
from oddsight.data.collection import ImageFile
from oddsight.detectors import Detector
from oddsight.graphs.preprocessing import Size

MOST = 640
"""Sides of a square with as many pixels as are read by default, at most."""

_LONGEST = 4.0
"""Of the two sides of what a network reads, one is at most so many times the other."""


def input_size(images: Sequence[ImageFile], network: Backbone, detector: type[Detector], size: int | None) -> Size:
    """The size for images of these shapes: the side of a square, or height and width.

    A network reads the median shape of the images, so that objects keep theirs, with as many pixels as a square of
    ``size``. By default that is the network's, and for detectors that look at details as many pixels as the images
    have, at most :data:`MOST` squared: what is small in a large image is gone in a small one.

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
    shape = np.median(shapes[:, 1] / shapes[:, 0])
    if size is None:
        own = float(np.median(np.sqrt(shapes.prod(axis=1))))
        size = round(min(max(own, usual), max(usual, MOST))) if detector.detailed else usual
    stretch = float(np.sqrt(np.clip(shape, 1 / _LONGEST, _LONGEST)))
    height, width = (_multiple(side, network.multiple) for side in (size / stretch, size * stretch))
    return height if height == width else (height, width)


def _multiple(side: float, of: int) -> int:
    return max(of, round(side / of) * of)
