"""Images that are small or harmless to look at and take for ever, or much memory, to read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from image_files import png_of


def jpeg_of_scans(path: Path, scans: int, side: int = 2048) -> Path:
    """A progressive JPEG whose last scan, of some bytes, is there so many times. Each takes a millisecond or so."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 60)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")
    path.write_bytes(content[:last] + content[last:-2] * scans + content[-2:])
    return path


def jpeg_of_exif_blocks(path: Path, blocks: int) -> Path:
    """A JPEG with so many EXIF blocks, which are joined one by one."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    content = buffer.getvalue()
    block = b"\xff\xe1" + struct.pack(">H", 65535) + b"Exif\0\0" + bytes(65535 - 8)
    with path.open("wb") as file:
        file.write(content[:2])
        for _ in range(blocks):
            file.write(block)
        file.write(content[2:])
    return path


def tiff_of_pages(path: Path, pages: int) -> Path:
    """A TIFF of so many pages of one pixel, each a link to the next."""
    entries = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    page = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    size = len(page) + 4
    links = (struct.pack("<I", 12 + number * size if number < pages else 0) for number in range(1, pages + 1))
    path.write_bytes(struct.pack("<2sHIBxxx", b"II", 42, 12, 200) + b"".join(page + link for link in links))
    return path


def empty_png(path: Path, width: int, height: int, colour_type: int = 2, depth: int = 8) -> Path:
    """A PNG of zeros: some bytes for thousands of pixels."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    row = bytes(1 + (width * samples * depth + 7) // 8)
    compressor = zlib.compressobj(9)
    pixels = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    path.write_bytes(png_of(width, height, pixels, depth, colour_type))
    return path


def noise_jpeg(path: Path, side: int, **options: Any) -> Path:
    """A JPEG that is large for its pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path, quality=95, **options)
    return path
