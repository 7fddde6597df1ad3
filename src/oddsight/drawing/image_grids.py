"""Small images in rows as one SVG, each with its caption below it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from oddsight.drawing.numbers import short
from oddsight.errors import plain

_PIXELATED = 64  # An image with sides of up to so many pixels is stored without loss, and shown with its pixels

_LETTERS = 24
_GAP, _LINE, _SIZE, _WIDTH = 8, 11, 8.5, 560


@dataclass(frozen=True)
class CaptionedImage:
    """An image to show."""

    pixels: NDArray[np.uint8]  # uint8 `[h, w, 3]`
    caption: str = ""  # What is said below it; of several lines the first stands out


def image_grid(rows: Sequence[Sequence[CaptionedImage]], names: Sequence[str] = (), *, side: int = 96) -> Markup:
    """Images in rows, each in a square of ``side`` points; names of rows, if any, are written to the left of them.

    An image is stored with twice as many pixels at most.
    """
    left = 120 if names else 0
    lines = max(image.caption.count("\n") + 1 if image.caption else 0 for row in rows for image in row)
    across, down = side + _GAP, side + _GAP + lines * _LINE
    # Never much narrower than other figures: a page shows all in one width.
    size = (max(_WIDTH, left + across * max(map(len, rows)) - _GAP), down * len(rows))
    parts = [Markup('<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{}" ').format(_label(rows, names))]
    parts.append(Markup('width="{0}pt" height="{1}pt" viewBox="0 0 {0} {1}">').format(*size))
    for number, row in enumerate(rows):
        if names:
            parts.append(_text(0, number * down + side // 2, names[number], bold=True))
        for place, image in enumerate(row):
            parts += _cell(image, left + place * across, number * down, side)
    return Markup("").join([*parts, Markup("</svg>")])


def rows_of(images: Sequence[CaptionedImage], across: int = 6) -> list[Sequence[CaptionedImage]]:
    """Images in rows of ``across``."""
    return [images[at : at + across] for at in range(0, len(images), across)]


def _label(rows: Sequence[Sequence[CaptionedImage]], names: Sequence[str]) -> str:
    captions = [image.caption for row in rows for image in row if image.caption]
    return "; ".join(", ".join(map(plain, text.splitlines())) for text in (*names, *captions))


def _cell(image: CaptionedImage, left: int, top: int, side: int) -> Iterator[Markup]:
    pixelated = max(image.pixels.shape[:2]) <= _PIXELATED
    yield Markup('<image x="{}" y="{}" width="{}" height="{}" href="{}"{}/>').format(
        left, top, side, side, image_uri(image.pixels, 2 * side),
        Markup(' style="image-rendering:pixelated"') if pixelated else "",
    )  # fmt: skip
    for number, line in enumerate(image.caption.splitlines()):
        yield _text(left, top + side + (number + 1) * _LINE, line, bold=not number)


def _text(left: int, top: float, text: str, *, bold: bool) -> Markup:
    weight = Markup(' font-weight="600"') if bold else ""
    return Markup('<text x="{}" y="{}" font-size="{}" font-family="sans-serif" fill="var(--ink)"{}>{}</text>').format(
        left, top, _SIZE, weight, short(text, _LETTERS)
    )


def image_uri(pixels: NDArray[np.uint8], side: int) -> str:
    """A data URI: without loss if the image is small, so that its pixels can be seen, else JPEG of at most ``side``."""
    image, file = Image.fromarray(pixels), BytesIO()
    kind = "PNG" if max(image.size) <= _PIXELATED else "JPEG"
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.save(file, kind, optimize=True, **({} if kind == "PNG" else {"quality": 80}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
