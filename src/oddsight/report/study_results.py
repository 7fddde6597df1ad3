"""What a study's report shows of classification, and of the file that is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from oddsight.classification_metrics import confusion, reliability
from oddsight.report.comparison import duration, p_text
from oddsight.report.documents import Block, Chart, Charts, Facts, Gallery, Heading, Section, Table, Text
from oddsight.report.known_figures import bars, confusion_figure, curves_figure, reliability_figure
from oddsight.report.pages import area, percent
from oddsight.report.study_setting import MOST_CLASSES
from oddsight.report.wording import counted, joined, quantity, quoted, ranged, shares
from oddsight.studies.conclusions import Conclusions, paired
from oddsight.studies.results import Picture
from oddsight.studies.rows import ClassificationRow, PerClassRow, ShippedRow
from oddsight.studies.tables import nearness, predictions, probabilities

_FEW = 10
_MISTAKES = 3
_MANY_RUNS = 12


@dataclass(frozen=True)
class Mistaken:
    """One class taken for another by the shipped run, ``count`` times of ``images``."""

    truth: str
    predicted: str
    count: int
    images: int


def mistaken(found: Conclusions) -> list[Mistaken]:
    """Pairs of classes that the shipped run confuses, the most frequent first."""
    run, names = found.run, found.study.data.classes
    table = confusion(run.labels, predictions(run), len(names))
    off = table - np.diag(np.diag(table))
    order = np.argsort(-off, axis=None, kind="stable")
    pairs = [np.unravel_index(place, off.shape) for place in order[: _MISTAKES * 4]]
    totals = table.sum(axis=1)
    return [
        Mistaken(names[truth], names[said], int(off[truth, said]), int(totals[truth]))
        for truth, said in pairs
        if off[truth, said]
    ]


def label(found: Conclusions, row: ClassificationRow) -> str:
    """A run's title, with its seed where the recipe has several."""
    several = sum(other.run == row.run for other in found.tables.classification) > 1
    return f"{row.title}, seed {row.seed}" if several else row.title


def classification(found: Conclusions) -> Section:
    """How well classes are named."""
    blocks: list[Block] = [_runs(found)]
    comparison = _next_best(found)
    if comparison:
        blocks.append(Text(comparison))
    if any(len(one.seeds) > 1 for one in found.standings):
        blocks.append(_seeds(found))
    blocks += [*_accuracies(found), *_curves(found), *_shipped_run(found)]
    return Section("classification", "Results: naming the class", tuple(blocks))


def _runs(found: Conclusions) -> Table:
    rows = found.tables.classification
    own = frozenset(index for index, row in enumerate(rows) if (row.run, row.seed) == (found.run.name, found.run.seed))
    return Table(
        f"On {counted(rows[0].test_images, 'test image')}, with {percent(found.tables.confidence)} intervals. NLL, "
        "Brier and ECE after temperature scaling; ECE before it in front. The run that is shipped stands out.",
        (
            "Run",
            "Accuracy",
            "Interval",
            "Macro F1",
            "NLL",
            "Brier",
            "ECE",
            "T",
            "Side",
            "Parameters",
            "Epochs",
            "Training",
        ),
        tuple(
            (
                label(found, row),
                percent(row.accuracy),
                shares(row.accuracy_low, row.accuracy_high),
                area(row.macro_f1),
                f"{row.nll_scaled:.3f}",
                f"{row.brier_scaled:.3f}",
                f"{row.ece:.3f} \u2192 {row.ece_scaled:.3f}",
                f"{row.temperature:.2f}",
                f"{row.size}",
                quantity(row.parameters),
                f"{row.epochs}" if row.epochs else "\u2013",
                duration(row.train_seconds) if row.train_seconds else "\u2013",
            )
            for row in rows
        ),
        strong=own,
    )


def _next_best(found: Conclusions) -> str:
    """The best recipe against the next, by McNemar's test."""
    if len(found.standings) < 2:
        return ""
    best, second = sorted(found.standings, key=lambda one: -one.accuracy)[:2]
    runs = [next(run for run in found.study.runs if run.name == one.name) for one in (best, second)]
    test = paired(*runs)
    seeds = f" (seed {runs[0].seed} and seed {runs[1].seed})" if len(best.seeds) + len(second.seeds) > 2 else ""
    verdict = "chance does not explain that" if test.p_value < 1 - found.tables.confidence else "chance explains that"
    return (
        f"Image by image, {quoted(best.title)} and {quoted(second.title)}{seeds} differ like this: "
        f"{counted(test.only_first, 'image')} only the former names rightly, {test.only_second:,} only the latter; "
        f"{verdict} (McNemar\u2019s test: p {_p(test.p_value)})."
    )


def _p(value: float) -> str:
    text = p_text(value)
    return f"below {text[1:]}" if text.startswith("<") else text


def _seeds(found: Conclusions) -> Table:
    return Table(
        "Accuracy over seeds: what luck of training does.",
        ("Recipe", "Seeds", "Mean", "Lowest", "Highest"),
        tuple(
            (one.title, f"{len(one.seeds)}", percent(one.accuracy), percent(one.lowest), percent(one.highest))
            for one in found.standings
        ),
    )


def _accuracies(found: Conclusions) -> Iterator[Block]:
    rows = found.tables.classification[:_MANY_RUNS]
    if len(rows) < 2:
        return
    svg = bars(
        [label(found, row) for row in rows],
        [row.accuracy for row in rows],
        [(row.accuracy_low, row.accuracy_high) for row in rows],
        axis="accuracy",
        written=percent,
        name="accuracies",
    )
    left = f" The first {len(rows)} runs." if len(rows) < len(found.tables.classification) else ""
    yield Charts((Chart("accuracies", svg, f"Accuracy of each run, with intervals.{left}"),))


def _curves(found: Conclusions) -> Iterator[Block]:
    first = {run.name: run for run in reversed(found.study.runs) if run.curves}
    charts = [
        Chart(
            f"curves-{number}",
            curves_figure(first[name].curves, first[name].title, name=f"curves-{number}"),
            f"{first[name].title}, seed {first[name].seed}: loss and accuracy of training and validation images.",
        )
        for number, name in enumerate(dict.fromkeys(run.name for run in found.study.runs if run.curves))
    ]
    yield Heading("Learning curves")
    if charts:
        yield Text(
            "Training images are shown changed at random and weights change during an epoch, so training may look "
            "worse than validation.",
            soft=True,
        )
        yield Charts(tuple(charts))
    without = [quoted(one.title) for one in found.standings if one.name not in first]
    if without:
        yield Text(f"Without learning curves, as no network was trained epoch by epoch: {joined(without)}.", soft=True)


def _shipped_run(found: Conclusions) -> Iterator[Block]:
    run, names = found.run, found.study.data.classes
    yield Heading(f"The run that is shipped: {quoted(run.title)}")
    table = confusion(run.labels, predictions(run), len(names))
    pairs = mistaken(found)[:_MISTAKES]
    if pairs:
        said = [f"{one.truth} for {one.predicted} ({one.count:,} of {one.images:,})" for one in pairs]
        yield Text(f"Most often it takes {joined(said)}.")
    caption = "Rows are the truth, columns what was named; colours are shares of a row."
    if len(names) > MOST_CLASSES:
        caption += f" With {len(names)} classes in the order of the data set, numbers are in confusion.csv only."
    yield Charts((Chart("confusion", confusion_figure(table, names), caption),))
    rows = [row for row in found.tables.per_class if (row.run, row.seed) == (run.name, run.seed)]
    yield _classes(rows)
    bins = [reliability(probabilities(run, scaled=scaled), run.labels) for scaled in (False, True)]
    svg = reliability_figure(bins[0], bins[1], titles=("as trained", f"T = {run.temperature:.2f}"))
    yield Charts(
        (
            Chart(
                "reliability",
                svg,
                "Are its probabilities to be believed? Bars are accuracy where it was so sure, red what is missing to, "
                "or beyond, its confidence; on the dashed line both agree.",
            ),
        )
    )
    if found.study.shipped.mistakes:
        yield Heading("Named most surely wrong, though accepted")
        yield Gallery("mistakes", found.study.shipped.mistakes)


def _classes(rows: list[PerClassRow]) -> Table:
    shown = sorted(rows, key=lambda row: row.recall)[:_FEW] if len(rows) > MOST_CLASSES else rows
    some = f"the {_FEW} of the lowest recall, of {len(rows)}" if len(shown) < len(rows) else "every class"
    return Table(
        f"Precision, recall and F1 of {some}.",
        ("Class", "Precision", "Recall", "F1", "Images"),
        tuple(
            (row.class_, percent(row.precision), percent(row.recall), area(row.f1), f"{row.support:,}") for row in shown
        ),
    )


def shipped(found: Conclusions) -> Section:
    """What the file itself says."""
    file = found.study.shipped
    blocks: list[Block] = [
        Text(
            "All numbers here come from running the file itself, as a user would, on the test images"
            f"{' and the unknown ones' if found.study.unknowns else ''}. For an image it answers the class, how "
            "probable that class is among the known ones, its score, the p-value of that score among images of the "
            "classes, and \u201cnone of these\u201d where the score is above the threshold."
        ),
        Facts(tuple(_file(found))),
        _by_class(found),
    ]
    if file.found:
        blocks.append(_by_set(found))
    sure = "the lowest p-values first"
    blocks += [
        *_gallery("Missed", "unknown images that it took most surely for a class", "missed", file.missed),
        *_gallery("Caught", "unknown images furthest beyond the threshold", "caught", file.caught),
        *_gallery("Refused", f"images of the classes rejected though named rightly, {sure}", "refused", file.refused),
    ]
    return Section("file", "The shipped file", tuple(blocks))


def _gallery(title: str, note: str, name: str, pictures: tuple[Picture, ...]) -> Iterator[Block]:
    if pictures:
        yield Heading(f"{title}: {note}")
        yield Gallery(name, pictures)


def _file(found: Conclusions) -> Iterator[tuple[str, str]]:
    file, promise = found.study.shipped, found.promise
    agree = float((file.predicted == predictions(found.run)).mean())
    yield "File", f"{file.file}, {file.bytes / 1e6:.1f} MB, ONNX: from pixels to the answer"
    yield "Run and score", f"{found.run.title} ({file.run}), seed {file.seed}; {file.score}"
    yield (
        "Time",
        f"{file.milliseconds:.3g} ms an image (median) on "
        f"{found.study.machine.get('processor') or 'the machine below'}",
    )
    if file.per_class:
        yield "Thresholds", f"one for each class, from {min(file.thresholds):.4g} to {max(file.thresholds):.4g}"
    else:
        yield "Threshold", f"{file.thresholds[0]:.6g}, from {counted(promise.calibration, 'calibration image')}"
    yield (
        "Rejections",
        (
            f"at most {percent(promise.rate)} asked for; {promise.rejected:,} of {promise.images:,} test images seen "
            f"({percent(promise.share)}, interval {shares(promise.low, promise.high)}); chance alone, in the draw of "
            f"calibration and test images, leaves {shares(promise.least, promise.most)}"
        ),
    )
    right, accepted, _, wrong = found.tables.shipped[:4]
    if right.share is not None:
        beside = f"; {percent(accepted.share)} of those it accepts" if accepted.share is not None else ""
        yield "Accuracy", f"{percent(right.share)} of all test images{beside}"
    if wrong.images and wrong.share is not None:
        yield "Mistakes", f"of its {counted(wrong.images, 'wrong name')}, {wrong.count:,} are on images that it rejects"
    yield (
        "Same as the run",
        f"it names the class that the run\u2019s logits name on {percent(agree)} of the test images",
    )


def _by_class(found: Conclusions) -> Table:
    file, names = found.study.shipped, found.study.data.classes
    rows = [row for row in found.tables.shipped if row.images_of == "class"]
    by_name = [rows[at : at + 3] for at in range(0, len(rows), 3)]
    order = list(range(len(names)))
    if len(names) > MOST_CLASSES:
        order = sorted(order, key=lambda index: -(by_name[index][2].share or 0.0))[:_FEW]
    some = f" The {_FEW} classes rejected most, of {len(names)}." if len(order) < len(names) else ""
    own = file.per_class and len(file.thresholds) == len(names)
    return Table(
        f"By true class, what it rejects and how often it is right.{some}",
        ("Class", "Images", "Rejected", "Interval", "Accuracy", "Of accepted", *(("Threshold",) if own else ())),
        tuple(
            (
                names[index],
                f"{by_name[index][2].images:,}",
                *_share(by_name[index][2]),
                _share(by_name[index][0])[0],
                _share(by_name[index][1])[0],
                *((f"{file.thresholds[index]:.4g}",) if own else ()),
            )
            for index in order
        ),
    )


def _share(row: ShippedRow) -> tuple[str, str]:
    if row.share is None or row.low is None or row.high is None:
        return "", ""
    return percent(row.share), shares(row.low, row.high)


def _by_set(found: Conclusions) -> Table:
    sets = sorted(found.study.unknowns, key=lambda one: not one.near)
    rows = {row.name: row for row in found.tables.shipped if row.images_of.endswith("unknowns")}
    return Table(
        "Unknown images that it calls none of these.",
        ("Set", "Kind", "Images", "Found", "Share", "Interval"),
        tuple(
            (one.name, nearness(one.near), f"{one.count:,}", f"{rows[one.name].count:,}", *_share(rows[one.name]))
            for one in sets
        ),
        words=frozenset({1}),
    )


def detection(found: Conclusions, near: bool) -> str:
    """What share of the near or far unknowns the file finds, as a range over sets."""
    return ranged([row.share or 0.0 for row in found.tables.shipped if row.images_of == f"{nearness(near)} unknowns"])
