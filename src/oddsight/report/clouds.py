"""A study of clouds as one self-contained HTML page, the same in Markdown, and its numbers as CSV files."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from oddsight.report import clouds_isolation, clouds_severity
from oddsight.report.clouds_judgement import findings, judged, recommended, tiles, warnings
from oddsight.report.clouds_results import files, learning_curves, results
from oddsight.report.clouds_setting import again, approach, data, methods
from oddsight.report.clouds_thresholds import thresholds
from oddsight.report.document_files import write_document
from oddsight.report.documents import Code, Document, Section, Text
from oddsight.report.wording import counted
from oddsight.studies.clouds.conclusions import Found, conclude
from oddsight.studies.clouds.results import CloudStudy
from oddsight.studies.clouds.tables import cloud_tables
from oddsight.studies.rows import csv_of


def write_clouds(study: CloudStudy, folder: Path, *, confidence: float = 0.95) -> list[Path]:
    """Write what a study of clouds found: the same study always gives the same bytes.

    Args:
        study: What was found.
        folder: Where ``report.html``, ``report.md`` with its ``figures``, and the CSV files of
            :class:`oddsight.studies.clouds.rows.CloudTables` go; it is made if it is not there.
        confidence: Of all intervals.

    Returns:
        The files, the page first; not those in ``figures``.

    Raises:
        OddsightError: If the confidence is not between 0 and 1, or something cannot be written.
    """
    found = conclude(study, cloud_tables(study, confidence=confidence))
    return write_document(clouds_document(found), found.tables.csv_files() | _more_tables(study), folder)


def _more_tables(study: CloudStudy) -> dict[str, bytes]:
    """The tables of what was measured beside whole scenes."""
    isolation = {"isolation.csv": csv_of(study.isolation.rows())} if study.isolation is not None else {}
    severity = {"severity.csv": csv_of(study.severity.rows())} if study.severity is not None else {}
    return isolation | severity


def clouds_document(found: Found) -> Document:
    """The page as blocks."""
    study = found.study
    names = dict.fromkeys(one.method for one in study.measured)
    curves = learning_curves(found)
    return Document(
        over=(
            f"Oddsight study of clouds on satellite scenes: {counted(len(names), 'method')}, "
            f"{counted(len(study.sides), 'side')}, {counted(len(study.seeds), 'seed')}"
        ),
        title="Cloudy or clear?",
        warnings=tuple(warnings(found)),
        findings=tuple(findings(found)),
        tiles=tuple(tiles(found)),
        sections=(
            approach(found),
            data(found),
            methods(found),
            results(found),
            files(found),
            thresholds(found),
            *((curves,) if curves is not None else ()),
            *_parts(found),
            judged(found),
            recommended(found),
            again(found),
        ),
        footer=f"Made by Oddsight {version('oddsight')}. This page loads nothing from anywhere.",
    )


def _parts(found: Found) -> Iterator[Section]:
    """Where the cloud is, and what haze, smoke and dust change; or how to find out."""
    study = found.study
    if study.isolation is not None:
        yield clouds_isolation.section(study.isolation)
    else:
        yield _left_out(
            "isolation",
            "Where is the cloud?",
            "Not run: class folders have no masks. Give a folder with images and masks of the same names.",
            "oddsight study clouds --data DATA -o OUT --masks MASKS",
        )
    if study.severity is not None:
        yield clouds_severity.section(study.severity)
    else:
        yield _left_out(
            "severity",
            "Haze, smoke and dust",
            "Not run, as it was left out. It would show methods synthetic haze, smoke and dust of known amount.",
            "oddsight study clouds --data DATA -o OUT --severity-methods auto",
        )


def _left_out(name: str, title: str, reason: str, command: str) -> Section:
    return Section(name, title, (Text(reason), Code(command)))
