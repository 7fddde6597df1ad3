"""Finding images in folders, by name and by pattern."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import oddsight
from oddsight.data.collection import ImageFile
from oddsight.data.folder import find_images
from oddsight.data.formats import IMAGE_SUFFIXES
from oddsight.data.grouping import group_images
from oddsight.errors import OddsightError
from tiny_model import tiny_model


@pytest.fixture
def make(tmp_path):
    def make_files(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make_files


def names(found, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found.images]


def problems(found) -> dict[str, str]:
    return {Path(problem.path).name: problem.reason for problem in found.problems}


def test_a_folder_is_searched_to_its_depths_in_the_order_of_path_bytes(make):
    root = make("b.png", "a/z.jpg", "a/b/c.TIF", "a.png", "a-b/x.webp", "B.png", "é.png", "a/10.png", "a/9.png")
    expected = ["B.png", "a-b/x.webp", "a.png", "a/10.png", "a/9.png", "a/b/c.TIF", "a/z.jpg", "b.png", "é.png"]
    found = find_images(root)
    assert names(found, root) == expected
    assert (found.ignored, found.problems) == (0, ())
    assert all(isinstance(path, Path) for path in found.images)
    assert find_images(str(root)) == found


def test_every_image_suffix_counts_in_either_case(make):
    root = make(*(f"{i}{suffix}" for i, suffix in enumerate(IMAGE_SUFFIXES)))
    make(*(f"upper{i}{suffix.upper()}" for i, suffix in enumerate(IMAGE_SUFFIXES)))
    assert len(find_images(root).images) == 2 * len(IMAGE_SUFFIXES)


@pytest.mark.parametrize(
    "other",
    [
        *("notes.txt", "README", "Thumbs.db", "a.png.part", "png", ".png", ".hidden.png", ".DS_Store"),
        *(".cache/a.png", "__MACOSX/a.png", "sub/.git/deep/er/a.png"),
    ],
)
def test_other_files_are_ignored_and_counted(make, other):
    root = make("a.png", other)
    found = find_images(root)
    assert names(found, root) == ["a.png"]
    assert (found.ignored, found.problems) == (1, ())


def test_a_folder_may_itself_be_hidden_or_called_like_an_image(make):
    root = make(".hidden/a.png", "folder.png/b.png")
    assert names(find_images(root / ".hidden"), root) == [".hidden/a.png"]
    assert names(find_images(root), root) == ["folder.png/b.png"]


def test_a_file_that_is_named_counts_whatever_its_suffix(make):
    root = make("a.png", "scan.dat", ".hidden.png")
    found = find_images(root / "scan.dat", root / ".hidden.png", root / "a.png")
    assert names(found, root) == ["scan.dat", ".hidden.png", "a.png"]
    assert found.ignored == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_file_that_is_named_is_not_ignored_as_well(make, order):
    root = make("a.png", "scan.dat")
    paths = (root, root / "scan.dat")
    found = find_images(*(paths[i] for i in order))
    assert sorted(names(found, root)) == ["a.png", "scan.dat"]
    assert found.ignored == 0


def test_what_is_named_twice_counts_once(make, monkeypatch):
    root = make("a.png", "sub/b.png", "c.txt")
    monkeypatch.chdir(root)
    found = find_images("sub", root, "a.png", "./a.png", "sub/../a.png", root / "a.png", "**/*.png", root, ".")
    assert [path.name for path in found.images] == ["b.png", "a.png"]
    assert (found.ignored, found.problems) == (1, ())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png", "b.png"]),
        ("?.png", ["a.png", "b.png"]),
        ("[a].png", ["a.png"]),
        ("*/*.png", ["x/c.png", "y/d.png"]),
        ("**/*.png", ["a.png", "b.png", "x/c.png", "x/z/e.png", "y/d.png"]),
        ("**/e.*", ["x/z/e.png"]),
        ("x*", ["x/c.png", "x/z/e.png"]),
        ("**", ["a.png", "b.png", "x/c.png", "x/z/e.png", "y/d.png"]),
    ],
)
def test_patterns(make, pattern, expected):
    root = make("b.png", "a.png", "x/c.png", "x/z/e.png", "y/d.png", ".h.png", "__MACOSX/q.jpg")
    found = find_images(root / pattern)
    assert names(found, root) == expected
    assert found.problems == ()


def test_matches_of_a_pattern_are_ignored_like_the_files_of_a_folder(make):
    root = make("a.png", "b.txt", "sub/c.txt", "sub/d.png", "__MACOSX/e.png")
    assert find_images(root / "*").ignored == find_images(root / "**").ignored == find_images(root).ignored == 3
    assert names(find_images(root / "*"), root) == ["a.png", "sub/d.png"]


def test_a_file_whose_name_looks_like_a_pattern(make):
    root = make("part[1].png", "part1.png")
    assert names(find_images(root / "part[1].png"), root) == ["part[1].png"]


def test_what_is_not_there_is_a_problem_and_the_rest_is_found(make):
    root = make("a.png")
    found = find_images(root / "missing", root / "*.jpg", root, "", "nul\0byte")
    assert names(found, root) == ["a.png"]
    assert [problem.reason for problem in found.problems] == [
        "no such file or folder",
        "no file matches this pattern",
        "no such file or folder",
        "no such file or folder",
    ]
    assert found.problems[0].path == str(root / "missing")


def test_nothing_in_nothing_out(tmp_path):
    assert find_images().images == find_images(tmp_path).images == ()
    assert find_images(tmp_path).problems == ()


def test_an_unreadable_folder_is_a_problem(make, monkeypatch):
    root = make("a.png", "locked/b.png", "z/c.png")
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = find_images(root)
    assert names(found, root) == ["a.png", "z/c.png"]
    assert problems(found) == {"locked": "the folder cannot be read: Permission denied"}


def test_links_to_files_and_folders_are_followed(make, tmp_path_factory):
    root = make("a.png")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "b.png").touch()
    (root / "folder").symlink_to(outside)
    (root / "link.png").symlink_to(outside / "b.png")
    assert names(find_images(root), root) == ["a.png", "folder/b.png", "link.png"]


def test_loops_end(make):
    root = make("a/x.png", "a/b/y.png")
    (root / "a" / "b" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(".")
    (root / "loop").symlink_to("loop")
    (root / "ping").symlink_to("pong")
    (root / "pong").symlink_to("ping")
    found = find_images(root)
    assert names(found, root) == ["a/b/y.png", "a/x.png"]
    assert (found.ignored, found.problems) == (3, ())


def test_a_folder_with_two_names_goes_by_its_own(make):
    root = make("real/x.png", "zzz/y.png")
    (root / "alias").symlink_to("real")
    (root / "zzzz").symlink_to("zzz")
    assert names(find_images(root), root) == ["real/x.png", "zzz/y.png"]


def test_a_broken_link_is_a_problem_if_it_looks_like_an_image(make):
    root = make("a.png")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "gone.txt").symlink_to("nowhere.txt")
    found = find_images(root)
    assert names(found, root) == ["a.png"]
    assert found.ignored == 1
    reason = "a link to a file that does not exist"
    assert problems(found) == {"gone.png": reason, "loop.png": reason}
    assert problems(find_images(root / "gone.txt")) == {"gone.txt": reason}


@pytest.mark.parametrize("name", [b"new\nline.png", b"not-utf-8-\xff.png"])
def test_unusual_names(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system refuses the name")
    for given in (tmp_path, path, f"{tmp_path}/*"):
        assert find_images(given).images == (path,)


def test_names_that_are_not_utf_8_are_in_order(tmp_path):
    private, undecodable = "\ue000.png", os.fsdecode(b"\xff.png")  # in order as bytes, not as strings
    try:
        (tmp_path / undecodable).touch()
    except OSError:
        pytest.skip("this file system refuses the name")
    (tmp_path / private).touch()
    assert [path.name for path in find_images(tmp_path).images] == [private, undecodable]


def test_a_name_that_no_file_can_have_is_one_clear_error(tmp_path):
    """As a list of names from elsewhere may hold one; on the command line it cannot be."""
    name, model, image = "a\0b", tiny_model(), np.zeros((32, 32, 3), np.uint8)
    assert problems(find_images(name)) == {name: "no such file or folder"}
    for use in (
        lambda: oddsight.fit(name, method="knn"),
        lambda: oddsight.evaluate(model, name),
        lambda: oddsight.evaluate(model, normal=name, anomalous=name),
        lambda: oddsight.write_tiles(image, name, tile=16),
        lambda: model.save(name),
        lambda: model.predict(name),
        lambda: group_images([ImageFile(tmp_path / "a.png", "0", 1, 1)], f"{name}.csv"),
    ):
        with pytest.raises(OddsightError, match=name):
            use()
