"""How long reading a file may take at most, by its structure, told from a glance at its bytes.

Only what is far from any doubt counts as quick: the time is estimated by slow rates, and a file that cannot be judged
by a glance counts as endless. That costs nothing but a process of its own to read it.
"""

from __future__ import annotations

import io
import os
import re
import struct
from pathlib import Path
from typing import IO

_ENDLESS = float("inf")
_LARGEST = 2**26  # Bytes of a file beyond which it is not looked at

_PIXEL, _BYTE, _PART = 2e-7, 2e-8, 2e-5
"""Seconds for a pixel, a byte of the file, and one of its parts (a segment, a chunk, a page): several times those
measured by ``benchmarks/decoding_memory.py``."""
_SLOW_BYTE = 2e-6  # Seconds for a byte that is read in Python
_MOST_PARTS = 10_000


def seconds_to_read(source: str | os.PathLike[str] | bytes) -> float:
    """An upper bound for how long reading takes; infinite if it cannot be told by a glance."""
    try:
        if isinstance(source, bytes):
            return _of(io.BytesIO(source), len(source))
        path = Path(source)
        if not path.is_file():
            return 0.0
        with path.open("rb") as file:
            return _of(file, os.fstat(file.fileno()).st_size)
    except (OSError, ValueError):
        return 0.0
    except (struct.error, IndexError):  # it is cut short: its decoder says so
        return _ENDLESS


def _of(file: IO[bytes], size: int) -> float:
    start = file.read(64)
    for pattern, judge in _FORMATS.items():
        if re.match(pattern, start, re.DOTALL):
            return judge(file, start, size) if size <= _LARGEST else _ENDLESS
    return 0.0  # no format that is read


def _jpeg(file: IO[bytes], start: bytes, size: int) -> float:
    content = start + file.read()
    at, segments, pixels, extras = 2, 0, 0, 0
    while segments < _MOST_PARTS:
        if content[at] != 0xFF:  # what is between segments is skipped byte by byte
            return _ENDLESS
        marker = content[at + 1]
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            return _ENDLESS
        (length,) = struct.unpack_from(">H", content, at + 2)
        segments += 1
        if marker in _FRAMES:
            height, width = _sides(">HH", content, at + 5)
            pixels += height * width
        elif marker == 0xDA:
            break
        extras += length
        at += 2 + length
    scans = content.count(b"\xff\xda")
    # Blocks of one kind are joined one by one, so that each moves those before it.
    joining = segments * (_PART + extras * 1e-9)
    return pixels * (0.4 + 0.1 * scans) * _PIXEL + size * _BYTE + joining


_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # The markers of a JPEG's sizes


def _png(file: IO[bytes], start: bytes, size: int) -> float:
    width, height = _sides(">II", start, 16)
    at, chunks = 8, 0
    while at < size and chunks < _MOST_PARTS:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        chunks += 1
        at += 12 + int(struct.unpack(">I", head[:4])[0])
    if chunks == _MOST_PARTS:
        return _ENDLESS
    return width * height * _PIXEL + size * _BYTE + chunks * _PART


def _gif(file: IO[bytes], start: bytes, size: int) -> float:
    width, height = _sides("<HH", start, 6)
    return width * height * _PIXEL + size * _SLOW_BYTE


def _bmp(file: IO[bytes], start: bytes, size: int) -> float:
    if struct.unpack_from("<I", start, 14)[0] < 40:
        return size * _SLOW_BYTE
    width, height = _sides("<ii", start, 18)
    by_runs = start[30] in (1, 2)  # which Pillow decodes in Python
    return abs(width * height) * _PIXEL + size * (_SLOW_BYTE if by_runs else _BYTE)


def _ppm(file: IO[bytes], start: bytes, size: int) -> float:
    size_there = re.match(rb"P[456]\s(\d{1,9})\s(\d{1,9})\s", start)
    if size_there is None:  # numbers in words, or remarks: both are read in Python
        return size * _SLOW_BYTE
    width, height = map(int, size_there.groups())
    return width * height * _PIXEL + size * _BYTE


def _webp(file: IO[bytes], start: bytes, size: int) -> float:
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in _sides("<HH", start, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X" and not start[20] & 2:  # no animation
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
    else:
        return _ENDLESS
    return width * height * _PIXEL + size * _BYTE


_TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_COMPRESSION = 256, 257, 259
_TIFF_QUICK = {1, 5, 8, 32773, 32946}
"""Compressions by simple codes; of the others, some hold whole files of other formats."""


def _tiff(file: IO[bytes], start: bytes, size: int) -> float:
    order = "<" if start[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", start, 4)
    pages, parts, pixels = 0, 0, 0
    while at and parts < _MOST_PARTS:
        file.seek(at)
        (count,) = struct.unpack(f"{order}H", file.read(2))
        entries = file.read(12 * count + 4)
        values = {}
        for entry in range(count):
            tag, kind, many = struct.unpack_from(f"{order}HHI", entries, 12 * entry)
            code = "H" if kind == 3 else "I"
            values[tag] = struct.unpack_from(f"{order}{code}", entries, 12 * entry + 8)[0]
            parts += 1 + many * _TIFF_TYPES.get(kind, 8) // 64
        if pages == 0:
            pixels = values.get(_TIFF_WIDTH, 0) * values.get(_TIFF_HEIGHT, 0)
            if values.get(_TIFF_COMPRESSION, 1) not in _TIFF_QUICK:
                return _ENDLESS
        pages += 1
        parts += 20
        (at,) = struct.unpack_from(f"{order}I", entries, 12 * count)
    return pixels * _PIXEL + size * _BYTE + parts * _PART if parts < _MOST_PARTS else _ENDLESS


def _sides(code: str, content: bytes, at: int) -> tuple[int, int]:
    width, height = struct.unpack_from(code, content, at)
    return int(width), int(height)


def _unknown(file: IO[bytes], start: bytes, size: int) -> float:
    return _ENDLESS


_FORMATS = {
    rb"\xff\xd8": _jpeg,
    rb"\x89PNG\r\n\x1a\n": _png,
    rb"GIF8": _gif,
    rb"BM": _bmp,
    rb"P[1-6]\s": _ppm,
    rb"RIFF....WEBP": _webp,
    rb"II\x2a\0|MM\0\x2a": _tiff,
    # Whose decoders take what they take: BigTIFF, AVIF, JPEG 2000, PAM and PFM.
    rb"II\x2b\0|MM\0\x2b|....ftyp|\xff\x4f\xff\x51|\0\0\0\x0cjP|P.": _unknown,
}
