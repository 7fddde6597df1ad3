"""Making image files for tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def save(picture: Image.Image | np.ndarray, path: Path, **options: Any) -> Path:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png(width: int, height: int, depth: int, colour_type: int, rows: list[bytes], transparent: bytes = b"") -> bytes:
    """A PNG of kinds that Pillow does not write."""
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return png_of(width, height, pixels, depth, colour_type, transparent)


def png_of(
    width: int, height: int, pixels: bytes, depth: int = 8, colour_type: int = 2, transparent: bytes = b""
) -> bytes:
    """The same of rows that are compressed already."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def one_row(mode: str, pixels: list[Any]) -> Image.Image:
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def palette_image(transparency: int | bytes | None = None) -> Image.Image:
    image = one_row("P", [0, 1, 2])
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 0])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image
