"""Reports as Markdown: what a name holds stays text, and the page shows the same and loads nothing."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from PIL import Image

from oddsight.drawing.charts import chart
from oddsight.drawing.image_grids import CaptionedImage, image_grid, rows_of
from oddsight.errors import OddsightError, plain
from oddsight.report.markdown import code, escape, fill_template, joined, read_figure, render_page, table, write_report

HOSTILE = '</td><script>alert("1")</script>| `a` [x](http://evil.example) *b* ![y](z) {{ 1 }} &amp; 1. #'
SVG = Markup('<svg xmlns="http://www.w3.org/2000/svg" width="9pt"><path stroke="var(--ink)"/></svg>')


class Page(HTMLParser):
    """Tags with their attributes, and the text of cells and paragraphs."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.within = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within = tag in ("td", "th", "p")
        if self.within:
            self.text.append("")

    def handle_data(self, data):
        if self.within:
            self.text[-1] += data

    def handle_endtag(self, tag):
        self.within = self.within and tag not in ("td", "th", "p")


def render(text, figures=()):
    drawn = dict.fromkeys(figures, SVG)
    return Page(render_page(text, lambda place: drawn[place]))


@pytest.mark.slow
@given(st.text(st.characters(codec="utf-8"), max_size=30))
@settings(max_examples=200)
def test_any_name_is_the_same_text_on_the_page(name):
    page = render(f"# T\n\n## S\n\n{table(('a', 'b'), [(name, 'x')])}\n\nA name: {escape(name)}.")
    cells = [text for text in page.text if text]
    assert plain(name).strip() in {"", *(text.strip() for text in page.text)}
    assert " ".join(f"A name: {plain(name)}.".split()) in {" ".join(text.split()) for text in cells}
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "h1", "h2", "p", "a"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }


@pytest.mark.parametrize(
    "name", ["1. one", "2)", "- x", "+", "-", "--- -", "===", "12. a - b", "-0.5", "# x", "> x", "1.5"]
)
def test_a_name_in_a_list_or_a_paragraph_of_its_own_starts_nothing(name):
    page = render(f"# T\n\n- {escape(name)}\n\ntext\n\n{escape(name)}\n\ntext\n{escape(name)}\n")
    assert [tag for tag, _ in page.tags if tag in ("ul", "ol", "li", "hr", "h2", "blockquote")] == ["ul", "li"]
    assert name in page.text
    assert f"text\n{name}" in page.text


def test_tables_have_numbers_to_the_right_and_named_rows():
    text = table(("Name", "Value", "Word"), [("a|b", 1.5, "w"), ("c", None, "")], words={2}, strong={1})
    lines = text.splitlines()
    assert lines == ["| Name | Value | Word |", "| --- | ---: | --- |", "| a\\|b | 1.5 | w |", "| **c** |  |  |"]
    page = render(f"# T\n\n## S\n\n{text}")
    heads = [(tag, attrs.get("class"), attrs.get("scope")) for tag, attrs in page.tags if tag in ("th", "td")]
    assert heads == [
        *[("th", None, "col"), ("th", "number", "col"), ("th", None, "col")],
        *[("th", None, "row"), ("td", "number", None), ("td", None, None)] * 2,
    ]


def test_templates_escape_every_value_and_know_no_missing_one(tmp_path, monkeypatch):
    package = tmp_path / "package_of_templates"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "t.md.jinja").write_text("# {{ name }}\n\n\n\n{% if 0 %}\n{% endif %}\n{{ names | joined }}{{ code }}\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = fill_template(package.name, "t.md.jinja", name=HOSTILE, names=["a_b", "*", "c"], code=code("a ``` b"))
    assert "\\<script\\>" in text
    assert "\\[x\\](http\\://evil.example)" in text
    assert text.endswith("a\\_b, \\* and c````\na ``` b\n````\n")
    assert "\n\n\n" not in text
    with pytest.raises(Exception, match="undefined"):
        fill_template(package.name, "t.md.jinja", name="a")


def test_names_are_joined_as_in_a_sentence():
    assert joined([]) == ""
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert joined("abcdefgh", most=3) == "a, b, c, and 5 more"


def test_figures_stand_beside_each_other_and_sections_are_linked():
    places = ["figures/a.svg", "figures/b.svg"]
    page = render(f"# T\n\n![One](figures/a.svg)\n![Two]({places[1]})\n\n## S s\n\n### S s\n\n## S s\n", places)
    assert next(attrs.get("class") for tag, attrs in page.tags if tag == "div") == "figures"
    assert [attrs["id"] for tag, attrs in page.tags if tag == "figure"] == ["figure-a", "figure-b"]
    ids = [attrs["id"] for tag, attrs in page.tags if tag in ("h2", "h3")]
    assert len(set(ids)) == 3
    assert ids[0] == "s-s"
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == [f"#{ids[0]}", f"#{ids[2]}"]


def test_a_report_is_written_and_rendered_again_from_its_files(tmp_path):
    text = "# T\n\n![One](figures/a.svg)\n"
    written = write_report(text, {"a": SVG}, {"n.csv": b"x\n"}, tmp_path)
    assert [path.name for path in written] == ["report.html", "report.md", "n.csv"]
    root = ElementTree.parse(tmp_path / "figures" / "a.svg").getroot()
    assert root.attrib["style"] == "background:#fff"
    assert "var(" not in (tmp_path / "figures" / "a.svg").read_text()
    again = render_page((tmp_path / "report.md").read_text(), read_figure(tmp_path))
    assert again == (tmp_path / "report.html").read_text()


def test_image_grids_keep_small_images_exactly_and_large_ones_small():
    small = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    large = np.zeros((900, 1200, 3), np.uint8)
    svg = image_grid([[CaptionedImage(small, f"{HOSTILE[:20]}\nscore 1.5"), CaptionedImage(large)]], [HOSTILE])
    root = ElementTree.fromstring(svg)
    images = [element for element in root.iter() if element.tag.endswith("}image")]
    shown = [Image.open(io.BytesIO(base64.b64decode(one.attrib["href"].partition(",")[2]))) for one in images]
    assert (np.asarray(shown[0]) == small).all()
    assert (shown[1].format, shown[1].size) == ("JPEG", (192, 144))
    assert ["style" in one.attrib for one in images] == [True, False]
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert texts == [f"{HOSTILE[:23]}…", HOSTILE[:20], "score 1.5"]
    assert [len(row) for row in rows_of([CaptionedImage(small)] * 8)] == [6, 2]


@pytest.mark.slow
def test_charts_are_small():
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)

    def draw(figure):
        axes = figure.subplots(1, 2)
        axes[0].plot(np.linspace(0, 1, 200) ** 0.3, np.sin(np.linspace(0, 9, 200)))
        axes[1].imshow(pixels, interpolation="none")

    svg = chart("small", (4, 2), draw, "label 0.123456")
    assert "data:image/jpeg" in svg
    assert "0.123456" in svg
    assert not re.search(r' d="[^"]*\d\.\d{3}', svg)
    ElementTree.fromstring(svg.replace("var(--ink)", "#000"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "clouds"])
def test_committed_reports_are_rendered_from_their_markdown(name):
    """After an edit of ``report.md``: python scripts/render_report.py docs/studies/*."""
    folder = Path(__file__).parents[2] / "docs" / "studies" / name
    page = (folder / "report.html").read_text("utf-8")
    again = render_page((folder / "report.md").read_text("utf-8"), read_figure(folder))
    assert again.partition("<body")[2] == page.partition("<body")[2]
    assert not re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', page)
    figures = {f"figures/{path.name}" for path in (folder / "figures").iterdir()}
    assert figures == set(re.findall(r"(?<!\\)\]\(([^)]*)\)", (folder / "report.md").read_text("utf-8")))


@pytest.mark.posix
def test_figures_are_not_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OddsightError, match="it is a link to elsewhere"):
        write_report("# Title\n\n![A](figures/a.svg)\n", {"a": SVG}, {}, tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []
