"""Showing where an image is anomalous: the anomaly map as a heat map over it, in colours tied to the threshold.

A colour means the same on every image that is judged by one threshold. Below three quarters of the threshold a
image shows as it is; from there it turns yellow up to the threshold, orange and red beyond it, and crimson from
twice the threshold on. (:data:`SCALE` has the numbers.) An image is flagged if and only if its highest value is
beyond the threshold, so no image that passed shows any red.

Without a threshold (a decision over a batch that flagged nothing), or with one of exactly zero, there is no such
scale. The map is then stretched from its own minimum to its own maximum, in shades of blue, so that it cannot be
mistaken for the other: blue tells where the image is least normal, and nothing about how much.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from oddsight.errors import OddsightError
from oddsight.model.result import Result

MAX_SIDE = 1600  # Larger images are reduced to this many pixels on the longer side

Colour = tuple[int, int, int]

SCALE: tuple[tuple[float, Colour, float], ...] = (
    (0.75, (255, 237, 120), 0.0),
    (1.0, (255, 221, 0), 0.42),
    (1.25, (255, 125, 0), 0.5),
    (1.6, (225, 20, 20), 0.52),
    (2.0, (165, 0, 55), 0.55),
)
"""The colours: value in thresholds, RGB, opacity. Between them all three are interpolated."""

_BLUES: tuple[tuple[float, Colour, float], ...] = (
    (0.5, (120, 190, 255), 0.0),
    (1.0, (0, 70, 255), 0.6),
)
_STEPS = 1024


def overlay(image: NDArray[np.uint8], result: Result) -> NDArray[np.uint8]:
    """The image with its anomaly map as a heat map over it, and the outlines of its regions in boxes; see the module.

    Args:
        image: The image that was scored, uint8 ``[H, W, 3]``, or a smaller copy of it.
        result: What it got.

    Returns:
        uint8 ``[H, W, 3]``; reduced if a side is longer than :data:`MAX_SIDE`.

    Raises:
        OddsightError: If the result has no map, as of a method that cannot localise.
    """
    if result.map is None:
        name = result.source or "this image"
        raise OddsightError(f"{name} has no anomaly map to show: the method says how anomalous, not where")
    canvas = Image.fromarray(image)
    canvas.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=2)
    tinted = tint(np.asarray(canvas), result.map, result.threshold)
    return _with_boxes(tinted, result)


def tint(
    pixels: NDArray[np.uint8],
    values: NDArray[np.float32],
    threshold: float | None,
    box: tuple[float, float, float, float] | None = None,
) -> NDArray[np.uint8]:
    """Blend the colours of a map ``[h, w]``, or of a box in it, over an image, uint8 ``[H, W, 3]``; see the module."""
    height, width, _ = pixels.shape
    smooth = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR, box)
    levels = np.asarray(smooth, np.float64)
    if threshold:
        scale = SCALE
        # The same as dividing by the threshold where that is positive, and still rising where it is negative.
        levels = 1 + (levels - threshold) / abs(threshold)
    else:
        scale = _BLUES
        lowest, highest = float(values.min()), float(values.max())
        levels = (levels - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(levels)
    table = _table(scale)
    start, end = scale[0][0], scale[-1][0]
    tints = table[np.rint((np.clip(levels, start, end) - start) * ((_STEPS - 1) / (end - start))).astype(np.intp)]
    opacity = tints[..., 3:]
    return np.rint(pixels * (1 - opacity) + tints[..., :3] * opacity).astype(np.uint8)


def _table(scale: tuple[tuple[float, Colour, float], ...]) -> NDArray[np.float32]:
    """Red, green, blue and opacity over the range of a scale, ``[steps, 4]``."""
    at = np.array([value for value, _, _ in scale])
    channels = np.array([(*colour, opacity) for _, colour, opacity in scale])
    steps = np.linspace(at[0], at[-1], _STEPS)
    return np.stack([np.interp(steps, at, channel) for channel in channels.T], axis=1).astype(np.float32)


def _with_boxes(pixels: NDArray[np.uint8], result: Result) -> NDArray[np.uint8]:
    """Draw the outline of each region and a white box with a dark rim around it, which shows on any background."""
    height, width, _ = pixels.shape
    across, down = width / result.width, height / result.height
    line = max(1, round(max(width, height) / 160))
    canvas = Image.fromarray(pixels)
    draw = ImageDraw.Draw(canvas)
    for region in result.regions:
        for ring in itertools.chain.from_iterable(region.polygons):
            draw.line([(x * across, y * down) for x, y in ring], fill=(255, 255, 255))
        left, top, right, bottom = region.bbox
        # Pillow's corners are inclusive, the region's right and bottom exclusive.
        box = (
            max(0, int(left * across) - 1),
            max(0, int(top * down) - 1),
            min(width, round(right * across) + 1) - 1,
            min(height, round(bottom * down) + 1) - 1,
        )
        draw.rectangle(box, outline=(20, 20, 20), width=line + 2)
        inner = (box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1)
        if inner[0] <= inner[2] and inner[1] <= inner[3]:
            draw.rectangle(inner, outline=(255, 255, 255), width=line)
    return np.array(canvas)
