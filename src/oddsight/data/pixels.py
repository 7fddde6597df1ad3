"""From what Pillow decodes to RGB of 8 bits; :mod:`oddsight.data.images` has the rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from oddsight.data.tiff.colours import over_white
from oddsight.data.tiff.raster import turn_upright
from oddsight.errors import ImageError

_ORIENTATION = 0x0112
_PIECE = 2**20
_PNG_LEVELS = {"L;2": 85, "L;4": 17}  # By which Pillow multiplies the grey levels of PNGs of 2 and 4 bits


def to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Decode an image and bring it to RGB, upright, ``[H, W, 3]``."""
    if image.mode == "F":
        raise ImageError(name, "floating-point pixels have no fixed range; save it with 8 or 16 bits a channel")
    if min(image.size) < 1:
        raise ImageError(name, f"empty: {image.width} x {image.height} pixels")
    load(image)
    orientation = orientation_of(image.getexif)
    if image.mode[0] == "I":  # I, I;16, I;16B, I;16L
        image = Image.fromarray(_grey_of_16_bits(image, name))
    elif image.has_transparency_data:
        if image.mode == "La":  # which Pillow converts to nothing else
            image = image.convert("LA")
        return turn_upright(over_white(_in_mode(image, "RGBA")), orientation)
    return turn_upright(np.asarray(_in_mode(image, "RGB")), orientation)


def load(image: Image.Image) -> None:
    """Decode, and bring the transparent colour of a PNG, which has the file's depth, to that of the pixels."""
    layout = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else None
    image.load()
    if image.format == "JXL":  # whose decoder turns it already
        image.info.pop("exif", None)
    transparent = image.info.get("transparency")
    if layout in _PNG_LEVELS and isinstance(transparent, int):
        image.info["transparency"] = transparent * _PNG_LEVELS[layout]
    elif layout == "RGB;16B" and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(level >> 8 for level in transparent)


def orientation_of(read_exif: Callable[[], Image.Exif]) -> int:
    """The EXIF orientation, 1..8; 1 where there is none or it cannot be read."""
    try:
        value = read_exif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises nearly every built-in exception on damaged files
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def to_8_bits(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Divide by 257 and round; in pieces, so that the wider integers this takes need little memory."""
    flat = values.reshape(-1)
    scaled = np.empty(flat.shape, np.uint8)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE].astype(np.uint32)
        scaled[start : start + _PIECE] = (piece + 128) // 257
    return scaled.reshape(values.shape)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert, without the copy that Pillow makes if there is nothing to convert."""
    return image if image.mode == mode else image.convert(mode)


def _grey_of_16_bits(image: Image.Image, name: str) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if values.dtype.itemsize > 2 and (values.min() < 0 or values.max() > 65535):
        raise ImageError(name, "32-bit pixels have no fixed range; save it with 8 or 16 bits a channel")
    grey = to_8_bits(values.astype(np.uint16, copy=False))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey
