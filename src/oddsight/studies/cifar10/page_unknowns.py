"""What the report on known classes says of images of none of the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from oddsight.drawing.class_figures import bars
from oddsight.drawing.numbers import area, percent, signed, span
from oddsight.drawing.ood_figures import oscr_curves, pr_curves, roc_curves, score_histograms
from oddsight.report.markdown import escape, joined, table
from oddsight.studies.cifar10.conclusions import IMAGE_SIZE, Average, Conclusions
from oddsight.studies.cifar10.rows import ClassificationRow, OodRow, ShippedRow
from oddsight.studies.cifar10.tables import nearness, predictions, threshold_for

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


def write_interval(row: ShippedRow) -> str | None:
    """The interval of a share; None if there are no images."""
    return None if row.low is None or row.high is None else span(row.low, row.high, percent)


def write_percent(value: float | None) -> str | None:
    """A share in percent, if there is one."""
    return None if value is None else percent(value)


def label_run(found: Conclusions, row: ClassificationRow) -> str:
    """The title of a run, with its seed where the recipe has several."""
    several = sum(other.run == row.run for other in found.tables.classification) > 1
    return f"{row.title}, seed {row.seed}" if several else row.title


def shipped_rows(found: Conclusions) -> set[int]:
    """Places of the shipped run among all runs."""
    key = (found.run.name, found.run.seed)
    return {index for index, row in enumerate(found.tables.classification) if (row.run, row.seed) == key}


def unknown_values(found: Conclusions, figures: Figures) -> dict[str, Any]:
    """Everything about images of none of the classes; empty without such images."""
    study = found.study
    if not study.unknowns:
        return dict.fromkeys(("sets", "by_set", "across", "published", "baselines", "best_scores", "rates"))
    _draw_unknowns(found, figures)
    sets = sorted(study.unknowns, key=lambda one: not one.near)
    rows = {row.name: row for row in found.tables.shipped if row.images_of.endswith("unknowns")}
    detected = [
        (one.name, nearness(one.near), f"{one.count:,}", f"{one.shared:,}", f"{rows[one.name].count:,}",
         write_percent(rows[one.name].share), write_interval(rows[one.name]))
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
    rejected = {row.score: write_percent(row.false_rejection_rate) for row in rows.values()}
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
            lambda row: write_percent(row.detection_rate), ("Rejected",), lambda one: (rejected.get(one.score),)
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
                    label_run(found, row),
                    percent(row.accuracy),
                    *(area(by[row.run, row.seed, name].of(near) or 0.0) for name in chosen),
                )
                for row in found.tables.classification
            ]
            yield word, table(("Run", "Accuracy", *chosen), rows, strong=shipped_rows(found))


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
    beaten = {one.unknown: one for one in found.beaten if one.baseline != IMAGE_SIZE}
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
    rows = [
        (percent(one.rate), percent(one.realised), write_percent(one.near), write_percent(one.far))
        for one in found.rates
    ]
    heads = ("Rate asked for", "Test images rejected", "Near detected", "Far detected")
    shipped = {index for index, one in enumerate(found.rates) if one.rate == found.study.shipped.rate}
    return table(heads, rows, strong=shipped)
