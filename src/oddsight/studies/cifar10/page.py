"""The report on known classes: one self-contained HTML page, the same in Markdown, and its numbers as CSV files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from oddsight import detectors
from oddsight.detectors.sums import PLUS
from oddsight.drawing.class_figures import bars, confusion_figure, curves_figure, reliability_figure
from oddsight.drawing.image_grids import CaptionedImage, image_grid, rows_of
from oddsight.drawing.numbers import area, duration, p_text, percent, quantity, span
from oddsight.metrics.classification import confusion, reliability
from oddsight.report.markdown import fill_template, table, write_report
from oddsight.studies.cifar10.conclusions import Conclusions, conclude, paired
from oddsight.studies.cifar10.page_unknowns import (
    Figures,
    label_run,
    shipped_rows,
    unknown_values,
    write_interval,
    write_percent,
)
from oddsight.studies.cifar10.results import Run, Study
from oddsight.studies.cifar10.tables import nearness, predictions, probabilities, study_tables
from oddsight.studies.csv_files import csv_files
from oddsight.training.classifier_settings import NETWORKS

_MOST_CLASSES = 20
_FEW = 10
_MANY_RUNS = 12


def write_study(study: Study, folder: Path, *, confidence: float = 0.95) -> list[Path]:
    """Write the report of a study of known classes: the same study always gives the same bytes.

    Args:
        study: What was measured.
        folder: Where ``report.html``, ``report.md`` with its ``figures``, and the CSV files of
            :class:`oddsight.studies.cifar10.rows.Tables` go; it is made if it is not there.
        confidence: Of all intervals.

    Returns:
        The files, the page first; not those in ``figures``.

    Raises:
        DataError: If what the study recorded does not fit together.
        OddsightError: If the confidence is not between 0 and 1, or something cannot be written.
    """
    found = conclude(study, study_tables(study, confidence=confidence))
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
        "summary": _summary(found),
        "splits": {name: sum(counts) for name, counts in study.data.counts.items()},
        "classes": _classes(found),
        "runs": _runs(found),
        "recipes": _recipes(found),
        "settings": [(run, _settings(run.settings)) for run in {run.name: run for run in study.runs[::-1]}.values()],
        "scores": _score_names(study),
        "curves": _draw_classification(found, figures),
        "per_class": _per_class(found),
        "confused": [(names, f"{count:,} of {images:,}") for *names, count, images in _confused(found)],
        "by_class": _by_class(found),
        "agreement": float((file.predicted == predictions(found.run)).mean()),
        "times": _times(found),
        "pretrained": any(_pretrained(run) for run in study.runs),
        "many": len(study.data.classes) > _MOST_CLASSES,
        "own_row": next(row for row in found.tables.classification if (row.run, row.seed) == (file.run, file.seed)),
        "version": version("oddsight"),
        **unknown_values(found, figures),
    }
    _draw_examples(study, figures)
    return fill_template("oddsight.studies.cifar10", "page.md.jinja", **values, figures=set(figures)), figures


def _summary(found: Conclusions) -> Markup:
    """The most important numbers of the shipped file."""
    right, accepted = found.tables.shipped[:2]
    promise = found.promise
    rows: list[tuple[object, ...]] = [
        ("Accuracy on all test images", write_percent(right.share), write_interval(right), None),
        ("Accuracy on accepted test images", write_percent(accepted.share), write_interval(accepted), None),
        (
            f"Test images rejected, at most {percent(promise.rate)} asked for",
            percent(promise.share),
            span(promise.low, promise.high, percent),
            promise.verdict,
        ),
    ]
    for word in ("near", "far"):
        shares = [row.share or 0.0 for row in found.tables.shipped if row.images_of == f"{word} unknowns"]
        if shares:
            sets = f"{len(shares)} {word} {'set' if len(shares) == 1 else 'sets'}"
            detected = span(min(shares), max(shares), percent)
            rows.append((f"Unknown images detected, {sets}", detected, None, None))
    return table(("Shipped file", "Value", "Interval", "Verdict"), rows, words={3})


def _classes(found: Conclusions) -> Markup:
    counts, names = found.study.data.counts, found.study.data.classes
    if len(names) <= _MOST_CLASSES:
        rows = [(name, *(f"{each[index]:,}" for each in counts.values())) for index, name in enumerate(names)]
    else:
        ends: tuple[tuple[str, Callable[[Sequence[int]], int]], ...] = (("fewest", min), ("most", max))
        rows = [(f"{word} of a class", *(f"{pick(each):,}" for each in counts.values())) for word, pick in ends]
    rows.append(("all", *(f"{sum(each):,}" for each in counts.values())))
    return table(("Class", *counts), rows, strong={len(rows) - 1})


def _runs(found: Conclusions) -> Markup:
    heads = ("Run", "Accuracy", "Interval", "Macro F1", "NLL", "Brier", "ECE", "T", "Side", "Parameters", "Epochs")
    rows = [
        (
            label_run(found, row),
            percent(row.accuracy),
            span(row.accuracy_low, row.accuracy_high, percent),
            area(row.macro_f1),
            f"{row.nll_scaled:.3f}",
            f"{row.brier_scaled:.3f}",
            f"{row.ece:.3f} \u2192 {row.ece_scaled:.3f}",
            f"{row.temperature:.2f}",
            row.size,
            quantity(row.parameters),
            row.epochs or "\u2013",
            duration(row.train_seconds) if row.train_seconds else "\u2013",
        )
        for row in found.tables.classification
    ]
    return table((*heads, "Training"), rows, strong=shipped_rows(found))


def _recipes(found: Conclusions) -> Markup:
    """Every recipe over its seeds, and against the most accurate one by McNemar's test."""
    by_name = {run.name: run for run in found.study.runs[::-1]}
    quick = found.frontier()
    rows = []
    for one in sorted(found.standings, key=lambda one: -one.accuracy):
        cells = [one.title, len(one.seeds), percent(one.accuracy), span(one.lowest, one.highest, percent)]
        test = None if one is found.best else paired(by_name[found.best.name], by_name[one.name])
        verdict = "most accurate"
        if test is not None:
            verdict = "less accurate" if test.p_value < 1 - found.tables.confidence else "not distinguishable"
        counts = ("", "", "") if test is None else (test.only_first, test.only_second, p_text(test.p_value))
        rows.append((*cells, duration(one.seconds), "yes" if one in quick else "no", *counts, verdict))
    heads = ("Recipe", "Seeds", "Accuracy", "Lowest to highest", "Training", "Frontier", "Only best right")
    return table((*heads, "Only this right", "p", "Verdict"), rows, words={5, 9})


def _settings(settings: Mapping[str, Any]) -> str:
    def written(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
        if isinstance(value, list | tuple):
            return " + ".join(map(str, value)) or "none"
        if value is None or value == "":
            return "none"
        return f"{value:g}" if isinstance(value, float) else str(value)

    return (
        ", ".join(f"{name.replace('_', ' ')} {written(value)}" for name, value in settings.items()) or "none recorded"
    )


def _score_names(study: Study) -> Markup | None:
    names = list(dict.fromkeys(scored.name for run in study.runs for scored in run.scores))
    there = detectors.names("classes")
    known = {name: detectors.create(name, "classes") for name in names if name in there or PLUS in name}
    rows = [(name, known[name].summary, known[name].paper) if name in known else (name, "", "") for name in names]
    return table(("Score", "What it looks at", "Paper"), rows, words={1, 2}) if rows else None


def _confused(found: Conclusions) -> list[tuple[str, str, int, int]]:
    """True and predicted class, how often, and of how many images: the most frequent mistakes of the shipped run."""
    run, names = found.run, found.study.data.classes
    counts = confusion(run.labels, predictions(run), len(names))
    off, totals = counts - np.diag(np.diag(counts)), counts.sum(axis=1)
    places = [divmod(int(place), len(names)) for place in np.argsort(-off, axis=None, kind="stable")[:3]]
    return [
        (names[truth], names[said], int(off[truth, said]), int(totals[truth]))
        for truth, said in places
        if off[truth, said]
    ]


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


def _draw_examples(study: Study, figures: Figures) -> None:
    """Images of the classes and of unknown sets, and what the shipped file got right and wrong."""
    by_class: dict[str, list[CaptionedImage]] = {}
    for image in study.data.examples:
        by_class.setdefault(image.caption, []).append(CaptionedImage(image.pixels))
    if by_class:
        names = list(by_class)[:_MOST_CLASSES]
        figures["examples-classes"] = image_grid([by_class[name] for name in names], names, side=48)
    sets = [one for one in sorted(study.unknowns, key=lambda one: not one.near) if one.examples]
    if sets:
        names = [f"{one.name} ({nearness(one.near)})" for one in sets]
        figures["examples-unknown"] = image_grid([one.examples for one in sets], names, side=48)
    file = study.shipped
    for name in ("mistakes", "missed", "caught", "refused"):
        images: tuple[CaptionedImage, ...] = getattr(file, name)
        if images:
            figures[name] = image_grid(rows_of(images))


def _per_class(found: Conclusions) -> Markup:
    key = (found.run.name, found.run.seed)
    rows = [row for row in found.tables.per_class if (row.run, row.seed) == key]
    shown = sorted(rows, key=lambda row: row.recall)[:_FEW] if len(rows) > _MOST_CLASSES else rows
    return table(
        ("Class", "Precision", "Recall", "F1", "Images"),
        [(row.class_, percent(row.precision), percent(row.recall), area(row.f1), f"{row.support:,}") for row in shown],
    )


def _by_class(found: Conclusions) -> Markup:
    """By true class, what the file rejects and how often it is right."""
    file, names = found.study.shipped, found.study.data.classes
    rows = [row for row in found.tables.shipped if row.images_of == "class"]
    parts = [rows[at : at + 3] for at in range(0, len(rows), 3)]
    order = list(range(len(names)))
    if len(names) > _MOST_CLASSES:
        order = sorted(order, key=lambda index: -(parts[index][2].share or 0.0))[:_FEW]
    own = file.per_class and len(file.thresholds) == len(names)
    lines = []
    for index in order:
        right, accepted, rejected = parts[index]
        cells = [names[index], f"{rejected.images:,}", write_percent(rejected.share), write_interval(rejected)]
        cells += [write_percent(right.share), write_percent(accepted.share)]
        uneven = "more than asked for" if (rejected.low or 0.0) > file.rate else "compatible"
        lines.append([*cells, *([f"{file.thresholds[index]:.4g}"] if own else []), uneven])
    heads = ("Class", "Images", "Rejected", "Interval", "Accuracy", "Of accepted", *(("Threshold",) if own else ()))
    return table((*heads, "Verdict"), lines, words={len(heads)})


def _times(found: Conclusions) -> Markup:
    rows = [
        (
            f"{row.title} ({row.run})",
            row.seed,
            duration(row.train_seconds) if row.train_seconds else "\u2013",
            duration(row.seconds_with_start),
            duration(sum(scored.seconds for scored in run.scores)) if run.scores else None,
            quantity(row.parameters),
        )
        for row, run in zip(found.tables.classification, found.study.runs, strict=True)
    ]
    return table(("Run", "Seed", "Training", "With its starting networks", "Scores", "Parameters"), rows)


def _pretrained(run: Run) -> bool:
    """Whether a run starts from a network that was trained on other images."""
    return run.settings.get("network", run.settings.get("backbone")) not in (*NETWORKS, None)
