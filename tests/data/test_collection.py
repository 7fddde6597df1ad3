"""Collections, and how they are divided: by content, never by name or order."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from oddsight.data.collection import ImageFile, collect, folds, pack, seen, split
from oddsight.data.images import content_hash, read_image
from oddsight.errors import DataError, ImageError
from textures import texture, write_textures

CONTENTS = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=1, max_size=60, unique=True)


def files(contents):
    return [ImageFile(Path(f"{number}.png"), content, 1, 1) for number, content in enumerate(contents)]


def contents(images):
    return [image.content for image in images]


def renamed(images, random):
    """The same contents under other names, in another order."""
    names = random.sample(range(1000), len(images))
    again = [ImageFile(Path(f"x{n}.tif"), i.content, 1, 1) for n, i in zip(names, images, strict=True)]
    return random.sample(again, len(again))


@given(CONTENTS, st.floats(0, 0.999), st.integers(0, 5), st.randoms())
def test_a_split_depends_on_contents_only(hashes, fraction, seed, random):
    images = files(hashes)
    training, held = split(images, fraction, seed)
    assert sorted(contents(training) + contents(held)) == sorted(hashes)
    exact = fraction * len(hashes)
    assert exact - 1e-6 <= len(held) < exact + 1
    assert contents(training) == sorted(contents(training))
    assert contents(held) == sorted(contents(held))
    again = split(renamed(images, random), fraction, seed)
    assert [contents(side) for side in again] == [contents(training), contents(held)]


@pytest.mark.parametrize(("fraction", "count", "held"), [(0.1, 10, 1), (0.3, 10, 3), (0.25, 60, 15), (0.25, 61, 16)])
def test_a_share_that_is_whole_is_not_rounded_up(fraction, count, held):
    images = files([f"{number:064x}" for number in range(count)])
    assert len(split(images, fraction, 0)[1]) == held


@given(CONTENTS, st.integers(1, 10), st.integers(0, 5), st.randoms())
def test_folds_divide_evenly_by_content(hashes, count, seed, random):
    images = files(hashes)
    parts = folds(images, count, seed)
    assert len(parts) == count
    assert sorted(content for part in parts for content in contents(part)) == sorted(hashes)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(contents(part) == sorted(contents(part)) for part in parts)
    assert [contents(part) for part in folds(renamed(images, random), count, seed)] == [contents(p) for p in parts]


def test_another_seed_divides_otherwise():
    images = files([f"{number:064x}" for number in range(40)])
    assert len({tuple(contents(split(images, 0.5, seed)[1])) for seed in range(20)}) == 20
    assert len({str([contents(p) for p in folds(images, 4, seed)]) for seed in range(20)}) == 20


def test_every_image_is_held_out_by_some_seed():
    images = files([f"{number:064x}" for number in range(20)])
    times = dict.fromkeys(contents(images), 0)
    for seed in range(400):
        for content in contents(split(images, 0.25, seed)[1]):
            times[content] += 1
    # Binomial(400, 1/4): 100 expected, standard deviation 8.7.
    assert 60 < min(times.values()) <= max(times.values()) < 140


@given(CONTENTS, CONTENTS)
def test_packed_images_are_recognised(inside, outside):
    known = seen(pack(files(inside)))
    assert all(known(content) for content in inside)
    starts = {content[:16] for content in inside}
    assert [known(content) for content in outside] == [content[:16] in starts for content in outside]
    assert pack(files(inside[::-1])) == pack(files(inside))
    assert not seen(pack([]))(inside[0])


@pytest.fixture
def mixed(tmp_path):
    """Three images, copies of two of them, a broken one, one that is no image, and one linked to nowhere."""
    write_textures(tmp_path, range(3))
    (tmp_path / "sub").mkdir()
    shutil.copy(tmp_path / "00000.png", tmp_path / "sub" / "copy.png")
    Image.open(tmp_path / "00001.png").save(tmp_path / "other format.tif")
    (tmp_path / "broken.png").write_bytes((tmp_path / "00002.png").read_bytes()[:400])
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    return tmp_path


def test_collecting_sorts_out(mixed):
    calls = []
    found = collect(mixed, progress=lambda *call: calls.append(call))
    assert contents(found.images) == sorted(content_hash(texture(seed)) for seed in range(3))
    assert [(image.width, image.height) for image in found.images] == [(96, 96)] * 3
    assert {image.path.name for image in found.images} == {"00000.png", "00001.png", "00002.png"}
    assert {image.path.name for image in found.duplicates} == {"copy.png", "other format.tif"}
    assert {Path(error.path).name for error in found.errors} == {"broken.png", "gone.png"}
    assert found.ignored == 1
    assert calls == [("reading", done, 6) for done in range(1, 7)]
    for image in found.images:
        assert np.array_equal(image.read(), read_image(image.path))


def test_the_fingerprint_is_of_the_images(mixed, tmp_path_factory):
    found = collect(mixed)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for seed, name in ((2, "a.bmp"), (0, "b.tif"), (1, "c.png")):
        Image.fromarray(texture(seed)).save(elsewhere / name)
    assert collect(elsewhere).fingerprint == found.fingerprint
    assert contents(collect(elsewhere).images) == contents(found.images)
    Image.fromarray(texture(9)).save(elsewhere / "d.png")
    assert collect(elsewhere).fingerprint != found.fingerprint


def test_a_image_that_changes_while_in_use_is_an_error(tmp_path):
    [path] = write_textures(tmp_path, range(1))
    [image] = collect(tmp_path).images
    Image.fromarray(texture(5)).save(path)
    with pytest.raises(ImageError, match="changed while it was in use"):
        image.read()
    path.unlink()
    with pytest.raises(ImageError, match="no such file"):
        image.read()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"no images in .*folder$"),
        (["a.txt", "b.txt"], r"\(2 other files are ignored\)"),
        (["a.png"], "a.png: empty file"),
        (["a.png", "b.png"], "none of 2 files could be read; the first is .*a.png: empty file"),
        (None, "no such file or folder"),
    ],
)
def test_nothing_to_collect_is_an_error_that_says_why(tmp_path, names, message):
    folder = tmp_path / "folder"
    if names is not None:
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    with pytest.raises(DataError, match=message) as error:
        collect(folder)
    assert str(error.value).isprintable()
