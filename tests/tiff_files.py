"""Writing TIFF files of any declaration, for tests: what is declared is not checked."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

_CODES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 7: "B", 12: "d", 16: "Q"}
PHOTOMETRIC, EXTRA, ORIENTATION, FORMAT, SUBFILE, PREDICTOR, FILL_ORDER = 262, 338, 274, 339, 254, 317, 266
COLOUR_MAP, NODATA = 320, 42113

KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
"""UTM zone 33 N; coordinates are those of corners."""
PLACED = {33550: (10.0, 20.0, 0.0), 33922: (0.0, 0.0, 0.0, 500_000.0, 5_000_000.0, 0.0), 34735: KEYS}
KINDS = {33550: "d", 33922: "d", 34264: "d", 34735: "H", 34737: "s", 42113: "s"}


def pack(values: np.ndarray, bits: int, order: Literal["<", ">"] = "<") -> bytes:
    """Samples ``[h, w, n]`` as rows of bytes; of fewer than 16 bits the highest bit first."""
    if bits in (8, 16, 32, 64, 128):
        return values.astype(values.dtype.newbyteorder(order)).tobytes()
    flat = values.reshape(values.shape[0], -1).astype(np.int64)
    single = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(single.reshape(values.shape[0], -1).astype(np.uint8), axis=1).tobytes()


def page(
    values: np.ndarray,
    photometric: int,
    bits: int | None = None,
    *,
    order: Literal["<", ">"] = "<",
    tags: dict[int, tuple[int, Sequence[Any]]] | None = None,
    planar: bool = False,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    compression: int = 1,
    encode: Callable[[bytes], bytes] | None = None,
) -> dict[str, Any]:
    """A page of samples ``[h, w, n]``: its strips or tiles, and its tags ``{code: (type, values)}``."""
    height, width, samples = values.shape
    bits = bits or values.dtype.itemsize * 8
    planes = [values[..., n : n + 1] for n in range(samples)] if planar else [values]
    segments = []
    for plane in planes:
        if tile is None:
            step = rows or height
            segments += [plane[top : top + step] for top in range(0, height, step)]
        else:
            high, wide = tile
            padded = np.pad(plane, ((0, -height % high), (0, -width % wide), (0, 0)), mode="edge")
            segments += [
                padded[top : top + high, left : left + wide]
                for top in range(0, padded.shape[0], high)
                for left in range(0, padded.shape[1], wide)
            ]
    packers: dict[int, Callable[[bytes], bytes]] = {1: bytes, 8: zlib.compress}
    encode = encode or packers[compression]
    content = [encode(pack(np.ascontiguousarray(segment), bits, order)) for segment in segments]
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[values.dtype.kind]
    own = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [compression])}
    own |= {262: (3, [photometric]), 277: (3, [samples]), 284: (3, [2 if planar else 1]), 339: (3, [kind] * samples)}
    own |= {278: (4, [rows or height])} if tile is None else {322: (4, [tile[1]]), 323: (4, [tile[0]])}
    return {"content": content, "tiled": tile is not None, "order": order, "tags": own | (tags or {})}


def write(path: Path, *pages: dict[str, Any], big: bool = False) -> Path:
    """Write pages, all of one byte order."""
    order = pages[0]["order"]
    start = b"II" if order == "<" else b"MM"
    out = bytearray(start + (struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)))
    link, word, size = (8, "Q", 8) if big else (4, "I", 4)
    for one in pages:
        places = []
        for content in one["content"]:
            places.append(len(out))
            out += content + bytes(len(content) % 2)
        offsets, counts = (324, 325) if one["tiled"] else (273, 279)
        kind = 16 if big else 4
        tags = {offsets: (kind, places), counts: (kind, [len(content) for content in one["content"]])} | one["tags"]
        rows = []
        for code, (kind, values) in sorted(tags.items()):
            count = len(values) // 2 if kind == 5 else len(values)
            raw = bytes(values) if kind == 2 else struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
            if len(raw) > size:
                here = len(out)
                out += raw + bytes(len(raw) % 2)
                raw = struct.pack(order + word, here)
            rows.append(struct.pack(order + "HH" + word, code, kind, count) + raw.ljust(size, b"\0"))
        struct.pack_into(order + word, out, link, len(out))
        out += struct.pack(order + ("Q" if big else "H"), len(rows)) + b"".join(rows)
        link = len(out)
        out += bytes(size)
    path.write_bytes(bytes(out))
    return path


def geotiff(path: Path, values: Any, tags: dict[int, Any] | None = None, **options: Any) -> Path:
    """A file that tifffile writes, with the tags of a GeoTIFF."""
    extra = [
        (tag, KINDS[tag], 0 if KINDS[tag] == "s" else len(value), value, True) for tag, value in (tags or {}).items()
    ]
    if options.get("planarconfig") == "separate":
        values = values.transpose(2, 0, 1)
    elif isinstance(values, np.ndarray) and values.shape[-1] == 1:
        values = values[..., 0]
        options.pop("planarconfig", None)
    tifffile.imwrite(path, values, **{"photometric": "minisblack", "metadata": None} | options, extratags=extra)
    return path
