"""Reports as self-contained HTML pages: the results, their uncertainty, and their limits.

A page loads nothing from anywhere: charts are inline SVG, images are small JPEGs inside it. It reads well on a phone,
in print, and in the dark.
"""

from __future__ import annotations

import os

from oddsight.errors import DataError
from oddsight.evaluation.classes import ClassEvaluation
from oddsight.evaluation.normal import Evaluation
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages
from oddsight.report.classes import class_content
from oddsight.report.evaluation import evaluation_content, folder_name
from oddsight.report.markdown import fill_template, write_page

_ERRORS_LISTED = 50


def write_report(
    evaluation: Evaluation | ClassEvaluation,
    model: Model,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    normals: NormalImages | None = None,
) -> None:
    """Write an evaluation as an HTML page, all at once or not at all.

    A few test images are read and scored again to show them with their heat maps; the report says which are missing by
    then.

    Args:
        evaluation: The result of :func:`oddsight.evaluate`.
        model: The evaluated model.
        path: The file to write.
        title: Title of the page; by default the method and the folder of the test images.
        normals: Small copies of normal images, to show beside the test images that resemble them; see
            :meth:`oddsight.NormalImages.beside`.

    Raises:
        DataError: The evaluation is of another model or threshold.
        OddsightError: The page cannot be written.
    """
    if evaluation.metadata != model.metadata:
        raise DataError("this evaluation is of another model, or was made with another threshold: evaluate again")
    if isinstance(evaluation, Evaluation):
        name, (content, figures) = "evaluation.md.jinja", evaluation_content(evaluation, model, normals)
    else:
        name, (content, figures) = "classes.md.jinja", class_content(evaluation, model, normals)
    text = fill_template(
        "oddsight.report",
        name,
        title=title or f"{evaluation.metadata.method.name} on {folder_name(content['root'])}",
        evaluation=evaluation,
        meta=evaluation.metadata,
        errors=evaluation.errors[:_ERRORS_LISTED],
        **content,
    )
    write_page(text, figures, path)
