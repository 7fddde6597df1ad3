"""The report of the study of clouds: its tables follow from its numbers, its page is whole, nothing escapes."""

import re
from dataclasses import replace

import numpy as np
import pytest
from markupsafe import Markup

from cloud_files import made_up_clouds
from oddsight.drawing import class_figures as known_figures
from oddsight.drawing.numbers import percent
from oddsight.errors import OddsightError
from oddsight.studies.clouds import figures
from oddsight.studies.clouds.conclusions import conclude
from oddsight.studies.clouds.page import clouds_page, write_clouds
from oddsight.studies.clouds.tables import cloud_tables

pytestmark = pytest.mark.slow

HOSTILE = '</td><script>alert("1")</script>| `a` [x](http://evil.example)'


def concluded(study):
    return conclude(study, cloud_tables(study))


def said(study):
    """All that a page says in sentences and cells."""
    return clouds_page(concluded(study))[0].replace("\\", "")


def part(text, title):
    """What stands under a heading."""
    return re.split(r"\n##+ ", text.partition(f"# {title}\n")[2])[0]


def cells_of(text, name):
    """The cells of the row that starts with a name."""
    line = next(line for line in text.splitlines() if line.startswith((f"| {name} |", f"| **{name}** |")))
    return [cell.strip().strip("*") for cell in line.strip("|").split("|")][1:]


def contest_of(text, side, kind):
    """The row of a class in the table of the shipped method against others."""
    return cells_of(part(text, side).partition("against the best other method")[2], kind)


@pytest.fixture
def undrawn(monkeypatch):
    """No charts, which take most of the time of a page."""
    for module in (known_figures, figures):
        monkeypatch.setattr(module, "chart", lambda *_: Markup('<svg width="1pt"></svg>'))


def test_page_and_markdown_are_whole_and_safe(tmp_path):
    study = made_up_clouds(names=("cloudy", HOSTILE.replace("/", ""), "sea"), failed=[("gmm", HOSTILE)])
    written = write_clouds(study, tmp_path / "new")
    assert written[0] == tmp_path / "new" / "report.html"
    names = {"report.html", "report.md", "scenes.csv", "baselines.csv", "thresholds.csv", "splits.csv", "curves.csv"}
    assert {path.name for path in written} == names
    html, text = (tmp_path / "new" / "report.html").read_text(), (tmp_path / "new" / "report.md").read_text()
    assert "<script" not in html
    assert set(re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', html)) == set()
    assert html.count("<svg") == len(list((tmp_path / "new" / "figures").iterdir()))
    assert len(set(re.findall(r' id="([^"]*)"', html))) == len(re.findall(r' id="([^"]*)"', html))
    figures = set(re.findall(r"(?<!\\)\]\(([^)]*)\)", text))
    assert {f"figures/{path.name}" for path in (tmp_path / "new" / "figures").iterdir()} == figures
    assert re.findall(r'<h2 id="[^"]*">(.*)</h2>', html) == re.findall(r"^## (.*)$", text, re.MULTILINE)
    again = write_clouds(study, tmp_path / "again")
    for one, other in zip(written, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_a_trivial_baseline_that_wins_is_a_verdict():
    lost, won = said(made_up_clouds(apart=1.5, trivial=6.0)), said(made_up_clouds(apart=6.0, trivial=1.0))
    row = contest_of(lost, "cloudy as normal", "sand")
    assert row[5] in ("brightness", "saturation")
    assert float(row[6].strip(">")) > float(row[0])
    assert row[8] == "baseline wins"
    assert contest_of(won, "cloudy as normal", "sand")[8] == "better"
    assert "baseline wins |" not in won


@pytest.mark.usefixtures("undrawn")
def test_another_method_that_is_better_is_a_verdict_and_chance_is_called_chance():
    study = made_up_clouds(apart=2.0, images=300, calibration=400, default="knn", methods=("auto", "knn"))
    text = said(study)
    row = contest_of(text, "cloudy as normal", "sand")
    assert (row[1], row[4]) == ("auto", "worse")
    assert float(row[3].strip("<")) < 0.05
    assert cells_of(text, "cloudy as normal")[1] == "2 of 2"
    assert contest_of(said(made_up_clouds(apart=8.0)), "cloudy as normal", "sand")[4] == "not distinguishable"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("shift", "held"), [(0.0, True), (2.5, False)])
def test_the_promise_is_judged_by_what_chance_explains(shift, held):
    text = said(made_up_clouds(shift=shift, apart=6))
    verdict = cells_of(text, "cloudy as normal")[4]
    assert (verdict == "promise broken: more than chance explains") != held
    assert verdict in part(text, "cloudy.onnx: cloudy or clear")
    assert (cells_of(part(text, "auto, cloudy as normal"), "conformal")[-1] == "compatible with the promise") == held


@pytest.mark.usefixtures("undrawn")
def test_what_goes_wrong_with_thresholds_follows_from_the_numbers():
    study = made_up_clouds()
    text = part(said(study), "auto, cloudy as normal")
    assert cells_of(text, "by hand")[0] == "0.02"
    assert cells_of(text, "by hand")[-1] == "flags most normal scenes"
    assert cells_of(text, "mean + 3 sd")[-1] == "promises no rate"
    assert "0.02 is above 0% of the calibration scores" in text
    assert "another unit" in text
    runs = study.of("cloudy", "auto")
    training, calibration = (
        np.concatenate(scores).astype(float).mean()
        for scores in zip(*((one.training, one.calibration) for one in runs), strict=True)
    )
    assert f"training scenes are {percent(1 - training / calibration)} lower" in text
    high = part(said(replace(study, hand=50.0)), "auto, cloudy as normal")
    assert "50 is above 100% of the calibration scores" in high
    assert cells_of(high, "by hand")[2:] == ["0%", "0%", "0%", "promises no rate"]


@pytest.mark.usefixtures("undrawn")
def test_the_summary_has_the_numbers_of_the_tables():
    found = concluded(made_up_clouds())
    row = cells_of(clouds_page(found)[0], "all but cloudy as normal")
    own = [row for row in found.tables.scenes if (row.method, row.normal, row.anomalous) == ("auto", "clear", "cloudy")]
    assert row[0] == f"{sum(row.auroc for row in own) / 2:.3f} (cloudy)"
    file = found.shipped("clear")
    assert f"({(file.normal > file.threshold).sum()} of {len(file.normal)})" in row[2]
    assert row[3] == "5%"
    assert row[5] == f"{percent(float((file.anomalous['cloudy'] > file.threshold).mean()))} of cloudy"


@pytest.mark.usefixtures("undrawn")
def test_short_runs_files_that_cannot_be_read_and_methods_that_cannot_run_are_named():
    study = made_up_clouds(limit=600, errors=["sea/1.jpg: empty file"], failed=[("gmm", "it needs more")])
    text = said(study)
    assert "at most 600 images of each class" in text
    assert "- sea/1.jpg: empty file" in text
    assert cells_of(part(text, "Not run"), "gmm") == ["cloudy, seed 0 and clear, seed 0", "it needs more"]
    assert "fewer than 100 normal ones for cloudy and clear" in text
    assert "classes come in different sizes (cloudy 256 × 256, sand 256 × 256, sea 64 × 64)" in text  # noqa: RUF001
    assert "cloudy, sand and sea" not in text


@pytest.mark.usefixtures("undrawn")
def test_methods_with_fewer_seeds_are_named():
    study = made_up_clouds()
    fewer = replace(study, measured=tuple(one for one in study.measured if (one.method, one.seed) != ("knn", 1)))
    assert "(seeds 0 and 1; knn by 0)" in said(fewer)
    assert "(seeds 0 and 1)." in said(study)


def test_a_confidence_that_is_none():
    with pytest.raises(OddsightError):
        cloud_tables(made_up_clouds(), confidence=1.0)
