"""Reading images: any file, array or Pillow image becomes uint8 RGB ``[H, W, 3]``, or one clear error.

What a file is, its content says, never its name. What becomes of each kind of image depends on what that image declares
alone, never on its values' range or its neighbours:

- EXIF or TIFF orientation: applied. A damaged EXIF block is ignored.
- RGBA, LA, PA, and palette, grey or RGB with a transparent colour: composited over white. In TIFF files an extra sample
  is alpha only where the file says so (tag ExtraSamples), multiplied into the colours or not as it says.
- Palette: its colours; of a short one, black beyond it. Greyscale and 1-bit: replicated to three channels.
- White-is-zero TIFF files of every depth: inverted.
- CMYK, YCbCr, LAB, HSV: converted by Pillow. CMYK JPEGs are read as inverted, with Adobe's marker or without, as all
  programs do that write them. Embedded colour profiles, gamma and rendering intents are not applied.
- 16-bit greyscale: divided by 257 and rounded, so that 65535 becomes 255; never stretched. Images that keep 10 or
  12 bits in 16-bit files come out dark; TIFF files that declare 10 or 12 bits do not.
- 16-bit colour: the high byte. (Arrays of 16-bit colour are divided by 257.)
- More than three bands: the first three, unless a :class:`~oddsight.data.reading.Reading` names others. Two
  are refused.
- Signed, 32-bit and floating-point numbers: refused, as they have no fixed range, unless a reading gives a scale.
- Pixels that a TIFF file marks as without data, or that are not finite: the mean colour of the others.
- Animations and multi-page files: the first frame; of TIFF files, the first page that is no preview or mask of another.

An image that its decoder calls truncated or damaged is refused, never patched up, and one that is intact but of a kind
that is not read is refused for that reason. (Pillow's decoders pass over some damage in silence, such as a PNG whose
compressed rows end early.)

TIFF files are read by :mod:`oddsight.data.tiff`, all others by Pillow. Only the formats in
:data:`oddsight.data.formats.FORMATS` are tried, so that no other program (Ghostscript for EPS) is ever started, and the
size is checked from the header before any pixel is decoded.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from oddsight.data.decoded import DecodedImage, RowImage
from oddsight.data.decoding import limited
from oddsight.data.failures import name_failures
from oddsight.data.opening import (
    MAX_PIXELS,
    MAX_PIXELS_BY_ROWS,
    Content,
    admit,
    check_sides,
    open_image,
    open_tiff,
)
from oddsight.data.pixels import load, orientation_of, to_8_bits, to_rgb
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.tiff import Raster
from oddsight.errors import ImageError


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image before any pixel is decoded."""

    path: str  # The file
    # Pixels, as `read_image` returns them, that is with the orientation applied. (Of a PNG whose EXIF block follows its
    # pixels, the orientation is not known yet.)
    width: int
    height: int  # Pixels, likewise
    mode: str  # Pillow's mode: `L`, `RGB`, `RGBA`, `P`, `CMYK`, `I;16`, ...
    # Bits of each channel in the file, as 1, 8, 16 or 32. JPEG 2000 and AVIF colour count as 8, to which Pillow reduces
    # them.
    bit_depth: int
    format: str  # Pillow's name of the format: `PNG`, `JPEG`, ...
    frames: int  # How many frames or pages can be reached


def read_image(
    path: str | os.PathLike[str], *, reading: Reading = AS_DECLARED, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read the image in a file.

    Safe to call from several threads at once.

    Args:
        path: The file.
        reading: Bands and scale of a TIFF file.
        max_pixels: Images with more pixels (width times height) are refused before they are decoded.

    Returns:
        RGB values 0..255, C-contiguous, ``[H, W, 3]``; see the module for the rules.

    Raises:
        ImageError: The file is missing or unreadable, or it is not an image, damaged or too large.
    """
    return read_valid_image(path, reading=reading, max_pixels=max_pixels)[0]


@limited
def read_valid_image(
    source: Content, name: str | None = None, *, reading: Reading = AS_DECLARED, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """As :func:`read_image`, with which pixels hold something, ``[H, W]``; None if all do.

    The source is a file or its content, which errors call by the name.
    """
    name = _name(source, name)
    raster = open_raster(source, reading, name=name)
    if raster is not None:
        check_sides(raster.width, raster.height, name)
        admit(raster, name, max_pixels)
        return raster.read()
    with open_image(source, name, max_pixels) as image:
        return to_rgb(image, name), None


def open_raster(source: Content, reading: Reading = AS_DECLARED, *, name: str | None = None) -> Raster | None:
    """Open a TIFF file, known by its content, to read it by rows; None if the file is something else."""
    name = _name(source, name)
    raster = open_tiff(source, name, reading)
    if raster is not None:
        raster.check()
    elif reading.chosen:
        raise ImageError(name, "bands and a scale are only for TIFF files")
    return raster


def _name(source: Content, name: str | None) -> str:
    return name or ("an image" if isinstance(source, bytes) else os.fsdecode(source))


@limited
def decode_image(path: str | os.PathLike[str]) -> RowImage:
    """Decode an image that is no TIFF to read its rows. Nothing but memory and time limits its size."""
    name = os.fsdecode(path)
    with open_image(path, name, MAX_PIXELS_BY_ROWS, by_rows=True) as image:
        load(image)
        return DecodedImage(image, name)


@limited
def read_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Read what a file says of its image, without decoding pixels: damage to them goes unnoticed."""
    name = os.fsdecode(path)
    raster = open_tiff(path, name)
    if raster is not None:
        bits = max(raster.page.bits)
        return ImageHeader(name, raster.width, raster.height, raster.page.mode, bits, "TIFF", raster.count_pages())
    with open_image(path, name, None) as image:
        # The base class's method, because PNG's own one decodes the image in search of a late EXIF block.
        orientation = orientation_of(lambda: Image.Image.getexif(image))
        width, height = image.size if orientation < 5 else image.size[::-1]
        mode, bit_depth, file_format = image.mode, _bit_depth(image), str(image.format)
        frames = 1
        with suppress(Exception):  # damage beyond the first frame does not concern us
            frames = int(getattr(image, "n_frames", 1))
    return ImageHeader(name, width, height, mode, bit_depth, file_format, frames)


def _bit_depth(image: ImageFile.ImageFile) -> int:
    """Bits a channel in the file, which shows in the layout that the decoder was told to expect."""
    if image.mode == "1":
        return 1
    layouts = [part for tile in image.tile[:1] for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))]
    if image.mode.startswith("I;16") or any(isinstance(part, str) and ";16" in part for part in layouts):
        return 16
    if image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in layouts):  # its greatest value
        return 16
    return 32 if image.mode in ("I", "F") else 8


def as_image(image: NDArray[Any] | Image.Image) -> NDArray[np.uint8]:
    """Bring an array or a Pillow image to the form that :func:`read_image` returns, by the same rules.

    Args:
        image: A Pillow image, or an array ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` (RGB) or ``[H, W, 4]`` (RGBA) of
            uint8 (0..255), uint16 (0..65535) or bool.

    Returns:
        RGB values 0..255, C-contiguous, ``[H, W, 3]``. It may share memory with the given array.
    """
    if isinstance(image, Image.Image):
        name = os.fsdecode(getattr(image, "filename", None) or "image")
        with name_failures(name):
            raster = _unread_tiff(image, name)
            return raster.read()[0] if raster is not None else to_rgb(image, name)
    if not isinstance(image, np.ndarray):
        raise ImageError("image", f"a {type(image).__name__} is neither a NumPy array nor a Pillow image")
    return _array_as_image(image)


def _unread_tiff(image: Image.Image, name: str) -> Raster | None:
    """The file behind a Pillow image that is not decoded yet, which Pillow might take for something else."""
    if not isinstance(image, TiffImageFile) or not image.tile or image.tell() != 0 or image.fp is None:
        return None
    image.fp.seek(0)
    return Raster(image.fp.read(), name=name)


def _array_as_image(array: NDArray[Any]) -> NDArray[np.uint8]:
    name = "array"
    if array.size == 0:
        raise ImageError(name, f"empty, of shape {array.shape}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(name, f"shape {array.shape} is none of [H, W], [H, W, 1], [H, W, 3] and [H, W, 4]")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = to_8_bits(array.astype(np.uint16, copy=False))
    elif array.dtype != np.uint8:
        raise ImageError(name, f"{array.dtype} pixels; pass uint8 values 0..255 (or uint16 0..65535)")
    if array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)), name)


def content_hash(image: NDArray[np.uint8]) -> str:
    """The SHA-256, in hexadecimal, of an image's shape and pixels: equal for the same image in any lossless format."""
    digest = hashlib.sha256(repr(tuple(int(side) for side in image.shape)).encode())
    digest.update(np.ascontiguousarray(image, dtype=np.uint8).data)
    return digest.hexdigest()
