"""Bad images, names, folders, links and model files: one clear line each, and the rest goes on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from cli_files import (
    Outcome,
    assert_failed,
    bomb,
    environment,
    error_lines,
    json_lines,
    ordinary_user,
    public_folder,
    run,
    spawn,
)
from oddsight.data.opening import MAX_PIXELS
from textures import texture


@pytest.fixture
def folder(world, tmp_path):
    """A folder of 8 normal images, to put bad ones into."""
    return shutil.copytree(world.normal, tmp_path / "images")


def png():
    path = Path(os.environ["ODDSIGHT_CACHE"]) / "whole.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(texture(1, 64, 64)).save(path)
    return path.read_bytes()


def floats(path):
    Image.fromarray(np.zeros((5, 5), np.float32)).save(path.with_suffix(".tif"))
    path.with_suffix(".tif").rename(path)


BAD = {
    "zero bytes": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("Hello, I am no image.\n"), "not an image"),
    "HTML": (lambda path: path.write_text("<html><body>404 Not Found</body></html>"), "not an image"),
    "SVG": (lambda path: path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>'), "not an image"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "not an image"),
    "signature": (lambda path: path.write_bytes(png()[:8]), "damaged"),
    "header": (lambda path: path.write_bytes(png()[:40]), "damaged"),
    "truncated": (lambda path: path.write_bytes(png()[: len(png()) // 2]), "truncated"),
    "bad pixels": (lambda path: path.write_bytes(png()[:100] + bytes(2000) + png()[2100:]), "damaged"),
    "truncated JPEG": (
        lambda path: (
            Image.fromarray(texture(1, 64, 64)).save(path, "JPEG"),
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        ),
        "truncated",
    ),
    "a bomb": (lambda path: path.write_bytes(bomb(50_000, 50_000)), f"limit of {MAX_PIXELS:,}"),
    "the largest bomb": (lambda path: path.write_bytes(bomb(2**31 - 1, 2**31 - 1)), "limit of"),
    "a small bomb": (lambda path: path.write_bytes(bomb(6000, 6000)), "damaged"),
    "no pixels": (lambda path: path.write_bytes(bomb(0, 0)), ""),
    "floats": (floats, "floating-point"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "does not exist"),
    "a link to itself": (lambda path: path.symlink_to(path), "does not exist"),
    "a pipe": (lambda path: os.mkfifo(path), "not a regular file"),  # noqa: PLW0108 - Windows has none
    "a socket": (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), ""),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
}


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_predict_names_a_bad_image_and_goes_on(world, folder, kind, monkeypatch):
    make, reason = BAD[kind]
    monkeypatch.chdir(folder)  # since names of sockets must be short
    bad = Path("00104x.png")
    make(bad)
    monkeypatch.chdir("/")
    bad = folder / bad
    outcome = run("predict", world.model, folder, "--json", "-")
    assert outcome.code == 1
    (line,) = error_lines(outcome)
    assert line.startswith(f"error: {bad}: ")
    assert reason in line
    alarms = sum(row.get("anomalous", 0) for row in outcome.lines)
    assert outcome.err.splitlines() == [line, f"{alarms} anomalous, {8 - alarms} normal, 1 could not be read"]
    failed = [row for row in outcome.lines if "error" in row]
    assert [list(row) for row in failed] == [["path", "error"]]
    assert f"error: {failed[0]['path']}: {failed[0]['error']}" == line
    read = [row["path"] for row in outcome.lines if "error" not in row]
    assert read == [str(path) for path in sorted(folder.glob("00???.png"))]

    quiet = run("predict", world.model, folder, "--quiet")
    assert quiet.code == 1
    assert quiet.err == line + "\n"
    assert len(quiet.out.splitlines()) == 9
    # Named by itself, it gets the same answer.
    assert run("predict", world.model, bad, "--json", "-", "--quiet").lines == failed


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_other_commands_name_a_bad_image_and_go_on(world, folder, tmp_path, kind, monkeypatch):
    make, reason = BAD[kind]
    monkeypatch.chdir(folder)
    make(Path("bad.png"))
    monkeypatch.chdir("/")
    bad = folder / "bad.png"

    found = run("check", folder, "--json", "-")
    assert (found.code, found.err) == (0, "")
    (entry,) = found.json["unreadable"]
    assert entry["path"] == "bad.png"
    assert reason in entry["reason"]
    assert "bad.png: " in run("check", folder).out

    outcome = run("fit", folder, "-o", tmp_path / "m.onnx", "--method", "knn", "--size", 32)
    (line,) = error_lines(outcome)
    assert line.startswith(f"error: {bad}: ")
    assert reason in line
    assert run("info", tmp_path / "m.onnx", "--json").json["training"]["unreadable"] == 1

    outcome = run("evaluate", world.model, "--normal", folder, "--anomalous", world.anomalous, "--json", "-")
    assert outcome.code == 1
    (row,) = outcome.json["errors"]
    assert row["path"] == str(bad)
    assert reason in row["error"]
    assert outcome.json["counts"]["unreadable"] == 1
    assert error_lines(outcome) == [f"error: {row['path']}: {row['error']}"]


@pytest.mark.posix
def test_all_bad_images_at_once(world, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    for number, (make, _) in enumerate(BAD.values()):
        make(Path(f"bad{number:02d}.png"))
    outcome = run("predict", world.model, folder, "--json", tmp_path / "lines", "--maps", tmp_path / "maps")
    assert outcome.code == 1
    assert len(error_lines(outcome)) == len(BAD)
    lines = json_lines(tmp_path / "lines")
    assert sum("error" in row for row in lines) == len(BAD)
    assert sum("score" in row for row in lines) == len(list((tmp_path / "maps").iterdir())) == 8


@pytest.mark.slow
def test_a_bad_mask_is_named(world, tmp_path):
    copy = shutil.copytree(world.mvtec, tmp_path / "mvtec")
    (copy / "ground_truth" / "blot" / "00200_mask.png").write_text("x")
    Image.new("L", (5, 5)).save(copy / "ground_truth" / "blot" / "00201_mask.png")
    outcome = run("evaluate", world.model, copy, "--json", tmp_path / "found.json", "--report", tmp_path / "r.html")
    assert outcome.code == 1
    lines = error_lines(outcome)
    assert [name in line for line, name in zip(lines, ("00200_mask.png", "00201_mask.png"), strict=True)] == [True] * 2
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["counts"]["masks"] == 2
    assert found["pixel"] is not None
    assert (tmp_path / "r.html").exists()


# Names


NAMES = {
    "newline": b"a\nb.png",
    "escape": b"\x1b[31mred\x07.png",
    "undecodable": b"\xff\xfe.png",
    "markup": b"[red]x[bold].png",
    "closing markup": b"x[.png",
    "backslash": b"x\\[b].png",
    "trailing backslash": b"x.png\\",
    "emoji code": b":smile:.png",
    "leading dash": b"-x.png",
    "an option": b"--json.png",
    "spaces": b" a  b .png",
    "long": b"x" * 251 + b".png",
    "long and wide": "猫".encode() * 83 + b".png",
    "right to left": "a\u202egnp.exe.png".encode(),
    "percent and braces": b"%s{0}{x}$HOME.png",
    "glob": b"[a-z]*?.png",
    "quotes": b"'\"`.png",
    "combining": "e\u0301.png".encode(),
}


def shown_name(name):
    """As the terminal shows it."""
    return "".join(letter if letter.isprintable() else "�" for letter in os.fsdecode(name))


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize("kind", NAMES)
def test_names_are_shown_as_they_are_but_for_what_harms(world, tmp_path, kind):
    name = NAMES[kind]
    path = tmp_path / os.fsdecode(name)
    shutil.copy(world.normal / "00100.png", path)
    expected = run("predict", world.model, world.normal / "00100.png", "--json", "-").lines[0]
    for given in (path, tmp_path) if kind != "trailing backslash" else (path,):
        outcome = run("predict", world.model, given, "--quiet")
        assert (outcome.code, outcome.err) == (0, "")
        _, line = outcome.out.splitlines()
        assert line.endswith(f"  {tmp_path}/{shown_name(name)}")
        (row,) = run("predict", world.model, given, "--json", "-").lines
        assert os.fsencode(row["path"]) == os.fsencode(path)
        assert {**row, "path": 0} == {**expected, "path": 0}


@pytest.mark.posix
@pytest.mark.parametrize("kind", NAMES)
def test_errors_show_names_likewise(world, tmp_path, kind):
    name = NAMES[kind]
    path = tmp_path / os.fsdecode(name)
    path.write_text("x")
    outcome = run("predict", world.model, path, "--quiet")
    (line,) = outcome.err.splitlines()
    allowed = {f"error: {tmp_path}/{shown_name(name)}: ", f"error: {tmp_path}/{shown_name(name).replace('�', ' ')}: "}
    assert any(line.startswith(start) for start in allowed)
    shown = run("check", tmp_path).out if kind != "trailing backslash" else shown_name(name)
    assert shown_name(name) in shown
    for arguments in (["info", path], ["predict", path, world.normal], ["fit", path, "-o", tmp_path / "m.onnx"]):
        outcome = run(*arguments)
        assert outcome.code == 1
        assert len(outcome.err.splitlines()) == 1
        assert "\x1b" not in outcome.err


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["newline", "undecodable", "markup", "backslash", "long", "long and wide", "glob"])
def test_folders_and_outputs_may_have_such_names(world, tmp_path, kind):
    name = os.fsdecode(NAMES[kind])
    shutil.copytree(world.normal, tmp_path / name)
    (tmp_path / "out").mkdir()
    model, lines, maps = (tmp_path / "out" / f"{n}{name[1:]}" for n in "123")
    assert run("fit", tmp_path / name, "-o", model, "--method", "patchcore", "--size", 32).code == 0
    outcome = run("predict", model, tmp_path / name, "--json", lines, "--maps", maps)
    assert (outcome.code, len(json_lines(lines)), len(list(maps.iterdir()))) == (0, 8, 8)
    assert run("check", tmp_path / name).code == 0
    shutil.move(tmp_path / name, tmp_path / "out" / name)
    (tmp_path / "out" / name).rename(tmp_path / "normal")
    (tmp_path / "kinds" / name).mkdir(parents=True)
    shutil.copy(world.anomalous / "bark" / "00300.png", tmp_path / "kinds" / name / name)
    arguments = ["--normal", world.good, "--anomalous", tmp_path / "kinds", "--json", lines]
    outcome = run("evaluate", model, *arguments, "--report", tmp_path / "out" / f"4{name[1:]}")
    assert outcome.code == 0
    assert list(json.loads(lines.read_text())["by_type"]) == [name]


@pytest.mark.slow
def test_a_name_with_a_leading_dash_after_two_dashes(world, tmp_path):
    shutil.copy(world.normal / "00100.png", tmp_path / "--json.png")
    arguments = [sys.executable, "-m", "oddsight", "predict", str(world.model), "--quiet", "--", "--json.png"]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"  --json.png\n")


def test_a_path_that_is_too_long(world):
    for path in ("x" * 300 + ".png", "/" + "x/" * 3000 + "x.png"):
        outcome = run("predict", world.model, path, world.normal, "--quiet")
        assert outcome.code == 1
        assert len(error_lines(outcome)) == 1
        assert len(outcome.out.splitlines()) == 9


# Folders, links, globs


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "no such file or folder"),
        ("missing.png", "no such file or folder"),
        ("*.bmp", "no file matches"),
        ("missing/**/*.png", "no file matches"),
    ],
)
def test_what_is_not_there_is_named_and_the_rest_goes_on(world, tmp_path, name, reason):
    outcome = run("predict", world.model, tmp_path / name, world.normal, "--json", "-")
    assert outcome.code == 1
    (line,) = error_lines(outcome)
    assert str(tmp_path / name) in line
    assert reason in line
    assert [("error" in row) for row in outcome.lines] == [True] + [False] * 8
    assert_failed(run("fit", tmp_path / name, "-o", tmp_path / "m.onnx"), tmp_path / name, reason)
    outcome = run("predict", world.model, tmp_path / name, "--json", "-")
    assert (outcome.code, len(outcome.lines)) == (1, 1)


@pytest.mark.parametrize("name", ["check", "fit", "predict", "normal", "anomalous", "mvtec"])
@pytest.mark.parametrize("files", [[], ["a.txt", "b.md", ".hidden.png"]])
def test_a_folder_without_images_is_named(world, tmp_path, name, files):
    folder = tmp_path / "texts"
    (folder / "test" / "good").mkdir(parents=True)
    for file in files:
        (folder / "test" / "good" / file).write_text("x")
    output = tmp_path / "out"
    arguments = {
        "check": ["check", folder, "--json", output],
        "fit": ["fit", folder, "-o", output],
        "predict": ["predict", world.model, folder, "--json", output, "--maps", tmp_path / "maps"],
        "normal": ["evaluate", world.model, "--normal", folder, "--anomalous", world.anomalous, "--json", output],
        "anomalous": ["evaluate", world.model, "--anomalous", folder, "--normal", world.normal, "--json", output],
        "mvtec": ["evaluate", world.model, folder, "--json", output],
    }
    assert_failed(run(*arguments[name]), "no images in", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_identical_images_teach_nothing(world, tmp_path):
    for number in range(12):
        shutil.copy(world.good / "00000.png", tmp_path / f"{number}.png")
    assert_failed(run("fit", tmp_path, "-o", tmp_path / "m.onnx"), tmp_path, "12 images", "identical")


@pytest.mark.parametrize("count", [1, 3])
def test_only_bad_images(world, tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number}.png").write_text("x")
    assert_failed(run("fit", tmp_path, "-o", tmp_path / "m.onnx"), tmp_path / "0.png", "not an image")
    arguments = ["evaluate", world.model, "--normal", tmp_path, "--anomalous", world.anomalous]
    assert_failed(run(*arguments), tmp_path / "0.png", "none of the normal images")
    outcome = run("predict", world.model, tmp_path, "--json", "-")
    assert (outcome.code, len(outcome.lines)) == (1, count)
    found = run("check", tmp_path, "--json", "-")
    assert (found.code, len(found.json["unreadable"])) == (0, count)
    assert run("check", tmp_path).code == 0


def test_a_folder_that_holds_itself(world, folder):
    (folder / "self").symlink_to(folder)
    (folder / "deep").mkdir()
    (folder / "deep" / "up").symlink_to("..")
    (folder / "loop1").symlink_to("loop2")
    (folder / "loop2").symlink_to("loop1")
    outcome = run("predict", world.model, folder, "--json", "-")
    assert (outcome.code, len(outcome.lines)) == (0, 8)
    assert run("check", folder, "--json", "-").json["images"] == 8


@pytest.mark.slow
@pytest.mark.posix
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_may_not_be_read_is_named(world, what):
    run("evaluate", world.model, world.mvtec, "--quiet")  # imports what an ordinary user may not be able to read
    with public_folder() as place:
        shutil.copytree(world.normal, place / "images")
        shutil.copytree(world.anomalous, place / "anomalous")
        shutil.copy(world.model, place)
        closed = place / "images" / "closed"
        closed.mkdir()
        if what == "file":
            shutil.copy(world.normal / "00100.png", closed / "x.png")
            (closed / "x.png").chmod(0)
        closed.chmod(0 if what == "folder" else 0o755)
        named = closed if what == "folder" else closed / "x.png"
        try:
            with ordinary_user():
                outcome = run("predict", place / "patchcore.onnx", place / "images", "--json", "-")
                check = run("check", place / "images", "--json", "-")
                arguments = ["--normal", place / "images", "--anomalous", place / "anomalous", "--quiet"]
                evaluate = run("evaluate", place / "patchcore.onnx", *arguments)
                alone = run("fit", named, "-o", place / "new", "--quiet")
                layout = run("evaluate", place / "patchcore.onnx", named, "--quiet")
        finally:
            closed.chmod(0o755)
    assert outcome.code == evaluate.code == 1
    assert len(error_lines(outcome)) == 1
    assert error_lines(outcome) == error_lines(evaluate)
    assert str(named) in error_lines(outcome)[0]
    assert "ermission denied" in error_lines(outcome)[0]
    assert sum("score" in row for row in outcome.lines) == 8
    assert [one["path"] for one in check.json["unreadable"]] == [str(named.relative_to(place / "images"))]
    assert_failed(alone, named, "ermission denied")
    assert_failed(layout, named)


@pytest.mark.slow
def test_an_image_that_goes_or_changes_during_a_fit(world, tmp_path, monkeypatch):
    monkeypatch.setenv("ODDSIGHT_CACHE", "off")
    for change in ("gone", "changed"):
        copy = shutil.copytree(world.good, tmp_path / change)
        victim = copy / "00005.png"

        def meddle(plan, quiet, victim=victim, change=change):
            victim.unlink()
            if change == "changed":
                shutil.copy(world.normal / "00100.png", victim)

        monkeypatch.setattr("oddsight.cli.output.say_plan", meddle)
        outcome = run("fit", copy, "-o", tmp_path / "m.onnx", "--method", "knn", "--size", 32)
        assert_failed(outcome, victim, {"gone": "no such file", "changed": "changed while it was in use"}[change])
        assert not (tmp_path / "m.onnx").exists()


# Model files


def other_onnx():
    graph = onnx.parser.parse_graph("other (float[N] x) => (float[N] y) { y = Relu (x) }")
    return onnx.helper.make_model(graph).SerializeToString()


BAD_MODELS = {
    "missing": lambda path, good: None,
    "empty": lambda path, good: path.write_bytes(b""),
    "text": lambda path, good: path.write_text("I am no model.\n" * 100),
    "zeros": lambda path, good: path.write_bytes(bytes(10_000)),
    "image": lambda path, good: Image.new("RGB", (9, 9)).save(path, "PNG"),
    "pickle": lambda path, good: path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins\x94."),
    "a folder": lambda path, good: path.mkdir(),
    "a dangling link": lambda path, good: path.symlink_to("nowhere"),
    "a link to itself": lambda path, good: path.symlink_to(path),
    "other ONNX file": lambda path, good: path.write_bytes(other_onnx()),
    "one byte": lambda path, good: path.write_bytes(good[:1]),
    "half": lambda path, good: path.write_bytes(good[: len(good) // 2]),
    "all but one byte": lambda path, good: path.write_bytes(good[:-1]),
    "without its beginning": lambda path, good: path.write_bytes(good[1000:]),
    "more at its end": lambda path, good: path.write_bytes(good + b"more"),
    "a changed byte": lambda path, good: path.write_bytes(good[:500_000] + bytes([good[500_000] ^ 1]) + good[500_001:]),
}


@pytest.mark.posix
@pytest.mark.parametrize("kind", BAD_MODELS)
def test_bad_model_files_are_refused_in_one_line(world, tmp_path, kind):
    path = tmp_path / "bad [b] model.onnx"
    BAD_MODELS[kind](path, world.model.read_bytes())
    before = sorted(tmp_path.iterdir())
    for arguments in (
        ["info", path],
        ["info", path, "--json"],
        ["predict", path, world.normal, "--json", tmp_path / "new", "--maps", tmp_path / "maps"],
        ["evaluate", path, world.mvtec, "--json", tmp_path / "new"],
        ["threshold", path, "-o", tmp_path / "new", "--score", 1],
    ):
        assert_failed(run(*arguments), f"error: {path}: ")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.posix
def test_a_model_that_may_not_be_read_is_refused(world):
    with public_folder() as place:
        shutil.copy(world.model, place / "m.onnx")
        (place / "m.onnx").chmod(0)
        with ordinary_user():
            outcome = run("info", place / "m.onnx")
    assert_failed(outcome, place / "m.onnx", "Permission denied")


def test_a_cut_anywhere_is_noticed(world, tmp_path):
    content = world.model.read_bytes()
    path = tmp_path / "m.onnx"
    for length in np.random.default_rng(0).integers(1, len(content), 25):
        path.write_bytes(content[:length])
        assert_failed(run("info", path), f"error: {path}: ")


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "other ONNX file", "half"])
def test_a_process_says_the_same(world, tmp_path, kind):
    path = tmp_path / "m.onnx"
    BAD_MODELS[kind](path, world.model.read_bytes())
    assert spawn("predict", path, world.normal) == run("predict", path, world.normal)


@pytest.mark.posix
@pytest.mark.slow
def test_a_process_goes_on_after_bad_images(world, folder, tmp_path):
    for kind in ("text", "truncated", "a bomb", "a pipe", "a dangling link"):
        BAD[kind][0](folder / f"{kind}.png")
    outcome = spawn("predict", world.model, folder, "--json", "-")
    assert outcome.code == 1
    here = run("predict", world.model, folder, "--json", "-")
    assert (outcome.code, outcome.err) == (here.code, here.err)
    assert [row["path"] for row in outcome.lines] == [row["path"] for row in here.lines]
    scores = [[row["score"] for row in rows if "error" not in row] for rows in (outcome.lines, here.lines)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert len(scores[0]) == 8
    fitted = spawn("fit", folder, "-o", tmp_path / "m.onnx", "--size", "32", "--method", "knn", "--quiet")
    assert len(error_lines(fitted)) == 5
    assert spawn("predict", tmp_path / "m.onnx", world.good / "00001.png", "--quiet").code == 0


# Numbers


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("fit {good} -o {new} --false-alarm-rate 1e-310", "1e-310"),
        ("predict {model} {good} --false-alarm-rate 1e-310", "1e-310"),
        ("threshold {model} -o {new} --false-alarm-rate 1e-310", "1e-310"),
        ("fit {good} -o {new} --size 32 --seed -1 --quiet", "seed"),
        ("fit {good} -o {new} --size 0 --quiet", "size"),
        ("fit {good} -o {new} --memory 1{zeros}", "memory"),
    ],
)
def test_numbers_beyond_reason(world, tmp_path, arguments, word):
    places = {"good": world.good, "model": world.model, "new": tmp_path / "new", "zeros": "0" * 400}
    outcome = run(*arguments.format(**places).split())
    assert_failed(outcome, word)
    assert len(outcome.err) < 500


@pytest.mark.slow
@pytest.mark.posix
def test_a_pipe_is_no_model_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    arguments = [sys.executable, "-m", "oddsight", "info", str(tmp_path / "pipe")]
    done = subprocess.run(arguments, env=environment(), capture_output=True, check=False, timeout=60, text=True)
    assert_failed(Outcome(done.returncode, done.stdout, done.stderr), tmp_path / "pipe")
