"""Masks: which file belongs to which image, which values are marked, and how a mask lies over a turned image."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from image_files import oriented, save
from oddsight.data.mask_files import read_mask, read_mask_pixels
from oddsight.data.masks import inspect_mask, match_masks, settle_turns, summarize_masks
from oddsight.errors import DataError, ImageError

SIDE = 48
DISC = np.hypot(*(np.mgrid[:SIDE, :SIDE] - np.array([18, 27])[:, None, None])) < 9
"""What every mask here is meant to mark: 253 pixels."""


# ---- Which file belongs to which image ----


def matched(images, masks):
    """The masks by the names of images, and those that match none."""
    found = match_masks(
        {PurePath(name): Path("images", name) for name in images},
        {PurePath(name): Path("masks", name) for name in masks},
    )
    pairs = {str(image.relative_to("images")): str(mask.relative_to("masks")) for image, mask in found.of_image.items()}
    return pairs, [str(path.relative_to("masks")) for path in found.unmatched]


NFD = unicodedata.normalize("NFD", "Kratzer_für")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("spot/1.png", "spot/1.png"),
        ("spot/1.png", "spot/1.bmp"),
        ("spot/1.png", "spot/1_mask.png"),
        ("spot/1.png", "spot/1_gt.png"),
        ("spot/1.png", "spot/1-mask.tif"),
        ("spot/1.png", "Spot/1_MASK.PNG"),
        ("SPOT/A.JPG", "spot/a.png"),
        ("Kratzer_für/1.png", f"{NFD}/1_mask.png"),
        (f"{NFD}/1.png", "KRATZER_FÜR/1_Mask.png"),
        ("Straße/1.png", "STRASSE/1.png"),
        ("1.png", "1_mask.png"),
        ("spot/scan.v2.png", "spot/scan.v2_mask.png"),
        ("logical/000.png", "logical/000/000.png"),
        ("Logical/000.png", "logical/000/000.png"),
        ("logical/000.png", "logical/000_mask/a.png"),
        ("deep/er/1.png", "deep/er/1_mask.png"),
    ],
)
def test_names_that_match(image, mask):
    pairs, unmatched = matched([image], [mask])
    folder = len(PurePath(mask).parts) > len(PurePath(image).parts)
    assert pairs == {image: str(PurePath(mask).parent) if folder else mask}
    assert unmatched == []


@pytest.mark.parametrize(
    ("image", "mask"),
    [("spot/1.png", "spot/10.png"), ("spot/1.png", "crack/1.png"), ("spot/1.png", "1.png"), ("a_mask.png", "a.png")],
)
def test_names_that_do_not_match(image, mask):
    assert matched([image], [mask]) == ({}, [mask])


def test_the_closer_likeness_wins_and_each_mask_is_used_once():
    images = ["face.png", "face_mask.png", "Face.png"]
    pairs, unmatched = matched(images, ["face.png", "face_mask.png", "Face_mask.png", "FACE.png"])
    assert pairs == {"face.png": "face.png", "face_mask.png": "face_mask.png", "Face.png": "Face_mask.png"}
    assert unmatched == ["FACE.png"]


def test_images_of_one_name_match_masks_with_their_suffixes():
    assert matched(["1.png", "1.jpg"], ["1.png", "1.jpg"])[0] == {"1.png": "1.png", "1.jpg": "1.jpg"}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["spot/1.png"], ["spot/1.tif", "spot/1.bmp"]),
        (["spot/1.png"], ["spot/1_mask.png", "spot/1_gt.png"]),
        (["spot/1.png"], ["Spot/1.png", "SPOT/1.png"]),
        (["spot/1.png"], ["spot/1.bmp", "spot/1/0.png"]),
        (["spot/a.png", "spot/A.png"], ["SPOT/a.png"]),
        (["1.png", "1.jpg"], ["1_mask.png"]),
    ],
)
def test_what_is_ambiguous_is_refused_and_both_are_named(images, masks):
    with pytest.raises(DataError) as error:
        matched(images, masks)
    both = images if len(images) > 1 else [str(PurePath(mask).parent if "/1/" in mask else mask) for mask in masks]
    assert all(name in str(error.value) for name in both)


NAMES = st.lists(
    # A few letters, such as the dotless i, are not the same in upper case to Unicode either.
    st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6).filter(
        lambda name: name.upper().casefold() == name.casefold()
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda name: unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()),
)


@pytest.mark.slow
@given(NAMES, st.data())
def test_names_match_however_they_are_written(names, data):
    ways = (str, str.upper, *(lambda name, form=form: unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    masks = [
        data.draw(st.sampled_from(ways))(name) + data.draw(st.sampled_from(("", "_mask", "_GT"))) for name in names
    ]
    expected = {f"{name}.png": f"{mask}.png" for name, mask in zip(names, masks, strict=True)}
    pairs, unmatched = matched([f"{name}.png" for name in names], [f"{mask}.png" for mask in masks])
    assert (pairs, unmatched) == (expected, [])


# ---- Which values are marked ----


def shrunk(mask):
    """A mask with the soft edge of an image four times as large that was made smaller."""
    large = Image.fromarray(np.kron(mask, np.ones((4, 4), bool)).astype(np.uint8) * 255)
    return large.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_compression_adds_nothing(tmp_path, suffix, quality):
    path = save(Image.fromarray(DISC.astype(np.uint8) * 255), tmp_path / f"a{suffix}", quality=quality)
    assert len(np.unique(np.asarray(Image.open(path).convert("L")))) > 2
    assert read_mask_pixels(path).values == "shades"
    assert np.array_equal(read_mask(path), DISC)
    # Nor does storing that as PNG.
    again = save(Image.open(path).convert("L"), tmp_path / "b.png")
    assert np.array_equal(read_mask(again), DISC)


def test_soft_edges_end_where_they_are_half(tmp_path):
    soft = shrunk(DISC)
    path = save(soft, tmp_path / "a.png")
    assert np.array_equal(read_mask(path), np.asarray(soft) >= 128)
    assert np.array_equal(read_mask(path), DISC)


@pytest.mark.parametrize("values", [(1,), (255,), (237,), (1, 2), (1, 2, 3, 200), (10, 255)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_are_marked_whatever_their_values(tmp_path, values, dtype):
    bands = np.array(values)[np.arange(SIDE) // 4 % len(values)]
    labels = np.where(DISC, bands[:, None], 0).astype(dtype)
    path = save(labels, tmp_path / "a.png")
    assert np.array_equal(read_mask(path), DISC)
    assert read_mask_pixels(path).values == ("plain" if len(values) == 1 else "labels")


def test_a_palette_counts_by_its_colours(tmp_path):
    indexed = Image.fromarray(np.where(DISC, 2, 1).astype(np.uint8))
    image = indexed.convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0, 128, 0, 0])
    image.putdata(np.where(DISC, 2, 1).ravel())
    assert np.array_equal(read_mask(save(image, tmp_path / "a.png")), DISC)


@pytest.mark.parametrize("ground", [(255, 255, 255, 0), (0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)])
@pytest.mark.parametrize("paint", [(255, 0, 0, 255), (255, 0, 0, 120), (1, 1, 1, 255)])
def test_what_is_painted_on_a_transparent_ground_is_marked(tmp_path, ground, paint):
    pixels = np.where(DISC[..., None], np.array(paint), np.array(ground)).astype(np.uint8)
    assert np.array_equal(read_mask(save(pixels, tmp_path / "a.png")), DISC)


@pytest.mark.parametrize("alpha", [0, 255])
def test_an_alpha_channel_that_is_the_same_everywhere_means_nothing(tmp_path, alpha):
    pixels = np.dstack([DISC * np.uint8(255)] * 3 + [np.full((SIDE, SIDE), alpha, np.uint8)])
    assert np.array_equal(read_mask(save(pixels, tmp_path / "a.png")), DISC)


def test_black_paint_on_a_transparent_ground_is_marked(tmp_path):
    pixels = np.dstack([np.zeros((SIDE, SIDE, 3), np.uint8), DISC * np.uint8(255)])
    assert np.array_equal(read_mask(save(pixels, tmp_path / "a.png")), DISC)


def test_the_parts_of_a_mask_are_one(tmp_path):
    (tmp_path / "000").mkdir()
    halves = [DISC & (np.arange(SIDE) < 24), DISC & (np.arange(SIDE) >= 24)]
    for number, (half, value) in enumerate(zip(halves, (237, 12), strict=True)):
        save((half * value).astype(np.uint8), tmp_path / "000" / f"{number:03}.png")
    (tmp_path / "000" / "notes.txt").touch()
    assert np.array_equal(read_mask(tmp_path / "000", (SIDE, SIDE)), DISC)
    save(np.ones((SIDE, SIDE + 1), np.uint8), tmp_path / "000" / "002.png")
    with pytest.raises(ImageError, match=r"002\.png: the part of a mask differs in size"):
        read_mask(tmp_path / "000")
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no part of a mask"):
        read_mask(tmp_path / "none")


def test_a_mask_with_values_that_are_no_numbers_is_refused(tmp_path):
    path = save(Image.fromarray(np.full((4, 4), np.nan, np.float32)), tmp_path / "a.tif")
    with pytest.raises(ImageError, match="not finite"):
        read_mask(path)


# ---- How it lies over an image that is turned ----


def turned_files(folder, orientation, height, width, *, mask_is):
    """An image with an orientation, its mask as stored or as shown, and what should be marked as it is shown."""
    folder.mkdir(exist_ok=True)
    stored = np.zeros((height, width), np.uint8)
    stored[2:9, 3:20] = 255
    stored[2:14, 3:7] = 255  # an L, which no turn or flip leaves as it is
    image = save(Image.fromarray(stored), folder / f"{orientation}.png", exif=oriented(orientation))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(image)))
    if mask_is == "tagged":
        mask = save(Image.fromarray(stored), folder / f"{orientation}_mask.png", exif=oriented(orientation))
    else:
        mask = save(stored if mask_is == "stored" else upright, folder / f"{orientation}_mask.png")
    return mask, image, upright > 0


@pytest.mark.slow
@pytest.mark.parametrize("mask_is", ["stored", "shown", "tagged"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32), (40, 40)])
def test_a_mask_of_a_turned_image(tmp_path, orientation, height, width, mask_is):
    mask, image, expected = turned_files(tmp_path, orientation, height, width, mask_is=mask_is)
    size = expected.shape[::-1]
    look = inspect_mask(mask, image, size)
    sizes_tell = orientation >= 5 and height != width
    if orientation == 1 or mask_is == "tagged":
        assert look.fit == "plain"
    elif sizes_tell:
        assert look.fit == ("stored" if mask_is == "stored" else "upright")
    else:
        assert look.fit == "unsure"
    if look.fit != "unsure" or mask_is == "shown":
        assert np.array_equal(read_mask(mask, size, turn=look.turn), expected)


@pytest.mark.parametrize("mask_is", ["stored", "shown"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_sizes_that_tell_decide_about_those_that_do_not(tmp_path, orientation, mask_is):
    known = turned_files(tmp_path / "oblong", 6, 32, 48, mask_is=mask_is)
    unsure = turned_files(tmp_path / "square", orientation, 40, 40, mask_is=mask_is)
    looks = [inspect_mask(mask, image, expected.shape[::-1]) for mask, image, expected in (known, unsure)]
    settled = settle_turns([*looks, None])
    assert settled[2] is None
    assert [look.fit for look in settled[:2]] == (["stored"] * 2 if mask_is == "stored" else ["upright", "unsure"])
    for look, (mask, _, expected) in zip(settled[:2], (known, unsure), strict=True):
        assert np.array_equal(read_mask(mask, turn=look.turn), expected)
    # Alone it stays as it is.
    assert settle_turns(looks[1:]) == looks[1:]


def test_a_mask_of_neither_size_is_an_error(tmp_path):
    _, image, expected = turned_files(tmp_path, 6, 32, 48, mask_is="stored")
    mask = save(np.zeros((32, 47), np.uint8), tmp_path / "x.png")
    with pytest.raises(ImageError, match="the mask is 47 x 32 pixels, its image 32 x 48"):
        inspect_mask(mask, image, expected.shape[::-1])


# ---- What is said of them ----


def test_what_is_suspicious_is_named(tmp_path):
    image = save(np.zeros((SIDE, SIDE), np.uint8), tmp_path / "image.png")
    masks = {
        "plain.png": DISC * np.uint8(255),
        "empty.png": np.zeros((SIDE, SIDE), np.uint8),
        "full.png": np.full((SIDE, SIDE), 255, np.uint8),
        "inverted.png": ~DISC * np.uint8(255),
        "grey.jpg": DISC * np.uint8(255),
        "labels.png": np.where(DISC, np.where(np.arange(SIDE) < 24, 1, 2), 0).astype(np.uint8),
    }
    looks = [inspect_mask(save(mask, tmp_path / name), image, (SIDE, SIDE)) for name, mask in masks.items()]
    found = summarize_masks([*looks, None, None], ["a.png"], [Path("z.png")])
    listed = {
        name: [Path(path).name for path in paths] for name, paths in found.to_json().items() if name not in COUNTS
    }
    assert (found.anomalous, found.used) == (8, 5)
    assert listed == {
        "without": ["a.png"],
        "unmatched": ["z.png"],
        "empty": ["empty.png"],
        "covering_all": ["full.png"],
        "covering_most": ["inverted.png"],
        "grey": ["grey.jpg"],
        "labels": ["labels.png"],
        "turned": [],
        "unsure": [],
    }
    assert len(found.sentences()) == len(listed) - 2
    assert found.sentences()[0] == (
        "Anomalous images without a mask: 1 (a.png); pixel metrics rest on 5 of 8 anomalous images."
    )
    assert looks[0].share == pytest.approx(DISC.mean())


COUNTS = ("anomalous", "used")


def test_masks_like_any_other_need_no_word():
    assert summarize_masks([], [], []).sentences() == []
