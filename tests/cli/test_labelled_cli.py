"""Models that know classes on the command line: fit, predict, threshold, info, evaluate and scores."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import Outcome, assert_failed, error_lines, run, strict_json
from labelled_files import CLASSES, SIDE, draw_image, write_classes, write_images
from oddsight.detectors import DEFAULTS, names
from oddsight.metrics.image import auroc
from oddsight.model.result import NONE_OF_THESE

FIXED = ("--size", SIDE, "--layers", "head", "--score", "knn")
OPTIONS = (*FIXED, "--calibration-fraction", 0.25, "--false-alarm-rate", 0.2)


@dataclass(frozen=True)
class World:
    """Folders of images and models fitted on them, made once."""

    root: Path

    @property
    def train(self) -> Path:
        return self.root / "train"

    @property
    def test(self) -> Path:
        """6 others of each class."""
        return self.root / "test"

    @property
    def moss(self) -> Path:
        """6 of no class."""
        return self.root / "moss"

    @property
    def model(self) -> Path:
        return self.root / "model.onnx"

    @property
    def by_class(self) -> Path:
        """The same with a threshold for each class."""
        return self.root / "by-class.onnx"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    write_classes(world.train, range(40))
    write_classes(world.test, range(5000, 5006))
    write_images(world.moss, "moss", range(5000, 5006))
    for path, options in ((world.model, ()), (world.by_class, ("--per-class",))):
        outcome = run("fit-classes", world.train, "-o", path, *OPTIONS, *options, "--quiet")
        assert outcome == Outcome(0, "", ""), outcome
    return world


@pytest.fixture
def nothing_is_read(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was read")

    readers = ("evaluation", "fitting.class_learner", "data.classes")
    for name in (*(f"{module}.read_classes" for module in readers), "data.collection.read_image"):
        monkeypatch.setattr(f"oddsight.{name}", refuse)


def predicted(*args):
    outcome = run("predict", *args, "--json", "-", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.lines


# fit


@pytest.mark.slow
def test_fit_says_what_it_does(world, tmp_path):
    outcome = run("fit-classes", world.train, "-o", tmp_path / "m.onnx", *OPTIONS)
    assert (outcome.code, outcome.out) == (0, "")
    assert (tmp_path / "m.onnx").read_bytes() == world.model.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.normals.zip", "m.onnx"]
    said = outcome.err.splitlines()
    assert said[:2] == [
        "3 classes: bark, cloth, rust",
        "learning from 90 images and calibrating on 30 others",
    ]
    assert said[2].startswith(f"wrote {tmp_path / 'm.onnx'} (")
    threshold = oddsight.load(world.model).decision.threshold
    assert said[3:] == [
        f"rejects at most 20% of images of the known classes: scores above {threshold:.6g}; "
        "with 30 calibration images 3.23% is the smallest possible",
        "the true rate depends on the draw of calibration images: it lies between 7.71% and 34.7% in 95 of 100 draws",
    ]


@pytest.mark.slow
def test_what_a_file_promises_is_said_by_class(world, tmp_path):
    outcome = run("threshold", world.by_class, "-o", tmp_path / "m.onnx", "--false-alarm-rate", 0.3)
    model = oddsight.load(tmp_path / "m.onnx")
    lowest, *_, highest = sorted(model.metadata.classes.thresholds)
    assert outcome.err.splitlines()[1] == (
        f"rejects at most 30% of the images predicted as each class: scores above {lowest:.6g} to {highest:.6g}, by "
        f"the class; with {model.fewest} calibration images of the rarest class "
        f"{math.ceil(10**4 / (1 + model.fewest)) / 100:.3g}% is the smallest possible"
    )
    outcome = run("threshold", world.by_class, "-o", tmp_path / "m.onnx", "--score", 0.5)
    assert outcome.err.splitlines()[1] == "rejects scores above 0.5, set by hand"
    outcome = run("threshold", world.by_class, "-o", tmp_path / "m.onnx", "--false-alarm-rate", 0.05)
    assert_failed(outcome, "0.05 for each class", "at least 19 calibration images of each", "predicted as bark")


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_said_and_the_file_is_written(world, tmp_path):
    shutil.copytree(world.train, tmp_path / "in")
    (tmp_path / "in" / "rust" / "broken.png").write_text("no image")
    outcome = run("fit-classes", tmp_path / "in", "-o", tmp_path / "m.onnx", *OPTIONS, "--quiet")
    assert outcome.code == 1
    [line] = error_lines(outcome)
    assert "broken.png" in line
    model = oddsight.load(tmp_path / "m.onnx")
    assert model.metadata.training.unreadable == 1
    assert model.metadata.graph_sha256 == oddsight.load(world.model).metadata.graph_sha256


@pytest.mark.slow
def test_images_of_every_kind_and_size_can_be_learned_from(tmp_path):
    for number, kind in enumerate(CLASSES[:2]):
        folder = write_images(tmp_path / "in" / kind, kind, range(6))
        plain = [draw_image(kind, seed) for seed in range(10, 15)]
        Image.fromarray(plain[0][..., 0]).save(folder / "grey.png")
        Image.fromarray(plain[1][..., 0].astype(np.uint16) * 250).save(folder / "deep.png")
        Image.fromarray(np.dstack([plain[2], plain[3][..., 0]])).save(folder / "alpha.png")
        Image.fromarray(plain[4][:3, :50]).save(folder / "wide.webp")
        Image.fromarray(np.full((1, 1, 3), 100 * number, np.uint8)).save(folder / "one.bmp")
    outcome = run("fit-classes", tmp_path / "in", "-o", tmp_path / "m.onnx", "--size", SIDE, "--quiet")
    assert outcome == Outcome(0, "", "")
    assert len(predicted(tmp_path / "m.onnx", tmp_path / "in")) == 22


@pytest.mark.slow
def test_classes_with_odd_names(tmp_path):
    names = ["a\nb", "日本語", "[red]x", "x" * 200]
    for number, name in enumerate(names):
        write_images(tmp_path / "in" / name, CLASSES[number % 3], range(100 * number, 100 * number + 3))
    outcome = run("fit-classes", tmp_path / "in", "-o", tmp_path / "m.onnx", "--size", SIDE)
    assert outcome.code == 0
    assert "[red]x, a\N{REPLACEMENT CHARACTER}b, " in outcome.err
    rows = predicted(tmp_path / "m.onnx", tmp_path / "in")
    assert {row["class"] for row in rows} <= set(names)
    outcome = run("predict", tmp_path / "m.onnx", tmp_path / "in", "--quiet")
    assert len(outcome.out.splitlines()) == 1 + len(rows)
    assert run("info", tmp_path / "m.onnx", "--json").json["classes"]["names"] == sorted(names)


@pytest.mark.skipif(os.name != "posix", reason="names of files are text here")
def test_a_class_whose_name_is_no_text_is_refused(tmp_path):
    write_images(tmp_path / "in" / os.fsdecode(b"caf\xe9"), "bark", range(3))
    write_images(tmp_path / "in" / "cloth", "cloth", range(3))
    outcome = run("fit-classes", tmp_path / "in", "-o", tmp_path / "m.onnx", "--size", SIDE)
    assert_failed(outcome, "name of a class", "not text: rename it")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("fit-classes {train} {test} -o {new}", "unexpected extra argument"),
        ("fit-classes {train} -o {new} --method knn", "No such option"),
        ("fit-classes {train} -o {new} --set epochs=3", "No such option"),
        ("fit {train} -o {new} --classifier probe", "No such option"),
        ("fit {train} -o {new} --work {new}", "--work is for methods that train a network"),
        ("fit {train} -o {new} --accelerator cpu", "--accelerator is for methods that train a network"),
        ("fit {train} -o {new} --curves {new}", "--curves is for methods that train a network"),
        ("evaluate {model} --labelled {test} --normal {moss}", "--normal cannot be used with --labelled"),
        ("evaluate {model} {test} --labelled {test}", "DIR cannot be used with --labelled"),
        ("evaluate {model} --labelled {test} --aupro-limit 0.3", "--aupro-limit cannot be used with --labelled"),
        ("evaluate {model} --unknown {moss}", "--unknown needs --labelled"),
        ("evaluate {model} --labelled {test} --unknown a={moss} --unknown a={test}", "a name of its own"),
        ("evaluate {model} --labelled {test} --unknown {moss} --unknown {moss}", "a name of its own"),
        ("evaluate {model} --labelled {test} --unknown ={moss}", "a name of its own"),
        ("evaluate {model} --labelled {test} --unknown .", "a name of its own"),
    ],
)
def test_options_that_do_not_go_together(world, tmp_path, nothing_is_read, options, words):
    places = {name: getattr(world, name) for name in ("train", "test", "moss", "model")}
    outcome = run(*options.format(new=tmp_path / "new", **places).split())
    assert (outcome.code, outcome.out) == (2, "")
    assert words in " ".join(outcome.err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--classifier tree", "no classifier 'tree'"),
        ("--score loud", "no score 'loud'"),
        ("--epochs 3", "a probe trains no network, so it takes no epochs"),
        ("--work there", "takes no work"),
        ("--accelerator gpu", "takes no accelerator"),
        ("--classifier textbook --backbone resnet50", "leave the backbone out"),
        ("--layers marrow", "no layer 'marrow'"),
        ("--memory lots", "not an amount of memory"),
        ("--false-alarm-rate 2", "between 0 and 1"),
        ("-o nowhere/m.onnx", "cannot write nowhere/m.onnx"),
    ],
)
def test_settings_that_cannot_work_fail_before_the_work(world, tmp_path, nothing_is_read, options, words):
    outcome = run("fit-classes", world.train, "-o", tmp_path / "new", *options.split())
    assert_failed(outcome, words)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_of_classes_is_refused(world, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "empty", "no labelled images in a known layout"),
        (world.moss / "5000.png", "no labelled images in a known layout"),
    ):
        assert_failed(run("fit-classes", path, "-o", tmp_path / "new"), words)
    write_images(tmp_path / "few" / "bark", "bark", range(2))
    write_images(tmp_path / "few" / "cloth", "cloth", range(3))
    assert_failed(run("fit-classes", tmp_path / "few", "-o", tmp_path / "new"), "bark has fewer than 3")
    write_images(tmp_path / "few" / "bark", "cloth", range(1, 2))
    assert_failed(run("fit-classes", tmp_path / "few", "-o", tmp_path / "new"), "the same image in different")


# predict


@pytest.mark.slow
def test_what_is_none_of_the_classes_is_explained_by_the_most_similar_image(world, tmp_path):
    rows = predicted(world.model, world.moss, "--explain", tmp_path)
    rejected = {Path(row["path"]).stem for row in rows if row["verdict"] == "none of these"}
    assert rejected
    assert {path.stem for path in tmp_path.glob("*.png")} == rejected


@pytest.mark.parametrize("which", ["model", "by_class"])
def test_predict_says_the_class_or_none(world, which):
    model = oddsight.load(getattr(world, which))
    rows = predicted(getattr(world, which), world.test, world.moss)
    assert len(rows) == 24
    assert list(rows[0])[:4] == ["path", "verdict", "class", "class_probability"]
    for row in rows:
        result = model.predict(row["path"])
        assert row | {"nearest": None} == result.to_json() | {"nearest": None}
        assert row["nearest"]["content"] == result.nearest
        assert Path(row["nearest"]["path"]).is_relative_to(world.train)
        assert row["verdict"] == (NONE_OF_THESE if row["anomalous"] else row["class"])
        assert row["anomalous"] == (row["score"] > row["threshold"]) == (row["p_value"] <= 0.2)
    verdicts = {Path(row["path"]).parent.name: row["verdict"] for row in rows if not row["anomalous"]}
    assert all(verdicts[kind] == kind for kind in CLASSES)
    assert [row["verdict"] for row in rows if "moss" in row["path"]].count(NONE_OF_THESE) >= 5


@pytest.mark.slow
def test_predict_shows_a_table(world):
    rows = predicted(world.model, world.test, world.moss)
    outcome = run("predict", world.model, world.test, world.moss)
    header, *lines = outcome.out.splitlines()
    assert header.split() == ["verdict", "score", "p-value", "most", "like", "image"]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line.startswith(row["verdict"].ljust(len(NONE_OF_THESE) + 1))
        assert line.endswith(row["path"])
        assert f"{row['class']} {row['class_probability']:.0%} " in line
        assert line.index(f"{row['class']} {row['class_probability']:.0%} ") == header.index("most like")
    none = sum(row["anomalous"] for row in rows)
    assert outcome.err.splitlines()[-1] == f"{none} of none of the classes, {24 - none} of one of them"


@pytest.mark.slow
def test_predict_decides_anew(world):
    before = predicted(world.by_class, world.test, world.moss)
    rows = predicted(world.by_class, world.test, world.moss, "--false-alarm-rate", 0.4)
    assert [row["anomalous"] for row in rows] == [row["p_value"] <= 0.4 for row in before]
    rows = predicted(world.by_class, world.test, world.moss, "--threshold", 0.5)
    assert [row["verdict"] == NONE_OF_THESE for row in rows] == [row["score"] > 0.5 for row in before]
    few = run("predict", world.by_class, world.moss, "--false-alarm-rate", 0.05)
    assert_failed(few, "0.05 for each class", "predicted as")


@pytest.mark.slow
def test_predict_fails_on_what_is_of_no_class_if_asked_to(world):
    assert run("predict", world.model, world.moss, "--fail-on-anomaly", "--quiet").code == 3
    assert run("predict", world.model, world.train / "bark" / "0000.png", "--fail-on-anomaly", "--quiet").code == 0


@pytest.mark.slow
def test_a_decision_over_the_batch_takes_p_values_among_all_images(world, tmp_path):
    rows = predicted(world.model, world.test, world.moss, "--fdr", 0.4)
    assert {row["verdict"] for row in rows if "moss" in row["path"]} == {NONE_OF_THESE}
    assert_failed(run("predict", world.by_class, world.moss, "--fdr", 0.4), "within each class")
    # Also where its threshold was set by hand: its p-values stay what they are.
    run("threshold", world.by_class, "-o", tmp_path / "by-hand.onnx", "--score", 0.5)
    assert_failed(run("predict", tmp_path / "by-hand.onnx", world.moss, "--fdr", 0.4), "within each class")


@pytest.mark.slow
def test_predict_explains_and_has_no_maps(world, tmp_path):
    outcome = run("predict", world.model, world.moss, "--explain", tmp_path / "why", "--quiet")
    assert outcome.code == 0
    assert len(list((tmp_path / "why").iterdir())) >= 5
    assert_failed(run("predict", world.model, world.moss, "--maps", tmp_path / "maps"), "has no heat maps")


# info


@pytest.mark.slow
def test_info_counts_images_and_shows_no_packed_ones(world):
    for path, fewest in ((world.model, 30), (world.by_class, oddsight.load(world.by_class).fewest)):
        outcome = run("info", path, "--json")
        info = outcome.json
        assert info["explanation"] == {"images": 90, "voices": []}
        assert info["training"]["images_recognised"] == 120
        assert "images_seen" not in info["training"]
        assert info["classes"]["names"] == list(CLASSES)
        assert info["calibration"]["images"] == 30
        assert info["calibration"]["smallest_rate"] == 1 / (1 + fewest)
        packed = oddsight.load(path).metadata.explanation.normals
        shown = run("info", path).out
        assert packed[:40] not in shown + outcome.out
        assert "explanation / images" in shown
        assert "classes / names" in shown


# evaluate


@pytest.mark.slow
def test_evaluate(world, tmp_path):
    rows = predicted(world.by_class, world.test, world.moss)
    known, moss = rows[:18], rows[18:]
    arguments = ("evaluate", world.by_class, "--labelled", world.test, "--unknown", f"my moss={world.moss}")
    outcome = run(*arguments, "--json", tmp_path / "found.json")
    few = "note: Classes with fewer than 20 test images: bark, cloth, rust; mind how little their rows can say.\n"
    assert (outcome.code, outcome.err) == (0, few)
    found = strict_json((tmp_path / "found.json").read_text())
    assert run(*arguments, "--json", "-").json == found
    right = [row["class"] == Path(row["path"]).parent.name for row in known]
    rejected = [row["anomalous"] for row in known]
    assert (found["images"], found["accuracy"]) == (18, np.mean(right))
    assert found["accuracy_ci"][0] < found["accuracy"] <= found["accuracy_ci"][1]
    assert found["false_rejection_rate"] == np.mean(rejected)
    assert (found["promised_rate"], found["errors"]) == (0.2, [])
    for index, kind in enumerate(CLASSES):
        own = [row for row in known if Path(row["path"]).parent.name == kind]
        assert found["confusion"][index] == [sum(row["class"] == other for row in own) for other in CLASSES]
        assert found["classes"][kind]["rejected"] == np.mean([row["anomalous"] for row in own])
    unknown = found["unknown"]["my moss"]
    expected = auroc(np.array([row["score"] for row in known]), np.array([row["score"] for row in moss]))
    assert unknown["auroc"] == pytest.approx(expected)
    assert (unknown["images"], unknown["rejected"]) == (6, np.mean([row["anomalous"] for row in moss]))
    assert "my moss" in outcome.out
    assert f"{unknown['auroc']:.4f}" in outcome.out


@pytest.mark.slow
def test_evaluate_takes_some_of_the_classes_and_a_test_split(world, tmp_path):
    shutil.copytree(world.test, tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "cloth")
    found = run("evaluate", world.model, "--labelled", tmp_path / "two", "--json", "-").json
    assert found["images"] == 12
    assert found["classes"]["cloth"]["rejected"] is None
    assert found["unknown"] == {}
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "train").symlink_to(world.train)
    (tmp_path / "split" / "test").symlink_to(world.test)
    assert run("evaluate", world.model, "--labelled", tmp_path / "split", "--json", "-").json["images"] == 18


@pytest.mark.slow
def test_evaluate_says_what_it_could_not_read(world, tmp_path):
    shutil.copytree(world.test, tmp_path / "test")
    shutil.copytree(world.moss, tmp_path / "moss")
    for name in ("test/rust/broken.png", "moss/broken.png"):
        (tmp_path / name).write_text("no image")
    arguments = ("--labelled", tmp_path / "test", "--unknown", tmp_path / "moss", "--json", tmp_path / "found.json")
    outcome = run("evaluate", world.model, *arguments, "--quiet")
    assert outcome.code == 1
    assert len(error_lines(outcome)) == 2
    found = strict_json((tmp_path / "found.json").read_text())
    assert [Path(error["path"]).parent.name for error in found["errors"]] == ["rust", "moss"]
    assert (found["images"], found["unknown"]["moss"]["images"]) == (18, 6)


@pytest.mark.slow
def test_evaluate_refuses_images_that_the_model_was_fitted_on(world, tmp_path):
    assert_failed(
        run("evaluate", world.model, "--labelled", world.train), "120 of 120 labelled images were used to fit"
    )
    leaked = ("--labelled", world.test, "--unknown", f"odd={world.train / 'rust'}")
    assert_failed(run("evaluate", world.model, *leaked), "40 of 40 images of odd were used to fit this model")
    # Calibration images, too: whatever part an image was in, and whatever it is called.
    shutil.copytree(world.test, tmp_path / "test")
    for number, path in enumerate(sorted((world.train / "bark").iterdir())[:40:4]):
        shutil.copy(path, tmp_path / "test" / "bark" / f"new {number}.png")
    assert_failed(run("evaluate", world.model, "--labelled", tmp_path / "test"), "10 of 28 labelled images were used")


def test_evaluate_refuses_classes_that_the_model_does_not_know(world, tmp_path):
    shutil.copytree(world.test, tmp_path / "test")
    (tmp_path / "test" / "rust").rename(tmp_path / "test" / "iron")
    outcome = run("evaluate", world.model, "--labelled", tmp_path / "test")
    assert_failed(outcome, "does not know the class iron: it knows bark, cloth, rust")


@pytest.mark.slow
def test_evaluate_refuses_a_model_that_knows_no_classes(world, tmp_path):
    run("fit", world.train / "cloth", "-o", tmp_path / "m.onnx", "--method", "mahalanobis", "--size", SIDE, "--quiet")
    assert_failed(run("evaluate", tmp_path / "m.onnx", "--labelled", world.test), "the model knows no classes")


@pytest.mark.slow
def test_a_model_that_knows_classes_can_be_evaluated_on_normal_and_anomalous_images(world):
    found = run("evaluate", world.model, "--normal", world.test, "--anomalous", world.moss, "--json", "-").json
    rows = predicted(world.model, world.test, world.moss)
    assert found["image"]["recall"] == np.mean([row["anomalous"] for row in rows[18:]])
    assert found["image"]["false_alarm_rate"] == np.mean([row["anomalous"] for row in rows[:18]])
    # Curves and reports are of one threshold.
    refused = run("evaluate", world.by_class, "--normal", world.test, "--anomalous", world.moss)
    assert_failed(refused, "a threshold for each class: evaluate it with --labelled")


# scores


def test_scores_lists_them_all():
    rows = run("scores", "--json").json
    assert rows[0]["score"] == DEFAULTS["classes"]
    assert [row["default"] for row in rows].count(True) == 1
    assert {row["score"] for row in rows} == set(names("classes"))
    assert all(row["what"] and row["paper"] for row in rows)
    shown = run("scores")
    assert shown.code == 0
    assert [line for line in shown.out.splitlines() if not line.startswith(" ")] == [row["score"] for row in rows]


def test_the_old_command_points_to_the_new_one(world, tmp_path):
    outcome = run("fit", "--labelled", world.train, "-o", tmp_path / "m.onnx", "--classifier", "tree")
    note, error = outcome.err.splitlines()
    assert note == "note: 'fit --labelled' is now 'fit-classes'"
    assert "no classifier 'tree'" in error
