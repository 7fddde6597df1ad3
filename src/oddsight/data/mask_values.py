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

LOSSY_FORMATS = ("JPEG", "MPO")  # Formats, by Pillow's names, that change values as they compress


@dataclass(frozen=True)
class MaskPixels:
    """What a mask file marks."""

    marked: NDArray[np.bool_]  # True where anomalous, `[H, W]`
    values: MaskValues  # What the decision was made on


def marked_pixels(values: NDArray[Any], name: str, *, lossy: bool) -> MaskPixels:
    """Decide which pixels of a mask are marked; see :func:`oddsight.data.mask_files.read_mask` for the rule.

    ``values`` ``[H, W]`` say how strongly, 0 for not at all; compression that changes values, as in JPEG, is ``lossy``.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError(name, "the mask has values that are not finite")
    top = values.max(initial=0)
    between = (values > 0) & (values < top)
    if not between.any():
        return MaskPixels(values > 0, "plain")
    if not lossy and 2 * np.count_nonzero(between & _fills_area(values)) >= between.sum():
        return MaskPixels(values > 0, "labels")
    return MaskPixels(values >= top / 2, "shades")


def mask_values(image: Image.Image) -> NDArray[Any]:
    """How strongly each pixel of a decoded mask is marked, ``[H, W]``; see :func:`strongest`."""
    if image.mode[0] in "IF":  # I, I;16, I;16B, F: one channel of more than 8 bits
        deep = np.asarray(image)
        return strongest(deep[..., None], None)
    if not image.has_transparency_data:
        return strongest(np.asarray(image.convert("RGB")), None)
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    pixels = np.asarray(image.convert("RGBA"))
    return strongest(pixels[..., :3], pixels[..., 3])


def strongest(colours: NDArray[Any], alpha: NDArray[Any] | None) -> NDArray[Any]:
    """How strongly each pixel is marked, ``[H, W]``, 0 for not at all: its strongest channel, at most its alpha.

    Colours are ``[H, W, C]``, and alpha ``[H, W]`` is in the same units.
    """
    deep = colours.dtype.kind in "iu" and colours.dtype.itemsize > 1
    colour = np.abs(colours.astype(np.int64) if deep else colours).max(axis=2)
    if alpha is None or not alpha.any():  # an alpha channel that means nothing
        return np.asarray(colour)
    if (colours == colours[0, 0]).all() and alpha.min() < alpha.max():  # painted in one colour, on nothing
        return alpha
    return np.asarray(np.minimum(colour, alpha))


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
