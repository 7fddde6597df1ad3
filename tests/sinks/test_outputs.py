"""No output of any command replaces an input or another output, and nothing is written where something is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer

from cli_files import assert_failed, run
from oddsight.__main__ import app
from oddsight.errors import OddsightError
from oddsight.sinks.output_paths import check_outputs
from oddsight.watch.zone_files import write_zones
from oddsight.watch.zones import Zone, Zones
from textures import write_textures
from tiny_model import tiny_model

SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9))

READ = {
    *("evaluate --normal", "evaluate --anomalous", "evaluate --masks", "evaluate --labelled"),
    *("adapt --weights", "backbones export --weights"),
    *("study cifar10 --data", "study clouds --data", "study clouds --masks"),
    *("fit --zones", "evaluate --video", "evaluate --labels", "evaluate --zones"),
    *("watch --zones", "watch --webhook-key", "watch --mqtt-ca", "recalibrate --from-video", "recalibrate --zones"),
    *("fit-classes --normal", "report --runtime", "serve --token-file", "serve --runtime"),
}
"""Options with paths that are only read."""

FILES = {
    "check --json": "check {images} --json {output}",
    "fit --output": "fit {images} --output {output}",
    "fit-classes --output": "fit-classes {images} --output {output}",
    "fit --curves": "fit {images} -o {new}.onnx --method autoencoder --curves {output}",
    "predict --json": "predict {model} {images} --json {output}",
    "evaluate --json": "evaluate {model} --normal {images} --anomalous {images} --masks {images} --json {output}",
    "evaluate --report": "evaluate {model} --normal {images} --anomalous {images} --report {output}",
    "threshold --output": "threshold {model} --output {output} --score 3",
    "compare --report": "compare x={images} --report {output}",
    "compare --csv": "compare x={images} --csv {output}",
    "adapt --output": "adapt {images} --output {output}",
    "adapt --curves": "adapt {images} -o {new} --curves {output}",
    "export --output": "export {model} --to fp16 --images {images} --output {output}",
    "export --json": "export {model} --to fp16 --images {images} --output {new} --json {output}",
    "update --output": "update {model} {images} --output {output}",
    "update --json": "update {model} {images} --output {new} --json {output}",
    "watch --events": "watch {model} {images} --events {output}",
    "watch --frames": "watch {model} {images} --frames {output}",
    "watch --save": "watch {model} {images} --save {output}",
    "recalibrate --output": "recalibrate {model} --from-video {images} --output {output}",
    "report --output": "report {model} --standalone --runtime {images} --output {output}",
    "summarize --json": "summarize {images} --json {output}",
    "summarize --report": "summarize {images} --report {output}",
    "zones --image": "zones {images} -o {new} --image {output}",
    "backbones export --output": "backbones export resnet50 --weights {model} --output {output}",
}
"""Every option that names a file to write, in a command that reads."""

FOLDERS = {
    "predict --maps": "predict {model} {images} --maps {output}",
    "predict --explain": "predict {model} {images} --explain {output}",
    "predict --regions": "predict {model} {images} --regions {output}",
    "fit --work": "fit {images} -o {new} --method autoencoder --work {output}",
    "fit-classes --work": "fit-classes {images} -o {new} --work {output}",
    "prepare --output": "prepare {images} --output {output}",
    "synthesize --output": "synthesize {images} --output {output}",
    "compare --work": "compare {images} --work {output}",
    "adapt --work": "adapt {images} -o {new} --work {output}",
    "watch --key-frames": "watch {model} {images} --key-frames {output}",
    "study cifar10 --output": "study cifar10 --data {images} --output {output}",
    "study clouds --output": "study clouds --data {images} --output {output}",
}
"""Every option that names a folder to write into."""


KEPT = {"zones --output", "serve --workspace"}
"""Options with what is read if it is there, and never replaced; see the tests of the command."""


def path_options(application: typer.Typer = app, before: str = "") -> Iterator[str]:
    """All options of all commands that are paths."""
    named = [(command.name, command.callback) for command in application.registered_commands]
    if application.registered_callback is not None:
        named.append(("", application.registered_callback.callback))
    for name, function in named:
        command = f"{before} {function.__name__ if name is None else name}".strip()
        for parameter, annotation in get_type_hints(function, include_extras=True).items():
            kind, *described = get_args(annotation) or (annotation,)
            options = [one for one in described if isinstance(one, typer.models.OptionInfo)]
            if options and "Path" in str(kind):
                given = [one for one in options[0].param_decls or () if one.startswith("--")]
                yield f"{command} {(given or ['--' + parameter.replace('_', '-')])[0]}"
    for group in application.registered_groups:
        yield from path_options(group.typer_instance, f"{before} {group.name or ''}".strip())


def test_every_option_that_is_a_path_is_known_here():
    assert set(path_options()) == READ | FILES.keys() | FOLDERS.keys() | KEPT


@pytest.fixture
def inputs(tmp_path):
    """Images and a model, and what all of it holds."""
    write_textures(tmp_path / "images", range(3), width=24, height=24)
    tiny_model().save(tmp_path / "model.onnx")
    return {"images": tmp_path / "images", "model": tmp_path / "model.onnx", "new": tmp_path / "new"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(arguments: str, inputs, output: Path, *words: str) -> None:
    folder = inputs["model"].parent
    before = contents(folder)
    outcome = run(*arguments.format(output=output, **inputs).split())
    assert_failed(outcome, output.name, *words)
    assert contents(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("option", [name for name in FILES if name not in ("threshold --output",)])
@pytest.mark.parametrize("how", ["path", "dots", "link", "hard link"])
def test_a_file_that_is_an_input(option, how, inputs, tmp_path):
    image = tmp_path / "images" / "00000.png"
    source = inputs["model"] if "export" in option else image
    output = {
        "path": source,
        "dots": source.parent / ".." / source.parent.name / source.name,
        "link": tmp_path / "images" / "link.png",
        "hard link": tmp_path / "hard.png",
    }[how]
    if how == "link":
        output.symlink_to(source)
    elif how == "hard link":
        os.link(source, output)
    refused(FILES[option], inputs, output, "would replace an input")


@pytest.mark.parametrize("option", [name for name in FILES if "{model}" in FILES[name]])
def test_a_file_that_is_the_model(option, inputs, tmp_path):
    refused(FILES[option], inputs, inputs["model"], "would replace an input", option.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("option", [name for name in FILES if "{images}" in FILES[name]])
def test_a_new_file_that_would_be_read_as_an_image(option, inputs, tmp_path):
    refused(FILES[option], inputs, tmp_path / "images" / "new.png", "name a file elsewhere")
    assert not (tmp_path / "images" / "new.png").exists()


@pytest.mark.parametrize("option", FOLDERS)
def test_a_folder_that_is_an_input(option, inputs, tmp_path):
    before = contents(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "images")
    for output in (tmp_path / "images", tmp_path / "link"):
        outcome = run(*FOLDERS[option].format(output=output, **inputs).split())
        assert_failed(outcome, "holds other files" if "prepare" in option else "they could replace the images there")
    (tmp_path / "link").unlink()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        "evaluate {model} --normal {images} --anomalous {images} --json {new} --report {new}",
        "evaluate {model} --normal {images} --anomalous {images} --json {new} --report {images}/../NEW",
        "compare {images} --csv {new} --report {new}",
        "fit {images} -o {new}.csv --curves {new}.csv --method autoencoder",
        "fit {images} -o {new}.onnx --curves {new}.csv --curves {new}.csv --method autoencoder",
        "adapt {images} -o {new}.csv --curves {new}.csv",
        "predict {model} {images} --json {new}/a.png --maps {new}",
        "predict {model} {images} --json {new} --maps {new}",
        "predict {model} {images} --maps {new} --regions {images}/../NEW",
    ],
)
def test_two_outputs_that_are_one(arguments, inputs, tmp_path):
    before = contents(tmp_path)
    assert_failed(run(*arguments.format(**inputs).split()), "name")
    assert contents(tmp_path) == before


def test_small_copies_are_an_input_and_an_output(inputs, tmp_path):
    copies = tmp_path / "model.normals.zip"
    copies.write_bytes(b"x")
    assert_failed(run("predict", inputs["model"], inputs["images"], "--json", copies), "small copies")
    work = tmp_path / "set.normals.zip"
    assert_failed(
        run("fit", inputs["images"], "-o", tmp_path / "set", "--curves", f"{work}", "--method", "autoencoder"), "curves"
    )
    assert copies.read_bytes() == b"x"


def test_small_copies_are_an_input_of_every_command_that_reads_a_model(inputs, tmp_path):
    copies = tmp_path / "model.normals.zip"
    copies.write_bytes(b"x")
    for arguments in (
        "threshold {model} --score 3 -o {copies}",
        "evaluate {model} --labelled {images} --json {copies}",
    ):
        assert_failed(run(*arguments.format(copies=copies, **inputs).split()), "small copies")
    assert copies.read_bytes() == b"x"


@pytest.mark.parametrize(
    "arguments",
    [
        "fit {images} --group-by {groups} -o {groups}",
        "fit {images} --group-by {groups} -o {new} --method autoencoder --curves {groups}",
        "fit-classes {images} --group-by {groups} -o {groups}",
        "compare {images} --group-by {groups} --csv {groups}",
    ],
)
def test_a_table_of_groups_is_an_input(arguments, inputs, tmp_path):
    groups = tmp_path / "groups.csv"
    groups.write_text("path,group\n00000.png,a\n")
    before = contents(tmp_path)
    assert_failed(run(*arguments.format(groups=groups, **inputs).split()), "would replace an input, --group-by")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "option",
    [
        *("predict --maps", "predict --explain", "predict --regions"),
        *("synthesize --output", "prepare --output", "watch --key-frames"),
    ],
)
@pytest.mark.parametrize("where", ["new", "deeply/new", "../link/new"])
def test_a_folder_of_images_that_the_next_run_would_read(option, where, inputs, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "images")
    before = contents(tmp_path)
    output = tmp_path / "images" / where
    assert_failed(run(*FOLDERS[option].format(output=output, **inputs).split()), "the next time")
    assert contents(tmp_path) == before and not output.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "watch {model} {images} --webhook http://127.0.0.1:9 --webhook-key {file} --events {file}",
        "watch {model} {images} --zones {file} --frames {file}",
        "recalibrate {model} --from-video {images} --zones {file} -o {file}",
        "evaluate {model} --video {images} --labels {file} --json {file}",
        "evaluate {model} --video {images} --labels {images} --zones {file} --json {file}",
    ],
)
def test_what_else_commands_of_video_read_is_an_input(arguments, inputs, tmp_path):
    file = tmp_path / "file.json"
    file.write_text('"0.1,0.1,0.9,0.1,0.9,0.9"')  # zones, and a key
    before = contents(tmp_path)
    assert_failed(run(*arguments.format(file=file, **inputs).split()), "would replace an input")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        "watch {model} {images} --zones {zones} --events {other}",
        "watch {model} {images} --roi {detector} --events {description}",
        "recalibrate {model} --from-video {images} --zones {zones} -o {other}",
        "evaluate {model} --video {images} --labels {images} --zones {zones} --json {other}",
        "zones {images} -o {drawn} --image {drawn}",
    ],
)
def test_what_files_of_zones_and_detectors_lead_to_is_an_input(arguments, inputs, tmp_path):
    names = {"zones": "zones.json", "detector": "cars.onnx", "description": "cars.json", "other": "gate.onnx"}
    files = {key: tmp_path / name for key, name in names.items()} | {"drawn": tmp_path / "drawn.png"}
    for key in ("detector", "description", "other"):
        files[key].write_text(key)
    write_zones(files["zones"], Zones([Zone("gate", SQUARE, model=files["other"])]))
    write_zones(files["drawn"], Zones([Zone("gate", SQUARE)]))
    before = contents(tmp_path)
    assert_failed(run(*arguments.format(**files, **inputs).split()), "would replace an input")
    assert contents(tmp_path) == before


def test_a_folder_that_is_not_searched_may_lie_among_the_images(inputs):
    for name in (".maps", "__MACOSX"):
        folder = inputs["images"] / name
        assert run("predict", inputs["model"], inputs["images"], "--maps", folder, "--quiet").code == 0
        assert len(list(folder.iterdir())) == 3


def test_prepared_files_are_not_replaced_while_they_are_read(tmp_path):
    for name in "ab":
        write_textures(tmp_path / "data" / name, range(3), width=24, height=24)
    assert run("prepare", tmp_path / "data", "-o", tmp_path / "out", "--quiet").code == 0
    before = contents(tmp_path)
    source = tmp_path / "out" / "train.npz"
    assert_failed(run("prepare", source, "-o", tmp_path / "out"), "cannot be read and written at once")
    assert contents(tmp_path) == before


def test_results_beside_the_images_stay_possible(inputs):
    lines = inputs["images"] / "lines.jsonl"
    for _ in range(2):
        assert run("predict", inputs["model"], inputs["images"], "--json", lines, "--quiet").code == 0
    assert len(lines.read_text().splitlines()) == 3
    beside = inputs["new"]
    for _ in range(2):
        options = ("--json", beside / "lines.jsonl", "--maps", beside, "--quiet")
        assert run("predict", inputs["model"], inputs["images"], *options).code == 0
    assert sorted(path.name for path in beside.iterdir()) == ["00000.png", "00001.png", "00002.png", "lines.jsonl"]


def test_labelled_data_may_be_any_file(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "data_batch_1").write_bytes(b"x")
    with pytest.raises(OddsightError, match=r"--json .* would replace an input, --labelled"):
        check_outputs({"--json": data / "data_batch_1"}, data={"--labelled": data})
    check_outputs({"--json": data / "new"}, data={"--labelled": data})
    check_outputs({"--json": data / "data_batch_1"}, inputs={"--normal": data})


def test_inputs_by_patterns_and_links_inside(tmp_path):
    write_textures(tmp_path / "a", [1], width=24, height=24)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sub").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b")
    image = tmp_path / "a" / "00001.png"
    for source in (str(tmp_path / "*" / "*.png"), str(tmp_path / "b"), [str(tmp_path / "none"), str(image)]):
        with pytest.raises(OddsightError, match="would replace an input"):
            check_outputs({"-o": image}, inputs={"PATH": source})


def test_a_file_system_that_ignores_case(tmp_path, monkeypatch):
    """Where a name in other letters leads to the same file, that is what counts."""
    image = tmp_path / "a.png"
    image.write_bytes(b"x")
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: stat(os.fspath(path).lower(), **options))
    monkeypatch.setattr("oddsight.sinks.output_paths.check_writable", lambda path: None)
    if str(tmp_path) == str(tmp_path).lower():
        with pytest.raises(OddsightError, match="would replace an input"):
            check_outputs({"--json": tmp_path / "A.PNG"}, inputs={"PATH": str(image)})


def test_streams_are_no_files(inputs):
    check_outputs({"--json": Path("/dev/null"), "--report": Path("/dev/null")})
    check_outputs({"--json": Path("-")})
    for option in ("--report", "--output", "--curves", "--csv"):
        with pytest.raises(OddsightError, match=f"{option} cannot be written to standard output: name a file"):
            check_outputs({"--json": Path("-"), option: Path("-")})


@pytest.mark.parametrize("pattern", ["**/*.png", "*/*.png", "n*/0*.png"])
def test_a_folder_of_images_that_a_pattern_would_match_the_next_time(pattern, inputs):
    (inputs["images"] / "near").mkdir()
    for image in list(inputs["images"].glob("*.png")):
        image.rename(inputs["images"] / "near" / image.name)
    output = inputs["images"] / "new"
    failed = run("predict", inputs["model"], inputs["images"] / pattern, "--maps", output)
    assert_failed(failed, "would match them, so that they would be read as images the next time")
    assert not output.exists()


def test_a_folder_of_images_that_a_pattern_does_not_match(inputs):
    for pattern, folder in (("**/*.png", ".new"), ("*.png", "new")):
        output = inputs["images"] / folder
        assert run("predict", inputs["model"], inputs["images"] / pattern, "--maps", output, "--quiet").code == 0
        assert len(list(output.iterdir())) == 3
