"""Which pixels of a mask file are marked: the rule for black and white, labels, shades of grey, palettes and alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.errors import ImageError

MaskValues = Literal["plain", "labels", "shades"]
"""What a mask holds beside zero: one value, several that fill areas, or shades between nothing and its maximum."""

_LOSSY_FORMATS = ("JPEG", "MPO")


@dataclass(frozen=True)
class MaskPixels:
    """What a mask file marks.

    Attributes:
        marked: True where anomalous, ``[H, W]``.
        values: What the decision was made on.
    """

    marked: NDArray[np.bool_]
    values: MaskValues


def marked_pixels(image: Image.Image, name: str, file_format: str | None) -> MaskPixels:
    """Decide which pixels of a decoded mask are marked; see :func:`oddsight.images.read_mask` for the rule.

    Args:
        image: As Pillow decodes the file.
        name: Of the file, for errors.
        file_format: Pillow's name of its format.

    Raises:
        ImageError: If a value is no number.
    """
    values = _values(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(name, "the mask has values that are no finite numbers")
    top = values.max(initial=0)
    between = (values > 0) & (values < top)
    if not between.any():
        return MaskPixels(values > 0, "plain")
    if file_format not in _LOSSY_FORMATS and 2 * np.count_nonzero(between & _fills_area(values)) >= between.sum():
        return MaskPixels(values > 0, "labels")
    return MaskPixels(values >= top / 2, "shades")


def _values(image: Image.Image) -> NDArray[Any]:
    """How strongly each pixel is marked, 0 for not at all: the strongest channel, and no more than the alpha."""
    if image.mode[0] in "IF":  # I, I;16, I;16B, F: one channel of more than 8 bits
        deep = np.asarray(image)
        return np.asarray(np.abs(deep.astype(np.int64) if deep.dtype.kind in "iu" else deep))
    if not image.has_transparency_data:
        return _strongest(np.asarray(image.convert("RGB")))
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    pixels = np.asarray(image.convert("RGBA"))
    colour, alpha = _strongest(pixels[..., :3]), pixels[..., 3]
    if not alpha.any():  # an alpha channel that means nothing
        return colour
    if (pixels[..., :3] == pixels[0, 0, :3]).all() and alpha.min() < alpha.max():  # painted in one colour, on nothing
        return alpha
    return np.asarray(np.minimum(colour, alpha))


def _strongest(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(channels.max(axis=2))


def _fills_area(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a pixel belongs to a block of 2 x 2 equal ones, as labels do and soft edges do not."""
    across = values[:, 1:] == values[:, :-1]
    blocks = across[1:] & across[:-1] & (values[1:, 1:] == values[:-1, 1:])
    filled = np.zeros(values.shape, np.bool_)
    height, width = values.shape
    for down in (0, 1):
        for right in (0, 1):
            filled[down : height - 1 + down, right : width - 1 + right] |= blocks
    return filled
