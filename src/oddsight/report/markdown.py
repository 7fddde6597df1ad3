"""Reports as Markdown: a template filled with numbers and tables, and the same text as one HTML page.

Whatever a name holds, it stays text: every value that a template prints is escaped, unless it is Markdown already.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from oddsight.drawing.numbers import area, percent, span
from oddsight.errors import plain
from oddsight.graphs.preprocessing import sides
from oddsight.runtime.files import make_folder, write_bytes

if TYPE_CHECKING:
    from jinja2 import Environment
    from markdown_it.token import Token

FIGURES = "figures"  # The folder of figures beside a report

_COLOURS = {"var(--ink)": "#1d2126", "var(--rule)": "#b4b9bf"}
_TYPES = {"svg": "svg+xml", "png": "png", "jpg": "jpeg"}


_FILTERS: dict[str, Callable[..., object]] = {
    "area": area,
    "percent": percent,
    "plain": plain,
    "span": lambda low, high, form="area": span(low, high, percent if form == "percent" else area),
    "interval": lambda ends, form="area": span(ends[0], ends[1], percent if form == "percent" else area),
    "percent_signed": lambda share: ("\u2212" if share < 0 else "") + percent(abs(share)),
    "comma": lambda number: f"{number:,}",
    "size": lambda size: " \u00d7 ".join(map(str, sides(size)[::-1])),
}
"""What templates write numbers and names by."""


def _environment(package: str, finalize: Callable[[object], object] | None = None) -> Environment:
    """Where the templates that lie in a package are filled: every value is escaped, and none may be missing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader(package, ""),
        finalize=finalize,
    )
    made.filters |= _FILTERS
    return made


def fill_html(name: str, /, **values: object) -> Markup:
    """Fill an HTML template of this package, which escapes every value."""
    return Markup(_environment("oddsight.report").get_template(name).render(values))  # noqa: S704 - escaped


def fill_template(package: str, name: str, /, **values: object) -> str:
    """Fill the Markdown template of a report in a package; text is escaped, and :func:`table` makes tables."""
    known = _environment(package, _escaped)
    known.filters |= {"joined": joined, "code": code}
    text = known.get_template(name).render(values, table=table)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escape(text: object) -> Markup:
    """Text that Markdown leaves as it is; Markdown as it is."""
    if isinstance(text, Markup):
        return text
    marked = re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", plain(text)).replace("://", "\\://").replace("@", "\\@")
    # What would start a list, or underline a heading.
    marked = re.sub(r"^(\d*)([-+.)=])(?=[\s=-]|$)", r"\1\\\2", marked)
    return Markup(marked)  # noqa: S704 - escaped for Markdown, which is escaped for HTML when it is rendered


def _escaped(value: object) -> object:
    # A value that is missing stays what it is, so that printing it is an error.
    return escape(value) if isinstance(value, str | int | float) else value


def joined(names: Iterable[object], most: int = 6) -> Markup:
    """Names as in a sentence; of very many only the first."""
    every = [escape(name) for name in names]
    if len(every) > most:
        return Markup(", ").join([*every[:most], Markup("and {} more").format(f"{len(every) - most:,}")])
    return Markup(" and ").join([Markup(", ").join(every[:-1]), every[-1]] if len(every) > 1 else every)


def code(text: str) -> Markup:
    """A block of code between more backticks than it holds in a row."""
    text = plain(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markup(f"{fence}\n{text}\n{fence}")  # noqa: S704 - code is escaped when it is rendered


def table(
    columns: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    words: Collection[int] = (),
    strong: Collection[int] = (),
) -> Markup:
    """A table in Markdown; the first cell of a row is its name.

    Args:
        columns: Headings.
        rows: As many cells each; None is an empty cell.
        words: Columns beside the first that hold words rather than numbers.
        strong: Rows that stand out.
    """
    marks = ["---" if not column or column in words else "---:" for column in range(len(columns))]
    lines = [[_cell(name) for name in columns], marks]
    for number, row in enumerate(rows):
        cells = [_cell(value) for value in row]
        lines.append([f"**{cell}**" if cell and number in strong else cell for cell in cells])
    # Cells are escaped; joining them by Markup would escape for HTML what is escaped for Markdown.
    return Markup("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))  # noqa: S704


def _cell(value: object) -> str:
    return "" if value is None else str(escape(value)).strip()


def write_report(text: str, figures: Mapping[str, Markup], tables: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write a report; each file is written all at once or not at all, the page last.

    Args:
        text: Markdown that refers to its figures as ``figures/NAME.svg``.
        figures: An ``<svg>`` element each, by name.
        tables: Other files beside it, by name.
        folder: Where ``report.html``, ``report.md`` with its ``figures``, and the tables go; made if it is not there.

    Returns:
        The files, the page first; not those in ``figures``.

    Raises:
        OddsightError: If something cannot be written.
    """
    contents = {f"{FIGURES}/{name}.svg": _standing_alone(svg) for name, svg in figures.items()}
    contents |= tables
    contents["report.md"] = text.encode("utf-8", "replace")
    drawn = {f"{FIGURES}/{name}.svg": svg for name, svg in figures.items()}
    contents["report.html"] = render_page(text, lambda place: drawn[place]).encode("utf-8", "replace")
    make_folder(folder / FIGURES, follow_links=False)
    for name, content in contents.items():
        write_bytes(folder / name, content, follow_links=False)
    return [folder / name for name in reversed(contents) if not name.startswith(FIGURES)]


def write_page(text: str, figures: Mapping[str, Markup], path: str | os.PathLike[str]) -> None:
    """Write Markdown as one HTML page, with its figures by name, all at once or not at all; see :func:`render_page`.

    Raises:
        OddsightError: It cannot be written.
    """
    page = render_page(text, lambda place: figures[Path(place).stem])
    write_bytes(path, page.encode("utf-8", errors="replace"))


def _standing_alone(chart: Markup) -> bytes:
    """A chart as a file, which has no page to take its colours from."""
    svg = str(chart)  # Markup would escape what is put into it
    for variable, colour in _COLOURS.items():
        svg = svg.replace(variable, colour)
    return svg.replace("<svg", '<svg style="background:#fff"', 1).encode("utf-8", "replace")


def read_figure(folder: Path) -> Callable[[str], Markup]:
    """What reads the figures of a report that was written before: SVG, or an image as a data URI."""

    def read(place: str) -> Markup:
        content = (folder / place).read_bytes()
        kind = place.rpartition(".")[2]
        if kind != "svg":
            uri = f"data:image/{_TYPES[kind]};base64,{base64.b64encode(content).decode()}"
            return Markup('<img src="{}" alt="">').format(uri)
        svg = content.decode().replace(' style="background:#fff"', "", 1)
        for variable, colour in _COLOURS.items():
            svg = svg.replace(colour, variable)
        return Markup(svg)  # noqa: S704 - a chart of a report

    return read


def render_page(text: str, figure: Callable[[str], Markup]) -> str:
    """Make one HTML page of Markdown, which loads nothing from anywhere. HTML in the text stays text.

    The first heading is the title; ``figure`` gives the element for a figure, by its place beside the report.
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("image", lambda renderer, tokens, at, options, env: _figure(tokens[at], figure))
    tokens = reader.parse(text)
    sections = list(_number_headings(tokens))
    _mark_tables(tokens)
    _mark_figures(tokens)
    starts = [at for at, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    first = starts[0] if starts else len(tokens)
    title = next((tokens[at + 1].children for at, token in enumerate(tokens) if token.tag == "h1"), None)
    return fill_html(
        "document.html.jinja",
        title="".join(part.content for part in title or ()),
        header=Markup(reader.renderer.render(tokens[:first], reader.options, {})),  # noqa: S704 - rendered, HTML is off
        sections=sections,
        body=Markup(reader.renderer.render(tokens[first:], reader.options, {})),  # noqa: S704
    )


def _number_headings(tokens: Sequence[Token]) -> Iterable[tuple[str, str]]:
    """Give every section an identifier of its own; identifiers and titles of the sections."""
    used: set[str] = set()
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag in ("h2", "h3"):
            title = "".join(part.content for part in tokens[at + 1].children or ())
            name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
            name = name if name not in used else f"{name}-{at}"
            used.add(name)
            token.attrSet("id", name)
            if token.tag == "h2":
                yield name, title


def _mark_tables(tokens: Sequence[Token]) -> None:
    """Numbers to the right, names of columns and rows as headings, and what is wide in a box that scrolls."""
    body, first = False, False
    for token in tokens:
        if token.type == "table_open":
            token.attrSet("class", "dense")
        elif token.type in ("tbody_open", "tbody_close"):
            body = token.nesting > 0
        elif token.type == "tr_open":
            first = True
        elif token.type in ("th_open", "td_open"):
            if token.attrs.pop("style", ""):
                token.attrSet("class", "number")
            if token.type == "th_open" or first:
                token.tag = "th"
                token.attrSet("scope", "row" if body else "col")
        elif token.type == "td_close" and first:
            token.tag, first = "th", False


def _mark_figures(tokens: Sequence[Token]) -> None:
    """Make a paragraph of nothing but figures a box that shows them beside each other where there is room."""
    for before, within, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        parts = [part for part in within.children or () if part.type != "softbreak"]
        if before.type == "paragraph_open" and parts and all(part.type == "image" for part in parts):
            before.tag = after.tag = "div"
            before.attrSet("class", "figures" if len(parts) > 1 else "figures one")
            within.children = parts


def _figure(token: Token, figure: Callable[[str], Markup]) -> str:
    place = str(token.attrs["src"])
    caption = "".join(part.content for part in token.children or ())
    note: Any = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    name = Path(place).stem
    return str(
        Markup('<figure id="figure-{}"><div class="scroll">{}</div>{}</figure>').format(name, figure(place), note)
    )
