"""The report of the study of clouds: its sentences follow from its numbers, its page is whole, nothing escapes."""

import re
from dataclasses import replace

import pytest
from markupsafe import Markup

from cloud_files import made_up_clouds
from oddsight.errors import OddsightError
from oddsight.report import clouds_thresholds, known_figures
from oddsight.report.clouds import clouds_document, write_clouds
from oddsight.report.clouds_judgement import findings, warnings
from oddsight.report.documents import markdown
from oddsight.studies.clouds.conclusions import conclude
from oddsight.studies.clouds.tables import cloud_tables

HOSTILE = '</td><script>alert("1")</script>| `a` [x](http://evil.example)'


def concluded(study):
    return conclude(study, cloud_tables(study))


def said(study):
    """All that a page says in sentences and cells."""
    return markdown(clouds_document(concluded(study)), "figures").replace("\\", "")


@pytest.fixture
def undrawn(monkeypatch):
    """No charts, which take most of the time of a page."""
    for module in (known_figures, clouds_thresholds):
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
    assert len(set(re.findall(r' id="([^"]*)"', html))) == len(re.findall(r' id="([^"]*)"', html))
    figures = set(re.findall(r"(?<!\\)\]\(([^)]*)\)", text))
    assert {f"figures/{path.name}" for path in (tmp_path / "new" / "figures").iterdir()} == figures
    assert re.findall(r"<h2>(.*)</h2>", html) == re.findall(r"^## (.*)$", text, re.MULTILINE)
    again = write_clouds(study, tmp_path / "again")
    for one, other in zip(written, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_a_trivial_baseline_that_wins_is_said_first_and_in_the_results():
    lost, won = made_up_clouds(apart=1.5, trivial=6.0), made_up_clouds(apart=6.0, trivial=1.0)
    first = next(warnings(concluded(lost)))
    assert re.search(r"(brightness|saturation) alone tells sand better", first)
    assert "by more than chance explains" in first
    text = said(lost)
    assert "A trivial baseline wins on" in text
    assert "shown nothing that a line of arithmetic could not" in text
    assert "it is one line of arithmetic" in text
    assert not [one for one in warnings(concluded(won)) if "alone" in one]
    text = said(won)
    assert "wins" not in text
    assert "auto is above every trivial baseline on every class" in text


@pytest.mark.usefixtures("undrawn")
def test_another_method_that_is_better_is_recommended_and_chance_is_called_chance():
    study = made_up_clouds(apart=2.0, images=300, calibration=400, default="knn", methods=("auto", "knn"))
    text = said(study)
    assert "auto is better on sand" in text
    assert "look at auto for sand" in text
    assert "number 2 of 2 methods" in text
    equal = said(made_up_clouds(apart=8.0))
    assert "chance explains the difference" in equal
    assert "no other method was better on any class by more than chance explains" in equal


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("shift", "held"), [(0.0, True), (2.5, False)])
def test_the_promise_is_judged_by_what_chance_explains(shift, held):
    text = said(made_up_clouds(shift=shift, apart=6))
    assert ("did not hold on these scenes" in text) != held
    assert ("is compatible with the" in text) == held
    assert ("beyond what chance explains" in text) != held


@pytest.mark.usefixtures("undrawn")
def test_what_goes_wrong_with_thresholds_is_told_from_the_numbers():
    text = said(made_up_clouds())
    assert "0.02 lies above 0% of the calibration scores" in text
    assert "It flags 100% of the normal test scenes" in text
    assert "another unit" in text
    assert re.search(r"whose scores are [\d.]+% lower on average", text)
    high = said(replace(made_up_clouds(), hand=50.0))
    assert "lies above 100% of the calibration scores" in high
    assert "it finds less than the conformal threshold" in high


@pytest.mark.usefixtures("undrawn")
def test_findings_are_the_numbers_of_the_tables():
    found = concluded(made_up_clouds())
    own = [row for row in found.tables.scenes if (row.method, row.normal, row.anomalous) == ("auto", "clear", "cloudy")]
    text = " ".join(findings(found))
    assert f"cloudy ({sum(row.auroc for row in own) / 2:.3f})" in text
    file = found.shipped("clear")
    assert f"({(file.normal > file.threshold).sum()} of {len(file.normal)})" in text


@pytest.mark.usefixtures("undrawn")
def test_short_runs_files_that_cannot_be_read_and_methods_that_cannot_run_are_named():
    study = made_up_clouds(limit=600, errors=["sea/1.jpg: empty file"], failed=[("gmm", "it needs more")])
    text = said(study)
    assert "A short run: at most 600 pictures" in text
    assert "sea/1.jpg: empty file" in text
    assert "gmm (cloudy, seed 0 and clear, seed 0): it needs more" in text
    assert "Few test scenes, 60 normal ones" in text
    assert "classes come in sizes of their own" in text
    assert "sea came in another size than cloudy" in text
    assert "sand came in the size of cloudy" in text


@pytest.mark.usefixtures("undrawn")
def test_methods_with_fewer_seeds_are_named():
    study = made_up_clouds()
    fewer = replace(study, measured=tuple(one for one in study.measured if (one.method, one.seed) != ("knn", 1)))
    text = said(fewer)
    assert "by every seed (0 and 1; knn by 0)" in text
    assert "means over 2 seeds or fewer; best first" in text
    assert "every seed (0 and 1)," in said(study)


def test_a_confidence_that_is_none():
    with pytest.raises(OddsightError):
        cloud_tables(made_up_clouds(), confidence=1.0)
