"""Cells of CSV files are text and numbers, never formulas, whatever files and classes are called."""

from __future__ import annotations

import ast
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import oddsight
from cli_files import run
from oddsight.runtime.csv_tables import csv_records, csv_table

SOURCE = Path(oddsight.__file__).parent


def cells(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("  =1", "'  =1"),
        ("\t=1", r"\t=1"),
        ("\r=1", r"\r=1"),
        ("\n=1", r"\n=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a\x00b\x1b[31m", r"a\x00b\x1b[31m"),
        ("two\nlines", r"two\nlines"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("\udcff.png", r"\udcff.png"),
        ("plain, \"quoted\" 'text'", "plain, \"quoted\" 'text'"),
        ("größe 猫", "größe 猫"),
        ("-", "'-"),
        ("-0.5", "-0.5"),
        ("+1e-7", "+1e-7"),
        ("-1.", "-1."),
        (-0.5, "-0.5"),
        (np.float32(-2), "-2.0"),
        (float("-inf"), "-inf"),
        (3, "3"),
        (None, ""),
        ("", ""),
    ],
)
def test_cells(value, cell):
    assert cells(csv_table(["name"], [[value, "next"]])) == [["name"], [cell, "next"]]


def test_headings_are_cells_too():
    assert cells(csv_table(["=x", "a\nb"], [])) == [["'=x", r"a\nb"]]


@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False), st.integers()), max_size=5))
def test_no_text_is_a_formula_and_numbers_come_back(rows):
    [heading, *found] = cells(csv_table(["text", "float", "int"], rows))
    assert heading == ["text", "float", "int"]
    for (text, number, whole), (cell, *others) in zip(rows, found, strict=True):
        assert [float(others[0]), int(others[1])] == [number, whole]
        assert all(character.isprintable() or character.isspace() for character in cell) or not cell.isascii()
        assert not set(cell) & set(map(chr, range(32)))
        if cell.lstrip()[:1] in ("=", "+", "-", "@"):
            assert float(cell) == float(text)


def test_records_may_lack_columns():
    assert cells(csv_records(["a", "b"], [{"b": 1}, {"a": "=x", "c": 2}])) == [["a", "b"], ["", "1"], ["'=x", ""]]


@pytest.mark.slow
def test_nothing_else_writes_tables():
    for path in SOURCE.rglob("*.py"):
        used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert path.name == "csv_tables.py" or not used & {"writer", "DictWriter", "to_csv"}, path


def test_class_names_in_what_prepare_writes(tmp_path):
    for number, name in enumerate(("=cmd", "@x")):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / "-a.png")
    assert run("prepare", tmp_path / "data", "-o", tmp_path / "out", "--quiet").code == 0
    rows = list(csv.DictReader((tmp_path / "out" / "train.csv").open(newline="")))
    assert [(row["source"], row["class"]) for row in rows] == [("'=cmd/-a.png", "'=cmd"), ("'@x/-a.png", "'@x")]
