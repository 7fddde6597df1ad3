"""A folder of results holds those of one run, and each image says which are its own."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cli_files import assert_failed, json_lines, run
from oddsight.errors import OddsightError
from oddsight.runtime.files import lock_folder
from oddsight.runtime.result_files import fill_folder, is_result, write_result
from oddsight.sinks.image_names import distinct_names
from tiny_model import tiny_model

FOLDERS = ("maps", "why", "found")


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((5, 4, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


CONTENTS = {".png": png(7), ".geojson": b'{"type": "FeatureCollection", "features": []}\n', ".tif": b"II*\0\x08\0\0\0"}


@pytest.mark.parametrize("suffix", CONTENTS)
def test_a_result_is_known_until_it_is_changed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(CONTENTS[suffix])
    assert not is_result(path)
    write_result(path, CONTENTS[suffix])
    assert is_result(path)
    whole = path.read_bytes()
    shutil.copy(path, tmp_path / f"copy{suffix}")
    assert is_result(tmp_path / f"copy{suffix}")
    (tmp_path / f"link{suffix}").symlink_to(path)
    assert not is_result(tmp_path / f"link{suffix}")
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not is_result(path), place
    for changed in (whole + b"\n", whole[:-1], b"", whole[:3]):
        path.write_bytes(changed)
        assert not is_result(path)


def test_sealed_files_are_read_as_others(tmp_path):
    for suffix, content in CONTENTS.items():
        write_result(tmp_path / f"a{suffix}", content)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.full((5, 4, 3), 7))
    Image.open(tmp_path / "a.png").verify()
    found = json.loads((tmp_path / "a.geojson").read_bytes())
    assert found == json.loads(CONTENTS[".geojson"]) | {"oddsight": found["oddsight"]}


def test_only_results_of_earlier_runs_go(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        write_result(tmp_path / name, png(1))
    (tmp_path / "own.png").write_bytes(png(2))
    (tmp_path / "notes.txt").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "sub" / "c.png")
    (tmp_path / "b.png").write_bytes(png(3))
    with fill_folder(tmp_path, "heat maps") as removed:
        assert removed == 1
        with pytest.raises(OddsightError, match="another run is writing regions"), fill_folder(tmp_path, "regions"):
            pass
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["b.png", "link.png", "notes.txt", "own.png", "sub", "sub/c.png"]


PARTS = st.sampled_from(["a", "A", "b", "ä", "a\u0308", "a_b", "000"])


@given(st.lists(st.tuples(PARTS, PARTS, PARTS, st.sampled_from([".png", ".jpg", ".PNG"])), max_size=12, unique=True))
def test_names_of_images_differ_and_depend_on_no_order(images):
    paths = [Path("/", *parts[:-1]).with_suffix(parts[-1]) for parts in images]
    names = distinct_names(paths)
    assert names.keys() == {str(path) for path in paths}
    assert len({name.lower() for name in names.values()}) == len(paths)
    assert all(len(os.fsencode(name)) < 240 and "/" not in name for name in names.values())


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.png", "x/b.png"], ["a", "b"]),
        (["good/rgb/0.png", "bent/rgb/0.png"], ["good_rgb_0", "bent_rgb_0"]),
        (["good/0.png", "bent/0.png", "bent/1.png"], ["good_0", "bent_0", "1"]),
        (["a.png", "a.jpg"], ["a.png", "a.jpg"]),
        (["x/a.png", "x/A.png"], ["a", "A_2"]),
        (["x/a.png", "y/a.png", "x_a.png"], ["x_a_2", "y_a", "x_a"]),
        (["../a.png", "/a.png"], ["a", "a_2"]),
        (["x/" + "é" * 200 + ".png"], ["é" * 110]),
    ],
)
def test_names_say_whose_they_are(paths, names):
    found = distinct_names(map(Path, paths))
    assert [found[str(Path(path))] for path in paths] == names


@pytest.fixture
def world(tmp_path):
    """A model that takes bright images for anomalous, and two folders of images of the same names."""
    tiny_model().save(tmp_path / "m.onnx")
    for folder, shade in (("dark", 5), ("bright", 250)):
        for number in range(2):
            place = tmp_path / "images" / folder / "rgb" / f"{number:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), shade + number, np.uint8)).save(place)
    return tmp_path


def predict(world, *options):
    folders = [
        word
        for name in FOLDERS
        for word in ({"maps": "--maps", "why": "--explain", "found": "--regions"}[name], world / name)
    ]
    return run("predict", world / "m.onnx", world / "images", *folders, "--json", world / "lines", *options)


def listing(world):
    return {name: sorted(path.name for path in (world / name).iterdir()) for name in FOLDERS}


@pytest.mark.slow
def test_each_image_names_its_files(world):
    assert predict(world).code == 0
    rows = {row["path"]: row for row in json_lines(world / "lines")}
    named = [Path(path) for row in rows.values() for path in row["files"].values()]
    assert sorted(named) == sorted(path for name in FOLDERS for path in (world / name).iterdir())
    assert len(set(named)) == len(named)
    dark, bright = (rows[str(world / "images" / kind / "rgb" / "000.png")] for kind in ("dark", "bright"))
    assert dark["files"] == {"map": str(world / "maps" / "dark_rgb_000.png")}
    assert bright["files"] == {
        "map": str(world / "maps" / "bright_rgb_000.png"),
        "explanation": str(world / "why" / "bright_rgb_000.png"),
        "outline": str(world / "found" / "bright_rgb_000.geojson"),
        "mask": str(world / "found" / "bright_rgb_000-mask.png"),
    }
    assert "files" not in run("predict", world / "m.onnx", world / "images", "--json", "-").lines[0]


@pytest.mark.slow
def test_nothing_of_an_earlier_run_stays(world):
    predict(world)
    (world / "why" / "own.png").write_bytes(png(1))
    before = listing(world)
    outcome = predict(world, "--threshold", 1000)
    assert outcome.code == 0
    assert listing(world) == {"maps": before["maps"], "why": ["own.png"], "found": []}
    assert f"removed 2 files of an earlier run from {world / 'why'}\n" in outcome.err
    assert f"removed 4 files of an earlier run from {world / 'found'}\n" in outcome.err
    assert predict(world, "--threshold", 1000, "--quiet").err == ""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["model", "images", "threshold", "used"])
def test_a_run_that_cannot_start_removes_nothing(world, fault):
    predict(world)
    before = listing(world)
    options = ["--maps", world / "maps"]
    if fault == "used":
        with lock_folder(world / "maps"):
            assert_failed(run("predict", world / "m.onnx", world / "images", *options), "another run")
    else:
        model = world / ("missing.onnx" if fault == "model" else "m.onnx")
        images = world / ("maps" if fault == "images" else "images")
        options += ["--false-alarm-rate", "0.000001"] if fault == "threshold" else []
        assert run("predict", model, images, *options).code == 1
    assert listing(world) == before


@pytest.mark.slow
def test_a_link_to_what_is_in_the_folder_keeps_it(world):
    predict(world)
    (world / "linked").mkdir()
    (world / "linked" / "x.png").symlink_to(world / "maps" / "dark_rgb_000.png")
    outcome = run("predict", world / "m.onnx", world / "linked", "--maps", world / "maps")
    assert_failed(outcome, "they could replace the images there")
    assert (world / "maps" / "dark_rgb_000.png").exists()


@pytest.mark.slow
def test_links_in_the_folder_are_not_followed(world):
    own = world / "own"
    own.write_bytes(b"own")
    (world / "maps").mkdir()
    (world / "maps" / "dark_rgb_000.png").symlink_to(own)
    assert predict(world).code == 0
    assert own.read_bytes() == b"own"
    assert not (world / "maps" / "dark_rgb_000.png").is_symlink()
