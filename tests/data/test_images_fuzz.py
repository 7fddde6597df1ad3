"""No file can hurt: damaged, hostile and random bytes give an image or an ImageError, and nothing else."""

from __future__ import annotations

import io
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from oddsight.data import images
from oddsight.data.formats import FORMATS
from oddsight.data.images import read_header, read_image
from oddsight.data.mask_files import read_mask
from oddsight.errors import ImageError

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")
FUZZ = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW_PIXELS = 2**20  # so that a header that lies costs little time


def stored(image: Image.Image, name: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, name, **options)
    return content.getvalue()


def _seeds() -> Iterator[tuple[str, bytes]]:
    """Small valid files, of one frame and several, with EXIF, palettes, transparency, 16 bits and compression."""
    random = np.random.default_rng(0)
    rgb = Image.fromarray(random.integers(0, 256, (13, 17, 3), dtype=np.uint8))
    grey = Image.fromarray(random.integers(0, 65536, (9, 8), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000"):
        yield name, stored(rgb, name)
    for name in ("PNG", "JPEG", "TIFF", "WEBP"):
        yield f"{name} exif", stored(rgb, name, exif=exif)
    for name in ("PNG", "GIF", "TIFF", "WEBP", "MPO"):
        yield f"{name} frames", stored(rgb, name, save_all=True, append_images=[rgb.rotate(180)])
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        yield compression, stored(rgb, "TIFF", compression=compression)
    for name in ("PNG", "TIFF"):
        yield f"{name} 16 bits", stored(grey, name)
    yield "PNG palette", stored(rgb.convert("P"), "PNG", transparency=3)
    yield "JPEG cmyk", stored(rgb.convert("CMYK"), "JPEG")
    yield "BMP palette", stored(rgb.convert("P"), "BMP")
    if "AVIF" in Image.SAVE:
        yield "AVIF", stored(rgb, "AVIF", exif=exif)
    yield "PPM plain", b"P3 2 2 255 1 2 3 4 5 6 7 8 9 1 2 3"


SEEDS = dict(_seeds())


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "image"


def read_all_ways(path: Path, content: bytes) -> str | None:
    """Read as image, header and mask; return why it is no image."""
    path.write_bytes(content)
    with suppress(ImageError):
        read_header(path)
    with suppress(ImageError), mock.patch.object(images, "MAX_PIXELS", FEW_PIXELS):
        read_mask(path)
    try:
        image = read_image(path, max_pixels=FEW_PIXELS)
    except ImageError as error:
        assert error.path == str(path)
        assert error.reason.isprintable() and len(error.reason) < 200
        return error.reason
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert image.ndim == 3 and image.shape[2] == 3 and 0 < image.size <= 3 * FEW_PIXELS
    return None


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file after some bytes were changed, inserted, removed, repeated or cut off."""
    content = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    for _ in range(draw(st.integers(1, 6))):
        # Half of the damage goes to the first 96 bytes, where the headers are.
        at = draw(st.integers(0, len(content)) | st.integers(0, min(96, len(content))))
        piece = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
        match draw(st.sampled_from(["change", "insert", "remove", "repeat", "cut"])):
            case "change":
                content[at : at + len(piece)] = piece
            case "insert":
                content[at:at] = piece
            case "remove":
                del content[at : at + len(piece)]
            case "repeat":
                content[at:at] = content[at : at + 32]
            case "cut":
                del content[at:]
    return bytes(content)


@pytest.mark.slow
@FUZZ
@given(content=mutated())
@example(content=b"")
def test_damaged_files(path, content):
    read_all_ways(path, content)


@pytest.mark.slow
@FUZZ
@given(
    start=st.sampled_from(sorted({content[:length] for content in SEEDS.values() for length in (0, 4, 12, 30)})),
    rest=st.binary(max_size=300),
)
def test_random_bytes(path, start, rest):
    read_all_ways(path, start + rest)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SEEDS))
def test_files_cut_off_anywhere(path, name):
    content = SEEDS[name]
    assert read_all_ways(path, content) is None
    for length in {*range(64), *range(64, len(content), max(1, len(content) // 40))} - {len(content)}:
        read_all_ways(path, content[: min(length, len(content))])


def test_every_format_has_a_seed():
    starts = {name.split()[0] for name in SEEDS}
    assert set(FORMATS) - {"AVIF"} <= starts


def _png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(10_000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, pixels, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _tiff(width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 100)


def _gif(width: int, height: int) -> bytes:
    return struct.pack("<6sHHBBB", b"GIF89a", width, height, 0, 0, 0) + struct.pack(
        "<cHHHHBBB2sB", b",", 0, 0, width, height, 0, 8, 2, b"\x4c\x01", 0
    ) + b";"  # fmt: skip


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIIIHHIIIIII", 100, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(46)


def _webp(width: int, height: int) -> bytes:
    content = SEEDS["WEBP frames"]  # an animation, whose canvas may be larger than its frames
    sides = [struct.pack("<I", min(side, 16_383) - 1)[:3] for side in (width, height)]
    return content[:24] + b"".join(sides) + content[30:]


def _jpeg(width: int, height: int) -> bytes:
    content = SEEDS["JPEG"]
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def _ppm(width: int, height: int) -> bytes:
    return b"P6 %d %d 255\n" % (width, height) + bytes(100)


@pytest.mark.parametrize("make", [_png, _tiff, _gif, _bmp, _webp, _jpeg, _ppm])
@pytest.mark.parametrize("size", [(12_000, 12_000), (65_000, 65_000), (16_000, 16_000)])
def test_headers_that_claim_too_many_pixels(path, make, size):
    path.write_bytes(make(*size))
    started = time.process_time()
    with pytest.raises(ImageError, match="pixels are more than the limit of 1"):
        read_image(path)
    assert time.process_time() - started < 2
