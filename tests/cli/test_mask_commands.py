"""What the commands say of masks: on the terminal, in tables and in the comparison's files."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from oddsight.cli import comparison_output, evaluation_output
from oddsight.evaluation import evaluate
from oddsight.evaluation.compare import Comparison, _warnings
from oddsight.evaluation.compare.standings import standings_on
from oddsight.evaluation.compare.trials import read_trials
from oddsight.report.comparison import write_comparison_report
from tiny_model import tiny_model


@pytest.fixture
def parts(tmp_path):
    """Six anomalous images: one with a mask, one with a mask in grey, one with an empty one, three with none."""
    for number in range(9):
        pixels = np.random.default_rng(number).integers(40, 90, (16, 24, 3)).astype(np.uint8)
        kind = "good" if number < 3 else "spot"
        place = tmp_path / "parts" / "test" / kind / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    place = tmp_path / "parts" / "train" / "good" / "x.png"
    place.parent.mkdir(parents=True)
    Image.fromarray(np.full((16, 24, 3), 33, np.uint8)).save(place)
    masks = tmp_path / "parts" / "ground_truth" / "spot"
    masks.mkdir(parents=True)
    mask = np.zeros((16, 24), np.uint8)
    Image.fromarray(mask).save(masks / "3_mask.png")
    mask[4:12, 4:12] = 255
    Image.fromarray(mask).save(masks / "4_mask.png")
    Image.fromarray(mask).save(masks / "5_mask.jpg", quality=50)
    (tmp_path / "parts" / "test" / "notes.txt").touch()
    return tmp_path / "parts"


@pytest.fixture
def printed(monkeypatch):
    """What is printed on standard output."""
    text = io.StringIO()
    console = Console(file=text, width=200, highlight=False, markup=False)
    for module in (evaluation_output, comparison_output):
        monkeypatch.setattr(module, "console", console)
    return text


@pytest.mark.slow
def test_an_evaluation_says_how_many_images_have_a_mask(parts, printed):
    found = evaluate(tiny_model(), parts)
    evaluation_output.show_evaluation(found)
    lines = printed.getvalue().splitlines()
    assert lines[0] == "3 normal and 6 anomalous images, 3 of these with a mask (1 other file is ignored)"
    expected = "pixel metrics: on 2 of 6 anomalous images, those with a mask that marks anything, and 3 normal"
    assert expected in [line.rstrip() for line in lines]
    assert [warning.partition(":")[0] for warning in found.warnings[:3]] == [
        "Anomalous images without a mask",
        "Masks that mark nothing",
        "Masks with grey values (JPEG compression, soft edges)",
    ]


@pytest.mark.slow
def test_a_comparison_says_it_too(parts, printed, tmp_path):
    [trial] = read_trials([parts], None, 0.5, 0)
    assert (trial.masks, trial.test.coverage.used, len(trial.test.coverage.without)) == (2, 2, 3)
    rows = standings_on(trial, [], {}, 0.95)
    found = Comparison((trial,), (), tuple(rows), None, 0.95, 0, tuple(_warnings([trial], rows, None)))
    assert found.warnings[0].startswith("parts: Anomalous images without a mask: 3 (")
    comparison_output.show_comparison(found)
    first = printed.getvalue().splitlines()[0]
    assert first == (
        "parts: 3 normal and 6 anomalous test images, 2 of these with a mask that marks anything "
        "(1 other file is ignored)"
    )
    comparison_output.write_csv(tmp_path / "c.csv", found)
    assert "masks" in next(csv.reader(io.StringIO((tmp_path / "c.csv").read_text())))
    write_comparison_report(found, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert "2 of these with a mask that marks anything" in page
    assert all(str(path) in page for path in trial.test.coverage.without)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "warned"), [("mask", True), ("spot", False)])
def test_a_class_that_may_be_masks_is_said(parts, name, warned):
    (parts / "test" / "spot").rename(parts / "test" / name)
    (parts / "test" / "good").rename(parts / "test" / "fine")
    [trial] = read_trials([parts / "test"], "fine", 0.5, 0)
    warnings = _warnings([trial], standings_on(trial, [], {}, 0.95), None)
    assert any("if they are masks, move that folder elsewhere" in line for line in warnings) == warned
