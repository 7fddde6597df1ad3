"""Arrays as images, masks, headers and hashes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from image_files import RANDOM, RGB, one_row, palette_image, png, save
from oddsight.data.formats import IMAGE_SUFFIXES
from oddsight.data.images import as_image, content_hash, read_header, read_image
from oddsight.data.mask_files import read_mask
from oddsight.errors import ImageError

# ---- Arrays ----


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2", "bool"])
def test_arrays(channels, dtype):
    white = {"bool": True, "uint8": 255}.get(dtype, 65535)
    array = np.zeros((2, 3, *channels), dtype)
    array[0] = white
    if channels == (4,):
        array[1, 1:, 3] = white  # opaque black; the first pixel of the row stays transparent
    image = as_image(array)
    assert image.dtype == np.uint8 and image.shape == (2, 3, 3) and image.flags.c_contiguous
    expected = np.zeros((2, 3, 3), np.uint8)
    expected[0] = 255
    if channels == (4,):
        expected[1, 0] = 255
    assert np.array_equal(image, expected)


def test_arrays_agree_with_files(tmp_path):
    rgba = RANDOM.integers(0, 256, (9, 8, 4), dtype=np.uint8)
    assert np.array_equal(as_image(rgba), read_image(save(rgba, tmp_path / "a.png")))
    grey = RANDOM.integers(0, 65536, (9, 8), dtype=np.uint16)
    assert np.array_equal(as_image(grey), read_image(save(grey, tmp_path / "b.png")))


def test_arrays_need_not_be_contiguous():
    assert np.array_equal(as_image(RGB[::-1, ::2]), RGB[::-1, ::2])
    assert as_image(RGB[::-1, ::2]).flags.c_contiguous
    assert np.array_equal(as_image(RGB.swapaxes(0, 1)[..., 0])[..., 1], RGB[..., 0].T)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((2, 2, 3)), "float64 pixels; pass uint8 values 0..255"),
        (np.zeros((2, 2, 3), np.float32), "float32 pixels; pass uint8"),
        (np.zeros((2, 2), np.int64), "int64 pixels; pass uint8"),
        (np.zeros((0, 2, 3), np.uint8), "empty"),
        (np.zeros((2, 0), np.uint8), "empty"),
        (np.zeros((3, 2, 2), np.uint8), r"shape \(3, 2, 2\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((1, 2, 2, 3), np.uint8), r"shape \(1, 2, 2, 3\)"),
        ([[0, 0]], "a list is neither"),
        (Image.new("RGB", (0, 3)), "empty: 0 x 3"),
        (Image.new("F", (1, 1)), "floating-point"),
        (Image.new("I", (1, 1), 70000), "32-bit"),
    ],
)
def test_what_is_no_image(image, reason):
    with pytest.raises(ImageError, match=reason):
        as_image(image)


def test_damage_that_shows_only_when_a_pillow_image_is_decoded(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 2, 8, 0, [b"ab", b"cd"])[:-26])
    with Image.open(path) as image, pytest.raises(ImageError, match="truncated or damaged") as caught:
        as_image(image)
    assert caught.value.path == str(path)


# ---- Masks ----


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (one_row("1", [0, 255]), ".png", [0, 1]),
        (one_row("L", [0, 1, 255]), ".png", [0, 1, 1]),
        (one_row("I;16", [0, 1, 65535]), ".png", [0, 1, 1]),
        (one_row("I", [0, -1, 70000]), ".tif", [0, 1, 1]),
        (one_row("F", [0, 0.25, -1]), ".tif", [0, 1, 1]),
        (one_row("RGB", [(0, 0, 0), (0, 0, 1)]), ".png", [0, 1]),
        (one_row("RGBA", [(0, 0, 0, 255), (9, 9, 9, 0), (1, 0, 0, 255)]), ".png", [0, 0, 1]),
        (one_row("LA", [(0, 255), (9, 0), (1, 255)]), ".png", [0, 0, 1]),
        (palette_image(), ".png", [1, 1, 0]),
        (palette_image(0), ".png", [0, 1, 0]),
        (palette_image(b"\xff\x00\x00"), ".png", [1, 0, 0]),
        (palette_image(), ".gif", [1, 1, 0]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_masks(tmp_path, image, suffix, expected):
    areas = image.resize((2 * image.width, 2), Image.Resampling.NEAREST)
    mask = read_mask(save(areas, tmp_path / f"a{suffix}"), size=(2 * len(expected), 2))
    assert mask.dtype == np.bool_ and mask.flags.c_contiguous
    assert mask.tolist() == 2 * [[bool(value) for value in expected for _ in range(2)]]


def test_a_mask_of_another_size(tmp_path):
    path = save(np.zeros((5, 7), np.uint8), tmp_path / "a.png")
    assert read_mask(path).shape == (5, 7)
    with pytest.raises(ImageError, match="the mask is 7 x 5 pixels, its image 5 x 7"):
        read_mask(path, size=(5, 7))


def test_a_mask_that_cannot_be_read(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "missing.png")


# ---- Hashes and headers ----


def test_content_hash(tmp_path):
    stored = {content_hash(read_image(save(RGB, tmp_path / f"a{suffix}"))) for suffix in (".png", ".bmp", ".tif")}
    assert stored == {content_hash(RGB)}
    assert len(content_hash(RGB)) == 64
    other = RGB.copy()
    other[0, 0, 0] ^= 1
    different = [
        RGB,
        other,
        RGB[::-1],
        RGB.reshape(7, 5, 3),
        np.zeros((2, 3, 3), np.uint8),
        np.zeros((3, 2, 3), np.uint8),
    ]
    assert len({content_hash(image) for image in different}) == len(different)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (Image.new("1", (7, 5)), ".png", ("1", 1, "PNG")),
        (Image.new("L", (7, 5)), ".jpg", ("L", 8, "JPEG")),
        (Image.new("RGB", (7, 5)), ".webp", ("RGB", 8, "WEBP")),
        (Image.new("RGB", (7, 5)), ".bmp", ("RGB", 8, "BMP")),
        (Image.new("P", (7, 5)), ".gif", ("P", 8, "GIF")),
        (Image.new("CMYK", (7, 5)), ".tif", ("CMYK", 8, "TIFF")),
        (Image.new("RGB", (7, 5)), ".jp2", ("RGB", 8, "JPEG2000")),
        (Image.new("I;16", (7, 5)), ".png", ("I;16", 16, "PNG")),
        (Image.new("I;16", (7, 5)), ".tif", ("I;16", 16, "TIFF")),
        (Image.new("I", (7, 5)), ".pgm", ("I", 16, "PPM")),
        (Image.new("I", (7, 5)), ".tif", ("I", 32, "TIFF")),
        (Image.new("F", (7, 5)), ".tif", ("F", 32, "TIFF")),
    ],
)
def test_headers(tmp_path, image, suffix, expected):
    header = read_header(save(image, tmp_path / f"a{suffix}"))
    assert (header.mode, header.bit_depth, header.format) == expected
    assert (header.width, header.height, header.frames) == (7, 5, 1)
    assert header.path == str(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("content", [png(2, 1, 16, 2, [bytes(12)]), b"P6 2 1 65535\n" + bytes(12)], ids=["png", "ppm"])
def test_header_of_16_bit_colour(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert (read_header(tmp_path / "a").mode, read_header(tmp_path / "a").bit_depth) == ("RGB", 16)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tif", ".webp"])
def test_headers_are_read_without_decoding(tmp_path, monkeypatch, suffix):
    path = save(RGB, tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    header = read_header(path)
    assert (header.width, header.height, header.frames) == (7, 5, 1)


def test_header_of_a_image_too_large_to_read(tmp_path):
    (tmp_path / "a.png").write_bytes(png(200_000, 100_000, 8, 2, []))
    assert read_header(tmp_path / "a.png").width == 200_000


def test_header_of_what_is_no_image(tmp_path):
    with pytest.raises(ImageError, match="is a folder"):
        read_header(tmp_path)


def test_suffixes():
    assert {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
