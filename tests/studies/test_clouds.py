"""The study of clouds: nothing leaks from one side to the other, its numbers are right, and it goes on where it was."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as reference

import oddsight
from cli_files import run
from cloud_files import scene, write_scenes
from oddsight.cli.application import numbers_by_name
from oddsight.data.collection import ImageFile
from oddsight.errors import DataError, OddsightError
from oddsight.studies.clouds import cells, study
from oddsight.studies.clouds.scenes import read_scenes, sides, split
from oddsight.studies.clouds.tables import three_ways
from tiny_model import tiny_model

pytestmark = pytest.mark.slow
"""The study runs once for all of them, and that takes longer than the rest of the quick suite."""

COUNTS = {"cloudy": 60, "sand": 50, "sea": 44}


def made_up(name, count):
    contents = [hashlib.sha256(f"{name} {number}".encode()).hexdigest() for number in range(count)]
    return [ImageFile(Path(f"{content}.png"), content, 64, 64) for content in contents]


def every(scenes):
    return [image for images in scenes.classes.values() for image in images]


def rows_of(folder, name):
    return list(csv.DictReader((folder / name).open()))


@given(
    counts=st.lists(st.integers(20, 90), min_size=2, max_size=5),
    seed=st.integers(0, 9),
    backwards=st.booleans(),
)
def test_no_scene_serves_twice_and_counts_are_balanced(counts, seed, backwards):
    classes = {f"class {number}": made_up(number, count) for number, count in enumerate(counts)}
    for side in sides(list(classes), "class 0", ["class 0", "clear", "class 1"]):
        found = split(side, classes, seed)
        every = [image.content for image in (*found.trained, *found.test)]
        assert len(set(every)) == len(every)
        own = {image.content: name for name, images in classes.items() for image in images}
        assert {own[image.content] for image in (*found.trained, *found.normal)} == set(side.normal)
        for part in (found.trained, found.normal):
            tally = [sum(own[image.content] == name for image in part) for name in side.normal]
            assert len(set(tally)) == 1
        assert {len(images) for images in found.anomalous.values()} == {len(found.normal)}
        assert set(found.anomalous) == set(side.anomalous)
        assert len(found.trained) - found.calibration >= 8
        if backwards:
            turned = {name: images[::-1] for name, images in classes.items()}
            assert split(side, turned, seed).fingerprint == found.fingerprint
        assert split(side, classes, seed + 1).fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], [("cloudy", ("cloudy",), ("cloudy", "clear")), ("clear", ("sand", "sea"), ("clear", "cloudy"))]),
        (["sand", "sand"], [("sand", ("sand",), ("sand", "not sand"))]),
    ],
)
def test_sides(asked, expected):
    found = sides(["cloudy", "sand", "sea"], "cloudy", asked)
    assert [(one.name, one.normal, one.verdicts) for one in found] == expected
    assert all({*one.normal, *one.anomalous} == {"cloudy", "sand", "sea"} for one in found)


def test_scenes_come_in_one_size_and_every_image_once(tmp_path):
    data = write_scenes(tmp_path / "data", {"cloudy": 3, "sand": 3, "sea": 3})
    pixels = scene("cloudy", 0)
    Image.fromarray(pixels).save(data / "cloudy" / "again.bmp")  # the same in another format
    large = np.kron(scene("sand", 0), np.ones((4, 4, 1), np.uint8))
    Image.fromarray(large).save(data / "sand" / "larger.png")  # the same at four times the size
    Image.fromarray(scene("sea", 1)).save(data / "sand" / "sea.png")  # in two classes
    Image.fromarray(scene("sea", 9)).convert("CMYK").save(data / "sea" / "inks.tif")
    (data / "sea" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (data / "notes").mkdir()
    found = read_scenes(data, tmp_path / "work", size=24)
    assert {name: len(images) for name, images in found.classes.items()} == {"cloudy": 3, "sand": 3, "sea": 3}
    assert found.facts.duplicates == {"cloudy": 1, "sand": 1, "sea": 0}
    assert found.facts.shared == 1
    assert found.facts.sizes["sand"] == {(24, 24): 4, (96, 96): 1}
    assert len(found.facts.errors) == 1
    assert "broken.png" in found.facts.errors[0]
    assert {image.read().shape for image in every(found)} == {(24, 24, 3)}
    other = read_scenes(data, tmp_path / "work", size=16, limit=2)
    assert {len(images) for images in other.classes.values()} == {2}
    assert {image.read().shape for image in every(other)} == {(16, 16, 3)}


def test_three_ways_to_a_threshold():
    training, calibration = np.float32([1, 2, 3]), np.arange(99, dtype=np.float32)
    found = three_ways(training, calibration, 0.02, 0.05)
    assert found["by hand"] == (0.02, None)
    assert found["mean + 3 sd"] == (pytest.approx(2 + 3 * np.std([1, 2, 3])), None)
    # 5 of 100 ranks may be above.
    assert found["conformal"] == (94, 0.05)
    assert three_ways(training, calibration[:9], 0.02, 0.05)["conformal"] == (8, 0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_scenes(tmp_path_factory.mktemp("clouds") / "data", COUNTS)
    (folder / "sea" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    Image.fromarray(scene("cloudy", 0)).save(folder / "cloudy" / "twice.png")
    return folder


@pytest.fixture(scope="module")
def options(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("clouds") / "out"
    chosen = ["--methods", "mahalanobis,knn", "--ship", "knn", "--seeds", "0,1", "--size", 24, "--severity-methods"]
    return ["study", "clouds", "--data", data, "-o", out, *chosen, "none", "--false-alarm-rate", 0.1, "-q"]


@pytest.fixture(scope="module")
def out(options):
    done = run(*options)
    # What cannot be read is said, and nothing else is the worse for it.
    assert done.code == 1
    assert "broken.jpg" in done.err
    assert done.err.count("error:") == 1
    return Path(options[5])


def kept(out):
    """What the cells left: scores by method, side and seed."""
    found = {}
    for path in (out / "work" / "cells").glob("*.npz"):
        side, method, seed, _ = path.stem.split("-")
        with np.load(path) as file:
            found[method, side, int(seed)] = {
                **{name: file[name] for name in file.files if name not in ("key", "record", "sha256")},
                **json.loads(str(file["record"])),
            }
    return found


def test_numbers_are_those_of_scikit_learn_on_the_same_scores(out):
    rows, cells_left = rows_of(out, "scenes.csv"), kept(out)
    assert len(cells_left) == 2 * 2 * 2
    assert len(rows) == 2 * 2 * (3 + 1)  # two classes and both together; one class
    for row in rows:
        left = cells_left[row["method"], row["normal"], int(row["seed"])]
        kinds = ["sand", "sea"] if row["normal"] == "cloudy" else ["cloudy"]
        count = int(row["normal_images"])
        normal, others = left["scores"][:count], np.split(left["scores"][count:], len(kinds))
        own = np.concatenate(others) if row["anomalous"] == "all classes" else others[kinds.index(row["anomalous"])]
        truth, values = np.repeat([0, 1], [count, len(own)]), np.concatenate([normal, own])
        expected = {"auroc": reference.roc_auc_score(truth, values), "learn_seconds": left["seconds"]}
        assert row["threshold_1"] == ""  # too few calibration scenes for 1 %
        threshold = row["threshold_5"]
        if threshold:
            above = values > np.sort(left["calibration"])[-int(0.05 * (len(left["calibration"]) + 1) + 1e-9)]
            expected |= {
                "false_alarm_rate_5": above[truth == 0].mean(),
                "precision_5": reference.precision_score(truth, above, zero_division=0),
                "recall_5": reference.recall_score(truth, above),
                "f1_5": reference.f1_score(truth, above),
                "accuracy_5": reference.accuracy_score(truth, above),
            }
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-5)
        assert float(row["auroc_low"]) <= float(row["auroc"]) <= float(row["auroc_high"])
        if int(row["anomalous_images"]) == count:
            assert row["anomalous"] != "all classes"


def test_no_content_is_on_two_sides(out, data):
    splits = rows_of(out, "splits.csv")
    pictures = read_scenes(data, out / "work", size=24)
    own = pictures.class_of
    for (method, side, seed), left in kept(out).items():
        trained, calibration = set(left["training"]), set(left["calibration_contents"])
        assert not trained & calibration
        mine = next(one for one in sides(list(pictures.classes), "cloudy", []) if one.name == side)
        tested = {image.content for image in split(mine, pictures.classes, seed).test}
        assert not tested & (trained | calibration)
        for role, contents in (("training", trained), ("calibration", calibration)):
            counted = {row["class"]: int(row["images"]) for row in splits if row["role"] == role and
                       (row["normal"], int(row["seed"])) == (side, seed)}  # fmt: skip
            assert counted == {name: sum(own[one] == name for one in contents) for name in counted}, method


def test_thresholds_side_by_side(out):
    rows = rows_of(out, "thresholds.csv")
    assert {row["method"] for row in rows} == {"knn"}
    for row in rows:
        left = kept(out)["knn", row["normal"], int(row["seed"])]
        count = int(row["normal_images"])
        threshold = float(row["threshold"])
        assert float(row["false_alarm_rate"]) == pytest.approx((left["scores"][:count] > threshold).mean(), rel=1e-4)
        if row["way"] == "mean + 3 sd":
            trained = left["training_scores"].astype(float)
            assert threshold == pytest.approx(trained.mean() + 3 * trained.std(), rel=1e-4)
        if row["way"] == "by hand":
            assert threshold == 0.02
        if row["way"] == "conformal":
            assert (left["calibration"] > threshold * (1 + 1e-6)).mean() <= float(row["asked"])


def test_the_files_are_what_was_evaluated(out):
    for side, words in (("cloudy", ("cloudy", "clear")), ("clear", ("clear", "cloudy"))):
        model = oddsight.load(out / f"{side}.onnx")
        assert model.verdicts == words
        assert model.metadata.method.name == "knn"
        left = kept(out)["knn", side, 0]
        assert model.metadata.graph_sha256 == left["graph"]
        assert np.array_equal(np.sort(left["calibration"]), model.calibration_scores)
    page = (out / "report.html").read_text()
    assert "its scores differ from those of the tables by" in page
    assert 'src="http' not in page


def test_a_second_run_takes_everything_from_the_first(options, out, monkeypatch):
    before = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    models = {path.name: path.read_bytes() for path in out.glob("*.onnx")}
    monkeypatch.setattr(study, "measure", lambda *_: pytest.fail("computed again"))
    assert run(*options).code == 1
    assert {name: (out / name).read_bytes() for name in before} == before
    assert {name: (out / name).read_bytes() for name in models} == models


def test_a_method_that_cannot_be_run_is_a_row_and_the_rest_goes_on(data, tmp_path, monkeypatch):
    whole = cells.fit  # type: ignore[attr-defined]

    def fit(*paths, method, **settings):
        if method == "mahalanobis":
            raise OddsightError("mahalanobis needs a library that is not here")
        return whole(*paths, method=method, **settings)

    monkeypatch.setattr(cells, "fit", fit)
    common = ["study", "clouds", "--data", data, "-o", tmp_path, "--normal", "cloudy", "--seeds", 0, "--size", 24]
    common += ["--limit", 30, "--severity-methods", "none"]
    done = run(*common, "--methods", "mahalanobis,knn", "--ship", "knn")
    assert "mahalanobis, cloudy, seed 0: not run: mahalanobis needs a library that is not here" in done.err
    rows = rows_of(tmp_path, "scenes.csv")
    assert [row["error"] for row in rows if row["method"] == "mahalanobis"] == [
        "mahalanobis needs a library that is not here"
    ]
    assert {row["training_images"] for row in rows if row["method"] == "knn"} == {"18"}
    page = (tmp_path / "report.md").read_text()
    assert "| mahalanobis | not run |" in page
    assert "at most 30 images of each class" in page
    assert "Provide a folder with images and masks" in page
    again = run(*common, "--methods", "mahalanobis")
    assert again.code == 1
    assert "mahalanobis is to be shipped for cloudy, but: mahalanobis needs a library" in again.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ["--normal", "snow"],
            "--normal snow is not a class: there are cloudy, sand, sea, and 'clear' for all but cloudy",
        ),
        (["--clouds", "fog"], "no folder 'fog' of clouds: there are cloudy, sand, sea; name it with --clouds"),
        (["--methods", "luck"], "no method 'luck'"),
        (["--methods", "knn", "--ship", "auto"], "the method auto is to be shipped, but is not among knn"),
        (["--seeds", "-1"], "name a seed of 0 or more"),
        (["--size", "4"], "at least 8 pixels"),
        (["--limit", "5"], "needs at least 20"),
        (["--false-alarm-rate", "2"], "false-alarm rate must lie between 0 and 1"),
        (["--masks", "nowhere"], "has no folders images and masks"),
        (
            ["--threshold-methods", "pca", "--methods", "knn"],
            "thresholds of pca were requested, but it is not",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(more, said, data, tmp_path):
    done = run("study", "clouds", "--data", data, "-o", tmp_path, *more)
    assert done.code == 1
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("0;pca=1", "--seeds names 'pca', which is not among knn"),
        ("0;1", "--seeds has more than one list without a name: '0;1'"),
        ("knn=zero", "--seeds takes whole numbers separated by commas, not 'zero'"),
    ],
)
def test_seeds_that_cannot_be_read_are_one_sentence(seeds, said, data, tmp_path):
    done = run("study", "clouds", "--data", data, "-o", tmp_path, "--methods", "knn", "--seeds", seeds)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_seeds_may_be_of_all_or_of_some():
    names = ("auto", "knn", "ganomaly")
    assert numbers_by_name("--seeds", "0,1", names) == {name: [0, 1] for name in names}
    assert numbers_by_name("--seeds", "0,1; knn = 2", names) == {"auto": [0, 1], "knn": [2], "ganomaly": [0, 1]}
    assert numbers_by_name("--seeds", "knn=2;auto=0,3", names) == {"knn": [2], "auto": [0, 3]}


def test_a_method_may_have_fewer_seeds_and_the_shipped_one_other(data, tmp_path):
    folder = tmp_path / "out"
    chosen = ["--methods", "mahalanobis,knn", "--ship", "knn", "--seeds", "0,1;knn=1", "--size", 24, "--limit", 40]
    more = ["--normal", "cloudy", "--severity-methods", "none", "--false-alarm-rate", 0.1, "-q"]
    run("study", "clouds", "--data", data, "-o", folder, *chosen, *more)
    rows = rows_of(folder, "scenes.csv")
    assert {(row["method"], row["seed"]) for row in rows} == {("mahalanobis", "0"), ("mahalanobis", "1"), ("knn", "1")}
    report = (folder / "report.md").read_text()
    assert "(seeds 0 and 1; knn by 1)" in report
    assert "test scenes of its split (seed 1)" in report


def test_a_folder_that_holds_no_classes(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="holds 0 folders with images"):
        read_scenes(tmp_path / "data", tmp_path / "work")
    with pytest.raises(DataError, match="is not a folder"):
        read_scenes(tmp_path / "gone", tmp_path / "work")


def test_masks_and_severities_become_sections_and_tables(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "oddsight.studies.clouds.variants.fit",
        lambda *_, **__: tiny_model(np.linspace(0, 1, 19, dtype=np.float32), rate=0.05),
    )
    for number in range(8):
        for name in ("images", "masks"):
            (tmp_path / "scenes" / name).mkdir(parents=True, exist_ok=True)
        pixels, mask = scene("sea", number, 96), np.zeros((96, 96), np.uint8)
        mask[:40, :40] = 255 * (number % 2)
        pixels[mask > 0] = 230
        Image.fromarray(pixels).save(tmp_path / "scenes" / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "scenes" / "masks" / f"{number}.png")
    done = run("study", "clouds", "--data", data, "-o", tmp_path / "out", "--normal", "cloudy", "--seeds", 0, "--size",
               32, "--limit", 30, "--methods", "knn", "--masks", tmp_path / "scenes", "--mask-methods", "patchcore",
               "--severity-methods", "knn", "-q")  # fmt: skip
    assert "broken.jpg" in done.err
    assert {row["method"] for row in rows_of(tmp_path / "out", "isolation.csv")} >= {"patchcore", "brightness"}
    assert {row["kind"] for row in rows_of(tmp_path / "out", "severity.csv")} == {"haze", "smoke", "dust"}
    page = (tmp_path / "out" / "report.md").read_text()
    assert "These images are synthetic" in page
    assert "Not run" not in page
