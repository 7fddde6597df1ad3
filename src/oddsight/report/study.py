"""A study of known classes as one self-contained HTML page, the same in Markdown, and its numbers as CSV files."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from oddsight.report.document_files import write_document
from oddsight.report.documents import Document
from oddsight.report.study_findings import findings, tiles, warnings
from oddsight.report.study_judgement import judged, recommended
from oddsight.report.study_results import classification, shipped
from oddsight.report.study_setting import again, approach, data, methods
from oddsight.report.study_unknowns import baselines, unknowns
from oddsight.report.wording import counted
from oddsight.studies.conclusions import Conclusions, conclude
from oddsight.studies.results import Study
from oddsight.studies.tables import study_tables


def write_study(study: Study, folder: Path, *, confidence: float = 0.95) -> list[Path]:
    """Write what a study found: the same study always gives the same bytes.

    Each file is written all at once or not at all, the page last.

    Args:
        study: What was found.
        folder: Where ``report.html``, ``report.md`` with its ``figures``, and the CSV files of
            :class:`oddsight.studies.rows.Tables` go; it is made if it is not there.
        confidence: Of all intervals.

    Returns:
        The files, the page first; not those in ``figures``.

    Raises:
        DataError: If what the study recorded does not fit together.
        OddsightError: If the confidence is not between 0 and 1, or something cannot be written.
    """
    found = conclude(study, study_tables(study, confidence=confidence))
    return write_document(study_document(found), found.tables.csv_files(), folder)


def study_document(found: Conclusions) -> Document:
    """The page as blocks."""
    study = found.study
    trivial = baselines(found)
    return Document(
        over=(
            f"Oddsight study of a classifier that knows what it does not know: "
            f"{counted(len(study.data.classes), 'class', 'classes')}, {counted(len(study.runs), 'run')}, "
            f"{counted(len(study.unknowns), 'set')} of unknown images"
        ),
        title=f"Known classes and none of these: {study.name}",
        warnings=tuple(warnings(found)),
        findings=tuple(findings(found)),
        tiles=tuple(tiles(found)),
        sections=(
            approach(found),
            data(study),
            methods(study),
            classification(found),
            unknowns(found),
            shipped(found),
            *((trivial,) if trivial is not None else ()),
            judged(found),
            recommended(found),
            again(found),
        ),
        footer=f"Made by Oddsight {version('oddsight')}. This page loads nothing from anywhere.",
    )
