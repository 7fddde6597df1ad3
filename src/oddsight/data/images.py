"""Reading images: any file, array or Pillow image becomes uint8 RGB ``[H, W, 3]``, or one clear error.

What a file is, its content says, never its name. What becomes of each kind of image depends on what that image declares
alone, never on its values' range or its neighbours:

- EXIF or TIFF orientation: applied. A damaged EXIF block is ignored.
- RGBA, LA, PA, and palette, grey or RGB with a transparent colour: composited over white. In TIFF files an extra sample
  is alpha only where the file says so (tag ExtraSamples), multiplied into the colours or not as it says.
- Palette: its colours. Greyscale and 1-bit: replicated to three channels.
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

TIFF files are read by :mod:`oddsight.data.tiff`, all others by Pillow. Only the formats in :data:`FORMATS` are tried,
so that no other program (Ghostscript for EPS) is ever started, and the size is checked from the header before any pixel
is decoded.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from oddsight.data.decoding import limited, pixel_limit, reserve, reserve_bytes
from oddsight.data.mask_values import LOSSY_FORMATS, MaskPixels, MaskValues, marked_pixels, mask_values, strongest
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.data.tiff import Raster, is_tiff
from oddsight.data.tiff.colours import over_white
from oddsight.data.tiff.raster import turn_upright
from oddsight.data.unread_formats import UNREAD_FORMATS, is_camera_raw, unread_reason
from oddsight.errors import ImageError, OddsightError

MAX_PIXELS = 2**27
"""The most pixels an image may have, unless the caller sets another limit: 134,217,728, or 11,585 x 11,585.
Decoding takes ten bytes of memory a pixel and more, so 1.3 GB for that many; see :mod:`oddsight.data.decoding`."""

MAX_SIDE = 2**16
"""The most pixels that a side may have where the whole image is scored: on its way to the model's size, a column of
that many pixels takes as much memory as an image of as many rows."""

_PLUGINS = {
    "PNG": "PngImagePlugin",
    "JPEG": "JpegImagePlugin",  # opens MPO as well
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "GIF": "GifImagePlugin",
    "PPM": "PpmImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "AVIF": "AvifImagePlugin",
}
for _plugin in _PLUGINS.values():
    with suppress(ImportError):  # AVIF came with Pillow 11.3
        importlib.import_module(f"PIL.{_plugin}")

FORMATS: tuple[str, ...] = tuple(name for name in _PLUGINS if name in Image.OPEN)
"""The formats that are read, by Pillow's names. MPO is read as the JPEG that it begins with. JPEG XL is read besides if
the extra ``jxl`` is installed."""

_JPEG_XL = importlib.util.find_spec("pylibjxl") is not None

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl"}
    | UNREAD_FORMATS.keys()
)
"""The suffixes, in lower case, by which a file in a folder counts as an image. What it really is, its content says:
of a format that is not read it is an image that could not be read."""

_NO_TIFF = "bands and a scale are only for TIFF files"

_ORIENTATION = 0x0112
_PIECE = 2**20
_PNG_LEVELS = {"L;2": 85, "L;4": 17}
"""By which Pillow multiplies the grey levels of PNGs of 2 and 4 bits."""

_NOT_READ = re.compile(
    "unsupported|not supported|cannot handle|unable to determine|not installed|unknown", re.IGNORECASE
)
"""In what Pillow says of files that are intact, but of a kind that it does not read."""

_KNOWN_STARTS = {
    "HEIC": rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "AVIF": rb"....ftypavi[fs]",
    "Photoshop": rb"8BPS",
    "PostScript": rb"%!PS",
    "PDF": rb"%PDF",
    "JPEG XR": rb"II\xbc",
    "OpenEXR": rb"v/1\x01",
    "FITS": rb"SIMPLE  =",
    "SVG": rb"<svg|<\?xml",
    "icon": rb"\0\0\x01\0",
}
"""How files start that are images, but of formats that are not read."""


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image before any pixel is decoded.

    Attributes:
        path: The file.
        width: Pixels, as :func:`read_image` returns them, that is with the orientation applied. (Of a PNG whose EXIF
            block follows its pixels, the orientation is not known yet.)
        height: Pixels, likewise.
        mode: Pillow's mode: ``L``, ``RGB``, ``RGBA``, ``P``, ``CMYK``, ``I;16``, ...
        bit_depth: Bits of each channel in the file, as 1, 8, 16 or 32. JPEG 2000 and AVIF colour count as 8, to which
            Pillow reduces them.
        format: Pillow's name of the format: ``PNG``, ``JPEG``, ...
        frames: How many frames or pages can be reached.
    """

    path: str
    width: int
    height: int
    mode: str
    bit_depth: int
    format: str
    frames: int


@limited
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
    raster = open_raster(path, reading)
    if raster is not None:
        return _read_whole(raster, max_pixels)[0]
    with _opened(path, max_pixels) as image:
        check_sides(image.width, image.height, os.fsdecode(path))
        return _rgb(image, os.fsdecode(path))


@limited
def read_valid_image(
    path: str | os.PathLike[str], *, reading: Reading = AS_DECLARED, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """As :func:`read_image`, with which pixels hold something, ``[H, W]``; None if all do."""
    raster = open_raster(path, reading)
    if raster is not None:
        return _read_whole(raster, max_pixels)
    return read_image(path, max_pixels=max_pixels), None


def open_raster(path: str | os.PathLike[str], reading: Reading = AS_DECLARED) -> Raster | None:
    """Open a TIFF file, known by its content, to read it by rows; None if the file is something else.

    Raises:
        ImageError: If the file is missing, unreadable or a TIFF that cannot be read so; or if it is no TIFF, and
            ``reading`` says something, which is for TIFF files only.
    """
    raster = _tiff_of(path, reading)
    if raster is not None:
        raster.check()
    elif reading.chosen:
        raise ImageError(os.fsdecode(path), _NO_TIFF)
    return raster


def check_sides(width: int, height: int, name: str) -> None:
    """Refuse an image that is too long to be scored whole.

    Raises:
        ImageError: If a side has more than :data:`MAX_SIDE` pixels.
    """
    if max(width, height) > MAX_SIDE:
        size = f"{width:,} x {height:,} pixels"
        raise ImageError(name, f"{size}: a side is longer than the limit of {MAX_SIDE:,}; cut it into tiles (--tile)")


@limited
def decode_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image for :func:`as_image` to convert part by part, where all of it at once takes too much memory.

    Args:
        path: The file.
        max_pixels: As for :func:`read_image`, whose errors it raises.

    Returns:
        The image as Pillow decodes it, upright. ``as_image`` of its parts are parts of what ``read_image`` returns.
    """
    name = os.fsdecode(path)
    raster = open_raster(path)
    if raster is not None:
        _admit(raster, name, max_pixels)
        return Image.fromarray(raster.read()[0])
    with _opened(path, max_pixels) as image:
        _load(image)
        return image if _orientation(image.getexif) == 1 else Image.fromarray(_rgb(image, name))


@limited
def read_image_bytes(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read the image in a file's content, as :func:`read_image` does.

    Args:
        content: Of the file.
        name: What to call it in errors.
        max_pixels: As there.
    """
    return read_valid_bytes(content, name, max_pixels=max_pixels)[0]


@limited
def read_valid_bytes(
    content: bytes, name: str, *, reading: Reading = AS_DECLARED, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """As :func:`read_image_bytes`, with which pixels hold something, ``[H, W]``; None if all do."""
    with _failures_named(name, max_pixels):
        if not content:
            raise ImageError(name, "empty file")
        if is_tiff(content):
            return _read_whole(Raster(content, reading, name=name), max_pixels)
        if reading.chosen:
            raise ImageError(name, _NO_TIFF)
        image = _identified(io.BytesIO(content), name)
        check_sides(image.width, image.height, name)
        _admit(image, name, max_pixels)
        return _rgb(image, name), None


def as_image(image: NDArray[Any] | Image.Image) -> NDArray[np.uint8]:
    """Bring an array or a Pillow image to the form that :func:`read_image` returns, by the same rules.

    Args:
        image: A Pillow image, or an array ``[H, W]``, ``[H, W, 1]``, ``[H, W, 3]`` (RGB) or ``[H, W, 4]`` (RGBA) of
            uint8 (0..255), uint16 (0..65535) or bool.

    Returns:
        RGB values 0..255, C-contiguous, ``[H, W, 3]``. It may share memory with the given array.

    Raises:
        ImageError: If the array is empty or has another type or shape, or the Pillow image cannot be decoded.
    """
    if isinstance(image, Image.Image):
        name = os.fsdecode(getattr(image, "filename", None) or "image")
        with _failures_named(name, None):
            raster = _unread_tiff(image, name)
            return raster.read()[0] if raster is not None else _rgb(image, name)
    if not isinstance(image, np.ndarray):
        raise ImageError("image", f"a {type(image).__name__} is neither a NumPy array nor a Pillow image")
    return _array_as_image(image)


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

    Raises:
        ImageError: As for :func:`read_image`, or if the mask is not of the given size, or its parts differ in size.
    """
    return read_mask_pixels(path, size, turn=turn).marked


def read_mask_pixels(path: str | os.PathLike[str], size: tuple[int, int] | None = None, *, turn: int = 1) -> MaskPixels:
    """Read a mask as :func:`read_mask` does, and say what values its decision was made on."""
    parts = _mask_parts(Path(path))
    first, *others = [_mask_part(part, size, turn) for part in parts]
    for part, other in zip(parts[1:], others, strict=True):
        if other.marked.shape != first.marked.shape:
            raise ImageError(str(part), f"the part of a mask differs in size from {parts[0].name}")
    kinds = {first.values, *(other.values for other in others)}
    values: MaskValues = "shades" if "shades" in kinds else "labels" if "labels" in kinds else "plain"
    return MaskPixels(np.logical_or.reduce([first.marked, *(other.marked for other in others)]), values)


def _mask_parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != ".")
    parts = sorted(file for file in files if not file.is_dir())
    if not parts:
        raise ImageError(str(path), "the folder holds no part of a mask")
    return parts


@limited
def _mask_part(path: Path, size: tuple[int, int] | None, turn: int) -> MaskPixels:
    name = os.fsdecode(path)
    raster = _tiff_of(path)
    if raster is not None:
        _admit(raster, name, MAX_PIXELS)
        lossy, orientation = raster.page.lossy, raster.page.orientation
        values = strongest(*raster.read_samples())
    else:
        with _opened(path, MAX_PIXELS) as image:
            _load(image)
            lossy, orientation = image.format in LOSSY_FORMATS, _orientation(image.getexif)
            values = mask_values(image)
    pixels = marked_pixels(values, name, lossy=lossy)
    mask = turn_upright(pixels.marked, orientation if orientation != 1 else turn)
    height, width = mask.shape
    if size is not None and (width, height) != tuple(size):
        raise ImageError(name, f"the mask is {width:,} x {height:,} pixels, its image {size[0]:,} x {size[1]:,}")
    return MaskPixels(mask, pixels.values)


@limited
def read_orientation(path: str | os.PathLike[str]) -> int:
    """The EXIF or TIFF orientation that a file asks for, 1..8; 1 where it has none or it cannot be read.

    Args:
        path: The file, or a folder with parts of one mask, of which the first counts.

    Raises:
        ImageError: If the file is missing, unreadable, or no image.
    """
    part = _mask_parts(Path(path))[0]
    raster = _tiff_of(part)
    if raster is not None:
        return raster.page.orientation
    with _opened(part, MAX_PIXELS) as image:
        return _orientation(image.getexif)


@limited
def read_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Read what a file says of its image, without decoding pixels.

    Raises:
        ImageError: If the file is missing, unreadable, or no image. Damage to the pixels goes unnoticed.
    """
    raster = _tiff_of(path)
    if raster is not None:
        bits = max(raster.page.bits)
        return ImageHeader(raster.path, raster.width, raster.height, raster.mode, bits, "TIFF", raster.count_pages())
    with _opened(path, None) as image:
        # The base class's method, because PNG's own one decodes the image in search of a late EXIF block.
        orientation = _orientation(lambda: Image.Image.getexif(image))
        width, height = image.size
        if orientation >= 5:
            width, height = height, width
        mode, bit_depth, file_format = image.mode, _bit_depth(image), str(image.format)
        frames = 1
        with suppress(Exception):  # damage beyond the first frame does not concern us
            frames = int(getattr(image, "n_frames", 1))
    return ImageHeader(os.fsdecode(path), width, height, mode, bit_depth, file_format, frames)


def content_hash(image: NDArray[np.uint8]) -> str:
    """The SHA-256, in hexadecimal, of an image's shape and pixels: equal for the same image in any lossless format.

    Args:
        image: RGB values, ``[H, W, 3]``.
    """
    digest = hashlib.sha256(repr(tuple(int(side) for side in image.shape)).encode())
    digest.update(np.ascontiguousarray(image, dtype=np.uint8).data)
    return digest.hexdigest()


@contextmanager
def _opened(path: str | os.PathLike[str], max_pixels: int | None) -> Iterator[ImageFile.ImageFile]:
    """Open an image, which is decoded in the block if there is a limit. Whatever fails leaves as ImageError."""
    name = os.fsdecode(path)
    with _failures_named(name, max_pixels):
        _require_file(name)
        # Pillow gets the file, not its name, so that it never maps it into memory: reading a map of a file that is
        # cut short meanwhile kills the process.
        with Path(name).open("rb") as file:
            image = _identified(file, name)
            if max_pixels is not None:
                _admit(image, name, max_pixels)
            yield image


def _tiff_of(path: str | os.PathLike[str], reading: Reading = AS_DECLARED) -> Raster | None:
    name = os.fsdecode(path)
    with _failures_named(name, None):
        _require_file(name)
        with Path(name).open("rb") as file:
            if not is_tiff(file.read(4)):
                return None
        if is_camera_raw(name):  # of which a page is a TIFF, but a small preview
            raise ImageError(name, str(unread_reason(name)))
        return Raster(path, reading)


def _unread_tiff(image: Image.Image, name: str) -> Raster | None:
    """The file behind a Pillow image that is not decoded yet, which Pillow might take for something else."""
    if not isinstance(image, TiffImageFile) or not image.tile or image.tell() != 0 or image.fp is None:
        return None
    image.fp.seek(0)
    return Raster(image.fp.read(), name=name)


def _read_whole(raster: Raster, max_pixels: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    check_sides(raster.width, raster.height, raster.path)
    _admit(raster, raster.path, max_pixels)
    return raster.read()


@contextmanager
def _failures_named(name: str, max_pixels: int | None) -> Iterator[None]:
    try:
        yield
    except OddsightError:
        raise
    # Pillow's decoders raise nearly every built-in exception on damaged files.
    except Exception as error:
        raise ImageError(name, _reason(error, max_pixels)) from error


def _reason(error: Exception, max_pixels: int | None) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        limits = [limit for limit in (max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or 0)) if limit]
        return f"its pixels are more than the limit of {min(limits, default=0):,}"
    message = "".join(letter if letter.isprintable() else " " for letter in str(error))
    message = " ".join(message.split())[:120] or type(error).__name__
    return f"{'of a kind that is not read' if _NOT_READ.search(message) else 'truncated or damaged'}: {message}"


def _require_file(name: str) -> None:
    try:
        found = Path(name).stat()
    except ValueError as error:
        raise ImageError(name, "not a possible file name") from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(name, "is a folder, not an image")
    if not stat.S_ISREG(found.st_mode):  # a pipe or a device might never end
        raise ImageError(name, "is not a regular file")
    if found.st_size == 0:
        raise ImageError(name, "empty file")


def _identified(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Open an image in one of the allowed formats.

    Image.open would do, were it not for its own limit: it warns of images that are within ours, and warnings can
    neither be silenced for one thread nor the limit be changed for one call.
    """
    head = file.read(16)
    start = head.ljust(16, b"\0")
    failure: Exception | None = None
    for name_of_format in FORMATS:
        if name_of_format == "TIFF":  # which is read before, see open_raster
            continue
        factory, accepts = Image.OPEN[name_of_format]
        try:
            if accepts is not None and accepts(start) is not True:  # a string says what this Pillow lacks
                continue
            file.seek(0)
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, KeyError) as error:  # Pillow's ways to say "not mine"
            failure = error
    if failure is not None and unread_reason(name) is None:
        raise failure
    known = next((known for known, start in _KNOWN_STARTS.items() if re.match(start, head, re.DOTALL)), None)
    if known == "JPEG XL":
        return _jpeg_xl(file, name)
    if known is not None:
        raise ImageError(name, f"not an image that can be read: it is {known}, convert it to PNG or JPEG")
    raise ImageError(name, unread_reason(name) or f"not an image that can be read ({', '.join(FORMATS)})")


def _jpeg_xl(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    if not _JPEG_XL:
        raise ImageError(name, "not an image that can be read: JPEG XL needs pip install 'oddsight[jxl]'")
    from pylibjxl.pillow_plugin import JxlImageFile

    file.seek(0)
    image: ImageFile.ImageFile = JxlImageFile(file)
    return image


def _admit(image: ImageFile.ImageFile | Raster, name: str, max_pixels: int) -> None:
    """Refuse an image that is too large to decode."""
    max_pixels = pixel_limit(max_pixels, MAX_PIXELS)
    if image.width * image.height > max_pixels:
        raise ImageError(name, f"{image.width:,} x {image.height:,} pixels are more than the limit of {max_pixels:,}")
    if isinstance(image, Raster):
        reserve_bytes(image.bytes_to_read, name)
    else:
        reserve(image, name)


def _rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ImageError(name, "floating-point pixels have no fixed range; save it with 8 or 16 bits a channel")
    if min(image.size) < 1:
        raise ImageError(name, f"empty: {image.width} x {image.height} pixels")
    _load(image)
    orientation = _orientation(image.getexif)
    if image.mode[0] == "I":  # I, I;16, I;16B, I;16L
        image = Image.fromarray(_grey_of_16_bits(image, name))
    elif image.has_transparency_data:
        if image.mode == "La":  # which Pillow converts to nothing else
            image = image.convert("LA")
        return turn_upright(over_white(_in_mode(image, "RGBA")), orientation)
    return turn_upright(np.asarray(_in_mode(image, "RGB")), orientation)


def _load(image: Image.Image) -> None:
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


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert, without the copy that Pillow makes if there is nothing to convert."""
    return image if image.mode == mode else image.convert(mode)


def _grey_of_16_bits(image: Image.Image, name: str) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if values.dtype.itemsize > 2 and (values.min() < 0 or values.max() > 65535):
        raise ImageError(name, "32-bit pixels have no fixed range; save it with 8 or 16 bits a channel")
    grey = _to_8_bits(values.astype(np.uint16, copy=False))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return grey


def _to_8_bits(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Divide by 257 and round; in pieces, so that the wider integers this takes need little memory."""
    flat = values.reshape(-1)
    scaled = np.empty(flat.shape, np.uint8)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE].astype(np.uint32)
        scaled[start : start + _PIECE] = (piece + 128) // 257
    return scaled.reshape(values.shape)


def _array_as_image(array: NDArray[Any]) -> NDArray[np.uint8]:
    name = "array"
    if array.size == 0:
        raise ImageError(name, f"empty, of shape {array.shape}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(name, f"shape {array.shape} is none of [H, W], [H, W, 1], [H, W, 3] and [H, W, 4]")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = _to_8_bits(array.astype(np.uint16, copy=False))
    elif array.dtype != np.uint8:
        raise ImageError(name, f"{array.dtype} pixels; pass uint8 values 0..255 (or uint16 0..65535)")
    if array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return _rgb(Image.fromarray(np.ascontiguousarray(array)), name)


def _orientation(read_exif: Callable[[], Image.Exif]) -> int:
    """The EXIF orientation, 1..8; 1 where there is none or it cannot be read."""
    try:
        value = read_exif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


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
