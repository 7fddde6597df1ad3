"""The page of a job: its most anomalous images, read again when the page is made, and counts by folder."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from oddsight.drawing.examples import THUMBNAIL, Example, reduced
from oddsight.drawing.image_grids import image_uri
from oddsight.drawing.numbers import p_text
from oddsight.errors import OddsightError
from oddsight.report.gallery import Card, Gallery
from oddsight.report.markdown import fill_template, table, write_page
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.stores import open_store
from oddsight.scale.entries import find_frame
from oddsight.scale.job import read_job
from oddsight.scale.summary import Row, Summary

_FOLDERS = 50  # Rows of the table of folders, at most
_MARKS = " ▁▂▃▄▅▆▇█"


def write_summary_page(summary: Summary, place: str, path: Path) -> None:
    """Write a summary as an HTML page that loads nothing.

    Raises:
        OddsightError: The place holds no job, or the page cannot be written.
    """
    job = read_job(open_store(place))
    if job is None:
        raise OddsightError(f"{place} holds no results of 'oddsight predict --out'")
    rows = summary.most_anomalous
    cards = [
        _card(row, image) for row, image in zip(rows, map_jobs(_thumbnail, [row.path for row in rows]), strict=True)
    ]
    gallery = Gallery("images", "Highest scores", "highest score first", "There are none.", summary.scored, cards)
    text = fill_template(
        "oddsight.report",
        "batch.md.jinja",
        title="Images by their scores",
        found=summary,
        job=job,
        gallery=gallery,
        folders=_folders(summary),
        hidden=max(0, len(summary.prefixes) - _FOLDERS),
        failures=table(("Image", "Why it has no score"), summary.failures.items(), words={1}),
    )
    write_page(text, {gallery.name: gallery.draw("normal image")}, path)


def _thumbnail(path: str) -> str | None:
    """A small copy of an image as a data URI; None if it cannot be read again."""
    try:
        return image_uri(reduced(find_frame(path).read()), THUMBNAIL)
    except OddsightError:
        return None


def _card(row: Row, image: str | None) -> Card:
    lines = [f"score {row.score:.4g}, p = {p_text(row.p_value)}"]
    return Card(Example(image), row.path, lines, row.verdict, row.anomalous)


def _folders(summary: Summary) -> Markup:
    """Counts by folder, those with the largest share of flagged images first."""
    ranked = sorted(summary.prefixes.items(), key=lambda item: -item[1]["flagged"] / max(item[1]["scored"], 1))
    low, high = summary.edges[0], summary.edges[-1]
    columns = ("Folder", "Scored", "Flagged", "Failed", f"Scores from {low:.4g} to {high:.4g}")
    rows = [
        (name or ".", row["scored"], row["flagged"], row["failed"], _bars(row["histogram"]))
        for name, row in ranked[:_FOLDERS]
    ]
    return table(columns, rows, words={4})


def _bars(histogram: list[int]) -> str:
    """A histogram as a line of text; every bin that holds something shows."""
    most = max(histogram) or 1
    return "".join(_MARKS[-(-count * (len(_MARKS) - 1) // most)] for count in histogram)
