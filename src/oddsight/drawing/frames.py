"""Drawing on the frames of a stream: where they are anomalous, zones, objects, and time and score in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from oddsight.drawing.overlays import SCALE, Colour, tint
from oddsight.errors import plain
from oddsight.model.events import Look, WatchedFrame

Polygon = Sequence[tuple[float, float]]
"""Corners ``(x, y)`` in parts of the frame's width and height, 0 to 1."""

_ALARM: Colour = (255, 70, 70)
_CALM: Colour = (255, 255, 255)
_EXCLUDED: Colour = (150, 150, 150)
_DARK: Colour = (20, 20, 20)


def draw_frame(
    pixels: NDArray[np.uint8],
    watched: WatchedFrame,
    zones: Mapping[str, Polygon] | None = None,
    excluded: Collection[str] = (),
) -> NDArray[np.uint8]:
    """A frame with its anomaly map in the colours of :mod:`oddsight.drawing.overlays`, zones, boxes and a line of text.

    Zones and boxes are white, red while an event goes on there, and zones that are excluded grey.

    Args:
        pixels: The frame, uint8 ``[H, W, 3]``.
        watched: What became of it.
        zones: The corners of each zone by its name.
        excluded: The zones among them in which nothing is looked at.

    Returns:
        uint8 ``[H, W, 3]``, as large as the frame.
    """
    height, width, _ = pixels.shape
    image = np.array(pixels)
    zones = zones or {}
    for look in watched.looks:
        _tint(image, look, zones.get(look.zone))
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(max(width, height) / 400))
    alarms = {look.zone for look in watched.looks if look.alarm}
    for name, polygon in zones.items():
        corners = _corners(polygon, height, width)
        colour = _EXCLUDED if name in excluded else _ALARM if name in alarms else _CALM
        for outline, wide in ((_DARK, line + 2), (colour, line)):
            draw.line([*corners, corners[0]], fill=outline, width=wide, joint="curve")
        _label(draw, min(corners, key=lambda corner: corner[1]), name, colour, canvas.size)
    for look in watched.looks:
        if look.box is not None and (look.track is not None or look.zone not in zones):
            _box(draw, look, line, canvas.size)
    _label(draw, (0, height), _status(watched), _ALARM if alarms else _CALM, canvas.size)
    return np.array(canvas)


def _tint(image: NDArray[np.uint8], look: Look, zone: Polygon | None) -> None:
    """Put the map of a look over its place in a frame, and of a zone that is scored with the frame over the zone."""
    values, threshold = look.result.map, look.result.threshold
    if values is None or not threshold:
        return
    down, across = _place(look, *image.shape[:2])
    place = image[down, across]
    coloured = values > threshold - (1 - SCALE[0][0]) * abs(threshold)
    if not place.size or not coloured.any():
        return
    rows = _span(np.any(coloured, axis=1, keepdims=True)[:, 0], place.shape[0])
    columns = _span(np.any(coloured, axis=0, keepdims=True)[0], place.shape[1])
    high, wide = values.shape[0] / place.shape[0], values.shape[1] / place.shape[1]
    box = (columns.start * wide, rows.start * high, columns.stop * wide, rows.stop * high)
    tinted = tint(place[rows, columns], values, threshold, box)
    if zone is None or place.shape != image.shape:
        place[rows, columns] = tinted
        return
    mask = Image.new("1", image.shape[1::-1])
    ImageDraw.Draw(mask).polygon(_corners(zone, *image.shape[:2]), fill=1)
    inside = np.asarray(mask)[rows, columns]
    place[rows, columns][inside] = tinted[inside]


def _place(look: Look, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a frame that were scored: around a box, as much as the result is of."""
    if look.box is None:
        return slice(0, height), slice(0, width)
    left, top, right, bottom = look.box
    high, wide = min(look.result.height, height), min(look.result.width, width)
    y = min(max((top + bottom - high) // 2, 0), height - high)
    x = min(max((left + right - wide) // 2, 0), width - wide)
    return slice(y, y + high), slice(x, x + wide)


def _corners(zone: Polygon, height: int, width: int) -> list[tuple[float, float]]:
    return [(x * (width - 1), y * (height - 1)) for x, y in zone]


def _span(coloured: NDArray[np.bool_], pixels: int) -> slice:
    """The pixels of one axis that cells of a map have a part in: those with a colour and their neighbours."""
    cells = np.flatnonzero(coloured)
    first, last = max(0, cells[0] - 1), min(len(coloured), cells[-1] + 2)
    return slice(int(first * pixels // len(coloured)), int(-(-last * pixels // len(coloured))))


def _box(draw: ImageDraw.ImageDraw, look: Look, line: int, size: tuple[int, int]) -> None:
    assert look.box is not None
    left, top, right, bottom = look.box
    colour = _ALARM if look.alarm else _CALM
    # Pillow's corners are inclusive.
    corners = (left, top, max(left, right - 1), max(top, bottom - 1))
    draw.rectangle(corners, outline=_DARK, width=line + 2)
    draw.rectangle(corners, outline=colour, width=line)
    if look.track is not None:
        _label(draw, (left, top), f"{look.track}", colour, size)


def _label(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: Colour, size: tuple[int, int]
) -> None:
    """Text on a dark ground above a place, within the frame."""
    text = plain(text)
    font = _font(max(10, round(max(size) / 45)))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, high = right - left + 6, bottom - top + 6
    x = min(max(0, place[0]), max(0, size[0] - wide))
    y = min(max(0, place[1] - high), max(0, size[1] - high))
    draw.rectangle((x, y, x + wide, y + high), fill=_DARK)
    draw.text((x + 3 - left, y + 3 - top), text, fill=colour, font=font)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _status(watched: WatchedFrame) -> str:
    """Its time, the look that deviates most and where events go on."""
    parts = []
    if watched.frame is not None and watched.frame.time is not None:
        parts.append(clock(watched.frame.time))
    if watched.looks:
        most = min(watched.looks, key=lambda look: (look.result.p_value, -look.result.score))
        parts.append(f"score {most.result.score:.4g}")
        parts.append(f"p {most.result.p_value:.2g}")
    alarms = dict.fromkeys(look.zone for look in watched.looks if look.alarm)
    parts += [f"alarm: {', '.join(alarms)}"] if alarms else []
    return "   ".join(parts + ([watched.error] if watched.error is not None else []))


def clock(seconds: float) -> str:
    """``1:02:03.4`` or ``02:03.4``."""
    tenths = round(seconds * 10)
    hours, rest = divmod(abs(tenths), 36000)
    minutes, rest = divmod(rest, 600)
    sign, whole = "-" if tenths < 0 else "", f"{minutes:02d}:{rest // 10:02d}.{rest % 10}"
    return f"{sign}{hours}:{whole}" if hours else sign + whole
