"""Reading the masks of images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.data.decoding import limited
from oddsight.data.folder import is_image_file
from oddsight.data.mask_values import LOSSY_FORMATS, MaskPixels, MaskValues, marked_pixels, mask_values, strongest
from oddsight.data.opening import MAX_PIXELS, admit, open_image, open_tiff
from oddsight.data.pixels import load, orientation_of
from oddsight.data.tiff.raster import turn_upright
from oddsight.errors import ImageError


def read_mask(path: str | os.PathLike[str], size: tuple[int, int] | None = None, *, turn: int = 1) -> NDArray[np.bool_]:
    """Read a mask of anomalous pixels.

    A pixel's value is that of its strongest colour channel, whatever the bit depth; a palette counts by its colours,
    not its indices. Which values are marked depends on what the file holds beside zero:

    - one value (0 and 255, 0 and 1, 0 and the grey of a type of defect): every pixel that is not zero;
    - labels, that is several values most of whose pixels fill areas (blocks of 2 x 2 equal ones): likewise;
    - shades, as soft edges, blurs, resizing and lossy compression leave them: pixels of at least half the maximum. In a
      JPEG file several values are always shades.

    Transparent pixels are not marked, and a half transparent one counts for its alpha if that is less than its colour.
    Where all pixels have one colour, the alpha channel is the mask. An alpha of zero everywhere means nothing.

    Args:
        path: The file, or a folder whose image files are parts of one mask: what any of them marks is marked.
        size: Width and height of the image that the mask belongs to, if they are to be compared.
        turn: The EXIF orientation, 1..8, to apply to files that have none of their own; see
            :func:`oddsight.data.masks.inspect_mask`.

    Returns:
        True where anomalous, ``[H, W]``.
    """
    return read_mask_pixels(path, size, turn=turn).marked


def read_mask_pixels(path: str | os.PathLike[str], size: tuple[int, int] | None = None, *, turn: int = 1) -> MaskPixels:
    """Read a mask as :func:`read_mask` does, and say what values its decision was made on."""
    parts = _parts(Path(path))
    first, *others = [_read_part(part, size, turn) for part in parts]
    for part, other in zip(parts[1:], others, strict=True):
        if other.marked.shape != first.marked.shape:
            raise ImageError(str(part), f"the part of a mask differs in size from {parts[0].name}")
    kinds = {first.values, *(other.values for other in others)}
    values: MaskValues = "shades" if "shades" in kinds else "labels" if "labels" in kinds else "plain"
    return MaskPixels(np.logical_or.reduce([first.marked, *(other.marked for other in others)]), values)


def read_orientation(path: str | os.PathLike[str]) -> int:
    """The EXIF or TIFF orientation that a file, or the first part of a mask in a folder, asks for, 1..8."""
    return _part_orientation(_parts(Path(path))[0])


@limited
def _part_orientation(path: Path) -> int:
    name = os.fsdecode(path)
    raster = open_tiff(path, name)
    if raster is not None:
        return raster.page.orientation
    with open_image(path, name, MAX_PIXELS) as image:
        return orientation_of(image.getexif)


def _parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    parts = sorted(filter(is_image_file, path.iterdir()))
    if not parts:
        raise ImageError(str(path), "the folder holds no part of a mask")
    return parts


@limited
def _read_part(path: Path, size: tuple[int, int] | None, turn: int) -> MaskPixels:
    name = os.fsdecode(path)
    raster = open_tiff(path, name)
    if raster is not None:
        admit(raster, name, MAX_PIXELS)
        lossy, orientation = raster.page.lossy, raster.page.orientation
        values = strongest(*raster.read_samples())
    else:
        with open_image(path, name, MAX_PIXELS) as image:
            load(image)
            lossy, orientation = image.format in LOSSY_FORMATS, orientation_of(image.getexif)
            values = mask_values(image)
    pixels = marked_pixels(values, name, lossy=lossy)
    mask = turn_upright(pixels.marked, orientation if orientation != 1 else turn)
    height, width = mask.shape
    if size is not None and (width, height) != tuple(size):
        raise ImageError(name, f"the mask is {width:,} x {height:,} pixels, its image {size[0]:,} x {size[1]:,}")
    return MaskPixels(mask, pixels.values)
