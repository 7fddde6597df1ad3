"""Reading images: every rule of oddsight.data.images, and one clear error for everything else."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from image_files import RANDOM, RGB, one_row, oriented, palette_image, png, save
from oddsight.data.images import as_image, read_header, read_image
from oddsight.data.mask_files import read_mask
from oddsight.errors import ImageError

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)

UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}

# What one row of pixels becomes: (name, suffix, image, pixels expected).
KINDS = [
    ("1-bit", ".png", one_row("1", [0, 255]), [BLACK, WHITE]),
    ("grey", ".png", one_row("L", [0, 7, 255]), [BLACK, (7, 7, 7), WHITE]),
    ("grey, transparent level", ".png", (one_row("L", [0, 7]), {"transparency": 7}), [BLACK, WHITE]),
    ("grey and alpha", ".png", one_row("LA", [(0, 255), (0, 0), (0, 128)]), [BLACK, WHITE, (127, 127, 127)]),
    ("rgb", ".png", one_row("RGB", [(1, 2, 3)]), [(1, 2, 3)]),
    ("rgb, transparent colour", ".png", (one_row("RGB", [RED, (1, 2, 3)]), {"transparency": RED}), [WHITE, (1, 2, 3)]),
    (
        "rgba",
        ".png",
        one_row("RGBA", [(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 255, 51)]),
        [RED, WHITE, (204, 204, 255)],
    ),
    ("rgba tiff", ".tif", one_row("RGBA", [(255, 0, 0, 255), (255, 0, 0, 0)]), [RED, WHITE]),
    ("palette", ".png", palette_image(), [RED, (0, 255, 0), BLACK]),
    ("palette, transparent index", ".png", palette_image(2), [RED, (0, 255, 0), WHITE]),
    ("palette, alpha of each", ".png", palette_image(b"\xff\x00\x33"), [RED, WHITE, (204, 204, 204)]),
    ("palette gif", ".gif", palette_image(0), [WHITE, (0, 255, 0), BLACK]),
    ("palette bmp", ".bmp", palette_image(), [RED, (0, 255, 0), BLACK]),
    ("cmyk", ".tif", one_row("CMYK", [(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)]), [WHITE, RED, BLACK]),
    ("cmyk jpeg", ".jpg", Image.new("CMYK", (8, 1), (0, 0, 0, 255)), [BLACK] * 8),
    ("ycbcr", ".tif", (one_row("YCbCr", [(255, 128, 128)] * 2), {"compression": "tiff_lzw"}), [WHITE] * 2),
    ("16-bit png", ".png", one_row("I;16", [0, 128, 129, 65535]), [BLACK, BLACK, (1, 1, 1), WHITE]),
    ("16-bit tiff", ".tif", one_row("I;16", [0, 257, 514, 65535]), [BLACK, (1, 1, 1), (2, 2, 2), WHITE]),
    ("16-bit lzw tiff", ".tif", (one_row("I;16", [257]), {"compression": "tiff_lzw"}), [(1, 1, 1)]),
    ("16-bit big-endian tiff", ".tif", one_row("I;16B", [0, 257, 65535]), [BLACK, (1, 1, 1), WHITE]),
    ("16-bit pgm", ".pgm", one_row("I", [0, 257, 65535]), [BLACK, (1, 1, 1), WHITE]),
]


@pytest.mark.parametrize(("suffix", "made", "expected"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_every_kind_of_image_becomes_rgb(tmp_path, suffix, made, expected):
    image, options = made if isinstance(made, tuple) else (made, {})
    path = save(image, tmp_path / f"image{suffix}", **options)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    assert pixels.tolist() == [[list(pixel) for pixel in expected]]
    with Image.open(path) as opened:
        assert np.array_equal(as_image(opened), pixels)


def test_modes_that_no_file_has(tmp_path):
    assert as_image(Image.new("HSV", (1, 1), (0, 255, 255))).tolist() == [[list(RED)]]
    assert as_image(Image.new("YCbCr", (1, 1), (255, 128, 128))).tolist() == [[list(WHITE)]]
    assert as_image(Image.new("PA", (1, 1))).tolist() == [[list(WHITE)]]
    assert as_image(Image.new("La", (1, 1), (0, 0))).tolist() == [[list(WHITE)]]


def test_lab(tmp_path):
    path = save(one_row("LAB", [(255, 128, 128), (0, 128, 128)]), tmp_path / "a.tif")
    assert np.allclose(read_image(path), [[WHITE, BLACK]], atol=1)


def test_16_bit_grey_is_rounded_and_never_stretched(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.repeat(np.round(values / 257).astype(np.uint8)[..., None], 3, axis=2)
    assert np.array_equal(read_image(save(values, tmp_path / "all.png")), expected)
    assert np.array_equal(read_image(save(values[:2], tmp_path / "dark.png")), expected[:2])


def test_16_bit_png_with_a_transparent_level(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 0, [struct.pack(">HH", 1000, 1001)], struct.pack(">H", 1000)))
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [4, 4, 4]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_orientation_is_applied(tmp_path, orientation, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    plain = read_image(save(RGB, tmp_path / f"plain{suffix}", **options))
    path = save(RGB, tmp_path / f"turned{suffix}", exif=oriented(orientation), **options)
    pixels = read_image(path)
    assert np.array_equal(pixels, UPRIGHT[orientation](plain))
    header = read_header(path)
    assert (header.height, header.width) == pixels.shape[:2]
    with Image.open(path) as image:
        assert np.array_equal(as_image(image), pixels)


def test_orientation_of_16_bit_and_of_masks(tmp_path):
    values = np.array([[65535, 0, 0]], dtype=np.uint16)
    path = save(values, tmp_path / "a.png", exif=oriented(6))
    assert read_image(path)[..., 0].tolist() == [[255], [0], [0]]
    assert read_mask(path, size=(1, 3)).tolist() == [[True], [False], [False]]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"II*\0\xff\xff\xff\xff garbage", b"neither byte order"])
def test_damaged_exif_is_no_obstacle(tmp_path, exif):
    path = save(RGB, tmp_path / "a.png", exif=b"Exif\0\0" + exif)
    assert np.array_equal(read_image(path), RGB)
    assert read_header(path).width == 7


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_first_of_several_frames(tmp_path, suffix):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(frames[0], tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (read_image(path) == RED).all()
    assert read_header(path).frames == 3


def test_mpo(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    path = save(frames[0], tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    assert (read_image(path) == 255).all()
    assert (read_header(path).format, read_header(path).frames) == ("MPO", 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".jp2"])
def test_extreme_shapes(tmp_path, shape, suffix):
    path = save(np.full((*shape, 3), 255, np.uint8), tmp_path / f"a{suffix}")
    assert read_image(path).shape == (*shape, 3)
    assert (read_image(path) == 255).all()


@pytest.mark.parametrize(
    "name", [b"new\nline.png", b"not-utf-8-\xff.png", " leading and 'quotes\" \u00e9\u4e16.png".encode()]
)
def test_unusual_names(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        content = io.BytesIO()
        Image.fromarray(RGB).save(content, "PNG")
        path.write_bytes(content.getvalue())
    except OSError:
        pytest.skip("this file system refuses the name")
    assert np.array_equal(read_image(path), RGB)
    assert np.array_equal(read_image(os.fspath(path)), RGB)
    path.write_bytes(b"no image")
    with pytest.raises(ImageError, match="not an image that can be read") as caught:
        read_image(path)
    assert Path(caught.value.path) == path


def test_the_suffix_is_not_believed(tmp_path):
    path = save(RGB, tmp_path / "a.png")
    assert np.array_equal(read_image(path.rename(tmp_path / "a.jpg")), RGB)


def test_threads(tmp_path):
    paths = [save(RGB, tmp_path / f"a{suffix}") for suffix in (".png", ".bmp", ".tif", ".ppm")] * 25
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(image, RGB) for image in pool.map(read_image, paths))


@pytest.mark.slow
def test_no_heavy_imports():
    code = "import sys, oddsight.data.images; print(*{'torch', 'scipy', 'sklearn', 'onnx'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


# ---- What cannot be read ----


def failure(path: str | Path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options)
    assert caught.value.path == os.fspath(path)
    assert "\n" not in caught.value.reason
    return caught.value.reason


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"P", "not an image that can be read"),
        (b"hello, world", "not an image that can be read"),
        (EPS, "not an image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be read"),
        (b"\x89PNG\r\n\x1a\n", "truncated or damaged"),
        (b"\xff\xd8\xff\xe0", "truncated or damaged"),
        (b"GIF89a", "truncated or damaged"),
        (png(2, 2, 8, 0, [b"ab", b"cd"])[:-26], "truncated or damaged"),
        (
            png(2**31 - 1, 2**31 - 1, 8, 2, []),
            "2,147,483,647 x 2,147,483,647 pixels: a side is longer than the limit of 262,144",
        ),
        (png(2, 1, 8, 7, [b"\0\0"]), "truncated or damaged"),
    ],
    ids=range(11),
)
def test_files_that_are_no_images(tmp_path, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert failure(path).startswith(reason)


@pytest.mark.parametrize("alpha", [None, b"\0"])
def test_an_index_beyond_a_short_palette_is_black(tmp_path, alpha):
    """As libpng has it."""
    image = one_row("P", [0, 1, 200])
    image.putpalette([255, 255, 255, 0, 255, 0, *([9] * 762)])
    path = save(image, tmp_path / "a.png", **({} if alpha is None else {"transparency": alpha}))
    content = path.read_bytes()
    start = content.index(b"PLTE") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    short = struct.pack(">I", 6) + b"PLTE" + content[start + 8 : start + 14]
    path.write_bytes(
        content[:start] + short + struct.pack(">I", zlib.crc32(short[4:])) + content[start + 12 + length :]
    )
    assert read_image(path).tolist() == [[[255, 255, 255], [0, 255, 0], [0, 0, 0]]]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".jp2"])
def test_truncated_files(tmp_path, suffix):
    path = save(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8), tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert failure(path).startswith("truncated or damaged: ")


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_pixels_without_a_fixed_range_are_refused(tmp_path, compression):
    assert "floating-point" in failure(save(Image.new("F", (2, 2)), tmp_path / "f.tif", compression=compression))
    for value in (-1, 257, 65536):  # the kind of numbers decides, not their values
        wide = save(Image.new("I", (2, 2), value), tmp_path / "i.tif", compression=compression)
        assert "32-bit pixels have no fixed range" in failure(wide)


def test_places_that_hold_no_image(tmp_path):
    assert failure(tmp_path / "missing.png") == "no such file"
    assert failure(tmp_path) == "is a folder, not an image"
    assert failure(save(RGB, tmp_path / "a.png") / "below.png") == "cannot be read: Not a directory"
    assert failure(f"{tmp_path}/a\0b.png") == "not a possible file name"
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert failure(tmp_path / "loop.png") == "cannot be read: Too many levels of symbolic links"
    os.mkfifo(tmp_path / "pipe.png")
    assert failure(tmp_path / "pipe.png") == "is not a regular file"


def test_permission(tmp_path, monkeypatch):
    path = save(RGB, tmp_path / "a.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert failure(path) == "permission denied"


def test_the_limit_of_pixels(tmp_path):
    path = save(RGB, tmp_path / "a.png")
    assert read_image(path, max_pixels=35).shape == RGB.shape
    assert failure(path, max_pixels=34) == "7 x 5 pixels are more than the limit of 34"


def test_the_limit_counts_before_decoding(tmp_path, monkeypatch):
    path = save(RGB, tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
    assert "limit" in failure(path, max_pixels=34)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".jp2"])
def test_pillows_own_limit_does_not_show(tmp_path, monkeypatch, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(RGB, tmp_path / f"a{suffix}", **options)
    expected = read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # at which Pillow warns; it refuses from twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_image(path), expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".ppm"])
def test_a_greater_limit_than_pillows(tmp_path, monkeypatch, suffix):
    path = save(RGB, tmp_path / f"a{suffix}")
    expected = read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert np.array_equal(read_image(path), expected)


@pytest.mark.parametrize(("limit", "told"), [(34, "34"), (10**9, "178,956,970")])
def test_where_pillow_insists_on_its_limit(tmp_path, monkeypatch, limit, told):
    path = save(RGB, tmp_path / "a.png")

    def refuse(_):
        raise Image.DecompressionBombError("could be decompression bomb DOS attack")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "_open", refuse)
    assert failure(path, max_pixels=limit) == f"its pixels are more than the limit of {told}"


@pytest.mark.parametrize(
    "error",
    [
        *(OSError("a\nb"), ValueError("\0"), KeyError(1), struct.error(), zlib.error(), SyntaxError(), EOFError()),
        *(OverflowError(), IndexError(), TypeError(), RuntimeError(), ZeroDivisionError(), AttributeError()),
        *(AssertionError(), RecursionError(), UnicodeDecodeError("ascii", b"a", 0, 1, "x")),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("stage", ["_open", "load"])
def test_whatever_a_decoder_raises_is_an_image_error(tmp_path, monkeypatch, error, stage):
    path = save(RGB, tmp_path / "a.png")

    def fail(_):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, stage, fail)
    reason = failure(path)
    assert reason.startswith("truncated or damaged: ") and reason.isprintable()


def test_lack_of_memory_and_interruption(tmp_path, monkeypatch):
    path = save(RGB, tmp_path / "a.png")

    def fail(error):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: fail(MemoryError()))
    assert failure(path) == "not enough memory to decode it"
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        read_image(path)
