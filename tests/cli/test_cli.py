"""The command line: every command and option, its output on terminals and in pipes, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import oddsight
from cli_files import (
    SIDE,
    Outcome,
    assert_failed,
    command,
    environment,
    error_lines,
    json_lines,
    many_links,
    ordinary_user,
    public_folder,
    run,
    spawn,
    start,
    strict_json,
)
from oddsight import __main__ as cli
from oddsight import detectors
from oddsight.detectors import METHODS, quick
from oddsight.model.calibration import decide, smallest_rate
from textures import texture

COMMANDS = ["check", "prepare", "adapt", "fit", "predict", "evaluate", "compare", "study", "threshold", "info"]
COMMANDS += ["methods", "backbones", "scores", "synthesize", "fit-classes", "export", "watch", "recalibrate", "zones"]
COMMANDS += ["update", "summarize", "report", "serve"]
FIELDS = ["path", "verdict", "score", "p_value", "anomalous", "threshold", "false_alarm_rate", "regions", "voices"]
FIELDS += ["nearest"]
SCORED = ["path", "score", "p_value"]


@pytest.fixture(scope="module")
def rows(world):
    """What predict says of 8 normal and 8 anomalous images, in that order."""
    outcome = run("predict", world.model, world.normal, world.anomalous, "--json", "-", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.lines) == 16
    return outcome.lines


@pytest.fixture
def nothing_is_read(monkeypatch):
    """Make every attempt to open an image fail the test: what fails must fail before the work."""

    def refuse(path, limit):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("oddsight.data.images.open_image", refuse)


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# Help, version, usage


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    outcome = run(name, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"oddsight {name}" in outcome.out


def test_these_are_all_commands():
    groups = {group.name for group in cli.app.registered_groups}
    names = {one.name or one.callback.__name__ for one in cli.app.registered_commands}
    assert set(COMMANDS) == groups | names


def test_version():
    assert run("--version") == Outcome(0, f"oddsight {version('oddsight')}\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "nonsense",
        "--nonsense",
        "check",
        "fit",
        "fit {good}",
        "fit -o {new}",
        "fit {good} -o {new} --size huge",
        "fit {good} -o {new} --size 1.5",
        "fit {good} -o {new} --seed x",
        "fit {good} -o {new} --false-alarm-rate often",
        "fit {good} -o {new} --nonsense",
        "predict",
        "predict {model}",
        "predict {model} {good} --json",
        "predict {model} {good} --threshold 1 --false-alarm-rate 0.1",
        "predict {model} {good} --threshold 1 --fdr 0.1",
        "predict {model} {good} --fdr 0.1 --false-alarm-rate 0.1",
        "predict {model} {good} --json {new} --threshold 0 --fdr 0",
        "predict {model} -x.png",
        "evaluate",
        "evaluate {model}",
        "evaluate {model} --normal {normal}",
        "evaluate {model} --anomalous {anomalous} --report {new}",
        "evaluate {model} --masks {masks}",
        "evaluate {model} --normal {normal} --masks {masks}",
        "evaluate {model} {mvtec} --normal {normal} --anomalous {anomalous}",
        "evaluate {model} {mvtec} --normal {normal}",
        "evaluate {model} {mvtec} --masks {masks} --json {new}",
        "threshold {model}",
        "threshold {model} -o {new}",
        "threshold {model} -o {new} --false-alarm-rate 0.1 --score 3",
        "info",
        "info {model} {model}",
        "methods nonsense",
        "backbones --json nonsense",
    ],
)
def test_wrong_usage_exits_with_2_and_does_nothing(world, tmp_path, nothing_is_read, arguments):
    new = tmp_path / "new"
    places = {name: getattr(world, name) for name in ("good", "model", "normal", "anomalous", "masks", "mvtec")}
    outcome = run(*arguments.format(new=new, **places).split())
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert (outcome.err or outcome.out).startswith(("Usage: oddsight", "Error: "))
    assert list(tmp_path.iterdir()) == []


# Errors: one line, before the work


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--method nonsense", ["nonsense", *METHODS]),
        ("--backbone nonsense", ["nonsense", "efficientnet-lite0"]),
        ("--layers stage3,stage99", ["stage99", "stage7"]),
        ("--layers ,", ["efficientnet-lite0"]),
        ("--size 33", ["33", "multiple of 32"]),
        ("--size -32", ["-32", "multiple of 32"]),
        ("--false-alarm-rate 0", ["rate", "between 0 and 1", "not 0"]),
        ("--false-alarm-rate 1", ["rate", "between 0 and 1", "not 1"]),
        ("--false-alarm-rate -0.1", ["rate", "between 0 and 1", "-0.1"]),
        ("--false-alarm-rate nan", ["rate", "between 0 and 1", "nan"]),
        ("--calibration-fraction 1", ["fraction", "below 1"]),
        ("--calibration-fraction -0.5", ["fraction", "-0.5"]),
        ("--calibration-fraction nan", ["fraction", "nan"]),
        ("--memory much", ["'much'", "1GB"]),
        ("--memory -1GB", ["'-1GB'"]),
        ("--memory nan", ["'nan'"]),
    ],
)
def test_settings_that_cannot_work_fail_before_the_work(world, tmp_path, nothing_is_read, options, words):
    assert_failed(run("fit", world.good, "-o", tmp_path / "new", *options.split()), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--false-alarm-rate 0.01", ["0.01", "99 calibration images", "24"]),
        ("--calibration-fraction 0.9", ["90%", "2 of 24 images are left"]),
        ("--calibration-fraction 0.25 --false-alarm-rate 0.05", ["0.05", "19 calibration images", "6"]),
        ("--memory 1", ["budget", "too small"]),
        ("--memory 361MB --method padim --size 224", ["padim", "memory"]),
    ],
)
def test_too_few_images_or_too_little_memory(world, tmp_path, options, words):
    assert_failed(run("fit", world.good, "-o", tmp_path / "new", "--quiet", *options.split()), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--threshold nan", ["threshold", "finite"]),
        ("--threshold inf", ["threshold", "finite"]),
        ("--false-alarm-rate 0.01", ["0.01", "99 calibration images"]),
        ("--false-alarm-rate 0", ["between 0 and 1"]),
        ("--fdr 0", ["false discovery rate", "between 0 and 1"]),
        ("--fdr 2", ["false discovery rate", "not 2"]),
        ("--fdr nan", ["false discovery rate", "nan"]),
    ],
)
def test_decisions_that_cannot_be_made(world, tmp_path, nothing_is_read, options, words):
    outcome = run("predict", world.model, world.normal, "--quiet", "--json", tmp_path / "new", *options.split())
    assert_failed(outcome, *words)
    assert list(tmp_path.iterdir()) == []


def outputs_that_cannot_be_written(folder):
    (folder / "file").write_bytes(b"old")
    (folder / "loop").symlink_to(folder / "loop")
    return {
        "a folder": folder,
        "missing parent": folder / "missing" / "new",
        "a file as parent": folder / "file" / "new",
        "too long a name": folder / ("x" * 300),
        "a link to itself": folder / "loop",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "check {good} --json",
        "fit {good} -o",
        "predict {model} {normal} --json",
        "evaluate {model} {mvtec} --json",
        "evaluate {model} {mvtec} --report",
    ],
)
@pytest.mark.parametrize(
    "kind", ["a folder", "missing parent", "a file as parent", "too long a name", "a link to itself"]
)
def test_outputs_that_cannot_be_written_fail_before_the_work(world, tmp_path, nothing_is_read, arguments, kind):
    output = outputs_that_cannot_be_written(tmp_path)[kind]
    before = names_in(tmp_path)
    places = {name: getattr(world, name) for name in ("good", "model", "normal", "mvtec")}
    outcome = run(*arguments.format(**places).split(), output)
    assert_failed(outcome, f"cannot write {output}: ")
    assert names_in(tmp_path) == before
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.posix
@pytest.mark.parametrize("name", ["fit", "evaluate", "predict", "maps"])
def test_a_folder_without_permission_fails_before_the_work(world, nothing_is_read, name):
    with public_folder() as folder:
        for path in (world.model, world.good, world.mvtec):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        closed = folder / "closed"
        closed.mkdir()
        closed.chmod(0o555)
        output = closed / "new"
        arguments = {
            "fit": ["fit", folder / "good", "-o", output],
            "evaluate": ["evaluate", folder / "patchcore.onnx", folder / "mvtec", "--json", output],
            "predict": ["predict", folder / "patchcore.onnx", folder / "good", "--json", output],
            "maps": ["predict", folder / "patchcore.onnx", folder / "good", "--maps", closed],
        }
        with ordinary_user():
            outcome = run(*arguments[name])
        assert_failed(outcome, f"cannot write {'heat maps into ' if name == 'maps' else ''}{closed}", "Permission")
        assert list(closed.iterdir()) == []


# fit


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(quick()))
def test_fit_with_every_option(world, tmp_path, method):
    options = "--backbone efficientnet-lite0 --layers stage2,stage4 --size 64 --false-alarm-rate 0.125"
    options += " --calibration-fraction 0.5 --memory 2GB --seed 5 --quiet"
    output = tmp_path / "model.onnx"
    outcome = run("fit", world.good, "-o", output, "--method", method, *options.split())
    assert outcome == Outcome(0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.normals.zip", "model.onnx"]
    info = run("info", output, "--json").json
    assert info["method"]["name"] == method
    assert info["backbone"]["name"] == "efficientnet-lite0"
    assert info["backbone"]["layers"] == ["stage2", "stage4"]
    assert info["backbone"]["size"] == 64
    assert info["decision"]["false_alarm_rate"] == 0.125
    assert info["calibration"]["kind"] == "split"
    assert (info["training"]["images"], info["calibration"]["images"]) == (12, 12)
    assert info["training"]["seed"] == 5
    assert info["bytes"] == output.stat().st_size


@pytest.mark.slow
def test_fit_says_what_it_does_beside_the_results(world, tmp_path):
    outcome = run("fit", world.good, world.good / "00000.png", "-o", tmp_path / "m.onnx", "--size", 32)
    assert (outcome.code, outcome.out) == (0, "")
    assert "learning from 24 images" in outcome.err
    assert "memory budget 1,000 MB" in outcome.err
    assert f"wrote {tmp_path / 'm.onnx'}" in outcome.err
    assert "4% of normal images" in outcome.err
    assert oddsight.load(tmp_path / "m.onnx").metadata.method.name == detectors.DEFAULTS["normal"] == "auto"


@pytest.mark.slow
def test_another_seed_is_another_split(world, tmp_path):
    made = {}
    for seed in (1, 1, 2):
        output = tmp_path / "m.onnx"
        arguments = ["fit", world.good, "-o", output, "--method", "knn", "--size", 32, "--calibration-fraction", 0.5]
        assert run(*arguments, "--seed", seed, "--quiet").code == 0
        scores = oddsight.load(output).calibration_scores.tolist()
        assert made.setdefault(seed, (output.read_bytes(), scores)) == (output.read_bytes(), scores)
    assert made[1][1] != made[2][1]


@pytest.mark.slow
def test_fit_takes_globs_and_counts_duplicates_once(world, tmp_path):
    for path in world.good.iterdir():
        shutil.copy(path, tmp_path / f"copy_{path.name}")
    outcome = run("fit", world.good, f"{tmp_path}/*.png", "-o", tmp_path / "m.onnx", "--method", "knn", "--size", 32)
    assert outcome.code == 0
    assert "24 duplicates are used once" in outcome.err
    info = run("info", tmp_path / "m.onnx", "--json").json
    assert (info["training"]["images"], info["training"]["duplicates"]) == (24, 24)
    assert info["training"]["fingerprint"] == run("info", world.model, "--json").json["training"]["fingerprint"]


def test_fit_replaces_a_file_and_keeps_a_link(world, tmp_path):
    (tmp_path / "old.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("old.onnx")
    assert run("threshold", world.model, "-o", tmp_path / "link.onnx", "--score", 3).code == 0
    assert (tmp_path / "link.onnx").is_symlink()
    assert oddsight.load(tmp_path / "old.onnx").decision.threshold == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.onnx", "old.onnx"]


def test_new_files_have_the_usual_permissions(world, tmp_path):
    (tmp_path / "usual").touch()
    assert run("predict", world.model, world.normal, "--json", tmp_path / "new").code == 0
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_names_of_the_greatest_length_can_be_written(world, tmp_path):
    name = "é" * 127
    assert run("threshold", world.model, "-o", tmp_path / name, "--score", 3).code == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


# predict


@pytest.mark.slow
def test_predict_writes_json_lines(world, rows, tmp_path):
    model = oddsight.load(world.model)
    expected = [*sorted(world.normal.iterdir()), *sorted(world.anomalous.rglob("*.png"))]
    assert [row["path"] for row in rows] == [str(path) for path in expected]
    for row, path in zip(rows, expected, strict=True):
        assert list(row) == FIELDS
        result = model.predict(path)
        assert row["score"] == pytest.approx(result.score, rel=1e-5)
        assert row["p_value"] == result.p_value
        assert row["threshold"] == model.decision.threshold
        assert row["false_alarm_rate"] == model.decision.false_alarm_rate == 0.04
        assert row["anomalous"] is (row["score"] > row["threshold"])
        assert bool(row["regions"]) is row["anomalous"]
        assert row["voices"] == []
        assert row["nearest"]["content"] == result.nearest
        for region in row["regions"]:
            assert list(region) == ["bbox", "area", "peak", "threshold", "p_value", "polygons"]
            assert row["p_value"] <= region["p_value"] <= 1
            left, top, right, bottom = region["bbox"]
            assert 0 <= left < right <= SIDE
            assert 0 <= top < bottom <= SIDE
            assert 0 < region["area"] <= SIDE * SIDE
            assert region["peak"] > row["threshold"]
    assert sum(row["anomalous"] for row in rows[8:]) >= 6
    outcome = run("predict", world.model, world.normal, world.anomalous, "--json", tmp_path / "lines")
    assert (outcome.code, outcome.out) == (0, "")
    assert json_lines(tmp_path / "lines") == rows
    assert [path.name for path in tmp_path.iterdir()] == ["lines"]


@pytest.mark.slow
def test_predict_shows_a_table(world, rows):
    outcome = run("predict", world.model, world.normal, world.anomalous)
    header, *lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert header.split() == ["verdict", "score", "p-value", "regions", "image"]
    for line, row in zip(lines, rows, strict=True):
        verdict, score, p_value, *regions, path = line.split()
        assert verdict == ("anomalous" if row["anomalous"] else "normal")
        assert float(score) == pytest.approx(row["score"], rel=1e-4)
        assert float(p_value) == pytest.approx(row["p_value"], rel=5e-3)
        assert regions == ([str(len(row["regions"]))] if row["anomalous"] else [])
        assert path == row["path"]
    alarms = sum(row["anomalous"] for row in rows)
    assert outcome.err == f"{alarms} anomalous, {16 - alarms} normal\n"
    assert run("predict", world.model, world.normal, world.anomalous, "--quiet") == Outcome(0, outcome.out, "")


def test_a_method_that_cannot_say_where_gives_no_regions(world, tmp_path):
    outcome = run("predict", world.knn, world.normal, world.anomalous, "--json", "-")
    assert outcome.code == 0
    assert any(row["anomalous"] for row in outcome.lines)
    assert all(row["regions"] == [] for row in outcome.lines)
    assert_failed(run("predict", world.knn, world.normal, "--maps", tmp_path / "maps"), "knn", "where")
    assert not (tmp_path / "maps").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.04, 0.1, 0.5, 0.96])
def test_predict_decides_anew_at_a_rate(world, rows, rate):
    decision = decide(oddsight.load(world.model).calibration_scores, rate)
    outcome = run("predict", world.model, world.normal, world.anomalous, "--json", "-", "--false-alarm-rate", rate)
    for new, old in zip(outcome.lines, rows, strict=True):
        assert [new[name] for name in SCORED] == [old[name] for name in SCORED]
        assert (new["threshold"], new["false_alarm_rate"]) == (decision.threshold, rate)
        assert new["anomalous"] is (new["score"] > decision.threshold) is (round(25 * new["p_value"]) / 25 <= rate)


@pytest.mark.slow
def test_predict_decides_anew_at_a_score(world, rows):
    scores = sorted(row["score"] for row in rows)
    for threshold, alarms in ((scores[-2], 1), (scores[0] - 1, 16), (scores[-1], 0), (-1e30, 16)):
        outcome = run(
            "predict", world.model, world.normal, world.anomalous, "--json", "-", f"--threshold={threshold!r}"
        )
        assert outcome.code == 0
        assert sum(row["anomalous"] for row in outcome.lines) == alarms
        assert {(row["threshold"], row["false_alarm_rate"]) for row in outcome.lines} == {(threshold, None)}


def test_predict_decides_over_the_batch(world, rows):
    arguments = ["predict", world.model, world.normal, world.anomalous, "--json", "-", "--fdr"]
    some = run(*arguments, 0.2).lines
    assert [row["score"] for row in some] == [row["score"] for row in rows]
    assert sum(row["anomalous"] for row in some[8:]) >= 6
    assert sum(row["anomalous"] for row in some[:8]) <= 3
    # The smallest p-value is 1/25, and so none can be flagged at a rate below it.
    none = run(*arguments, 0.001).lines
    assert {(row["anomalous"], row["threshold"], row["false_alarm_rate"]) for row in none} == {(False, None, None)}


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--json", "-"], ["--quiet"], ["--fdr", "0.2"]])
def test_predict_can_fail_on_anomalies(world, options):
    flag = "--fail-on-anomaly"
    assert run("predict", world.model, world.anomalous, flag, *options).code == 3
    assert run("predict", world.model, world.anomalous, *options).code == 0
    assert run("predict", world.model, world.good, flag, *options).code == 0


def test_an_unreadable_image_counts_for_more_than_an_anomaly(world, tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    assert run("predict", world.model, world.anomalous, tmp_path, "--fail-on-anomaly").code == 1


@pytest.mark.slow
def test_predict_keeps_the_order_and_names_everything_once(world, tmp_path):
    many = many_links(tmp_path / "many", world.normal / "00100.png", 300)
    last, first = many / "00299.png", many / "00007.png"
    outcome = run("predict", world.knn, last, first, many, f"{many}/*.png", many / ".." / "many", first, "--json", "-")
    assert outcome.code == 0
    names = [Path(row["path"]).name for row in outcome.lines]
    rest = [f"{number:05d}.png" for number in range(300) if number not in (299, 7)]
    assert names == ["00299.png", "00007.png", *rest]
    assert len({row["score"] for row in outcome.lines}) == 1


@pytest.mark.slow
def test_predict_writes_heat_maps(world, rows, tmp_path):
    maps = tmp_path / "new" / "maps"
    outcome = run("predict", world.model, world.normal, world.anomalous, "--maps", maps)
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 17
    assert sorted(path.name for path in maps.iterdir()) == sorted(Path(row["path"]).name for row in rows)
    for row in rows:
        source, drawn = (np.asarray(Image.open(path)) for path in (row["path"], maps / Path(row["path"]).name))
        assert drawn.shape == source.shape
        # The bark is anomalous all over.
        assert "bark" not in row["path"] or (drawn != source).any()


@pytest.mark.slow
def test_heat_maps_of_images_of_one_name_do_not_replace_each_other(world, tmp_path):
    long = "x" * 248
    for number, parent in enumerate(("a/same", "b/same", "c/same", "d")):
        for name in ("n.png", "n.jpg", f"{long}{number}.png", f"{long}é.png"):
            (tmp_path / parent).mkdir(parents=True, exist_ok=True)
            Image.fromarray(texture(1, SIDE, SIDE)).save(tmp_path / parent / name)
    images = [tmp_path / parent for parent in "abcd"]
    outcome = run("predict", world.model, *images, "--maps", tmp_path / "maps")
    assert outcome.code == 0
    written = list((tmp_path / "maps").iterdir())
    assert len(written) == 16
    for path in written:
        assert Image.open(path).size == (SIDE, SIDE)


@pytest.mark.parametrize("spelling", ["{0}", "{0}/.", "{0}/../{1}"])
def test_heat_maps_never_replace_the_images(world, tmp_path, spelling):
    folder = shutil.copytree(world.normal, tmp_path / "images")
    before = files_in(folder)
    outcome = run("predict", world.model, folder, "--maps", spelling.format(folder, folder.name))
    assert_failed(outcome, "heat maps", folder.name)
    assert files_in(folder) == before


def test_heat_maps_of_a_batch_decision(world, tmp_path):
    outcome = run("predict", world.model, world.normal, world.anomalous, "--fdr", 0.2, "--maps", tmp_path, "--quiet")
    assert outcome.code == 0
    flagged = {line.split("/")[-1] for line in outcome.out.splitlines() if line.startswith("anomalous")}
    assert flagged
    assert flagged <= names_in(tmp_path)


def test_heat_maps_need_a_folder(world, tmp_path, nothing_is_read):
    (tmp_path / "file").write_text("old")
    assert_failed(run("predict", world.model, world.normal, "--maps", tmp_path / "file"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"


# evaluate


@pytest.mark.parametrize("layout", ["folders", "mvtec"])
def test_evaluate(world, rows, tmp_path, layout):
    places = {
        "folders": ["--normal", world.normal, "--anomalous", world.anomalous, "--masks", world.masks],
        "mvtec": [world.mvtec],
    }[layout]
    outcome = run("evaluate", world.model, *places, "--json", "-")
    assert outcome.code == 0
    found = outcome.json
    expected = {
        "normal": 8,
        "anomalous": 8,
        "flagged_normal": sum(row["anomalous"] for row in rows[:8]),
        "flagged_anomalous": sum(row["anomalous"] for row in rows[8:]),
        "masks": 4,
        "empty_masks": 0,
        "pixel_images": 4,
        "without_mask": 4,
        "unmatched_masks": 0,
        "unreadable": 0,
        "ignored": 0,
        "normal_groups": 8,
        "anomalous_groups": 8,
    }
    assert found["counts"] == expected
    assert len(found["masks"]["without"]) == 4
    assert found["errors"] == []
    assert sorted(found["by_type"]) == ["bark", "blot"]
    normal, anomalous = ([row["score"] for row in part] for part in (rows[:8], rows[8:]))
    assert found["image"]["auroc"] == np.mean([a > n for a in anomalous for n in normal])
    assert found["image"]["recall"] == expected["flagged_anomalous"] / 8
    assert 0.5 < found["pixel"]["auroc"] <= 1
    assert found["model"]["threshold"] == rows[0]["threshold"]
    assert any("are few" in warning for warning in found["warnings"])
    assert "8 normal and 8 anomalous images are few" in outcome.err

    table = run("evaluate", world.model, *places, "--json", tmp_path / "found.json", "--quiet")
    assert (table.code, table.err) == (0, "")
    assert strict_json((tmp_path / "found.json").read_text()) == found
    assert f"{found['image']['auroc']:.4f}" in table.out
    assert "pixel AUROC" in table.out
    assert "8 normal and 8 anomalous images, 4 of these with a mask" in table.out
    assert "pixel metrics: on 4 of 8 anomalous images" in table.out
    assert re.search(r"bark +4 +", table.out)


@pytest.mark.slow
def test_evaluate_without_masks_or_maps(world):
    places = ["--normal", world.normal, "--anomalous", world.anomalous]
    assert run("evaluate", world.model, *places, "--json", "-").json["pixel"] is None
    assert run("evaluate", world.knn, *places, "--masks", world.masks, "--json", "-").json["pixel"] is None


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.05, 1])
def test_evaluate_takes_a_limit(world, limit):
    found = run("evaluate", world.model, world.mvtec, "--aupro-limit", limit, "--json", "-").json
    assert found["pixel"]["aupro_limit"] == limit


@pytest.mark.parametrize("limit", ["0", "1.5", "nan", "-1"])
def test_evaluate_refuses_other_limits(world, limit):
    outcome = run("evaluate", world.model, world.mvtec, f"--aupro-limit={limit}", "--quiet")
    assert_failed(outcome, "limit of the false-positive rate")


def test_evaluate_of_two_images_is_valid_json(world, tmp_path):
    for kind, path in (("n", world.normal / "00100.png"), ("a", world.good.parent / "anomalous/bark/00300.png")):
        (tmp_path / kind).mkdir()
        shutil.copy(path, tmp_path / kind)
    places = ["--normal", tmp_path / "n", "--anomalous", tmp_path / "a"]
    # Nothing is flagged, and so there is no precision.
    assert run("threshold", world.model, "-o", tmp_path / "m.onnx", "--score", 1e30).code == 0
    outcome = run("evaluate", tmp_path / "m.onnx", *places, "--json", "-")
    assert outcome.code == 0
    assert outcome.json["counts"]["flagged_anomalous"] == 0


def test_evaluate_refuses_what_the_model_has_seen(world, tmp_path):
    shutil.copytree(world.normal, tmp_path / "normal")
    # Under another name and in another format, it is the same image.
    Image.open(world.good / "00003.png").save(tmp_path / "normal" / "new.tif")
    arguments = ["--normal", tmp_path / "normal", "--anomalous", world.anomalous, "--json", tmp_path / "json"]
    assert_failed(run("evaluate", world.model, *arguments), "1 of 17", tmp_path / "normal" / "new.tif")
    assert not (tmp_path / "json").exists()


def test_evaluate_refuses_a_image_of_both_kinds(world, tmp_path):
    shutil.copytree(world.anomalous, tmp_path / "anomalous")
    shutil.copy(world.normal / "00101.png", tmp_path / "anomalous" / "bark" / "a.png")
    outcome = run("evaluate", world.model, "--normal", world.normal, "--anomalous", tmp_path / "anomalous")
    assert_failed(outcome, tmp_path / "anomalous" / "bark" / "a.png", world.normal / "00101.png")


@pytest.mark.slow
def test_evaluate_writes_a_report(world, tmp_path):
    outcome = run("evaluate", world.model, world.mvtec, "--report", tmp_path / "r.html", "--json", tmp_path / "j.json")
    assert outcome.code == 0
    assert str(tmp_path / "r.html") in outcome.err
    page = (tmp_path / "r.html").read_text()
    assert page.startswith("<!")
    assert f"{strict_json((tmp_path / 'j.json').read_text())['image']['auroc']:.3f}" in page
    assert not re.search(r"""(src|href)=["']https?:""", page)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j.json", "r.html"]


# threshold and info


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rate"), [(["--false-alarm-rate", "0.2"], 0.2), (["--score", "17.5"], None), (["--score=-3"], None)]
)
def test_threshold_changes_the_decision_only(world, rows, tmp_path, options, rate):
    new = tmp_path / "new.onnx"
    outcome = run("threshold", world.model, "-o", new, *options)
    assert (outcome.code, outcome.out) == (0, "")
    assert f"wrote {new}" in outcome.err
    before, after = (run("info", path, "--json").json for path in (world.model, new))
    assert after["decision"] != before["decision"]
    assert after["decision"]["false_alarm_rate"] == rate
    assert {**after, "decision": 0, "bytes": 0} == {**before, "decision": 0, "bytes": 0}
    changed = run("predict", new, world.normal, world.anomalous, "--json", "-").lines
    assert [[row[name] for name in SCORED] for row in changed] == [[r[name] for name in SCORED] for r in rows]
    assert {row["threshold"] for row in changed} == {after["decision"]["threshold"]}


def test_a_changed_threshold_can_be_undone_and_never_replaces_the_model(world, tmp_path):
    path = Path(shutil.copy(world.model, tmp_path))
    assert_failed(run("threshold", path, "-o", path, "--score", 1, "--quiet"), "would replace an input")
    assert path.read_bytes() == world.model.read_bytes()
    changed, undone = tmp_path / "changed.onnx", tmp_path / "undone.onnx"
    assert run("threshold", path, "-o", changed, "--score", 1, "--quiet") == Outcome(0, "", "")
    assert changed.read_bytes() != path.read_bytes()
    rate = smallest_rate(24)
    assert run("threshold", changed, "-o", undone, "--false-alarm-rate", rate, "--quiet") == Outcome(0, "", "")
    assert oddsight.load(undone).metadata == oddsight.load(world.model).metadata


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("--false-alarm-rate 0.01", "99 calibration images"),
        ("--false-alarm-rate 0", "between 0 and 1"),
        ("--false-alarm-rate 7", "between 0 and 1"),
        ("--score nan", "finite"),
        ("--score inf", "finite"),
    ],
)
def test_threshold_refuses_what_cannot_be(world, tmp_path, options, word):
    assert_failed(run("threshold", world.model, "-o", tmp_path / "new", *options.split()), word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_info_runs_nothing(world, monkeypatch, options):
    def refuse(*args, **kwargs):
        raise AssertionError("a session was made")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    outcome = run("info", world.model, *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert oddsight.load(world.model).metadata.graph_sha256 in outcome.out
    with pytest.raises(Exception, match="a session was made"):
        oddsight.load(world.model).predict(texture(1))


def test_info_as_json(world):
    info = run("info", world.model, "--json").json
    scores = oddsight.load(world.model).calibration_scores
    assert info["calibration"]["kind"] == "cross"
    assert info["calibration"]["smallest_rate"] == 0.04
    assert info["calibration"]["scores"]["max"] == scores.max() == info["decision"]["threshold"]
    assert info["training"]["images"] == info["training"]["images_recognised"] == 24
    assert "images_seen" not in info["training"]
    assert info["versions"]["onnx"] == version("onnx")


def test_info_shows_whatever_a_file_says(world, tmp_path):
    """Settings of methods are free text, so a foreign file may try to break or colour the display."""
    proto = onnx.load(world.model)
    entry = next(entry for entry in proto.metadata_props if entry.key == "oddsight")
    content = strict_json(entry.value)
    content["method"]["settings"] = {"[/x]": "[red]y[/red]", "a\x1b[31m\nb": ":smile:\x1b[2J"}
    entry.value = json.dumps(content)
    onnx.save(proto, tmp_path / "m.onnx")
    outcome = run("info", tmp_path / "m.onnx")
    assert outcome.code == 0
    assert "[/x]" in outcome.out
    assert "[red]y[/red]" in outcome.out
    assert ":smile:" in outcome.out
    assert "\x1b" not in outcome.out
    assert run("info", tmp_path / "m.onnx", "--json").json["method"]["settings"] == content["method"]["settings"]


# check, methods, backbones


def test_check(world, tmp_path):
    shutil.copytree(world.normal, tmp_path / "in" / "a")
    shutil.copy(world.normal / "00100.png", tmp_path / "in" / "twin.png")
    (tmp_path / "in" / "broken.png").write_text("x")
    (tmp_path / "in" / "notes.txt").write_text("x")
    outcome = run("check", tmp_path / "in", "--json", "-")
    assert (outcome.code, outcome.err) == (0, "")
    found = outcome.json
    assert (found["images"], found["ignored"]) == (10, 1)
    assert [entry["path"] for entry in found["unreadable"]] == ["broken.png"]
    assert [group["paths"] for group in found["duplicates"]] == [["a/00100.png", "twin.png"]]
    assert run("check", tmp_path / "in", "--json", tmp_path / "found.json") == Outcome(0, "", "")
    assert strict_json((tmp_path / "found.json").read_text()) == found
    shown = run("check", tmp_path / "in")
    assert (shown.code, shown.err) == (0, "")
    for text in ("10 images", "1 other file is ignored", "broken.png", "a/00100.png = twin.png", f"width {SIDE}"):
        assert text in shown.out


def test_check_names_some_of_a_large_group(world, tmp_path):
    for number in range(12):
        shutil.copy(world.normal / "00100.png", tmp_path / f"{number:02}.png")
    shown = run("check", tmp_path)
    assert "00.png = 01.png" in shown.out
    assert "09.png and 2 more" in shown.out
    assert "10.png" not in shown.out


def test_methods_and_backbones(world):
    rows = run("methods", "--json").json
    assert [row["method"] for row in rows] == ["auto", *sorted(METHODS.keys() - {"auto"})]
    assert [row["method"] for row in rows if row["default"]] == ["auto"]
    assert {row["method"] for row in rows if row["localises"]} == {n for n in METHODS if METHODS[n].localises}
    assert "default: auto" in " ".join(run("fit", "--help").out.split())
    backbones = run("backbones", "--json").json
    assert backbones[0]["backbone"] == "efficientnet-lite0"
    for name, listed in (("methods", rows), ("backbones", backbones)):
        outcome = run(name)
        assert (outcome.code, outcome.err) == (0, "")
        for row in listed:
            for value in row.values():
                assert isinstance(value, bool) or str(value) in outcome.out


# Streams: pipes, terminals, closed and full ones


# Progress is shown after a second: in these tests at once, so that they need not last.
MAIN = "from oddsight.__main__ import main; main()"
AT_ONCE = "import oddsight.sinks.terminal as t; t._PATIENCE = 0; from oddsight.__main__ import main; main()"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "fit {good} -o {new} --size 32 --method knn",
        "predict {model} {anomalous} {good}",
        "predict {model} {good} --json {new}",
    ],
)
def test_pipes_get_no_colours_and_no_progress(world, tmp_path, arguments):
    text = arguments.format(good=world.good, model=world.model, anomalous=world.anomalous, new=tmp_path / "new")
    env = environment(TERM="xterm-256color", COLORTERM="truecolor")
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, *text.split()], env=env, capture_output=True, check=True, timeout=60
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    for control in ("\x1b", "\r", "\b"):
        assert control not in out + err
    if arguments.startswith("fit"):
        assert out == ""
        assert [line.split()[0] for line in err.splitlines()] == ["learning", "memory", "wrote", "flags", "the"]
    else:
        assert len(out.splitlines()) == (0 if "--json" in arguments else 33)
        assert re.fullmatch(r"\d+ anomalous, \d+ normal\n", err)


def on_terminal(arguments, *, both=True):
    """Run with streams on a pseudo-terminal and return the code and what it showed."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_ONCE, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs if both else subprocess.DEVNULL,
        stderr=theirs,
        env=environment(TERM="xterm-256color"),
    )
    os.close(theirs)
    shown = b""
    while True:
        if select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            if not piece:
                break
            shown += piece
        else:
            process.kill()
            break
    os.close(ours)
    return process.wait(60), shown.decode()


@pytest.mark.slow
@pytest.mark.posix
def test_a_terminal_shows_progress_and_the_time_left(world, tmp_path):
    code, shown = on_terminal(["fit", world.good, "-o", tmp_path / "m.onnx", "--method", "patchcore", "--size", 32])
    assert code == 0
    for text in ("fold 1 of 5", "learning", "/24", "wrote"):
        assert text in shown
    assert re.search(r"\d:\d\d:\d\d|-:--:--", shown)
    assert "Traceback" not in shown
    assert (tmp_path / "m.onnx").read_bytes() == world.model.read_bytes()


@pytest.mark.slow
@pytest.mark.posix
def test_a_terminal_shows_nothing_when_quiet(world, tmp_path):
    arguments = ["fit", world.good, "-o", tmp_path / "m.onnx", "--method", "knn", "--size", 32, "--quiet"]
    assert on_terminal(arguments) == (0, "")


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize("name", ["predict", "evaluate", "check"])
def test_progress_of_other_commands(world, tmp_path, name):
    many = many_links(tmp_path / "many", world.normal / "00100.png", 200)
    arguments = {
        "predict": ["predict", world.knn, many, "--json", tmp_path / "out"],
        "evaluate": ["evaluate", world.knn, "--normal", many, "--anomalous", world.anomalous],
        "check": ["check", many],
    }[name]
    code, shown = on_terminal(arguments, both=False)
    assert code == 0
    assert {"predict": "scoring", "evaluate": "evaluating", "check": "checking"}[name] in shown
    assert re.search(r"\d+/20[08]", shown)


@pytest.mark.slow
@pytest.mark.posix
def test_a_terminal_shows_anomalies_in_colour(world):
    code, shown = on_terminal(["predict", world.model, world.anomalous])
    assert code == 0
    assert re.search("\x1b\\[31m.*anomalous", shown)


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [
        "methods",
        "info {model} --json",
        "predict {model} {good} --quiet",
        "predict {model} {good} --quiet --json -",
        "check {good}",
    ],
)
def test_a_reader_that_has_gone_is_no_error_to_report(world, arguments, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    text = arguments.format(model=world.model, good=world.good)
    try:
        outcome = spawn(*text.split(), stdout=writing, env=environment(PYTHONUNBUFFERED=unbuffered))
    finally:
        os.close(writing)
    assert outcome == Outcome(1, "", "")


@pytest.mark.slow
@pytest.mark.posix
def test_head_gets_its_lines(world, tmp_path):
    many = many_links(tmp_path / "many", world.normal / "00100.png", 1000)
    predict = start("predict", world.knn, many, "--json", "-", "--quiet", env=environment(PYTHONUNBUFFERED="1"))
    head = subprocess.run(["head", "-1"], stdin=predict.stdout, capture_output=True, check=True)
    predict.stdout.close()
    assert strict_json(head.stdout)["path"] == str(many / "00000.png")
    assert predict.stderr.read() == b""
    assert predict.wait(60) == 1


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", ["methods --json", "predict {model} {good} --quiet", "--version"])
def test_standard_output_that_is_full(world, arguments):
    with Path("/dev/full").open("w") as full:
        outcome = spawn(*arguments.format(model=world.model, good=world.good).split(), stdout=full)
    assert_failed(outcome, "standard output", "No space left")


@pytest.mark.slow
@pytest.mark.parametrize("closed", [1, 2])
def test_streams_that_are_closed(world, tmp_path, closed):
    arguments = command("predict", world.model, world.good, "--json", tmp_path / "out")
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *arguments],
        capture_output=True,
        env=environment(),
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert len(json_lines(tmp_path / "out")) == 24


ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LANG": "C", "LC_ALL": "C"},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", ASCII)
def test_a_terminal_of_few_characters(world, tmp_path, changes):
    shutil.copy(world.normal / "00100.png", tmp_path / "größe 猫.png")
    (tmp_path / "é.png").write_text("x")
    outcome = spawn("predict", world.model, tmp_path, env=environment(**changes))
    assert outcome.code == 1
    assert len(outcome.out.splitlines()) == 2
    assert ".png" in outcome.out
    assert len(error_lines(outcome)) == 1
    assert "1 could not be read" in outcome.err
    lines = spawn("predict", world.model, tmp_path, "--json", "-", env=environment(**changes)).lines
    assert [row["path"].encode("utf-8", "surrogateescape") for row in lines] == [
        f"{tmp_path}/größe 猫.png".encode(),
        f"{tmp_path}/é.png".encode(),
    ]
    assert spawn("check", tmp_path, env=environment(**changes)).code == 0


# Interruptions and full disks


@pytest.fixture(scope="module")
def long_work(world, tmp_path_factory):
    """A folder whose images take many seconds to score."""
    return many_links(tmp_path_factory.mktemp("long") / "many", world.normal / "00100.png", 10_000)


def interrupted(process, sign):
    process.send_signal(sign)
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err, err.decode()
    assert b"Exception ignored" not in err, err.decode()
    return process.returncode, out


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_begun_to_write(folder):
    try:
        return any(path.stat().st_size for path in folder.glob(".*.part"))
    except FileNotFoundError:  # one that only tried whether the folder can be written to
        return False


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_predict_leaves_no_trace(world, long_work, tmp_path, sign, code, old):
    if old:
        (tmp_path / "lines").write_bytes(old)
    process = start("predict", world.model, long_work, "--json", tmp_path / "lines")
    wait_for(lambda: has_begun_to_write(tmp_path))
    assert interrupted(process, sign) == (code, b"")
    assert files_in(tmp_path) == ({"lines": old} if old else {})


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_fit_leaves_no_trace(world, tmp_path, sign, code, old):
    if old:
        (tmp_path / "m.onnx").write_bytes(old)
    options = ["--size", "320", "-o", tmp_path / "m.onnx"]
    process = start("fit", world.good, *options, env=environment(ODDSIGHT_CACHE="off"))
    for line in process.stderr:
        if b"memory budget" in line:
            break
    assert interrupted(process, sign) == (code, b"")
    assert files_in(tmp_path) == ({"m.onnx": old} if old else {})


@pytest.mark.posix
@pytest.mark.slow
def test_an_interrupted_table_ends_quietly(world, long_work):
    process = start("predict", world.model, long_work, env=environment(PYTHONUNBUFFERED="1"))
    for line in process.stdout:
        if line.startswith(b"normal"):
            break
    assert interrupted(process, signal.SIGINT)[0] == 130


def few_bytes():
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def large_outputs(world, many, folder):
    return {
        "fit": ["fit", world.good, "-o", folder / "new", "--method", "knn", "--size", "32"],
        "predict": ["predict", world.model, many, "--json", folder / "new"],
        "threshold": ["threshold", world.model, "-o", folder / "new", "--score", "3"],
        "report": ["evaluate", world.model, world.mvtec, "--report", folder / "new"],
    }


@pytest.fixture(scope="module")
def many(world, tmp_path_factory):
    return many_links(tmp_path_factory.mktemp("links") / "many", world.normal / "00100.png", 500)


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "predict", "threshold", "report"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_that_grows_too_large_is_one_error(world, many, tmp_path, name, old):
    if old:
        (tmp_path / "new").write_bytes(old)
    outcome = spawn(*large_outputs(world, many, tmp_path)[name], preexec_fn=few_bytes)
    assert outcome.code == 1
    assert [line.split(": ")[1] for line in error_lines(outcome)] == [f"cannot write {tmp_path / 'new'}"]
    assert "File too large" in outcome.err
    assert files_in(tmp_path) == ({"new": old} if old else {})


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "predict", "threshold", "report"])
def test_a_full_disk_is_one_error(world, many, small_disk, name):
    (small_disk / "new").write_bytes(b"old")
    outcome = run(*large_outputs(world, many, small_disk)[name])
    assert outcome.code == 1
    assert error_lines(outcome) == [f"error: cannot write {small_disk / 'new'}: No space left on device"]
    assert files_in(small_disk) == {"new": b"old"}


@pytest.mark.posix
@pytest.mark.slow
def test_a_disk_full_of_heat_maps(world, small_disk, tmp_path):
    Image.fromarray(texture(1, 120, 120)).save(tmp_path / "large.png")
    images = many_links(tmp_path / "many", tmp_path / "large.png", 20)
    outcome = run("predict", world.model, images, "--maps", small_disk, "--json", tmp_path / "lines")
    assert outcome.code == 1
    assert len(error_lines(outcome)) == 1
    assert "No space left on device" in outcome.err
    assert not (tmp_path / "lines").exists()
    written = list(small_disk.iterdir())
    assert 0 < len(written) < 20
    for path in written:
        assert Image.open(path).convert("RGB").size == (120, 120)


@pytest.mark.posix
def test_pipes_are_written_to_and_not_replaced(world, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        outcome = run("predict", world.model, world.normal, "--json", pipe)
        received = os.read(reader, 65536).decode()
    finally:
        os.close(reader)
    assert outcome.code == 0
    assert pipe.is_fifo()
    assert len([strict_json(line) for line in received.splitlines()]) == 8


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "mknod") or os.geteuid() != 0, reason="only root can make a device")
@pytest.mark.parametrize("name", ["fit", "threshold", "check"])
def test_devices_are_written_to_and_not_replaced(world, tmp_path, name):
    """Not on /dev/null itself, which a failure would take from everyone."""
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o20666, os.makedev(1, 3))
        null.write_bytes(b"x")
    except OSError as error:
        pytest.skip(f"no devices here: {error}")
    arguments = {
        "fit": ["fit", world.good, "-o", null, "--method", "knn", "--size", 32],
        "threshold": ["threshold", world.model, "-o", null, "--score", 3],
        "check": ["check", world.normal, "--json", null],
    }[name]
    outcome = run(*arguments)
    assert (outcome.code, error_lines(outcome)) == (0, [])
    assert null.is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


# Speed of the start


TRAINING = {"torch", "torchvision", "timm", "lightning", "sklearn", "skl2onnx", "matplotlib"}
HEAVY = TRAINING | {"onnxruntime", "scipy"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "heavy"),
    [
        ("import oddsight; dir(oddsight)", HEAVY | {"numpy", "onnx", "PIL", "rich"}),
        (
            "import sys; sys.argv[1:] = ['--help']; from oddsight.__main__ import main; main()",
            HEAVY | {"numpy", "onnx"},
        ),
        (f"import sys; sys.argv[1:] = ['fit', '--help']; {MAIN}", HEAVY | {"onnx"}),
        (f"import sys; sys.argv[1:] = ['--version']; {MAIN}", HEAVY | {"onnx"}),
        (f"import sys; sys.argv[1:] = ['methods']; {MAIN}", TRAINING),
    ],
)
def test_the_start_is_fast_and_loads_nothing_heavy(script, heavy):
    watched = f"import atexit, sys; atexit.register(lambda: print('\\nloaded', *sys.modules))\n{script}"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, check=True, timeout=60)
    # Of its processor, not of the clock: others may keep the machine busy.
    assert os.times().children_user - before.children_user < 5
    loaded = done.stdout.split("\nloaded ")[1].split()
    assert "oddsight" in loaded
    assert not heavy & set(loaded)


@pytest.mark.slow
def test_the_console_script_is_the_same(world):
    script = Path(sys.executable).parent / "oddsight"
    if not script.exists():
        pytest.skip("oddsight is not installed as a script")
    done = subprocess.run([script, "info", world.model, "--json"], capture_output=True, text=True, check=True)
    assert strict_json(done.stdout) == run("info", world.model, "--json").json
