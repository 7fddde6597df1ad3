"""Image formats that are not read here: files of these count as images that could not be read, never as other files."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

_CONVERT = "convert it to PNG, TIFF or JPEG"
_DEVELOP = "develop it to TIFF, PNG or JPEG"

_FORMATS = {
    "HEIC": ((".heic", ".heif", ".heics", ".heifs", ".hif"), _CONVERT),
    "JPEG XR": ((".jxr", ".wdp", ".hdp"), _CONVERT),
    "JPEG-LS": ((".jls",), _CONVERT),
    "AVIF sequences": ((".avifs",), _CONVERT),
    "Photoshop": ((".psd", ".psb"), _CONVERT),
    "GIMP": ((".xcf",), _CONVERT),
    "Krita": ((".kra",), _CONVERT),
    "SVG": ((".svg", ".svgz"), "draw it to PNG"),
    "PostScript": ((".eps", ".ps", ".ai"), "draw it to PNG"),
    "WMF": ((".wmf", ".emf"), "draw it to PNG"),
    "OpenEXR": ((".exr",), "convert it to 8 or 16 bits a channel, as PNG or TIFF"),
    "Radiance HDR": ((".hdr", ".rgbe"), "convert it to 8 or 16 bits a channel, as PNG or TIFF"),
    "portable floating-point map": ((".pfm",), "convert it to 8 or 16 bits a channel, as PNG or TIFF"),
    "DICOM": ((".dcm", ".dicom"), "write the visible window of values as PNG or TIFF"),
    "NIfTI": ((".nii",), "write its slices as PNG or TIFF"),
    "FITS": ((".fits", ".fit", ".fts"), "convert it to 8 or 16 bits a channel, as PNG or TIFF"),
    "JPEG 2000 of several parts": ((".jpm", ".mj2", ".jph", ".jhc"), _CONVERT),
    "icons": ((".ico", ".cur", ".icns"), _CONVERT),
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
    **{suffix: f"{name} is not read: {todo}" for name, (suffixes, todo) in _FORMATS.items() for suffix in suffixes},
    **dict.fromkeys(sorted(_CAMERA_RAW), f"camera raw is not read: {_DEVELOP}"),
}
"""Suffixes, in lower case, by which a file is known to be an image that is not read, and what to say of it."""

if importlib.util.find_spec("pylibjxl") is None:
    UNREAD_FORMATS[".jxl"] = f"JPEG XL is not read: pip install 'oddsight[jxl]', or {_CONVERT}"


def unread_reason(name: str) -> str | None:
    """What to say of a file whose content is none of the formats that are read, or None if its suffix says nothing."""
    return UNREAD_FORMATS.get(Path(os.fsdecode(name)).suffix.lower())


def is_camera_raw(name: str) -> bool:
    """Whether a file is camera raw by its suffix: most are TIFF files inside, whose first page is a small preview."""
    return Path(os.fsdecode(name)).suffix.lower() in _CAMERA_RAW
