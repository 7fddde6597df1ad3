"""Words of the user's own for what a model decides: where they are kept, and where they are said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import oddsight
from cli_files import Outcome, assert_failed, json_lines, run
from oddsight.errors import DataError, ModelError
from oddsight.model.metadata import KEY, checked_verdicts
from oddsight.model.model import Model
from oddsight.model.result import VERDICTS
from oddsight.report import write_report
from textures import texture, write_textures
from tiny_model import tiny_class_model, tiny_class_proto, tiny_model, tiny_proto

DARK, BRIGHT = (np.full((8, 8, 3), value, np.uint8) for value in (5, 250))
WORDS = ("clear", "cloudy")
BAD = [
    ((), "two words"),
    (("clear",), "two words"),
    (("a", "b", "c"), "two words"),
    ("ab", "two words"),
    (("clear", "clear"), "two different words"),
    (("Clear", "clear "), "two different words"),
    (("", "cloudy"), "not a word"),
    (("clear", "  "), "not a word"),
    (("clear", "a\nb"), "not a word"),
    (("clear", "\x1b[31m"), "not a word"),
    (("clear", "\udcff"), "not a word"),
    (("c" * 41, "cloudy"), "1 to 40"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder ``images`` of one dark image and two bright ones, a model, and the same with words of its own."""
    root = tmp_path_factory.mktemp("verdicts")
    (root / "images").mkdir()
    for name, pixels in (("dark", DARK), ("bright", BRIGHT), ("brighter", BRIGHT + 1)):
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
    tiny_model().save(root / "plain.onnx")
    tiny_model().with_verdicts(*WORDS).save(root / "own.onnx")
    return root


def test_the_words_are_kept_in_the_file_and_name_every_result(folder):
    model = oddsight.load(folder / "own.onnx")
    assert (model.verdicts, model.metadata.schema_version, model.metadata.verdicts) == (WORDS, 3, WORDS)
    results = [model.predict(pixels) for pixels in (DARK, BRIGHT)]
    assert [(result.verdict, result.anomalous) for result in results] == [("clear", False), ("cloudy", True)]
    assert [result.to_json()["verdict"] for result in results] == ["clear", "cloudy"]


def test_only_words_are_changed(folder):
    plain, own = (oddsight.load(folder / f"{name}.onnx") for name in ("plain", "own"))
    for pixels in (DARK, BRIGHT):
        before, after = plain.predict(pixels), own.predict(pixels)
        assert replace(after, verdicts=VERDICTS).to_json() == before.to_json()
    changed = {"verdicts", "schema_version"}
    kept = own.metadata.model_dump(exclude=changed)
    assert kept == plain.metadata.model_dump(exclude=changed)


def test_without_words_files_are_as_they_were(folder):
    plain = oddsight.load(folder / "plain.onnx")
    assert plain.verdicts == VERDICTS
    assert plain.metadata.schema_version == 2
    assert "verdicts" not in plain.metadata.to_json()
    assert '"verdicts":["clear","cloudy"]' in oddsight.load(folder / "own.onnx").metadata.to_json()
    # The usual words given by hand are none of one's own, and take others away again.
    for model in (plain, oddsight.load(folder / "own.onnx")):
        assert model.with_verdicts("normal", "anomalous").to_bytes() == plain.to_bytes()


def test_a_new_decision_keeps_the_words(folder):
    changed = oddsight.load(folder / "own.onnx").with_decision(threshold=255.0)
    assert (changed.verdicts, changed.predict(BRIGHT).verdict) == (WORDS, "clear")


@given(st.lists(st.text(max_size=42), min_size=2, max_size=2))
def test_words_are_taken_as_given_or_refused(words):
    try:
        normal, anomalous = checked_verdicts(words)
    except DataError:
        bad = [not word.strip() or len(word) > 40 or not word.isprintable() for word in words]
        assert any(bad) or words[0].strip().casefold() == words[1].strip().casefold()
        return
    assert [normal, anomalous] == words


@pytest.mark.slow
@given(st.lists(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40), min_size=2, max_size=2))
@settings(max_examples=20)
def test_words_in_any_script_come_back_from_the_file(words):
    normal, anomalous = words
    assume(normal.casefold() != anomalous.casefold())
    model = Model.from_bytes(tiny_model().with_verdicts(normal, anomalous).to_bytes())
    assert model.verdicts == (normal, anomalous)


@pytest.mark.parametrize(("words", "reason"), BAD)
def test_words_that_will_not_do(words, reason):
    with pytest.raises(DataError, match=reason):
        checked_verdicts(words)


def test_a_model_that_cannot_have_words_says_so():
    with pytest.raises(DataError, match="knows classes, which are its verdicts"):
        tiny_class_model().with_verdicts(*WORDS)
    old = oddsight.load(Path(__file__).parents[1] / "files" / "model-schema-1.onnx")
    with pytest.raises(DataError, match="schema 1 cannot keep words"):
        old.with_verdicts(*WORDS)


def edited(proto, **changes):
    """The bytes of a model with other metadata."""
    [entry] = [entry for entry in proto.metadata_props if entry.key == KEY]
    entry.value = json.dumps(json.loads(entry.value) | changes)
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("proto", "changes", "reason"),
    [
        (tiny_proto, {"verdicts": WORDS}, "do not fit together: these are of version 3"),
        (tiny_class_proto, {"verdicts": WORDS}, "beside classes"),
        (tiny_proto, {"schema_version": 3, "verdicts": ["a", "a"]}, "two different words"),
        (tiny_proto, {"schema_version": 3, "verdicts": ["a"]}, "wrong at verdicts"),
        (tiny_proto, {"schema_version": 3, "verdicts": ["a", "b", "c"]}, "wrong at verdicts"),
        (tiny_proto, {"schema_version": 3, "verdicts": ["a", "\u001b[2J"]}, "not a word"),
        (tiny_proto, {"schema_version": 3, "verdicts": ["a", 1]}, "wrong at verdicts"),
        (tiny_proto, {"schema_version": 3, "verdicts": None}, "do not fit together: these are of version 2"),
    ],
)
def test_files_with_words_that_will_not_do_are_refused(proto, changes, reason):
    with pytest.raises(ModelError, match=reason) as error:
        Model.from_bytes(edited(proto(), **changes))
    assert str(error.value).isprintable()


@pytest.mark.slow
def test_fit_keeps_the_words(tmp_path):
    images = write_textures(tmp_path / "good", range(10), width=32, height=32)
    options = {"method": "knn", "size": 32, "seed": 3}
    plain = oddsight.fit(tmp_path / "good", **options)
    assert len(images) == 10
    assert oddsight.fit(tmp_path / "good", verdicts=WORDS, **options).to_bytes() == (
        plain.with_verdicts(*WORDS).to_bytes()
    )
    outcome = run(
        *("fit", tmp_path / "good", "-o", tmp_path / "m.onnx", "--method", "knn", "--size", 32, "--seed", 3),
        *("--verdicts", " clear , cloudy", "--no-thumbnails", "--quiet"),
    )
    assert outcome == Outcome(0, "", "")
    assert (tmp_path / "m.onnx").read_bytes() == plain.with_verdicts(*WORDS).to_bytes()


def test_fit_looks_at_the_words_first(tmp_path):
    with pytest.raises(DataError, match="two words"):
        oddsight.fit(tmp_path / "nowhere", verdicts=("clear",))
    for words in ("clear", "clear,clear", "a,b,c", ",cloudy", "a,\x07"):
        outcome = run("fit", tmp_path / "nowhere", "-o", tmp_path / "m.onnx", "--verdicts", words)
        assert outcome.code == 2
        assert "--verdicts NORMAL,ANOMALOUS" in outcome.err
        assert "Traceback" not in outcome.err
    outcome = run("fit-classes", tmp_path, "-o", tmp_path / "m.onnx", "--verdicts", "a,b")
    assert outcome.code == 2
    assert "No such option" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_predict_says_the_words(folder, tmp_path):
    outcome = run("predict", folder / "own.onnx", folder / "images")
    header, *lines = outcome.out.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["clear", "cloudy", "cloudy"]
    at = header.index("score") + len("score")
    assert all(line[at - 1].isdigit() and line[at] == " " for line in lines)
    assert outcome.err == "2 cloudy, 1 clear\n"
    run("predict", folder / "own.onnx", folder / "images", "--json", tmp_path / "rows.jsonl")
    rows = json_lines(tmp_path / "rows.jsonl")
    assert all(row["verdict"] == ("cloudy" if row["anomalous"] else "clear") for row in rows)
    assert sum(row["anomalous"] for row in rows) == 2
    # A decision over the batch that flags nothing keeps them, too.
    outcome = run("predict", folder / "own.onnx", folder / "images", "--fdr", "0.01")
    assert outcome.err == "0 cloudy, 3 clear\n"


def test_a_long_normal_word_does_not_break_the_table(folder, tmp_path):
    oddsight.load(folder / "own.onnx").with_verdicts("as it should be", "off").save(tmp_path / "m.onnx")
    header, *lines = run("predict", tmp_path / "m.onnx", folder / "images").out.splitlines()
    at = header.index("score") + len("score")
    assert all(line[at - 1].isdigit() and line[at] == " " for line in lines)


def test_threshold_changes_the_words_and_takes_them_away(folder, tmp_path):
    new = tmp_path / "new.onnx"
    outcome = run("threshold", folder / "plain.onnx", "-o", new, "--verdicts", "clear,cloudy")
    assert (outcome.code, outcome.out) == (0, "")
    assert new.read_bytes() == (folder / "own.onnx").read_bytes()
    other = tmp_path / "other.onnx"
    assert run("threshold", new, "-o", other, "--verdicts", "ok,off", "--score", 7, "--quiet") == Outcome(0, "", "")
    changed = oddsight.load(other)
    assert (changed.verdicts, changed.decision.threshold) == (("ok", "off"), 7.0)
    run("threshold", folder / "own.onnx", "-o", new, "--verdicts", "normal,anomalous")
    assert new.read_bytes() == (folder / "plain.onnx").read_bytes()


def test_threshold_refuses_what_cannot_be(folder, tmp_path):
    new = tmp_path / "new.onnx"
    assert run("threshold", folder / "own.onnx", "-o", new).code == 2
    assert run("threshold", folder / "own.onnx", "-o", new, "--verdicts", "a,a").code == 2
    assert run("threshold", folder / "own.onnx", "-o", new, "--verdicts", "").code == 2
    tiny_class_model().save(tmp_path / "classes.onnx")
    assert_failed(run("threshold", tmp_path / "classes.onnx", "-o", new, "--verdicts", "a,b"), "knows classes")
    assert not new.exists()


def test_info_tells_them(folder):
    assert run("info", folder / "own.onnx", "--json").json["verdicts"] == list(WORDS)
    assert "verdicts" not in run("info", folder / "plain.onnx", "--json").json
    [line] = [line for line in run("info", folder / "own.onnx").out.splitlines() if line.startswith("verdicts")]
    assert line.split(maxsplit=1)[1].strip() == "clear, cloudy"


@pytest.mark.slow
def test_the_report_says_them(tmp_path):
    words = "<b>$x$", "<script>"
    for number in range(2):
        for kind, level in (("good", 0), ("bad", 120)):
            (tmp_path / "test" / kind).mkdir(parents=True, exist_ok=True)
            image = texture(number, 16, 16) // 3 + level
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / "test" / kind / f"{number}.png")
    model = tiny_model().with_verdicts(*words)
    found = oddsight.evaluate(model, tmp_path)
    write_report(found, model, tmp_path / "own.html", title="t")
    page = (tmp_path / "own.html").read_text("utf-8")
    shown = [word.replace("<", "&lt;").replace(">", "&gt;") for word in words]
    assert f"are <strong>{shown[0]}</strong> and <strong>{shown[1]}</strong>" in page
    assert page.count(f"passed as {shown[0]}<") + page.count(f"flagged as {shown[1]}<") == 4
    assert f"<br>{shown[0]} · score" in page
    assert "<script>" not in page
