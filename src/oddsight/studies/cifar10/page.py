"""The report on known classes: one self-contained HTML page, the same in Markdown, and its numbers as CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from oddsight import detectors
from oddsight.detectors.sums import PLUS
from oddsight.drawing.class_figures import bars, confusion_figure, curves_figure, reliability_figure
from oddsight.drawing.image_grids import image_grid, rows_of
from oddsight.drawing.numbers import area, duration, p_text, percent, quantity, span
from oddsight.metrics.classification import confusion, reliability
from oddsight.report.markdown import fill_template, write_report
from oddsight.runtime.csv_tables import csv_files
from oddsight.studies.cifar10.conclusions import Conclusions, compare_runs, conclude
from oddsight.studies.cifar10.page_unknowns import (
    Figures,
    Row,
    label_run,
    shipped_rows,
    unknown_values,
    write_interval,
    write_percent,
)
from oddsight.studies.cifar10.results import Run, Study
from oddsight.studies.cifar10.tables import nearness, predictions, probabilities, study_tables
from oddsight.training.classifier_settings import NETWORKS

_MOST_CLASSES = 20
_FEW = 10
_MANY_RUNS = 12


def write_study(study: Study, folder: Path) -> list[Path]:
    """Write the report of a study and its CSV files: the same study always gives the same bytes.

    Returns:
        The files, the page first; not those in ``figures``.
    """
    found = conclude(study, study_tables(study))
    text, figures = study_page(found)
    return write_report(text, figures, csv_files(found.tables), folder)


def study_page(found: Conclusions) -> tuple[str, Figures]:
    """The report in Markdown, and its figures by name."""
    study, file = found.study, found.study.shipped
    figures: Figures = {}
    values = {
        "study": study,
        "facts": study.data,
        "file": file,
        "run": found.run,
        "found": found,
        "confidence": found.tables.confidence,
        "splits": {name: sum(counts) for name, counts in study.data.counts.items()},
        "classes": list(_classes(found)),
        "runs": list(_runs(found)),
        "shipped_rows": shipped_rows(found),
        "recipes": list(_recipes(found)),
        "settings": [(run, _settings(run.settings)) for run in {run.name: run for run in study.runs[::-1]}.values()],
        "scores": list(_score_names(study)),
        "curves": _draw_classification(found, figures),
        "per_class": _per_class(found),
        "confused": list(_confused(found)),
        "by_class": list(_by_class(found)),
        "agreement": float((file.predicted == predictions(found.run)).mean()),
        "times": list(_times(found)),
        "pretrained": any(_pretrained(run) for run in study.runs),
        "many": len(study.data.classes) > _MOST_CLASSES,
        "own_row": next(filter(found.is_own, found.tables.classification)),
        "version": version("oddsight"),
        **unknown_values(found, figures),
    }
    _draw_examples(found, figures)
    return fill_template("oddsight.studies.cifar10", "page.md.jinja", **values, figures=set(figures)), figures


def _classes(found: Conclusions) -> Iterator[Row]:
    counts, names = found.study.data.counts.values(), found.study.data.classes
    if len(names) <= _MOST_CLASSES:
        for index, name in enumerate(names):
            yield name, *(f"{each[index]:,}" for each in counts)
    else:
        yield "fewest of a class", *(f"{min(each):,}" for each in counts)
        yield "most of a class", *(f"{max(each):,}" for each in counts)
    yield "all", *(f"{sum(each):,}" for each in counts)


def _runs(found: Conclusions) -> Iterator[Row]:
    for row in found.tables.classification:
        right = (percent(row.accuracy), span(row.accuracy_low, row.accuracy_high, percent), area(row.macro_f1))
        sure = (f"{row.nll_scaled:.3f}", f"{row.brier_scaled:.3f}", f"{row.ece:.3f} \u2192 {row.ece_scaled:.3f}")
        cost = (quantity(row.parameters), row.epochs or "\u2013", _training_time(row.train_seconds))
        yield label_run(found, row), *right, *sure, f"{row.temperature:.2f}", row.size, *cost


def _training_time(seconds: float) -> str:
    return duration(seconds) if seconds else "\u2013"


def _recipes(found: Conclusions) -> Iterator[Row]:
    """Every recipe over its seeds, and against the most accurate one by McNemar's test."""
    by_name = {run.name: run for run in found.study.runs[::-1]}
    quick = found.frontier()
    for one in sorted(found.standings, key=lambda one: -one.accuracy):
        counts: Row = ("", "", "")
        verdict = "most accurate"
        if one is not found.best:
            test = compare_runs(by_name[found.best.name], by_name[one.name])
            counts = (test.only_first, test.only_second, p_text(test.p_value))
            verdict = "less accurate" if test.p_value < 1 - found.tables.confidence else "not distinguishable"
        cells = (one.title, len(one.seeds), percent(one.accuracy), span(one.lowest, one.highest, percent))
        yield *cells, duration(one.seconds), "yes" if one in quick else "no", *counts, verdict


def _settings(settings: Mapping[str, Any]) -> str:
    def written(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
        if isinstance(value, list | tuple):
            return " + ".join(map(str, value)) or "none"
        if value is None or value == "":
            return "none"
        return f"{value:g}" if isinstance(value, float) else str(value)

    named = (f"{name.replace('_', ' ')} {written(value)}" for name, value in settings.items())
    return ", ".join(named) or "none recorded"


def _score_names(study: Study) -> Iterator[Row]:
    known = detectors.names("classes")
    for name in dict.fromkeys(scored.name for run in study.runs for scored in run.scores):
        score = detectors.create(name, "classes") if name in known or PLUS in name else None
        yield (name, score.summary, score.paper) if score is not None else (name, "", "")


def _confused(found: Conclusions) -> Iterator[tuple[str, str, int, int]]:
    """True and predicted class, how often, and of how many images: the most frequent mistakes of the shipped run."""
    run, names = found.run, found.study.data.classes
    counts = confusion(run.labels, predictions(run), len(names))
    wrong = counts - np.diag(np.diag(counts))
    for place in np.argsort(-wrong, axis=None, kind="stable")[:3]:
        truth, predicted = divmod(int(place), len(names))
        if wrong[truth, predicted]:
            yield names[truth], names[predicted], int(wrong[truth, predicted]), int(counts[truth].sum())


def _draw_classification(found: Conclusions, figures: Figures) -> list[tuple[str, str]]:
    """Draw what concerns naming the class; the names and titles of the learning curves."""
    rows = found.tables.classification[:_MANY_RUNS]
    if len(rows) > 1:
        figures["accuracies"] = bars(
            [label_run(found, row) for row in rows],
            [row.accuracy for row in rows],
            [(row.accuracy_low, row.accuracy_high) for row in rows],
            axis="accuracy",
            written=percent,
            name="accuracies",
        )
    first = {run.name: run for run in found.study.runs[::-1] if run.curves}
    drawn = []
    for number, name in enumerate(dict.fromkeys(run.name for run in found.study.runs if run.curves)):
        figures[f"curves-{number}"] = curves_figure(first[name].curves, first[name].title, name=f"curves-{number}")
        drawn.append((f"curves-{number}", f"{first[name].title}, seed {first[name].seed}"))
    run, names = found.run, found.study.data.classes
    figures["confusion"] = confusion_figure(confusion(run.labels, predictions(run), len(names)), names)
    bins = [reliability(probabilities(run, scaled=scaled), run.labels) for scaled in (False, True)]
    titles = ("as trained", f"T = {run.temperature:.2f}")
    figures["reliability"] = reliability_figure(bins[0], bins[1], titles=titles)
    return drawn


def _draw_examples(found: Conclusions, figures: Figures) -> None:
    """Images of the classes and of unknown sets, and what the shipped file got right and wrong."""
    by_class = dict(list(found.study.data.examples.items())[:_MOST_CLASSES])
    if by_class:
        figures["examples-classes"] = image_grid(list(by_class.values()), list(by_class), side=48)
    sets = [one for one in found.ordered() if one.examples]
    if sets:
        names = [f"{one.name} ({nearness(one.near)})" for one in sets]
        figures["examples-unknown"] = image_grid([one.examples for one in sets], names, side=48)
    file = found.study.shipped
    galleries = {"mistakes": file.mistakes, "missed": file.missed, "caught": file.caught, "refused": file.refused}
    figures |= {name: image_grid(rows_of(images)) for name, images in galleries.items() if images}


def _per_class(found: Conclusions) -> list[Any]:
    rows = list(filter(found.is_own, found.tables.per_class))
    return sorted(rows, key=lambda row: row.recall)[:_FEW] if len(rows) > _MOST_CLASSES else rows


def _by_class(found: Conclusions) -> Iterator[Row]:
    """By true class, what the file rejects and how often it is right."""
    file, names = found.study.shipped, found.study.data.classes
    rows = [row for row in found.tables.shipped if row.images_of == "class"]
    parts = [rows[at : at + 3] for at in range(0, len(rows), 3)]
    order = list(range(len(names)))
    if len(names) > _MOST_CLASSES:
        order = sorted(order, key=lambda index: -(parts[index][2].share or 0.0))[:_FEW]
    for index in order:
        right, accepted, rejected = parts[index]
        cells = [names[index], f"{rejected.images:,}", write_percent(rejected.share), write_interval(rejected)]
        cells += [write_percent(right.share), write_percent(accepted.share)]
        cells += [f"{file.thresholds[index]:.4g}"] if file.per_class else []
        yield *cells, "more than asked for" if (rejected.low or 0.0) > file.rate else "compatible"


def _times(found: Conclusions) -> Iterator[Row]:
    for row, run in zip(found.tables.classification, found.study.runs, strict=True):
        scores = duration(sum(scored.seconds for scored in run.scores)) if run.scores else None
        training = (_training_time(row.train_seconds), duration(row.seconds_with_start))
        yield f"{row.title} ({row.run})", row.seed, *training, scores, quantity(row.parameters)


def _pretrained(run: Run) -> bool:
    """Whether a run starts from a network that was trained on other images."""
    return run.settings.get("network", run.settings.get("backbone")) not in (*NETWORKS, None)
