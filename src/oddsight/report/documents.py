"""Pages as plain blocks: a template makes HTML of them, :func:`markdown` the same in Markdown.

All text is plain: whatever a name holds, it stays text in either form.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from oddsight.report.charts import printable
from oddsight.report.known_figures import gallery
from oddsight.studies.results import Picture

_CELL = 64
_CARD = 160
_GAP = 4
_ACROSS = 6
_SHORT = 80
_THIRD = 300
_COLOURS = {"var(--ink)": "#1d2126", "var(--rule)": "#b4b9bf"}


@dataclass(frozen=True)
class Heading:
    """Of a part of a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: Of it.
        soft: Whether it is less important than others.
    """

    kind: ClassVar[str] = "text"
    text: str
    soft: bool = False


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    kind: ClassVar[str] = "items"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What is what: names and what they stand for."""

    kind: ClassVar[str] = "facts"
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """A command."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; the first cell of a row is its name.

    Attributes:
        caption: What must be known to read it.
        columns: Headings.
        rows: As many cells each.
        words: Columns beside the first that hold words rather than numbers.
        strong: Rows that stand out.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()

    @property
    def narrow(self) -> bool:
        """Whether its rows are so short that they would be torn apart over the width of a page."""
        return max(sum(map(len, row)) for row in (self.columns, *self.rows)) < _SHORT


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: Of its file, and apart from that of others.
        svg: An ``<svg>`` element.
        caption: What must be known to read it.
    """

    name: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Charts:
    """One chart, or several beside each other where there is room."""

    kind: ClassVar[str] = "charts"
    charts: tuple[Chart, ...]

    @property
    def wide(self) -> bool:
        """Whether one of them takes more than a third of the page for its letters to be read."""
        widths = [re.search(r'width="([\d.]+)pt"', one.svg) for one in self.charts]
        return any(width is not None and float(width[1]) > _THIRD for width in widths)


@dataclass(frozen=True)
class Gallery:
    """Pictures with captions.

    Attributes:
        name: Of its file.
        pictures: At least one.
    """

    kind: ClassVar[str] = "gallery"
    name: str
    pictures: tuple[Picture, ...]

    @property
    def cards(self) -> Markup:
        """Its HTML."""
        small = [np.asarray(_fitted(picture.pixels, _CARD, enlarge=False)) for picture in self.pictures]
        return gallery(small, [picture.caption for picture in self.pictures])


@dataclass(frozen=True)
class Strips:
    """Rows of small pictures, each row with a name.

    Attributes:
        name: Of its file.
        rows: Names, and at least one picture each, ``[h, w, 3]``.
        caption: What must be known to read it.
    """

    kind: ClassVar[str] = "strips"
    name: str
    rows: tuple[tuple[str, tuple[NDArray[np.uint8], ...]], ...]
    caption: str

    @property
    def pictures(self) -> list[tuple[str, str, int]]:
        """Name, data URI and width of each row."""
        sheets = [(name, montage([row])) for name, row in self.rows]
        return [
            (name, f"data:image/png;base64,{b64encode(_png(sheet)).decode()}", sheet.width) for name, sheet in sheets
        ]


Block = Heading | Text | Items | Facts | Code | Table | Charts | Gallery | Strips


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: For links to it.
        title: Above it.
        blocks: In order.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        over: What it is, above the title.
        title: Of the page.
        warnings: What must be known before all else.
        findings: What was found, a sentence or two each.
        tiles: The most important numbers, and what they are.
        sections: In order.
        footer: Below all.
    """

    over: str
    title: str
    warnings: tuple[str, ...]
    findings: tuple[str, ...]
    tiles: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    footer: str


def montage(rows: Sequence[Sequence[NDArray[np.uint8]]], cell: int = _CELL) -> Image.Image:
    """Pictures in rows, each in a square of its own; what lies between them is transparent."""
    across = max(len(row) for row in rows)
    size = (across * (cell + _GAP) - _GAP, len(rows) * (cell + _GAP) - _GAP)
    sheet = Image.new("RGBA", size)
    for down, row in enumerate(rows):
        for along, pixels in enumerate(row):
            picture = _fitted(pixels, cell, enlarge=True)
            corner = (along * (cell + _GAP) + (cell - picture.width) // 2, down * (cell + _GAP))
            sheet.paste(picture, (corner[0], corner[1] + (cell - picture.height) // 2))
    return sheet


def _fitted(pixels: NDArray[np.uint8], side: int, *, enlarge: bool) -> Image.Image:
    """A picture brought to a longest side; a small one is enlarged by whole pixels, so that they can be seen."""
    picture = Image.fromarray(pixels)
    longest = max(picture.size)
    if longest > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    elif enlarge:
        times = side // longest
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    return picture


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def figure_files(document: Document) -> dict[str, bytes]:
    """The figures that :func:`markdown` refers to, by name: SVG and PNG."""
    found: dict[str, bytes] = {}
    for section in document.sections:
        for block in section.blocks:
            if isinstance(block, Charts):
                found |= {f"{one.name}.svg": _standing_alone(one.svg) for one in block.charts}
            elif isinstance(block, Gallery):
                shown = [picture.pixels for picture in block.pictures]
                rows = [shown[at : at + _ACROSS] for at in range(0, len(shown), _ACROSS)]
                found[f"{block.name}.png"] = _png(montage(rows, 2 * _CELL))
            elif isinstance(block, Strips):
                found[f"{block.name}.png"] = _png(montage([row for _, row in block.rows]))
    return found


def _standing_alone(chart: Markup) -> bytes:
    """A chart as a file, which has no page to take its colours from."""
    svg = str(chart)  # Markup would escape what is put into it
    for variable, colour in _COLOURS.items():
        svg = svg.replace(variable, colour)
    return svg.replace("<svg", '<svg style="background:#fff"', 1).encode("utf-8", "replace")


def markdown(document: Document, folder: str) -> str:
    """The page as Markdown (GitHub's), its figures in a folder.

    Args:
        document: The page.
        folder: Where :func:`figure_files` are, as seen from the file.
    """
    lines = [f"# {_plain(document.title)}", _plain(document.over)]
    lines += [f"> **Mind this.** {_plain(warning)}" for warning in document.warnings]
    lines += [_plain(finding) for finding in document.findings]
    if document.tiles:
        lines.append("\n".join(f"- **{_plain(value)}** {_plain(what)}" for value, what in document.tiles))
    for section in document.sections:
        lines.append(f"## {_plain(section.title)}")
        lines += [text for block in section.blocks for text in _block(block, folder)]
    lines += ["---", _plain(document.footer)]
    return "\n\n".join(lines) + "\n"


def _block(block: Block, folder: str) -> Iterator[str]:
    match block:
        case Heading():
            yield f"### {_plain(block.text)}"
        case Text():
            yield _plain(block.text)
        case Items():
            yield "\n".join(f"- {_plain(item)}" for item in block.items)
        case Facts():
            yield "\n".join(f"- **{_plain(name)}:** {_plain(fact)}" for name, fact in block.facts)
        case Code():
            yield _fenced(block.text)
        case Table():
            yield _plain(block.caption)
            yield _table(block)
        case Charts():
            for one in block.charts:
                yield f"![{_plain(one.name)}]({folder}/{one.name}.svg)"
                yield _plain(one.caption)
        case Gallery():
            yield f"![{_plain(block.name)}]({folder}/{block.name}.png)"
            captions = "; ".join(", ".join(one.caption.splitlines()) for one in block.pictures if one.caption)
            if captions:
                yield f"From left to right, row by row: {_plain(captions)}."
        case Strips():
            yield f"![{_plain(block.name)}]({folder}/{block.name}.png)"
            yield _plain(f"{block.caption} Rows from above: {', '.join(name for name, _ in block.rows)}.")


def _table(block: Table) -> str:
    marks = ["---" if not column or column in block.words else "---:" for column in range(len(block.columns))]
    rows = [[_plain(cell) for cell in block.columns], marks]
    for number, row in enumerate(block.rows):
        cells = [_plain(cell) for cell in row]
        rows.append([f"**{cell}**" if cell and number in block.strong else cell for cell in cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _fenced(text: str) -> str:
    """Code between more backticks than it holds in a row."""
    text = printable(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", printable(text)).replace("://", "\\://").replace("@", "\\@")
