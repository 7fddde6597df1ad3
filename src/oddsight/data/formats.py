"""The formats of image files: which are read, which are not, and what a file is by its content."""

from __future__ import annotations

import importlib
import importlib.util
import re
from contextlib import suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile

from oddsight.errors import ImageError

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

_CONVERT = "convert it to PNG, TIFF or JPEG"
_DRAW = "draw it to PNG"
_REDUCE = "convert it to 8 or 16 bits a channel, as PNG or TIFF"

_UNREAD = {
    "HEIC": ((".heic", ".heif", ".heics", ".heifs", ".hif"), _CONVERT),
    "JPEG XR": ((".jxr", ".wdp", ".hdp"), _CONVERT),
    "JPEG-LS": ((".jls",), _CONVERT),
    "AVIF sequence": ((".avifs",), _CONVERT),
    "Photoshop": ((".psd", ".psb"), _CONVERT),
    "GIMP": ((".xcf",), _CONVERT),
    "Krita": ((".kra",), _CONVERT),
    "SVG": ((".svg", ".svgz"), _DRAW),
    "PostScript": ((".eps", ".ps", ".ai"), _DRAW),
    "WMF": ((".wmf", ".emf"), _DRAW),
    "OpenEXR": ((".exr",), _REDUCE),
    "Radiance HDR": ((".hdr", ".rgbe"), _REDUCE),
    "portable floating-point map": ((".pfm",), _REDUCE),
    "DICOM": ((".dcm", ".dicom"), "write the visible window of values as PNG or TIFF"),
    "NIfTI": ((".nii",), "write its slices as PNG or TIFF"),
    "FITS": ((".fits", ".fit", ".fts"), _REDUCE),
    "JPEG 2000 of several parts": ((".jpm", ".mj2", ".jph", ".jhc"), _CONVERT),
    "ICO": ((".ico", ".cur", ".icns"), _CONVERT),
    "PCX": ((".pcx", ".dcx"), _CONVERT),
    "Targa": ((".tga", ".icb", ".vda", ".vst"), _CONVERT),
    "SGI": ((".sgi", ".rgb", ".rgba", ".bw"), _CONVERT),
    "Sun raster": ((".ras",), _CONVERT),
    "DirectDraw": ((".dds",), _CONVERT),
    "portable arbitrary map": ((".pam",), _CONVERT),
    "X bitmap": ((".xbm", ".xpm"), _CONVERT),
    "Windows DIB": ((".dib",), _CONVERT),
    "QOI": ((".qoi",), _CONVERT),
    "Better Portable Graphics": ((".bpg",), _CONVERT),
    "FLIF": ((".flif",), _CONVERT),
    "DjVu": ((".djvu", ".djv"), _CONVERT),
}

_CAMERA_RAW = frozenset(
    {".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq"}
    | {".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"}
    | {".srf", ".srw", ".x3f"}
)

UNREAD_FORMATS: dict[str, str] = {
    **{suffix: f"{name} is not read: {todo}" for name, (suffixes, todo) in _UNREAD.items() for suffix in suffixes},
    **dict.fromkeys(sorted(_CAMERA_RAW), "camera raw is not read: develop it to TIFF, PNG or JPEG"),
    **({} if _JPEG_XL else {".jxl": f"JPEG XL is not read: pip install 'oddsight[jxl]', or {_CONVERT}"}),
}
"""Suffixes, in lower case, by which a file is known to be an image that is not read, and what to say of it."""

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl"}
    | UNREAD_FORMATS.keys()
)
"""The suffixes, in lower case, by which a file in a folder counts as an image. What it really is, its content says:
of a format that is not read it is an image that could not be read."""

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


def refuse_camera_raw(name: str) -> None:
    """Refuse a TIFF file that is camera raw by its suffix: its first page is a small preview."""
    suffix = Path(name).suffix.lower()
    if suffix in _CAMERA_RAW:
        raise ImageError(name, UNREAD_FORMATS[suffix])


def identify(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Open an image, which is no TIFF, in one of the allowed formats.

    Image.open would do, were it not for its own limit: it warns of images that are within ours, and warnings can
    neither be silenced for one thread nor the limit be changed for one call.
    """
    head = file.read(16)
    start = head.ljust(16, b"\0")
    failure: Exception | None = None
    for name_of_format in FORMATS:
        if name_of_format == "TIFF":
            continue
        factory, accepts = Image.OPEN[name_of_format]
        try:
            if accepts is not None and accepts(start) is not True:  # a string says what this Pillow lacks
                continue
            file.seek(0)
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, KeyError) as error:  # Pillow's ways to say "not mine"
            failure = error
    unread = UNREAD_FORMATS.get(Path(name).suffix.lower())
    if failure is not None and unread is None:
        raise failure
    known = next((known for known, start in _KNOWN_STARTS.items() if re.match(start, head, re.DOTALL)), None)
    if known == "JPEG XL":
        return _open_jpeg_xl(file, name)
    if known is not None:
        raise ImageError(name, f"not an image that can be read: it is {known}, convert it to PNG or JPEG")
    raise ImageError(name, unread or f"not an image that can be read ({', '.join(FORMATS)})")


def _open_jpeg_xl(file: IO[bytes], name: str) -> ImageFile.ImageFile:
    if not _JPEG_XL:
        raise ImageError(name, "not an image that can be read: JPEG XL needs pip install 'oddsight[jxl]'")
    from pylibjxl.pillow_plugin import JxlImageFile

    file.seek(0)
    image: ImageFile.ImageFile = JxlImageFile(file)
    return image
