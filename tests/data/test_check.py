"""Checking a folder: counts, unreadable files, duplicates, empty and blurred images, and give-aways."""

from __future__ import annotations

import itertools
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from oddsight.data.check import check
from oddsight.data.collection import collect
from oddsight.data.grouping import group_images
from oddsight.errors import DataError

RANDOM = np.random.default_rng(0)


def scene(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """An image with structure large and small, unlike that of any other seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))
    noise = random.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    """A folder into which a call ``folder("a/b.png", image)`` puts an image, a new one by default."""
    seeds = itertools.count()

    class Folder:
        path = tmp_path

        def __call__(self, *names: str, image: Image.Image | None = None, **options) -> Path:
            for name in names:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (image or scene(next(seeds))).save(tmp_path / name, **options)
            return tmp_path

    return Folder()


def test_counts_of_every_subfolder(folder):
    folder("a.png", "good/b.png", "good/c.jpg", "good/deep/d.bmp")
    folder("good/e.png", image=scene(90, 30, 20).convert("L"))
    folder("good/f.png", image=Image.fromarray(RANDOM.integers(0, 65536, (20, 30), dtype=np.uint16)))
    (folder.path / "good" / "notes.txt").touch()
    (folder.path / "good" / "broken.png").write_bytes(b"?")
    (folder.path / "empty").mkdir()
    report = check(folder.path)
    assert (report.folder, report.images, report.ignored) == (str(folder.path), 7, 1)
    assert [(sub.path, sub.images, sub.unreadable) for sub in report.subfolders] == [
        (".", 1, 0),
        ("good", 5, 1),
        ("good/deep", 1, 0),
    ]
    good = report.subfolders[1].kinds
    assert good.sizes == {"30 x 20": 2, "64 x 48": 2}
    assert good.modes == {"RGB": 2, "I;16": 1, "L": 1} or good.modes == {"RGB": 2, "I": 1, "L": 1}
    assert good.bit_depths == {"8": 3, "16": 1}
    assert good.formats == {"PNG": 3, "JPEG": 1}
    assert report.kinds.width == (30, 64.0, 64)
    assert report.kinds.height == (20, 48.0, 48)
    assert list(report.kinds.sizes) == ["64 x 48", "30 x 20"]
    assert report.kinds.formats == {"PNG": 4, "BMP": 1, "JPEG": 1}


def test_only_the_commonest_sizes_are_listed(folder):
    for width in (*range(20, 30), 25, 25):
        folder(f"{width}-{len(list(folder.path.iterdir()))}.png", image=scene(width, width, 20))
    sizes = check(folder.path).kinds.sizes
    assert len(sizes) == 5 and next(iter(sizes.items())) == ("25 x 20", 3)


def test_unreadable_files_are_listed_with_their_reasons(folder):
    folder("a.png", "cut.png")
    (folder.path / "empty.png").touch()
    (folder.path / "text.jpg").write_text("no image")
    (folder.path / "cut.png").write_bytes((folder.path / "cut.png").read_bytes()[:200])
    (folder.path / "sub").mkdir()
    (folder.path / "sub" / "gone.png").symlink_to("nowhere.png")
    report = check(folder.path)
    reasons = {entry.path: entry.reason for entry in report.unreadable}
    assert list(reasons) == ["sub/gone.png", "cut.png", "empty.png", "text.jpg"]
    assert reasons["empty.png"] == "empty file"
    assert reasons["sub/gone.png"] == "a link to a file that does not exist"
    assert reasons["cut.png"].startswith("truncated or damaged")
    assert report.images == 4


def test_a_folder_of_nothing_readable(tmp_path):
    (tmp_path / "a.png").touch()
    report = check(tmp_path)
    assert [entry.path for entry in report.unreadable] == ["a.png"]
    assert report.kinds.width is None and report.kinds.modes == {}
    assert report.notes == report.blurred == report.near_duplicates == ()


def test_exact_duplicates_in_any_format(folder):
    same = scene(1000)
    folder("a/one.png", "a/two.bmp", "b/three.tif", image=same)
    folder("a/x.png", "a/y.png", image=scene(1001))
    folder("a/other.png", "b/another.png")
    report = check(folder.path)
    assert [(group.paths, group.crosses_subfolders) for group in report.duplicates] == [
        (("a/one.png", "a/two.bmp", "b/three.tif"), True),
        (("a/x.png", "a/y.png"), False),
    ]
    assert report.near_duplicates == ()


def test_near_duplicates(folder):
    image = scene(2000, 640, 480)
    folder("a/original.png", "a/same.bmp", image=image)
    folder("a/recompressed.jpg", image=image, quality=60)
    folder("b/smaller.png", image=image.resize((320, 240)))
    folder(*(f"b/{i}.png" for i in range(10)))
    report = check(folder.path)
    assert [(group.paths, group.crosses_subfolders) for group in report.near_duplicates] == [
        (("a/original.png", "a/recompressed.jpg", "b/smaller.png"), True)
    ]
    assert [group.paths for group in report.duplicates] == [("a/original.png", "a/same.bmp")]


def test_near_duplicates_are_what_a_fit_keeps_together(folder):
    for number in range(4):
        image = scene(3000 + number)
        for quality in range(60, 60 + 10 * number, 10):
            folder(f"{number}-{quality}.jpg", image=image, quality=quality)
    folder(*(f"{i}.png" for i in range(10)))
    groups: dict[str, set[str]] = {}
    for one in group_images(collect(folder.path).images):
        groups.setdefault(one.unit, set()).add(one.path.name)
    found = [set(group.paths) for group in check(folder.path).near_duplicates]
    assert sorted(map(sorted, found)) == sorted(sorted(group) for group in groups.values() if len(group) > 1)
    assert len(found) == 2


def test_nearly_empty_images(folder):
    random = np.random.default_rng(3)
    folder("plain.png", image=Image.new("RGB", (64, 48), "grey"))
    folder("faint.png", image=Image.fromarray(random.integers(100, 106, (48, 64), dtype=np.uint8)))  # deviation 1.7
    folder("weak.png", image=Image.fromarray(random.integers(100, 109, (48, 64), dtype=np.uint8)))  # deviation 2.6
    folder("dot.png", image=Image.new("RGB", (1, 1)))
    folder("a.png", "b.png")
    report = check(folder.path)
    assert report.nearly_empty == ("dot.png", "faint.png", "plain.png")


def test_blurred_images(folder):
    folder(*(f"{i}.png" for i in range(10)))
    folder("unsharp.png", image=scene(500).filter(ImageFilter.GaussianBlur(4)))
    folder("large.png", image=scene(501).resize((1024, 768), Image.Resampling.NEAREST))
    folder("tiny.png", image=Image.fromarray(RANDOM.integers(0, 256, (2, 500), dtype=np.uint8)))
    folder("plain.png", image=Image.new("RGB", (64, 48)))
    assert check(folder.path).blurred == ("unsharp.png",)


@pytest.mark.parametrize("blur", [0, 4])
def test_sharpness_is_relative_to_the_folder(folder, blur):
    for i in range(6):
        folder(f"{i}.png", image=scene(i).filter(ImageFilter.GaussianBlur(blur)))
    assert check(folder.path).blurred == ()


# ---- What could give a class away ----


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("size", ("{}.png", {"image": scene(1, 65, 48)})),
        ("colour mode", ("{}.png", {"image": scene(1).convert("L")})),
        ("colour mode", ("{}.png", {"image": scene(1).convert("RGBA")})),
        ("format", ("{}.jpg", {"image": scene(1)})),
        ("bit depth", ("{}.png", {"image": Image.fromarray(np.asarray(scene(1).convert("L")).astype(np.uint16))})),
    ],
)
def test_a_note_where_subfolders_differ(folder, what, other):
    folder(*(f"good/{i}.png" for i in range(6)))
    name, options = other
    folder(*(f"bad/{name.format(i)}" for i in range(3)), **options)
    assert check(folder.path).notes == ()  # three are too few
    folder(*(f"bad/{name.format(i)}" for i in range(3, 6)), **options)
    notes = [note for note in check(folder.path).notes if note.startswith(f"the {what} alone could give")]
    assert len(notes) == 1
    assert "100% of the images of " in notes[0] and "0% of those of " in notes[0]
    assert "good" in notes[0] and "bad" in notes[0]


@pytest.mark.parametrize(("jpegs_among_ten", "noted"), [(4, False), (5, True)])
def test_a_note_from_a_difference_of_a_half(folder, jpegs_among_ten, noted):
    folder(*(f"good/{i}.png" for i in range(10)))
    folder(*(f"bad/{i}.{'jpg' if i < jpegs_among_ten else 'png'}" for i in range(10)))
    notes = check(folder.path).notes
    assert bool(notes) == noted
    assert all("the format alone" in note and "50%" in note for note in notes)


@pytest.mark.parametrize(("least", "noted"), [(40, False), (80, True)])
def test_a_note_where_no_two_images_are_of_one_size(folder, least, noted):
    for i in range(12):
        folder(f"good/{i}.png", image=scene(i, 40 + 2 * i, 40))
        folder(f"bad/{i}.png", image=scene(i + 50, least + 2 * i + 1, 40))
    notes = check(folder.path).notes
    assert bool(notes) == noted
    assert all(note.startswith("the size alone could give") and "of the images of good" in note for note in notes)


def test_no_note_where_subfolders_are_alike(folder):
    folder(*(f"{sub}/{i}.{suffix}" for sub in ("good", "bad") for i in range(4) for suffix in ("png", "jpg")))
    assert check(folder.path).notes == ()


def test_a_note_on_frames_and_pages(folder):
    folder("a.gif", image=scene(1), save_all=True, append_images=[scene(2)])
    folder("b.gif")
    assert check(folder.path).notes == ("1 files have several frames or pages, of which only the first is read",)


def test_images_that_are_all_alike_are_no_near_duplicates(folder):
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 16, (48, 64, 3), dtype=np.uint8)
        folder(f"{i}.png", image=Image.fromarray(np.asarray(scene(7)) ^ noise))
    assert check(folder.path).near_duplicates == ()


# ---- The run ----


def test_progress(folder):
    root = folder(*(f"{i}.png" for i in range(30)))
    (root / "broken.png").touch()
    calls = []
    check(root, progress=lambda done, total: calls.append((done, total, threading.current_thread())))
    assert calls == [(done, 31, threading.main_thread()) for done in range(1, 32)]


def test_an_error_in_progress_ends_the_check(folder):
    root = folder(*(f"{i}.png" for i in range(30)))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(root, progress=stop)


def test_the_report_does_not_depend_on_the_number_of_threads(folder, monkeypatch):
    folder(*(f"{i}.png" for i in range(20)))
    reports = []
    for threads in (1, 8):
        monkeypatch.setattr("oddsight.runtime.parallel.cores", lambda threads=threads: threads)
        reports.append(check(folder.path))
    assert reports[0] == reports[1]


def test_folders_that_cannot_be_checked(folder):
    with pytest.raises(DataError, match="no such folder"):
        check(folder.path / "missing")
    with pytest.raises(DataError, match="is a file, not a folder"):
        check(folder("a.png") / "a.png")


def test_folders_without_images(tmp_path):
    with pytest.raises(DataError, match=r"^no images in [^(]*$"):
        check(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"no images in .* \(1 other file is ignored\)$"):
        check(tmp_path)
    (tmp_path / "b.txt").touch()
    with pytest.raises(DataError, match=r"no images in .* \(2 other files are ignored\)$"):
        check(tmp_path)


def test_json(folder):
    same = scene(5)
    folder("a/x.png", "b/y.bmp", image=same)
    name = os.fsdecode(b"b/not-utf-8-\xff\n.png")
    try:
        (folder.path / name).touch()
    except OSError:
        name = "b/plain.png"
        (folder.path / name).touch()
    content = check(folder.path).to_json()
    assert json.loads(json.dumps(content)) == content
    assert content["duplicates"] == [{"paths": ["a/x.png", "b/y.bmp"], "crosses_subfolders": True}]
    assert content["unreadable"] == [{"path": name, "reason": "empty file"}]
    assert content["kinds"]["width"] == [64, 64.0, 64]
    assert [sub["path"] for sub in content["subfolders"]] == ["a", "b"]
