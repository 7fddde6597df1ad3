"""A zoo of TIFF files: both paths read the pixels that the file declares, or refuse it for the same reason."""

from __future__ import annotations

import io
import itertools
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from oddsight.data.images import as_image, read_header, read_image, read_valid_image
from oddsight.data.mask_files import read_mask
from oddsight.data.mask_values import marked_pixels
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import ImageError
from oddsight.scenes.scene_image import SceneImage
from tiff_files import COLOUR_MAP, EXTRA, FILL_ORDER, NODATA, ORIENTATION, PREDICTOR, SUBFILE, page, write

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 21, 26
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9


def samples(count: int, bits: int = 8, kind: str = "u") -> np.ndarray:
    if kind == "f":
        return RNG.normal(0, 1, (HEIGHT, WIDTH, count)).astype(f"f{bits // 8}")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind == "i" else (0, 2**bits)
    stored = max(8, 1 << (bits - 1).bit_length())
    return RNG.integers(low, high, (HEIGHT, WIDTH, count), dtype=f"{kind}{stored // 8}")


def read(path: Path, reading: Reading = AS_DECLARED) -> np.ndarray | str:
    """What both paths read, in parts and at once; or why both refuse it."""
    try:
        plain = read_image(path, reading=reading)
    except ImageError as error:
        with pytest.raises(ImageError) as other:
            image = SceneImage(path, reading)
            image.rows(0, image.height)
        assert other.value.reason == error.reason
        return error.reason
    image = SceneImage(path, reading)
    assert (image.height, image.width) == plain.shape[:2]
    cuts = [0, image.height // 3, image.height - 2, image.height]
    rows = [image.rows(top, bottom)[0] for top, bottom in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(rows), plain)
    if not reading.chosen:
        np.testing.assert_array_equal(read_valid_image(path.read_bytes(), "x")[0], plain)
    header = read_header(path)
    assert (header.height, header.width, header.format) == (*plain.shape[:2], "TIFF")
    return plain


def grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels.reshape(*levels.shape[:2], 1), 3, axis=2)


def full_range(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(values.astype(float) * 255 / (2**bits - 1)).astype(np.uint8)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(float) / 255
    return colour * share + 255 * (1 - share)


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"rows": 4},
    {"rows": 7, "planar": True},
    {"tile": (16, 16)},
    {"tile": (16, 32), "planar": True},
]
STORAGE = [("<", 1, False), (">", 1, True), ("<", 8, True), (">", 8, False)]


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB])
def test_every_depth_layout_and_order(tmp_path, bits, photometric):
    values = samples(3 if photometric == RGB else 1, bits)
    expected = full_range(values, bits)
    if bits == 16 and photometric == RGB:
        expected = (values >> 8).astype(np.uint8)
    if photometric == WHITE_IS_ZERO:
        expected = full_range(2**bits - 1 - values.astype(int), bits)
    expected = expected if photometric == RGB else grey(expected)
    for number, (layout, (order, compression, big)) in enumerate(itertools.product(LAYOUTS, STORAGE)):
        one = page(values, photometric, bits, order=order, compression=compression, **layout)
        path = write(tmp_path / f"{number}.tif", one, big=big)
        np.testing.assert_array_equal(read(path), expected, err_msg=f"{layout} {order} {compression}")
        if bits in (8, 16):
            theirs = tifffile.imread(path)
            theirs = theirs.transpose(1, 2, 0) if theirs.ndim == 3 and layout.get("planar") else theirs
            np.testing.assert_array_equal(theirs.reshape(values.shape), values)
        if (
            bits in (1, 8)
            and compression == 1
            and photometric != RGB
            and not {"tile", "planar"} & set(layout)
            and not big
        ):
            np.testing.assert_array_equal(read(path), np.asarray(Image.open(path).convert("RGB")))
    assert read_header(path).bit_depth == bits


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("declared", [None, (0,), (1,), (2,), (0, 0), (0, 2), (2, 0)])
@pytest.mark.parametrize("colours", [1, 3])
def test_extra_samples_are_alpha_only_where_they_are_declared_so(tmp_path, declared, colours, bits):
    count = len(declared or (0,))
    values = samples(colours + count, bits)
    if declared == (1,):  # colours that are multiplied by alpha do not exceed it
        values[..., :colours] = np.minimum(values[..., :colours], values[..., -1:])
    tags = {EXTRA: (3, declared)} if declared is not None else {}
    one = page(values, RGB if colours == 3 else BLACK_IS_ZERO, tags=tags)
    found = read(write(tmp_path / "a.tif", one))
    levels = values if bits == 8 else (values >> 8) if colours == 3 else full_range(values, 16)
    alphas = [place for place, what in enumerate(declared or ()) if what]
    bands = colours + count - len(alphas)
    if bands == 2:
        assert "has 2 bands" in found
        return
    if bands == 3 and bits == 16 and colours == 1:  # grey and two more are three bands
        levels = values >> 8
    expected = levels[..., [0, 1, 2] if bands >= 3 else [0, 0, 0]].astype(float)
    if alphas:
        alpha = full_range(values[..., colours + alphas[0]], bits)[..., None]
        expected = np.minimum(expected + 255 - alpha, 255) if declared == (1,) else over_white(expected, alpha)
    assert np.abs(found - expected).max() <= 1
    if not alphas:
        np.testing.assert_array_equal(found, expected)


def test_near_infrared_is_no_alpha(tmp_path):
    """Red, green, blue and near-infrared without a tag, as many programs write them."""
    values = samples(4)
    path = write(tmp_path / "a.tif", page(values, RGB))
    np.testing.assert_array_equal(read(path), values[..., :3])
    np.testing.assert_array_equal(read(path, Reading((4, 3, 2))), values[..., [3, 2, 1]])
    with Image.open(path) as image:
        np.testing.assert_array_equal(as_image(image), values[..., :3])
    assert read_header(path).mode == "RGB"


def test_the_first_three_of_many_bands(tmp_path):
    values = samples(7)
    for photometric, extra in ((BLACK_IS_ZERO, [0] * 6), (RGB, [0] * 4), (RGB, [0, 0, 0, 2])):
        path = write(tmp_path / "a.tif", page(values, photometric, tags={EXTRA: (3, extra)}))
        expected = values[..., :3] if 2 not in extra else None
        if expected is not None:
            np.testing.assert_array_equal(read(path), expected)
        np.testing.assert_array_equal(read(path, Reading((7,))), grey(values[..., 6]))
    assert read(path, Reading((8,))) == "has 7 bands, and band 8 was asked for"


@pytest.mark.parametrize(("kind", "bits"), [("i", 8), ("i", 16), ("i", 32), ("f", 16), ("f", 32), ("f", 64), ("u", 32)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_without_a_range_take_a_scale(tmp_path, kind, bits, order):
    values = samples(3, bits, kind)
    path = write(tmp_path / "a.tif", page(values, RGB, order=order, compression=8, rows=5))
    reason = read(path)
    assert "no fixed range" in reason and "--scale" in reason and "damaged" not in reason
    low, high = np.quantile(values.astype(float), [0.1, 0.9])
    found = read(path, Reading(scale=(float(low), float(high))))
    expected = np.rint(np.clip((values.astype(float) - low) * (255 / (high - low)), 0, 255))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("predictor", "kind", "bits"), [(2, "u", 8), (2, "u", 16), (2, "i", 16), (2, "u", 32)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_predictors(tmp_path, predictor, kind, bits, order):
    values = samples(3, bits, kind)
    differences = np.diff(values, axis=1, prepend=np.zeros((HEIGHT, 1, 3), values.dtype))
    tags = {PREDICTOR: (3, [predictor])}
    path = write(tmp_path / "a.tif", page(differences, RGB, order=order, compression=8, tags=tags))
    reading = Reading() if (kind, bits) in (("u", 8), ("u", 16)) else Reading(scale=(0.0, 1000.0))
    plain = write(tmp_path / "b.tif", page(values, RGB))
    np.testing.assert_array_equal(read(path, reading), read(plain, reading))


def marked(colours: np.ndarray) -> np.ndarray:
    """Which pixels a mask of these colours ``[H, W, 3]`` marks."""
    return marked_pixels(colours.max(axis=2), "a mask", lossy=False).marked


def test_bits_in_reverse_order(tmp_path):
    values = samples(1, 1)
    mirrored = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
    for compression in (1, 8):

        def encode(raw: bytes, compression: int = compression) -> bytes:
            return (zlib.compress(raw) if compression == 8 else raw).translate(mirrored)

        tags = {FILL_ORDER: (3, [2])}
        one = page(values, BLACK_IS_ZERO, 1, compression=compression, tags=tags, encode=encode)
        np.testing.assert_array_equal(read(write(tmp_path / "a.tif", one)), grey(values * 255))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("deep", [True, False])
def test_palettes(tmp_path, bits, deep):
    colours = RNG.integers(0, 256, (2**bits, 3))
    values = samples(1, bits)
    stored = colours.T.ravel() * (257 if deep else 1)  # of old files the colours have 8 bits only
    tags = {COLOUR_MAP: (3, stored.tolist())}
    path = write(tmp_path / "a.tif", page(values, PALETTE, bits, tags=tags, rows=4))
    np.testing.assert_array_equal(read(path), colours[values[..., 0]])
    assert read(path, Reading((1,))) == "its pixels are a palette, not bands, so bands or a scale cannot be chosen"
    np.testing.assert_array_equal(read_mask(path), marked(colours[values[..., 0]]))


def test_cmyk(tmp_path):
    values = samples(4)
    expected = np.asarray(Image.frombytes("CMYK", (WIDTH, HEIGHT), values.tobytes()).convert("RGB"))
    for bits, layout in itertools.product((8, 16), ({}, {"planar": True, "rows": 4})):
        deep = values if bits == 8 else values.astype(np.uint16) * 257
        np.testing.assert_array_equal(read(write(tmp_path / "a.tif", page(deep, CMYK, **layout))), expected)
    alpha = np.concatenate([values, samples(1)], axis=2)
    found = read(write(tmp_path / "b.tif", page(alpha, CMYK, tags={EXTRA: (3, [2])})))
    assert np.abs(found - over_white(expected, alpha[..., 4:])).max() <= 1
    np.testing.assert_array_equal(read(write(tmp_path / "c.tif", page(alpha, CMYK, tags={EXTRA: (3, [0])}))), expected)
    assert "inks" in read(write(tmp_path / "d.tif", page(values, CMYK, tags={332: (3, [2])})))


@pytest.mark.parametrize(
    ("subsampling", "compression"), list(itertools.product([(1, 1), (2, 1), (2, 2), (4, 2)], [1, 8]))
)
def test_ycbcr(tmp_path, subsampling, compression):
    across, down = subsampling
    height, width = 20, 24
    luma = RNG.integers(0, 256, (height, width), dtype=np.uint8)
    blue, red = (RNG.integers(90, 160, (height // down, width // across), dtype=np.uint8) for _ in "br")
    units = luma.reshape(height // down, down, width // across, across).transpose(0, 2, 1, 3)
    units = units.reshape(*blue.shape, across * down)
    raw = np.concatenate([units, blue[..., None], red[..., None]], axis=2).tobytes()
    one = page(np.zeros((height, width, 3), np.uint8), YCBCR, compression=compression,
               tags={530: (3, subsampling), 532: (5, [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1])},
               encode=lambda _: raw if compression == 1 else zlib.compress(raw))  # fmt: skip
    planes = [luma, *(plane.repeat(down, 0).repeat(across, 1) for plane in (blue, red))]
    expected = np.asarray(Image.fromarray(np.dstack(planes), "YCbCr").convert("RGB")).astype(int)
    assert np.abs(read(write(tmp_path / "a.tif", one)) - expected).max() <= 2


def test_lab(tmp_path):
    lightness = samples(1)
    neutral = np.concatenate([lightness, np.zeros((HEIGHT, WIDTH, 2), np.uint8)], axis=2)
    icc = neutral ^ np.uint8([0, 128, 128])
    first = read(write(tmp_path / "a.tif", page(neutral, CIELAB)))
    np.testing.assert_array_equal(first, read(write(tmp_path / "b.tif", page(icc, ICCLAB))))
    assert np.ptp(first.astype(int), axis=2).max() <= 2
    order = np.argsort(lightness.ravel())
    assert (np.diff(first[..., 1].ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, orientation):
    values = samples(3)
    tags = {ORIENTATION: (3, [orientation])}
    turned = Image.fromarray(values)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turned.save(tmp_path / "a.png", exif=exif)
    expected = read_image(tmp_path / "a.png")
    for layout in LAYOUTS:
        path = write(tmp_path / "a.tif", page(values, RGB, tags=tags, **layout))
        np.testing.assert_array_equal(read(path), expected)
        np.testing.assert_array_equal(read(path, Reading((3, 2, 1))), expected[..., ::-1])
        np.testing.assert_array_equal(read_mask(path), marked(expected))


def test_the_page_of_full_resolution(tmp_path):
    small, large = samples(3)[::2, ::2], samples(3)
    preview = page(small, RGB, tags={SUBFILE: (4, [1])})
    old_preview = page(small, RGB, tags={255: (3, [2])})
    mask = page(samples(1, 1), 4, 1, tags={SUBFILE: (4, [4])})
    whole = page(large, RGB)
    for number, pages in enumerate(((preview, whole), (old_preview, mask, whole), (whole, preview), (mask, whole))):
        path = write(tmp_path / f"{number}.tif", *pages, big=number % 2 == 1)
        np.testing.assert_array_equal(read(path), large)
        assert read_header(path).frames == len(pages)
    np.testing.assert_array_equal(read(write(tmp_path / "p.tif", preview)), small)
    with tifffile.TiffWriter(tmp_path / "raw.tif") as tiff:  # as cameras do: the whole image below its preview
        tiff.write(small, subfiletype=1, subifds=1, photometric="rgb")
        tiff.write(large, photometric="rgb")
    np.testing.assert_array_equal(read(tmp_path / "raw.tif"), large)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw", "lzma", "zstd"])
def test_what_pillow_writes_of_one_bit(tmp_path, compression):
    image = Image.fromarray(samples(1, 1)[..., 0] * np.uint8(255)).convert("1")
    image.save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_compression(tmp_path, mode):
    smooth = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8)[..., None] * np.uint8([2, 3, 4])
    image = Image.fromarray(smooth).convert(mode)
    image.save(tmp_path / "a.tif", compression="jpeg", quality=95)
    with Image.open(tmp_path / "a.tif") as opened:
        theirs = np.asarray(opened.convert("RGB")).astype(int)
    assert np.abs(read(tmp_path / "a.tif") - theirs).max() <= 1
    assert np.abs(theirs - np.asarray(image.convert("RGB"))).max() <= 30


def test_lzma_by_python_and_tiles_that_were_never_written(tmp_path):
    values = samples(3)
    one = page(values, RGB, tags={259: (3, [34925])}, encode=lzma.compress, rows=9)
    np.testing.assert_array_equal(read(write(tmp_path / "a.tif", one)), values)
    tiled = page(values, RGB, tile=(16, 16))
    tiled["content"][1] = b""
    found = read(write(tmp_path / "b.tif", tiled))
    assert not found[:16, 16:].any()
    np.testing.assert_array_equal(found[:, :16], values[:, :16])


def test_pixels_without_data_get_the_mean_colour_of_the_others(tmp_path):
    values = samples(3)
    values[:5] = 7
    path = write(tmp_path / "a.tif", page(values, RGB, tags={NODATA: (2, b"7\0")}))
    found, (pixels, valid) = read_image(path), SceneImage(path).rows(0, HEIGHT)
    np.testing.assert_array_equal(found[5:], values[5:])
    assert (found[:5] == np.rint(values[5:].reshape(-1, 3).mean(axis=0))).all()
    np.testing.assert_array_equal(pixels, values)
    assert not valid[:5].any() and valid[5:].all()
    empty = write(tmp_path / "b.tif", page(np.full_like(values, 7), RGB, tags={NODATA: (2, b"7\0")}))
    with pytest.raises(ImageError, match="holds no data"):
        read_image(empty)


@pytest.mark.parametrize(
    ("values", "photometric", "tags", "words"),
    [
        (samples(3), RGB, {258: (3, [8, 8, 16])}, "different depths (8, 8, 16 bits)"),
        (samples(1), BLACK_IS_ZERO, {259: (3, [34887])}, "method 34887 (LERC)"),
        (samples(1), BLACK_IS_ZERO, {259: (3, [6])}, "method 6 (old-style JPEG)"),
        (samples(1, 12), BLACK_IS_ZERO, {259: (3, [7]), 258: (3, [12])}, "compression has 12 bits"),
        (samples(1, 16), 32803, {}, "a camera's raw mosaic"),
        (samples(3), 10, {}, "ITULab"),
        (samples(1), 77, {}, "the unknown kind 77"),
        (samples(2, 32, "f").view("c8"), BLACK_IS_ZERO, {}, "complex numbers"),
        (samples(2), BLACK_IS_ZERO, {}, "has 2 bands"),
        (samples(1), BLACK_IS_ZERO, {32997: (4, [5])}, "a volume of 5 layers"),
        (samples(1), PALETTE, {COLOUR_MAP: (3, [0] * 9)}, "too few colours"),
        (samples(3, 16), YCBCR, {}, "YCbCr of 16 bits"),
    ],
)
def test_intact_files_are_refused_with_their_true_reason(tmp_path, values, photometric, tags, words):
    reason = read(write(tmp_path / "a.tif", page(values, photometric, tags=tags)))
    assert words in reason and "damaged" not in reason


def test_the_content_decides_what_a_file_is(tmp_path):
    values = samples(3)
    Image.fromarray(values).save(tmp_path / "png.tif", "PNG")
    Image.fromarray(values).save(tmp_path / "jpeg.tiff", "JPEG", quality=95)
    write(tmp_path / "tiff.png", page(values, RGB))
    write(tmp_path / "tiff", page(samples(4), RGB))
    np.testing.assert_array_equal(SceneImage(tmp_path / "png.tif").rows(0, HEIGHT)[0], values)
    np.testing.assert_array_equal(read(tmp_path / "tiff.png", Reading((2,))), grey(values[..., 1]))
    for name in ("png.tif", "jpeg.tiff"):
        plain = read_image(tmp_path / name)
        np.testing.assert_array_equal(SceneImage(tmp_path / name).rows(0, HEIGHT)[0], plain)
        reason = read(tmp_path / name, Reading((1, 2, 3)))
        assert reason == "bands and a scale are only for TIFF files"
    (tmp_path / "text.tif").write_bytes(b"no image")
    assert read(tmp_path / "text.tif").startswith("not an image that can be read")


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_masks_at_full_depth(tmp_path, bits, photometric):
    values = samples(1, bits) % np.uint8(2)
    stored = values if photometric == BLACK_IS_ZERO else (2**bits - 1 - values.astype(int)).astype(values.dtype)
    path = write(tmp_path / "a.tif", page(stored, photometric, bits))
    np.testing.assert_array_equal(read_mask(path), values[..., 0] == 1)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_declaration_is_one_image_or_one_reason(tmp_path, data):
    """Whatever tags say: both paths agree, and intact files are never called damaged."""
    kind, bits = data.draw(st.sampled_from([("u", n) for n in (1, 4, 8, 12, 16, 32)] + [("i", 16), ("f", 32)]))
    photometric = data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 9, 10, 32803]))
    count = data.draw(st.integers(1, 6))
    extra = data.draw(st.lists(st.integers(0, 2), max_size=count - 1))
    tags = {EXTRA: (3, extra)} if extra else {}
    tags |= {ORIENTATION: (3, [data.draw(st.integers(1, 8))])}
    if photometric == PALETTE:
        tags[COLOUR_MAP] = (3, RNG.integers(0, 65536, 3 * 2 ** min(bits, 16)).tolist())
    order, compression, big = data.draw(st.sampled_from(STORAGE))
    layout = data.draw(st.sampled_from(LAYOUTS))
    one = page(samples(count, bits, kind), photometric, bits, order=order, compression=compression, tags=tags, **layout)
    bands = data.draw(st.none() | st.just((1,)) | st.just((3, 2, 1)))
    scale = data.draw(st.none() | st.just((0.0, 200.0)))
    found = read(write(tmp_path / "a.tif", one, big=big), Reading(bands, scale))
    if isinstance(found, str):
        assert "damaged" not in found and "truncated" not in found


def test_webp_compression(tmp_path):
    values = samples(3)

    def encode(raw: bytes) -> bytes:
        file = io.BytesIO()
        Image.frombytes("RGB", (WIDTH, len(raw) // (3 * WIDTH)), raw).save(file, "WEBP", lossless=True)
        return file.getvalue()

    one = page(values, RGB, tags={259: (3, [50001])}, encode=encode, rows=8)
    np.testing.assert_array_equal(read(write(tmp_path / "a.tif", one)), values)


SMOOTH = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)[..., None] * np.uint8([2, 3, 1])


def jpeg(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("photometric", "options", "tags"),
    [
        (YCBCR, {"subsampling": "4:2:0"}, {530: (3, (2, 2))}),
        (YCBCR, {"subsampling": "4:4:4"}, {530: (3, (1, 1))}),
        (RGB, {"keep_rgb": True}, {}),
    ],
)
@pytest.mark.parametrize("layout", [{"tile": (16, 16)}, {"rows": 16}])
def test_jpeg_tiles_and_strips(tmp_path, photometric, options, tags, layout):
    def encode(raw: bytes) -> bytes:
        wide = layout["tile"][1] if "tile" in layout else SMOOTH.shape[1]
        return jpeg(np.frombuffer(raw, np.uint8).reshape(-1, wide, 3), **options)

    one = page(SMOOTH, photometric, tags={259: (3, [7])} | tags, encode=encode, **layout)
    found = read(write(tmp_path / "a.tif", one))
    assert np.abs(found.astype(int) - SMOOTH).mean() < 3


def test_jpeg_of_separate_samples(tmp_path):
    one = page(SMOOTH, RGB, planar=True, tags={259: (3, [7])},
               encode=lambda raw: jpeg(np.frombuffer(raw, np.uint8).reshape(SMOOTH.shape[:2])))  # fmt: skip
    path = write(tmp_path / "a.tif", one)
    assert np.abs(read(path).astype(int) - SMOOTH).mean() < 2
    assert np.abs(read(path, Reading((3,)))[..., 0].astype(int) - SMOOTH[..., 2]).mean() < 2


@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_fax_pages_with_bits_in_reverse_order(tmp_path, photometric):
    image = Image.fromarray(samples(1, 1)[..., 0] * np.uint8(255)).convert("1")
    image.save(tmp_path / "a.tif", compression="group4")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        first, tags = tiff.pages[0], tiff.pages[0].tags
        (strip,) = [tiff.filehandle.seek(first.dataoffsets[0]) and tiff.filehandle.read(first.databytecounts[0])]
        white = tags[262].value == 0
    turned = bytes(int(f"{byte:08b}"[::-1], 2) for byte in strip)
    one = page(samples(1, 1), photometric, 1, tags={259: (3, [4]), FILL_ORDER: (3, [2])}, encode=lambda _: turned)
    expected = np.asarray(image.convert("RGB"))
    expected = expected if white == (photometric == WHITE_IS_ZERO) else 255 - expected
    np.testing.assert_array_equal(read(write(tmp_path / "b.tif", one)), expected)
