"""What the report on known classes says of images of none of the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from oddsight.drawing.class_figures import bars
from oddsight.drawing.numbers import area, percent, signed, span
from oddsight.drawing.ood_figures import oscr_curves, pr_curves, roc_curves, score_histograms
from oddsight.report.markdown import escape, joined
from oddsight.studies.cifar10.conclusions import IMAGE_SIZE, Average, Conclusions
from oddsight.studies.cifar10.tables import ClassificationRow, OodRow, ShippedRow, nearness, predictions, threshold_for

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
Row = Sequence[object]


def write_interval(row: ShippedRow) -> str | None:
    """The interval of a share; None if there are no images."""
    return None if row.low is None or row.high is None else span(row.low, row.high, percent)


def write_percent(value: float | None) -> str | None:
    """A share in percent, if there is one."""
    return None if value is None else percent(value)


def label_run(found: Conclusions, row: ClassificationRow) -> str:
    """The title of a run, with its seed where the recipe has several."""
    several = sum(other.run == row.run for other in found.tables.classification) > 1
    return f"{row.title}, seed {row.seed}" if several else str(row.title)


def shipped_rows(found: Conclusions) -> set[int]:
    """Places of the shipped run among all runs."""
    return {index for index, row in enumerate(found.tables.classification) if found.is_own(row)}


def unknown_values(found: Conclusions, figures: Figures) -> dict[str, Any]:
    """Everything about images of none of the classes; empty without such images."""
    if not found.study.unknowns:
        return dict.fromkeys(("sets", "by_set", "across", "published", "baselines", "best_scores", "rates"))
    _draw_unknowns(found, figures)
    rate = found.study.shipped.rate
    return {
        "sets": list(_sets(found)),
        "names": [one.name for one in found.ordered()],
        "by_set": _scores_by_set(found),
        "across": list(_across_runs(found)),
        "published": list(_published(found)),
        "baselines": list(_baselines(found)),
        "measured": [one.name for one in found.ordered() if one.baselines],
        "best_scores": list(_best_scores(found)),
        "rates": [
            (percent(one.rate), percent(one.rejected), write_percent(one.near), write_percent(one.far))
            for one in found.rates
        ],
        "own_rates": {index for index, one in enumerate(found.rates) if one.rate == rate},
    }


def _sets(found: Conclusions) -> Iterator[Row]:
    rows = {row.name: row for row in found.tables.shipped if row.images_of.endswith("unknowns")}
    for one in found.ordered():
        row = rows[one.name]
        counts = (f"{one.count:,}", f"{one.shared:,}", f"{row.count:,}")
        yield one.name, nearness(one.near), *counts, write_percent(row.share), write_interval(row)


def _rows(found: Conclusions) -> dict[tuple[str, str], OodRow]:
    """Rows of the shipped run by score and set."""
    return {(row.score, row.unknown): row for row in filter(found.is_own, found.tables.ood)}


def _scores_by_set(found: Conclusions) -> dict[str, Any]:
    """Rows for each measure: one for each score of the shipped run, best first; near sets before far ones."""
    rows, sets = _rows(found), [one.name for one in found.ordered()]

    def by_set(
        cell: Callable[[OodRow], str | None], first: Callable[[Average], Sequence[str | None]] = lambda one: ()
    ) -> list[Row]:
        return [(one.score, *first(one), *(cell(rows[one.score, name]) for name in sets)) for one in found.own]

    rejected = {row.score: write_percent(row.false_rejection_rate) for row in rows.values()}
    return {
        "means": [f"{word}, mean" for near, word in ((True, "Near"), (False, "Far")) if found.sets(near)],
        "auroc": by_set(
            lambda row: f"{area(row.auroc)} ({span(row.auroc_low, row.auroc_high)})",
            lambda one: [area(value) for value in (one.near, one.far) if value is not None],
        ),
        "fpr95": by_set(lambda row: f"{percent(row.fpr95)} ({span(row.fpr95_low, row.fpr95_high, percent)})"),
        "aupr": by_set(lambda row: f"{area(row.aupr_out)} / {area(row.aupr_in)}"),
        "oscr": by_set(lambda row: area(row.oscr)),
        "detected": by_set(lambda row: write_percent(row.detection_rate), lambda one: (rejected.get(one.score),))
        if any(row.detection_rate is not None for row in rows.values())
        else None,
        "shipped": {index for index, one in enumerate(found.own) if one.score == found.scored.name},
    }


def _draw_unknowns(found: Conclusions, figures: Figures) -> None:
    for near, word in ((True, "near"), (False, "far")):
        if len(found.own) > 1 and found.sets(near):
            ranked = sorted(found.own, key=lambda one: -one.of(near))[:_BARS]
            trivial = [
                max(one.baselines.values()) for one in found.study.unknowns if one.near == near and one.baselines
            ]
            figures[f"scores-{word}"] = bars(
                [one.score for one in ranked],
                [one.of(near) for one in ranked],
                [None] * len(ranked),
                axis=f"mean AUROC over {word} sets",
                start=0.5,
                references={"best trivial baseline": sum(trivial) / len(trivial)} if trivial else {},
                name=f"scores-{word}",
            )
    file, scored = found.study.shipped, found.scored
    sets = [one.name for one in found.ordered()]
    threshold = threshold_for(scored, file.rate) if file.per_class else file.thresholds[0]
    if threshold is not None:
        others = {name: file.unknown[name].astype(np.float64) for name in sets}
        figures["histograms"] = score_histograms(file.known.astype(np.float64), others, threshold)
    known, right = scored.known.astype(np.float64), predictions(found.run) == found.run.labels
    pairs = {name: (known, scored.unknown[name].astype(np.float64)) for name in sets}
    figures["roc"] = roc_curves(pairs)
    figures["precision-recall"] = pr_curves(pairs)
    figures["oscr"] = oscr_curves({name: (known, right, unknown) for name, (_, unknown) in pairs.items()})


def _across_runs(found: Conclusions) -> Iterator[tuple[str, list[str], list[Row]]]:
    """A few scores over all runs, on near and on far sets: the sort of sets, the scores and the rows."""
    everywhere = set.intersection(*({one.name for one in run.scores} for run in found.study.runs))
    best = [one.score for near in (True, False) if (one := found.best_score(near)) is not None]
    chosen = [name for name in dict.fromkeys((found.scored.name, *best, *_COMPARED)) if name in everywhere]
    chosen = chosen[:_MOST_COMPARED]
    if len(found.study.runs) < 2 or not chosen:
        return
    by = {(one.run, one.seed, one.score): one for one in found.averages}
    for near, word in ((True, "near"), (False, "far")):
        if found.sets(near):
            rows: list[Row] = []
            for row in found.tables.classification:
                areas = (area(by[row.run, row.seed, name].of(near)) for name in chosen)
                rows.append((label_run(found, row), percent(row.accuracy), *areas))
            yield word, chosen, rows


def _published(found: Conclusions) -> Iterator[Row]:
    if found.study.name != "cifar10" or set(found.study.data.classes) != _CIFAR10:
        return
    own = {one.score: (one.near, one.far) for one in found.own}
    for title, name, near, far in _PUBLISHED:
        ours = (None if value is None else f"{100 * value:.2f}" for value in own.get(name, (None, None)))
        yield title, f"{near:.2f}", f"{far:.2f}", *ours


def _baselines(found: Conclusions) -> Iterator[Row]:
    sets, rows = [one for one in found.ordered() if one.baselines], _rows(found)
    if not sets:
        return
    yield "the shipped score", *(area(rows[found.scored.name, one.name].auroc) for one in sets)
    best = (max(row.auroc for row in found.tables.ood if row.unknown == one.name) for one in sets)
    yield "the best score of any run", *map(area, best)
    for name in dict.fromkeys(name for one in sets for name in one.baselines):
        yield name, *(area(one.baselines[name]) if name in one.baselines else "" for one in sets)
    beaten = {one.unknown: one.verdict for one in found.beaten if one.baseline != IMAGE_SIZE}
    yield "verdict", *(beaten.get(one.name, "score wins") for one in sets)


def _best_scores(found: Conclusions) -> Iterator[Row]:
    """The best score on near and on far sets against the shipped one, on the shipped run and on any."""
    own = next(one for one in found.own if one.score == found.scored.name)
    for near, word in ((True, "near"), (False, "far")):
        best = found.best_score(near)
        if best is not None:
            value, ours = best.of(near), own.of(near)
            verdict = f"{best.score} is better" if value - ours >= _SMALL else "no reason to change"
            top = max(found.averages, key=lambda one: one.of(near))
            highest = joined([f"{top.score} on {top.run}, seed {top.seed}"]) + escape(f" ({area(top.of(near))})")
            yield word, area(ours), best.score, area(value), signed(value - ours), verdict, highest
