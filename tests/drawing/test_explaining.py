"""What explains a result: small copies of normal images beside a model, what spoke, and images of both."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import run
from oddsight.data.collection import collect
from oddsight.drawing.explanations import PANEL, explanation
from oddsight.errors import DataError, ImageError
from oddsight.model.normals import SIDE, NormalImages, normals_path, write_normals
from oddsight.model.result import Result, Voice
from oddsight.report import write_report
from textures import write_textures

OLD = Path(__file__).parents[1] / "files" / "model-schema-1.onnx"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of method auto by the command line, with its small copies, and test images."""
    folder = tmp_path_factory.mktemp("explaining")
    write_textures(folder / "good", range(30), width=160, height=96)
    write_textures(folder / "test" / "good", range(100, 105), width=160, height=96)
    write_textures(folder / "test" / "blot", range(200, 204), width=160, height=96, blot=True)
    write_textures(folder / "test" / "bark", range(300, 303), width=160, height=96, material="bark")
    outcome = run("fit", folder / "good", "-o", folder / "model.onnx", "--size", 64, "--false-alarm-rate", 0.1)
    assert (outcome.code, outcome.out) == (0, "")
    assert f"wrote {folder / 'model.onnx'}" in outcome.err
    assert f"and {folder / 'model.normals.zip'}" in outcome.err
    return folder


@pytest.fixture(scope="module")
def model(world):
    return oddsight.load(world / "model.onnx")


@pytest.fixture(scope="module")
def evaluation(world, model):
    return oddsight.evaluate(model, world)


@pytest.fixture
def normals(world):
    return NormalImages.beside(world / "model.onnx")


@pytest.fixture
def images(world):
    return collect(world / "good").images


def copied(world, folder):
    """The model and its small copies elsewhere, to be spoiled."""
    for name in ("model.onnx", "model.normals.zip"):
        shutil.copy(world / name, folder / name)
    return folder / "model.onnx", folder / "model.normals.zip"


def zipped(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def jpeg(width=8, height=8):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (9, 99, 199)).save(file, "JPEG")
    return file.getvalue()


# The file of small copies


@pytest.mark.slow
def test_every_normal_image_is_there_small_and_like_itself(world, model, normals, images):
    assert len(images) == 30
    for image in images:
        content = image.content[:16]
        assert normals.path(content) == str(image.path)
        small = normals.thumbnail(content)
        assert (small.mode, small.size) == ("RGB", (SIDE, round(96 * SIDE / 160)))
        expected = Image.fromarray(image.read()).resize(small.size, Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(small, float) - np.asarray(expected, float)).mean() < 8
    assert normals.path("0" * 16) is None
    assert normals.thumbnail("0" * 16) is None


@pytest.mark.slow
def test_a_normal_image_is_its_own_nearest(world, model, normals, images):
    for image in images[:5]:
        assert normals.path(model.predict(image.path).nearest) == str(image.path)


@pytest.mark.slow
def test_the_same_images_give_the_same_bytes(world, images, tmp_path):
    first = (world / "model.normals.zip").read_bytes()
    assert write_normals(tmp_path / "again.zip", images[::-1]) == []
    assert (tmp_path / "again.zip").read_bytes() == first
    names = zipfile.ZipFile(tmp_path / "again.zip").namelist()
    assert names == ["index.json", *(f"{image.content[:16]}.jpg" for image in images)]


@pytest.mark.slow
def test_only_images_that_are_compared_with_have_copies(world, images, tmp_path, monkeypatch):
    monkeypatch.setattr("oddsight.model.normals.MOST", 3)
    write_normals(tmp_path / "few.zip", images)
    assert len(zipfile.ZipFile(tmp_path / "few.zip").namelist()) == 4


@pytest.mark.slow
def test_an_image_that_is_gone_has_no_copy_and_says_so(world, images, tmp_path):
    shutil.copy(images[0].path, tmp_path / "a.png")
    one = dataclasses.replace(images[0], path=tmp_path / "gone.png")
    changed = dataclasses.replace(images[1], path=tmp_path / "a.png")
    missing = write_normals(tmp_path / "two.zip", [one, changed, images[2]])
    assert sorted(error.reason for error in missing) == ["changed while it was in use", "no such file"]
    found = NormalImages(tmp_path / "two.zip")
    assert found.thumbnail(images[0].content[:16]) is None
    assert found.path(images[0].content[:16]) == str(tmp_path / "gone.png")
    assert found.thumbnail(images[2].content[:16]) is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "copies"),
    [
        ("a/parts.onnx", "a/parts.normals.zip"),
        ("parts.v2.ONNX", "parts.v2.normals.zip"),
        ("parts.v2", "parts.v2.normals.zip"),
        (".onnx", ".onnx.normals.zip"),
        ("x" * 250 + ".onnx", "x" * 243 + ".normals.zip"),
        ("\u732b" * 84, "\u732b" * 81 + ".normals.zip"),
    ],
)
def test_their_name_follows_the_model(model, copies):
    assert str(normals_path(model)) == str(Path(copies))


def test_nothing_lies_beside_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert normals_path(tmp_path / "pipe.onnx") is None
    assert NormalImages.beside(tmp_path / "pipe.onnx") is None
    assert NormalImages.beside(tmp_path / "none.onnx") is None


# Hostile files


def test_names_that_are_not_ours_are_refused(tmp_path):
    for name in ("../0123456789abcdef.jpg", "0123456789ABCDEF.jpg", "/etc/passwd", "x.py", "0123456789abcdef.jpg\n"):
        zipped(tmp_path / "a.zip", [("index.json", "{}"), (name, jpeg())])
        with pytest.raises(DataError, match=r"a\.zip: damaged, or not a file of small copies"):
            NormalImages(tmp_path / "a.zip")


@pytest.mark.parametrize("index", ["", "[]", "[" * 100_000, '{"0123456789abcdef": 3}', "1" * 10_000])
def test_a_wrong_index_is_refused(tmp_path, index):
    zipped(tmp_path / "a.zip", [("index.json", index)])
    with pytest.raises(DataError, match="damaged"):
        NormalImages(tmp_path / "a.zip")


@pytest.mark.slow
def test_other_files_are_refused(tmp_path, world):
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "text.zip").write_bytes(b"hello" * 100)
    zipped(tmp_path / "noindex.zip", [("0123456789abcdef.jpg", jpeg())])
    zipped(tmp_path / "lzma.zip", [("index.json", "{}")], zipfile.ZIP_LZMA)
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "dangling.zip").symlink_to("nowhere")
    for path in sorted(tmp_path.glob("*.zip")):
        with pytest.raises(DataError) as caught:
            NormalImages(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_directory_that_would_fill_the_memory_is_refused_unread(tmp_path, monkeypatch):
    zipped(tmp_path / "many.zip", [("index.json", "{}"), *((f"{number:016x}.jpg", b"") for number in range(2001))])
    plain = zipped(tmp_path / "a.zip", [("index.json", "{}")]).read_bytes()
    (tmp_path / "large.zip").write_bytes(plain[:-10] + struct.pack("<I", 2**31) + plain[-6:])
    # A second directory for 64 bits, which would stand above the first one's numbers.
    end = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2**40, 2**40, 2**40, 0)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, len(plain) - 22, 1)
    (tmp_path / "zip64.zip").write_bytes(plain[:-22] + end + locator + plain[-22:])
    monkeypatch.setattr(zipfile, "ZipFile", None)
    for name in ("many", "large", "zip64"):
        with pytest.raises(DataError, match="damaged"):
            NormalImages(tmp_path / f"{name}.zip")


@pytest.mark.slow
def test_an_index_that_unfolds_without_end_is_refused(tmp_path):
    zipped(tmp_path / "a.zip", [("index.json", b" " * (2**25 + 10))], zipfile.ZIP_DEFLATED)
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    with pytest.raises(DataError, match="larger than"):
        NormalImages(tmp_path / "a.zip")


def test_images_that_are_not_small_copies_are_one_error_each(tmp_path):
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    bad = [jpeg(SIDE + 1, 3), png.getvalue(), jpeg()[:-300], b"", jpeg() + b"\0" * 2**18]
    names = [f"{number:016x}" for number in range(len(bad) + 1)]
    entries = [(f"{name}.jpg", content) for name, content in zip(names, [*bad, jpeg()], strict=True)]
    zipped(tmp_path / "a.zip", [("index.json", "{}"), *entries])
    found = NormalImages(tmp_path / "a.zip")
    for name in names[:-1]:
        with pytest.raises(ImageError, match=rf"a\.zip/{name}\.jpg: damaged"):
            found.thumbnail(name)
    assert found.thumbnail(names[-1]).size == (8, 8)


@pytest.mark.slow
def test_damage_anywhere_is_an_error_or_harmless(world, tmp_path, images):
    content = (world / "model.normals.zip").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "a.zip"
    tail = len(content) - 4000
    refused = 0
    for trial in range(150):
        spoiled = bytearray(content)
        for at in rng.integers(tail if trial % 2 else 0, len(content), 4):
            spoiled[at] = rng.integers(256)
        path.write_bytes(bytes(spoiled[: rng.integers(1, len(content))]) if trial % 5 == 0 else bytes(spoiled))
        try:
            found = NormalImages(path)
        except DataError:
            refused += 1
            continue
        for image in images[::10]:
            try:
                small = found.thumbnail(image.content[:16])
            except ImageError:
                refused += 1
            else:
                assert small is None or max(small.size) <= SIDE
    assert refused > 50


# The command line


@pytest.mark.slow
def test_without_thumbnails_the_model_is_the_same(world, tmp_path):
    output = tmp_path / "model.onnx"
    options = ["--size", 64, "--false-alarm-rate", 0.1, "--no-thumbnails"]
    outcome = run("fit", world / "good", "-o", output, *options)
    assert outcome.code == 0
    assert "normals.zip" not in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert output.read_bytes() == (world / "model.onnx").read_bytes()


@pytest.mark.slow
def test_where_copies_cannot_be_written_nothing_is_learned(world, tmp_path, monkeypatch):
    (tmp_path / "m.normals.zip").mkdir()
    monkeypatch.setattr("oddsight.fitting.normal.fit", None)
    outcome = run("fit", world / "good", "-o", tmp_path / "m.onnx")
    assert outcome.code == 1
    assert outcome.err == f"error: cannot write {tmp_path / 'm.normals.zip'}: it is a folder; name a file\n"


@pytest.mark.slow
def test_json_says_where_the_nearest_image_is(world, model, normals, tmp_path):
    path = world / "test" / "bark" / "00300.png"
    result = model.predict(path)
    known = {"content": result.nearest, "path": normals.path(result.nearest)}
    assert known["path"].startswith(str(world / "good"))
    [row] = run("predict", world / "model.onnx", path, "--json", "-", "--quiet").lines
    assert row["nearest"] == known
    assert [voice["name"] for voice in row["voices"]] == [voice.name for voice in result.voices]
    alone = shutil.copy(world / "model.onnx", tmp_path / "alone.onnx")
    [lonely] = run("predict", alone, path, "--json", "-", "--quiet").lines
    assert lonely == row | {"nearest": known | {"path": None}}


@pytest.mark.slow
def test_the_table_says_what_spoke_if_several_can(world, model, tmp_path):
    outcome = run("predict", world / "model.onnx", world / "test", "--quiet")
    header, *lines = outcome.out.splitlines()
    assert header.split() == ["verdict", "score", "p-value", "regions", "by", "image"]
    assert len(lines) == 12
    for line in lines:
        result = model.predict(line[header.index("image") :])
        by = line[header.index("by") : header.index("image")].strip()
        assert by == (result.voices[0].name if result.anomalous else "")
    assert sum(line.startswith("anomalous") for line in lines) >= 3
    outcome = run("fit", world / "good", "-o", tmp_path / "knn.onnx", "--method", "knn", "--size", 64)
    outcome = run("predict", tmp_path / "knn.onnx", world / "test" / "good", "--quiet")
    assert outcome.out.splitlines()[0].split() == ["verdict", "score", "p-value", "regions", "image"]


@pytest.mark.slow
def test_explain_draws_every_anomalous_image(world, model, tmp_path):
    outcome = run("predict", world / "model.onnx", world / "test", "--explain", tmp_path / "why", "--json", "-")
    assert outcome.code == 0
    anomalous = [row for row in outcome.lines if row["anomalous"]]
    assert len(anomalous) >= 3
    assert sorted(path.name for path in (tmp_path / "why").iterdir()) == sorted(
        Path(row["path"]).name for row in anomalous
    )
    for row in anomalous:
        drawn = np.asarray(Image.open(tmp_path / "why" / Path(row["path"]).name))
        panels = np.split(drawn[: PANEL + 20], 3, axis=1)
        assert not (panels[0] == panels[1]).all()
        nearest = Image.open(row["nearest"]["path"]).resize((PANEL, round(PANEL * 96 / 160)))
        top = (PANEL - nearest.height) // 2
        shown = panels[2][12 + top : 12 + top + nearest.height, 12 : 12 + PANEL].astype(float)
        assert np.abs(shown - np.asarray(nearest)).mean() < 12
        assert (
            np.abs(panels[0][12 + top : 12 + top + nearest.height, 12 : 12 + PANEL] - np.asarray(nearest)).mean() > 12
        )


@pytest.mark.slow
def test_explain_refuses_folders_where_it_could_do_harm(world, tmp_path):
    for arguments, words in (
        (["--explain", world / "test" / "bark"], "they could replace the images there"),
        (["--explain", tmp_path / "x", "--maps", tmp_path / "x"], "name two folders"),
        (["--explain", world / "model.onnx"], "cannot write explanations into"),
    ):
        outcome = run("predict", world / "model.onnx", world / "test" / "bark", *arguments)
        assert (outcome.code, outcome.out) == (1, "")
        assert words in outcome.err
        assert len(outcome.err.splitlines()) == 1


@pytest.mark.slow
def test_damaged_copies_are_one_complaint_and_the_run_goes_on(world, tmp_path):
    model, copies = copied(world, tmp_path)
    image = world / "test" / "bark" / "00300.png"
    [sound] = run("predict", model, image, "--json", "-", "--quiet").lines
    copies.write_bytes(b"PK" * 50)
    outcome = run("predict", model, image, "--json", "-", "--explain", tmp_path / "why", "--quiet")
    assert outcome.code == 0
    assert re.fullmatch(rf"error: {re.escape(str(copies))}: damaged.*\n", outcome.err)
    files = {"explanation": str(tmp_path / "why" / "00300.png")}
    assert outcome.lines == [sound | {"nearest": sound["nearest"] | {"path": None}, "files": files}]
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["00300.png"]
    outcome = run("evaluate", model, world, "--report", tmp_path / "page.html", "--json", "-", "--quiet")
    assert (outcome.code, len(outcome.err.splitlines())) == (0, 1)
    assert 'class="nearest"' not in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.slow
def test_models_of_schema_1_have_nothing_to_explain_and_work(world, tmp_path):
    image = world / "test" / "bark" / "00300.png"
    outcome = run("predict", OLD, image, "--json", "-", "--explain", tmp_path / "why", "--threshold", -1e9, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    assert (outcome.lines[0]["nearest"], outcome.lines[0]["voices"]) == (None, [])
    assert len(list((tmp_path / "why").iterdir())) == 1
    outcome = run("evaluate", OLD, world, "--report", tmp_path / "page.html", "--json", "-", "--quiet")
    assert outcome.code == 0
    assert outcome.json["by_type"]["bark"]["decided_by"] == {}
    assert 'id="deciding-detector"' not in (tmp_path / "page.html").read_text("utf-8")


# Images


def result(**changes):
    values = np.zeros((6, 8), np.float32)
    values[2:4, 4:6] = 2
    fields = {"source": "a.png", "width": 80, "height": 60, "score": 2.0, "p_value": 0.01, "threshold": 1.0}
    fields |= {"false_alarm_rate": 0.05, "map": values, "voices": (Voice("stage2", 2.0, 0.02),), "nearest": "0" * 16}
    return Result(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "panels"),
    [
        ({}, 3),
        ({"map": None}, 2),
        ({"nearest": None}, 2),
        ({"nearest": None, "map": None, "voices": ()}, 1),
        ({"threshold": None, "source": None}, 3),
        ({"source": "\u5199\u771f/\udcff\n" * 900}, 3),
    ],
)
@pytest.mark.parametrize("shape", [(60, 80), (1, 1), (1, 3000)])
def test_explanations_have_a_panel_for_what_is_known(changes, panels, shape):
    drawn = explanation(np.full((*shape, 3), 90, np.uint8), result(**changes))
    assert drawn.shape[1] == panels * (PANEL + 24)
    assert drawn.dtype == np.uint8


def test_the_panels_say_what_spoke_and_when_a_copy_is_damaged(tmp_path):
    image = np.full((60, 80, 3), 90, np.uint8)
    drawn = explanation(image, result())
    assert (drawn != explanation(image, result(voices=(Voice("patches", 2.0, 0.02),)))).any()
    path = zipped(tmp_path / "a.zip", [("index.json", "{}"), ("0" * 16 + ".jpg", b"broken")])
    assert (explanation(image, result(), NormalImages(path)) != drawn).any()


# The evaluation and its page


@pytest.mark.slow
def test_an_evaluation_knows_what_decided(model, evaluation):
    voices = model.metadata.explanation.voices
    for kind in ("bark", "blot", None):
        judged = [one for one in evaluation.judged if one.kind == kind]
        shares = evaluation.decided_by(kind)
        assert list(shares) == voices
        for name in voices:
            decided = sum(model.predict(one.path).voices[0].name == name for one in judged)
            assert shares[name] == pytest.approx(decided / len(judged))
    assert evaluation.decided_by("nothing") == {}
    content = json.loads(json.dumps(evaluation.to_json()))
    assert content["by_type"]["bark"]["decided_by"] == evaluation.decided_by("bark")
    assert content["normal_decided_by"] == evaluation.decided_by(None)
    for one in evaluation.judged:
        again = model.predict(one.path)
        assert (one.voices, one.nearest) == (again.voices, again.nearest)


@pytest.mark.slow
def test_the_page_shows_the_nearest_images_and_what_spoke(model, evaluation, normals, tmp_path):
    write_report(evaluation, model, tmp_path / "with.html", normals=normals)
    write_report(evaluation, model, tmp_path / "without.html")
    page, without = ((tmp_path / name).read_text("utf-8") for name in ("with.html", "without.html"))
    assert page.count('class="nearest"') == len(evaluation.judged) == 12
    assert 'class="nearest"' not in without
    for text in (page, without):
        assert 'id="deciding-detector"' in text
        assert "its own p" in text
    for one in evaluation.judged:
        name = "/".join(Path(normals.path(one.nearest)).parts[-2:])
        assert f"most similar normal: {name}" in page
    assert "most similar normal:" not in without


@pytest.mark.slow
def test_the_page_without_a_damaged_copy(model, evaluation, normals, tmp_path):
    entries = [("index.json", json.dumps({one.nearest: "normal/x.png" for one in evaluation.judged}))]
    broken = zipped(
        tmp_path / "a.zip", [*entries, *((f"{n}.jpg", b"x") for n in {o.nearest for o in evaluation.judged})]
    )
    write_report(evaluation, model, tmp_path / "page.html", normals=NormalImages(broken))
    page = (tmp_path / "page.html").read_text("utf-8")
    assert 'class="nearest"' not in page
    assert "most similar normal: normal/x.png" in page


@pytest.mark.slow
def test_a_method_with_one_voice_has_a_page_without_the_table(world, tmp_path):
    model = oddsight.fit(world / "good", method="knn", size=64, false_alarm_rate=0.1)
    found = oddsight.evaluate(model, world)
    assert found.decided_by("bark") == {}
    assert all(one.nearest is not None for one in found.judged)
    write_report(found, model, tmp_path / "page.html", normals=NormalImages(world / "model.normals.zip"))
    page = (tmp_path / "page.html").read_text("utf-8")
    assert 'id="deciding-detector"' not in page
    assert page.count('class="nearest"') == 12


@pytest.mark.slow
def test_copies_of_other_images_are_never_shown(world, model, evaluation, tmp_path):
    write_textures(tmp_path / "others", range(900, 910))
    write_normals(tmp_path / "others.zip", collect(tmp_path / "others").images)
    write_report(evaluation, model, tmp_path / "page.html", normals=NormalImages(tmp_path / "others.zip"))
    assert 'class="nearest"' not in (tmp_path / "page.html").read_text("utf-8")
