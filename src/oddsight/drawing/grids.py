"""A frame with a labelled grid over it, to read the corners of zones from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from oddsight.drawing.frames import Polygon

_SIDE = 1200
"""The longer side that a frame is enlarged or reduced to, in pixels."""

_MARGIN, _SIZE = 44, 16
_PAPER, _INK, _LIGHT = (250, 250, 250), (30, 30, 30), (255, 255, 255)
_INCLUDED, _EXCLUDED = (0, 220, 90), (255, 60, 60)


def draw_grid(
    pixels: NDArray[np.uint8],
    cells: int = 10,
    included: Mapping[str, Polygon] | None = None,
    excluded: Mapping[str, Polygon] | None = None,
) -> NDArray[np.uint8]:
    """A frame with lines at equal shares of its width and height, and zones.

    Args:
        pixels: The frame, uint8 ``[H, W, 3]``.
        cells: Number of cells along each side.
        included: Corners in shares of width and height by the name of each zone; drawn green.
        excluded: The same of zones that are not looked at; drawn red.

    Returns:
        uint8 ``[h, w, 3]``, with a margin on the left and at the top where the lines are labelled.
    """
    height, width, _ = pixels.shape
    scale = _SIDE / max(height, width)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    shown = Image.fromarray(pixels).resize((across, down), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (across + _MARGIN + _SIZE, down + _MARGIN + _SIZE), _PAPER)
    canvas.paste(shown, (_MARGIN, _MARGIN))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(_SIZE)

    def place(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + x * (across - 1), _MARGIN + y * (down - 1)

    for number in range(cells + 1):
        share = number / cells
        for start, end in ((place(share, 0), place(share, 1)), (place(0, share), place(1, share))):
            draw.line((*start, *end), fill=_INK, width=3)
            draw.line((*start, *end), fill=_LIGHT, width=1)
        label = f"{share:.3g}"
        draw.text((place(share, 0)[0], _MARGIN - 6), label, fill=_INK, font=font, anchor="mb")
        draw.text((_MARGIN - 6, place(0, share)[1]), label, fill=_INK, font=font, anchor="rm")
    draw.text((6, 6), "x, y", fill=_INK, font=font)
    for colour, zones in ((_INCLUDED, included or {}), (_EXCLUDED, excluded or {})):
        for name, polygon in zones.items():
            corners = [place(x, y) for x, y in polygon]
            for line, wide in ((_INK, 6), (colour, 3)):
                draw.line([*corners, corners[0]], fill=line, width=wide, joint="curve")
            draw.text(
                (corners[0][0] + 8, corners[0][1] + 8), name, fill=colour, font=font, stroke_width=2, stroke_fill=_INK
            )
    return np.array(canvas)
