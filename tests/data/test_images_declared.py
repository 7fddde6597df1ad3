"""What files other than TIFF declare of their pixels, and what is refused for its true reason."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from image_files import RANDOM, RGB, oriented, png
from oddsight.data.images import as_image, read_header, read_image
from oddsight.data.mask_files import read_mask
from oddsight.errors import ImageError
from oddsight.scenes.scene_image import SceneImage

WHITE = [255, 255, 255]


def jpeg(**options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 10, 10)).save(file, "JPEG", **options)
    return file.getvalue()


def bmp(bits: int, content: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, bits, 0, len(content), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(content), 0, 0, 54) + head + content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(4, 1, 2, 0, [b"\x1b"], struct.pack(">H", 1)), [[0] * 3, WHITE, [170] * 3, WHITE]),
        (png(4, 1, 4, 0, [b"\x01\x2f"], struct.pack(">H", 2)), [[0] * 3, [17] * 3, WHITE, WHITE]),
        (png(2, 1, 4, 0, [b"\x1f"]), [[17] * 3, WHITE]),
        (png(8, 1, 1, 0, [b"\x55"], struct.pack(">H", 0)), [WHITE] * 8),
        (png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], struct.pack(">3H", 1, 2, 3)), [WHITE, [4, 5, 6]]),
        (
            png(
                2,
                1,
                16,
                2,
                [struct.pack(">6H", 1000, 2000, 3000, 40000, 2000, 3000)],
                struct.pack(">3H", 1000, 2000, 3000),
            ),
            [WHITE, [156, 7, 11]],
        ),
    ],
    ids=["2 bits", "4 bits", "4 bits, opaque", "1 bit", "8 bits", "16 bits"],
)
def test_transparent_colours_of_png_at_every_depth(tmp_path, content, expected):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert read_image(path)[0].tolist() == expected
    assert SceneImage(path).rows(0, 1)[0][0].tolist() == expected
    with Image.open(path) as image:
        assert as_image(image)[0].tolist() == expected


def test_the_fourth_byte_of_a_bitmap_means_nothing(tmp_path):
    (tmp_path / "a.bmp").write_bytes(bmp(32, bytes([1, 2, 3, 0] * 4)))
    assert (read_image(tmp_path / "a.bmp") == [3, 2, 1]).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (jpeg()[: jpeg().index(b"\xff\xc0") + 4] + b"\x0c" + jpeg()[jpeg().index(b"\xff\xc0") + 5 :], "12-bit layers"),
        (bmp(2, bytes(64)), "Unsupported BMP pixel depth (2)"),
        (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(64), "it is HEIC, convert it"),
        (b"8BPS" + bytes(30), "it is Photoshop"),
        (b"%PDF-1.7\n" + bytes(30), "it is PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is SVG"),
        (b"Pf\n2 2\n-1.0\n" + bytes(16), "floating-point"),
    ],
)
def test_intact_files_are_refused_with_their_true_reason(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a.png")
    assert reason in caught.value.reason and "damaged" not in caught.value.reason


@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_jpeg_2000_of_16_bits(tmp_path, kind):
    values = RANDOM.integers(0, 65536, (9, 8), dtype=np.uint16)
    image = Image.fromarray(values) if kind == "L" else Image.fromarray(RANDOM.integers(0, 256, (9, 8, 3), np.uint8))
    image.save(tmp_path / "a.jp2", irreversible=False)
    expected = np.rint(values / 257)[..., None] if kind == "L" else np.asarray(image)
    assert (read_image(tmp_path / "a.jp2") == expected).all()


def test_avif(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)[..., None] * np.uint8([1, 2, 1])
    Image.fromarray(smooth).save(tmp_path / "a.avif", quality=95, exif=oriented(6))
    found = read_image(tmp_path / "a.avif").astype(int)
    assert np.abs(found - np.rot90(smooth, -1)).mean() < 5
    assert read_header(tmp_path / "a.avif").width == 40


def test_jpeg_xl(tmp_path):
    pylibjxl = pytest.importorskip("pylibjxl")
    whole = {"lossless": True, "distance": 0.0}
    for name, pixels in {"grey": RGB[..., :1], "rgb": RGB, "clear": np.dstack([RGB, RGB[..., 0]])}.items():
        path = tmp_path / f"{name}.jxl"
        path.write_bytes(pylibjxl.encode(np.ascontiguousarray(pixels), **whole))
        expected = as_image(np.ascontiguousarray(pixels))
        assert np.array_equal(read_image(path), expected)
        assert np.array_equal(SceneImage(path).rows(0, len(RGB))[0], expected)
    grey = RGB[..., 0]
    assert np.array_equal(read_mask(tmp_path / "grey.jxl"), 2 * grey.astype(int) >= grey.max())
    plain = jpeg()
    turned = pylibjxl.jpeg_to_jxl(jpeg(exif=oriented(6)))
    (tmp_path / "turned.jxl").write_bytes(turned)
    (tmp_path / "plain.jpg").write_bytes(plain)
    assert read_image(tmp_path / "turned.jxl").shape == (16, 16, 3)
    for cut in (5, len(turned) // 2):
        (tmp_path / "cut.jxl").write_bytes(turned[:cut])
        with pytest.raises(ImageError, match=r"damaged|not an image"):
            read_image(tmp_path / "cut.jxl")


def test_jpeg_xl_is_turned_once(tmp_path):
    pylibjxl = pytest.importorskip("pylibjxl")
    file = io.BytesIO()
    Image.new("RGB", (24, 16)).save(file, "JPEG", exif=oriented(6))
    (tmp_path / "a.jxl").write_bytes(pylibjxl.jpeg_to_jxl(file.getvalue()))
    assert read_image(tmp_path / "a.jxl").shape == (24, 16, 3)


def test_jpeg_xl_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("oddsight.data.formats._JPEG_XL", False)
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bytes(20))
    with pytest.raises(ImageError, match=r"oddsight\[jxl\]"):
        read_image(tmp_path / "a.jxl")


def test_the_first_frame_of_animations(tmp_path):
    frames = [Image.fromarray(np.roll(RGB, shift, axis=0)) for shift in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_image(tmp_path / "a.png"), RGB)
