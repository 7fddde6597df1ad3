"""Strips and tiles of TIFF files: from their bytes to samples.

Deflate and LZMA are decoded by Python; LZW, PackBits, Zstandard and fax compression by Pillow, as rows of bytes; JPEG
and WebP by Pillow, as images of their own. So a strip takes no more memory than the file's tags promised.
"""

from __future__ import annotations

import io
import lzma
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from oddsight.data.tiff.tags import BLACK_IS_ZERO, CMYK, RGB, YCBCR, Page

_NONE, _LZW, _OLD_JPEG, _JPEG, _DEFLATE, _LZMA, _ZSTANDARD, _WEBP = 1, 5, 6, 7, (8, 32946), 34925, 50000, 50001
_FAX, _PACKBITS = (2, 3, 4, 32771), 32773
_HORIZONTAL, _FLOATING = 2, 3
_PREDICTED = (_LZW, *_DEFLATE, _LZMA, _ZSTANDARD)
_KNOWN = {_NONE, *_PREDICTED, _PACKBITS, *_FAX, _JPEG, _WEBP}
_NAMES = {6: "old-style JPEG", 9: "JBIG", 10: "JBIG", 32766: "NeXT", 32809: "ThunderScan", 32909: "PixarLog"}
_NAMES |= {33003: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG", 34676: "SGILog", 34677: "SGILog", 34712: "JPEG 2000"}
_NAMES |= {34887: "LERC", 34892: "lossy JPEG", 50002: "JPEG XL", 52546: "JPEG XL"}
_MOST_BYTES = 2**30
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BLOCK = 2**20


def reason_not_decoded(page: Page) -> str | None:
    """Why strips or tiles of a page cannot be decoded, or None."""
    bits, compression, predictor = page.bits[0], page.compression, _predictor(page)
    high, wide = page.segment
    size = high * wide * (1 if page.separate else page.samples) * bits // 8
    packed, own = compression in (_JPEG, _WEBP), 1 if page.separate else page.samples
    whole = bits in (8, 16, 32, 64) and (page.kind != "f" or bits > 8)
    named = f" ({_NAMES[compression]})" if compression in _NAMES else ""
    kind = {"i": "signed ", "f": "floating-point ", "c": "complex "}.get(page.kind, "")
    reasons = {
        f"it is compressed by method {compression}{named}; save it with deflate, LZW or none": (
            compression not in _KNOWN
        ),
        f"its samples have different depths ({', '.join(map(str, page.bits))} bits)": len(page.bits) > 1,
        "its samples are of different or unknown kinds": page.kind == "V",
        f"its {kind}numbers of {bits} bits are not read": not whole and not (page.kind == "u" and bits < 16),
        f"it is a volume of {page.depth:,} layers": page.depth != 1,
        "its YCbCr pixels are stored in an unusual way": page.photometric == YCBCR and not _usual_ycbcr(page),
        f"its JPEG or WebP compression has {bits} bits, not 8": packed and (bits != 8 or page.kind != "u"),
        f"its JPEG or WebP compression has {own} samples, which is not read": packed
        and own not in ((1, 3, 4) if compression == _JPEG else (3, 4)),
        "its fax compression is not of one sample of one bit": compression in _FAX and (bits, page.samples) != (1, 1),
        f"its predictor {predictor} is not read for {kind}numbers of {bits} bits": (
            predictor not in (1, _HORIZONTAL, _FLOATING)
            or (predictor != 1 and not whole)
            or (predictor == _FLOATING and page.kind != "f")
        ),
        "it is in pieces of more than a gigabyte; save it in tiles": (
            size > _MOST_BYTES and (page.tiled or compression != _NONE)
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _usual_ycbcr(page: Page) -> bool:
    """Three samples of 8 bits beside each other, of which libtiff knows the subsampling."""
    known = len(page.subsampling) == 2 and set(page.subsampling) <= {1, 2, 4}
    return known and (page.samples, page.bits[0], page.kind, page.separate, _predictor(page)) == (3, 8, "u", False, 1)


def sample_type(page: Page) -> np.dtype[Any]:
    """The type of decoded samples, in the file's byte order."""
    if page.kind == "u" and page.bits[0] < 16:
        return np.dtype(np.uint8 if page.bits[0] <= 8 else np.uint16)
    return np.dtype(f"{page.order}{page.kind}{page.bits[0] // 8}")


def rows_are_apart(page: Page) -> bool:
    """Whether single rows of a strip can be read."""
    simple = page.compression == _NONE and not page.tiled and page.photometric != YCBCR
    return simple and page.fill_order == 1 and page.bits[0] in (8, 16, 32, 64)


def decode(content: bytes, page: Page, high: int, wide: int) -> NDArray[Any]:
    """Decode a strip or a tile.

    Returns:
        Samples ``[high, wide, samples]``, of one sample if each has strips or tiles of its own. YCbCr becomes RGB.
    """
    samples = 1 if page.separate else page.samples
    if page.compression == _JPEG:
        return _from_jpeg(content, page, high, wide, samples)
    if page.compression == _WEBP:
        return _from_webp(content, high, wide, samples)
    if page.fill_order == 2:
        content = content.translate(_REVERSED)
    if page.photometric == YCBCR:
        return _from_ycbcr(content, page, high, wide)
    line = -(-wide * samples * page.bits[0] // 8)
    content = _expanded(content, page, high, line, wide)
    kind, shape = sample_type(page), (high, wide, samples)
    if page.bits[0] not in (8, 16, 32, 64):
        return _unpacked(content, page.bits[0], shape)
    return _unpredicted(content, _predictor(page), kind, shape)


def _predictor(page: Page) -> int:
    return page.predictor if page.compression in _PREDICTED else 1


def _expanded(content: bytes, page: Page, high: int, line: int, wide: int) -> bytes:
    """Decode ``high`` lines of bytes; ``wide`` pixels are in each."""
    size = high * line
    if page.compression in _DEFLATE:
        content = zlib.decompressobj().decompress(content, size)
    elif page.compression == _LZMA:
        content = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(content, size)
    elif page.compression in _FAX:
        options: _Tags = {292: (_LONG, page.fax_options[0]), 293: (_LONG, page.fax_options[1])}
        content = _by_libtiff(content, page.compression, (wide, high), BLACK_IS_ZERO, (1,), options).tobytes()
    elif page.compression != _NONE:
        # As a grey image; what the bytes mean is not libtiff's concern.
        content = _by_libtiff(content, page.compression, (line, high), BLACK_IS_ZERO, (8,), {}).tobytes()
    if len(content) < size:
        raise ValueError("a part of it ends too early")
    return content[:size]


def _from_jpeg(content: bytes, page: Page, high: int, wide: int, samples: int) -> NDArray[np.uint8]:
    # Four samples go as CMYK, which is handed over as it is.
    photometric = {1: BLACK_IS_ZERO, 3: YCBCR if page.photometric == YCBCR else RGB, 4: CMYK}[samples]
    tags: _Tags = {347: (_BYTES, page.jpeg_tables)} if page.jpeg_tables else {}
    if photometric == YCBCR:
        tags[530] = (_SHORT, page.subsampling)
    image = _by_libtiff(content, _JPEG, (wide, high), photometric, (8,) * samples, tags)
    return _samples_of(image, high, wide, samples)


def _from_webp(content: bytes, high: int, wide: int, samples: int) -> NDArray[np.uint8]:
    with WebPImageFile(io.BytesIO(content)) as image:
        if image.size != (wide, high):
            raise ValueError("a part of it is of another size")
        return _samples_of(image.convert("RGBA" if samples == 4 else "RGB"), high, wide, samples)


def _from_ycbcr(content: bytes, page: Page, high: int, wide: int) -> NDArray[np.uint8]:
    """By libtiff, which knows of subsampling and of coefficients, from deflate, which it takes for any content."""
    across, down = page.subsampling
    content = _expanded(content, page, -(-high // down), -(-wide // across) * (across * down + 2), wide)
    tags: _Tags = {530: (_SHORT, page.subsampling)}
    for code, values, count in ((529, page.coefficients, 3), (532, page.reference, 6)):
        if len(values) == count:
            tags[code] = (_RATIONAL, tuple(max(value, 0.0) for value in values))
    image = _by_libtiff(zlib.compress(content, 1), _DEFLATE[0], (wide, high), YCBCR, (8, 8, 8), tags)
    return _samples_of(image.convert("RGB"), high, wide, 3)


def _samples_of(image: Image.Image, high: int, wide: int, samples: int) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if values.size != high * wide * samples:
        raise ValueError("a part of it has other samples than its tags say")
    return values.reshape(high, wide, samples)


_SHORT, _LONG, _RATIONAL, _BYTES = 3, 4, 5, 7
_Tags = dict[int, tuple[int, Any]]  # Types and values of tags, by number


def _by_libtiff(
    content: bytes, compression: int, size: tuple[int, int], photometric: int, bits: tuple[int, ...], more: _Tags
) -> Image.Image:
    """Decode a strip as the only one of a small TIFF, through Pillow."""
    wide, high = size
    tags: _Tags = {
        256: (_LONG, wide), 257: (_LONG, high), 258: (_SHORT, bits), 259: (_SHORT, compression),
        262: (_SHORT, photometric), 273: (_LONG, 0), 277: (_SHORT, len(bits)), 278: (_LONG, high),
        279: (_LONG, len(content)), **more,
    }  # fmt: skip
    directory = ImageFileDirectory_v2()
    for code, (kind, value) in tags.items():
        directory.tagtype[code] = kind
        directory[code] = value
    file = io.BytesIO()
    directory.save(file)  # which sets where the strip begins
    file.write(content)
    file.seek(0)
    image = TiffImageFile(file)
    # As it is done already, Pillow does not compare the size with its own limit, which is below ours.
    image.im = Image.new(image.mode, image.size, None).im
    image.load()
    return image


def _unpacked(content: bytes, bits: int, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Numbers of fewer than 16 bits, whose rows begin at whole bytes, the highest bit first."""
    high, wide, samples = shape
    rows = np.frombuffer(content, np.uint8).reshape(high, -1)
    count = wide * samples
    kind: type[np.unsignedinteger[Any]] = np.uint8 if bits <= 8 else np.uint16
    values = np.empty((high, count), kind)
    step = max(1, _BLOCK // (count * bits))
    for top in range(0, high, step):
        single = np.unpackbits(rows[top : top + step], axis=1)[:, : count * bits].reshape(-1, count, bits)
        block = np.zeros(single.shape[:2], kind)
        for place in range(bits):
            block = (block << 1) | single[..., place]
        values[top : top + step] = block
    return values.reshape(shape)


def _unpredicted(content: bytes, predictor: int, kind: np.dtype[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Undo the differences that some files store for the sake of compression."""
    if predictor == _FLOATING:
        high, wide, samples = shape
        planes = np.frombuffer(content, np.uint8).reshape(high, -1, samples)
        planes = np.cumsum(planes, axis=1, dtype=np.uint8).reshape(high, kind.itemsize, wide * samples)
        # Bytes of a number are apart, the first of them the most significant.
        values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(kind.newbyteorder(">"))
        return values.reshape(shape)
    values = np.frombuffer(content, kind).reshape(shape)
    if predictor == _HORIZONTAL:
        whole = values.astype(kind.newbyteorder("=")).view(f"u{kind.itemsize}")
        return np.cumsum(whole, axis=1, dtype=whole.dtype).view(kind.newbyteorder("="))
    return values
