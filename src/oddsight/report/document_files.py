"""A page of a study, the same in Markdown, and its tables, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from oddsight.files import make_folder, write_bytes
from oddsight.report.documents import Document, figure_files, markdown
from oddsight.report.pages import template

_FIGURES = "figures"


def write_document(document: Document, tables: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write a page; each file is written all at once or not at all, the page last.

    Args:
        document: The page.
        tables: Other files beside it, by name.
        folder: Where ``report.html``, ``report.md`` with its ``figures``, and the tables go; made if it is not there.

    Returns:
        The files, the page first; not those in ``figures``.

    Raises:
        OddsightError: If something cannot be written.
    """
    page = template("study.html.jinja").render(title=document.title, document=document)
    contents = {f"{_FIGURES}/{name}": content for name, content in figure_files(document).items()}
    contents |= tables
    contents["report.md"] = markdown(document, _FIGURES).encode("utf-8", "replace")
    contents["report.html"] = page.encode("utf-8", "replace")
    make_folder(folder / _FIGURES, follow_links=False)
    for name, content in contents.items():
        write_bytes(folder / name, content, follow_links=False)
    return [folder / name for name in reversed(contents) if not name.startswith(_FIGURES)]
