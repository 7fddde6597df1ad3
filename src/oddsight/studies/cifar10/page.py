"""The report on known classes: one self-contained HTML page, the same in Markdown, and its numbers as CSV files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from oddsight import scores
from oddsight.classification_metrics import confusion, reliability
from oddsight.networks.classifier_settings import NETWORKS
from oddsight.report.comparison import duration, p_text
from oddsight.report.image_grids import CaptionedImage, image_grid, rows_of
from oddsight.report.known_figures import bars, confusion_figure, curves_figure, reliability_figure
from oddsight.report.markdown import escape, fill_template, joined, table, write_report
from oddsight.report.pages import area, percent, quantity, signed, span
from oddsight.report.rejection_figures import oscr_curves, pr_curves, roc_curves, score_histograms
from oddsight.studies.cifar10.conclusions import PICTURE_SIZE, Average, Conclusions, conclude, paired
from oddsight.studies.cifar10.results import Run, Study
from oddsight.studies.cifar10.rows import ClassificationRow, OodRow, ShippedRow
from oddsight.studies.cifar10.tables import nearness, predictions, probabilities, study_tables, threshold_for
from oddsight.studies.csv_files import csv_files

_MOST_CLASSES = 20
_FEW = 10
_MANY_RUNS = 12
_BARS = 12
_MOST_COMPARED = 6
_SMALL = 0.005
_COMPARED = ("msp", "energy", "knn", "relative-mahalanobis")

_CIFAR10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}

_PUBLISHED = (
    ("MSP", "msp", 88.03, 90.73),
    ("Energy", "energy", 87.58, 91.21),
    ("Mahalanobis", "mahalanobis", 84.20, 89.72),
    ("ViM", "vim", 88.68, 93.48),
    ("RMDS", "relative-mahalanobis", 89.80, 92.20),
    ("KNN", "knn", 90.64, 92.96),
    ("LogitNorm (training)", "", 92.33, 96.74),
    ("RotPred (training)", "", 92.68, 96.62),
    ("Outlier Exposure (training)", "", 94.82, 96.00),
)

Figures = dict[str, Markup]


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
        **_unknowns(found, figures),
    }
    _draw_examples(study, figures)
    return fill_template("oddsight.studies.cifar10", "page.md.jinja", **values, figures=set(figures)), figures


def _interval(row: ShippedRow) -> str | None:
    return None if row.low is None or row.high is None else span(row.low, row.high, percent)


def _percent(value: float | None) -> str | None:
    return None if value is None else percent(value)


def _summary(found: Conclusions) -> Markup:
    """The most important numbers of the shipped file."""
    right, accepted = found.tables.shipped[:2]
    promise = found.promise
    rows: list[tuple[object, ...]] = [
        ("Accuracy on all test images", _percent(right.share), _interval(right), None),
        ("Accuracy on accepted test images", _percent(accepted.share), _interval(accepted), None),
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


def _label(found: Conclusions, row: ClassificationRow) -> str:
    """The title of a run, with its seed where the recipe has several."""
    several = sum(other.run == row.run for other in found.tables.classification) > 1
    return f"{row.title}, seed {row.seed}" if several else row.title


def _shipped_rows(found: Conclusions) -> set[int]:
    key = (found.run.name, found.run.seed)
    return {index for index, row in enumerate(found.tables.classification) if (row.run, row.seed) == key}


def _runs(found: Conclusions) -> Markup:
    heads = ("Run", "Accuracy", "Interval", "Macro F1", "NLL", "Brier", "ECE", "T", "Side", "Parameters", "Epochs")
    rows = [
        (
            _label(found, row),
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
    return table((*heads, "Training"), rows, strong=_shipped_rows(found))


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
    known = {name: scores.by_name(name) for name in names if name in scores.names() or scores.PLUS in name}
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
            [_label(found, row) for row in rows],
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
        cells = [names[index], f"{rejected.images:,}", _percent(rejected.share), _interval(rejected)]
        cells += [_percent(right.share), _percent(accepted.share)]
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


def _unknowns(found: Conclusions, figures: Figures) -> dict[str, Any]:
    """Everything about images of none of the classes; empty without such images."""
    study = found.study
    if not study.unknowns:
        return dict.fromkeys(("sets", "by_set", "across", "published", "baselines", "best_scores", "rates"))
    _draw_unknowns(found, figures)
    sets = sorted(study.unknowns, key=lambda one: not one.near)
    rows = {row.name: row for row in found.tables.shipped if row.images_of.endswith("unknowns")}
    detected = [
        (one.name, nearness(one.near), f"{one.count:,}", f"{one.shared:,}", f"{rows[one.name].count:,}",
         _percent(rows[one.name].share), _interval(rows[one.name]))
        for one in sets
    ]  # fmt: skip
    heads = ("Set", "Kind", "Images", "Left out", "Detected", "Share", "Interval")
    return {
        "sets": table(heads, detected, words={1}),
        "by_set": _scores_by_set(found),
        "across": list(_across_runs(found)),
        "published": _published(found),
        "baselines": _baselines(found),
        "best_scores": _best_scores(found),
        "rates": _rates(found),
    }


def _rows(found: Conclusions) -> dict[tuple[str, str], OodRow]:
    """Rows of the shipped run by score and set."""
    key = (found.run.name, found.run.seed)
    return {(row.score, row.unknown): row for row in found.tables.ood if (row.run, row.seed) == key}


def _scores_by_set(found: Conclusions) -> dict[str, Markup | None]:
    """A table for each measure: a row for each score of the shipped run, best first; near sets before far ones."""
    rows, sets = _rows(found), [*found.sets(True), *found.sets(False)]
    strong = {index for index, one in enumerate(found.own) if one.score == found.scored.name}

    def by_set(
        cell: Callable[[OodRow], str | None],
        heads: Sequence[str] = (),
        first: Callable[[Average], Sequence[str | None]] = lambda one: (),
    ) -> Markup:
        lines = [(one.score, *first(one), *(cell(rows[one.score, name]) for name in sets)) for one in found.own]
        return table(("Score", *heads, *sets), lines, strong=strong)

    means = [f"{word}, mean" for near, word in ((True, "Near"), (False, "Far")) if found.sets(near)]
    rejected = {row.score: _percent(row.false_rejection_rate) for row in rows.values()}
    decided = any(row.detection_rate is not None for row in rows.values())
    return {
        "auroc": by_set(
            lambda row: f"{area(row.auroc)} ({span(row.auroc_low, row.auroc_high)})",
            means,
            lambda one: [area(value) for value in (one.near, one.far) if value is not None],
        ),
        "fpr95": by_set(lambda row: f"{percent(row.fpr95)} ({span(row.fpr95_low, row.fpr95_high, percent)})"),
        "aupr": by_set(lambda row: f"{area(row.aupr_out)} / {area(row.aupr_in)}"),
        "oscr": by_set(lambda row: area(row.oscr)),
        "detected": by_set(
            lambda row: _percent(row.detection_rate), ("Rejected",), lambda one: (rejected.get(one.score),)
        )
        if decided
        else None,
    }


def _draw_unknowns(found: Conclusions, figures: Figures) -> None:
    """Bars of all scores; histograms and curves of the shipped one."""
    for near, word in ((True, "near"), (False, "far")):
        if len(found.own) > 1 and found.sets(near):
            ranked = sorted(found.own, key=lambda one: -(one.of(near) or 0.0))[:_BARS]
            sort = [one.baselines for one in found.study.unknowns if one.near == near and one.baselines]
            trivial = [max(one.values()) for one in sort]
            figures[f"scores-{word}"] = bars(
                [one.score for one in ranked],
                [one.of(near) or 0.0 for one in ranked],
                [None] * len(ranked),
                axis=f"mean AUROC over {word} sets",
                start=0.5,
                references={"best trivial baseline": sum(trivial) / len(trivial)} if trivial else {},
                name=f"scores-{word}",
            )
    file, scored = found.study.shipped, found.scored
    sets = [*found.sets(True), *found.sets(False)]
    threshold = threshold_for(scored, file.rate) if file.per_class else file.thresholds[0]
    if threshold is not None:
        others = {name: file.unknown[name].astype(np.float64) for name in sets}
        figures["histograms"] = score_histograms(file.known.astype(np.float64), others, threshold)
    known, right = scored.known.astype(np.float64), predictions(found.run) == found.run.labels
    pairs = {name: (known, scored.unknown[name].astype(np.float64)) for name in sets}
    figures["roc"] = roc_curves(pairs)
    figures["precision-recall"] = pr_curves(pairs)
    figures["oscr"] = oscr_curves({name: (known, right, unknown) for name, (_, unknown) in pairs.items()})


def _across_runs(found: Conclusions) -> Iterator[tuple[str, Markup]]:
    """A few scores over all runs, on near and on far sets."""
    everywhere = set.intersection(*({one.name for one in run.scores} for run in found.study.runs))
    best = [one.score for near in (True, False) if (one := found.best_score(near)) is not None]
    chosen = [name for name in dict.fromkeys((found.scored.name, *best, *_COMPARED)) if name in everywhere]
    chosen = chosen[:_MOST_COMPARED]
    if len(found.study.runs) < 2 or not chosen:
        return
    by = {(one.run, one.seed, one.score): one for one in found.averages}
    for near, word in ((True, "near"), (False, "far")):
        if found.sets(near):
            rows = [
                (
                    _label(found, row),
                    percent(row.accuracy),
                    *(area(by[row.run, row.seed, name].of(near) or 0.0) for name in chosen),
                )
                for row in found.tables.classification
            ]
            yield word, table(("Run", "Accuracy", *chosen), rows, strong=_shipped_rows(found))


def _published(found: Conclusions) -> Markup | None:
    if found.study.name != "cifar10" or set(found.study.data.classes) != _CIFAR10:
        return None
    own = {one.score: one for one in found.own}
    rows = []
    for title, name, near, far in _PUBLISHED:
        values = [own[name].of(side) if name in own else None for side in (True, False)]
        ours = (None if value is None else f"{100 * value:.2f}" for value in values)
        rows.append((title, f"{near:.2f}", f"{far:.2f}", *ours))
    return table(("Method", "Published near", "Published far", "Ours near", "Ours far"), rows)


def _baselines(found: Conclusions) -> Markup | None:
    """Trivial baselines beside the scores, and which of them wins."""
    sets = [one for near in (True, False) for one in found.study.unknowns if one.near == near and one.baselines]
    if not sets:
        return None
    rows = _rows(found)
    best = [max(row.auroc for row in found.tables.ood if row.unknown == one.name) for one in sets]
    lines = [
        ("the shipped score", *(area(rows[found.scored.name, one.name].auroc) for one in sets)),
        ("the best score of any run", *map(area, best)),
    ]
    for name in dict.fromkeys(name for one in sets for name in one.baselines):
        lines.append((name, *(area(one.baselines[name]) if name in one.baselines else "" for one in sets)))
    beaten = {one.unknown: one for one in found.beaten if one.baseline != PICTURE_SIZE}
    lines.append(("verdict", *(beaten[one.name].verdict if one.name in beaten else "score wins" for one in sets)))
    return table(("Measure", *(one.name for one in sets)), lines, strong={0})


def _best_scores(found: Conclusions) -> Markup:
    """The best score on near and on far sets against the shipped one, on the shipped run and on any."""
    own = next(one for one in found.own if one.score == found.scored.name)
    rows = []
    for near, word in ((True, "near"), (False, "far")):
        best = found.best_score(near)
        if best is None:
            continue
        value, ours = best.of(near) or 0.0, own.of(near) or 0.0
        verdict = f"{best.score} is better" if value - ours >= _SMALL else "no reason to change"
        top = max(found.averages, key=lambda one: one.of(near) or 0.0)
        highest = joined([f"{top.score} on {top.run}, seed {top.seed}"]) + escape(f" ({area(top.of(near) or 0.0)})")
        rows.append((word, area(ours), best.score, area(value), signed(value - ours), verdict, highest))
    heads = ("Sets", own.score, "Best score", "AUROC", "Difference", "Verdict", "Highest of all runs")
    return table(heads, rows, words={2, 5, 6})


def _rates(found: Conclusions) -> Markup | None:
    if not found.rates:
        return None
    rows = [(percent(one.rate), percent(one.realised), _percent(one.near), _percent(one.far)) for one in found.rates]
    heads = ("Rate asked for", "Test images rejected", "Near detected", "Far detected")
    shipped = {index for index, one in enumerate(found.rates) if one.rate == found.study.shipped.rate}
    return table(heads, rows, strong=shipped)
