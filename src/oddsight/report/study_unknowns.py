"""What a study's report shows of images of none of the classes: scores, curves, published numbers, baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from oddsight.report.documents import Block, Chart, Charts, Heading, Section, Table, Text
from oddsight.report.known_figures import bars
from oddsight.report.pages import area, percent
from oddsight.report.rejection_figures import oscr_curves, pr_curves, roc_curves, score_histograms
from oddsight.report.study_results import label
from oddsight.report.study_setting import pretrained
from oddsight.report.wording import areas, counted, joined, quoted
from oddsight.studies.conclusions import PICTURE_SIZE, Average, Conclusions
from oddsight.studies.rows import OodRow
from oddsight.studies.tables import predictions, threshold_for

_COMPARED = ("msp", "energy", "knn", "relative-mahalanobis")
_MOST_COMPARED = 6
_BARS = 12

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


def unknowns(found: Conclusions) -> Section:
    """How well scores tell unknown images from those of the classes."""
    title = "Results: none of these"
    if not found.study.unknowns:
        text = (
            "No images of other things were given, so nothing was measured here. Give some by the study\u2019s options."
        )
        return Section("unknowns", title, (Text(text),))
    blocks: list[Block] = [
        Text(
            f"Every score of the run that is shipped ({quoted(found.run.title)}), best first by the mean over "
            f"{'near' if found.sets(True) else 'far'} sets; the shipped score stands out. All scores use the same "
            "network, so they differ in nothing but how its answer is read."
        ),
        *_scores(found),
        *_bars(found),
        *_runs(found),
        *_pictured(found),
        *_published(found),
    ]
    return Section("unknowns", title, tuple(blocks))


def _rows(found: Conclusions) -> dict[tuple[str, str], OodRow]:
    """Rows of the shipped run by score and set."""
    key = (found.run.name, found.run.seed)
    return {(row.score, row.unknown): row for row in found.tables.ood if (row.run, row.seed) == key}


def _scores(found: Conclusions) -> Iterator[Block]:
    sure, rate = percent(found.tables.confidence), percent(found.study.shipped.rate)
    near = ("Near, mean",) if found.sets(True) else ()
    far = ("Far, mean",) if found.sets(False) else ()
    means = (*near, *far)

    def mean(one: Average) -> tuple[str, ...]:
        return tuple(area(value) for value in (one.near, one.far) if value is not None)

    yield _by_set(
        found,
        f"AUROC, with {sure} intervals.",
        lambda row: f"{area(row.auroc)} ({areas(row.auroc_low, row.auroc_high)})",
        means,
        mean,
    )
    yield _by_set(
        found,
        f"FPR95: test images rejected when 95% of the unknown are, with {sure} intervals; lower is better.",
        lambda row: f"{percent(row.fpr95)} ({percent(row.fpr95_low)}\u2013{percent(row.fpr95_high)})",
    )
    yield _by_set(
        found,
        "AUPR with the unknown as positives / with the classes as positives. It depends on the number of images: "
        "compare within a column only.",
        lambda row: f"{area(row.aupr_out)} / {area(row.aupr_in)}",
    )
    yield _by_set(found, "OSCR, of which the accuracy is the most.", lambda row: area(row.oscr))
    kept = [row for row in _rows(found).values() if row.detection_rate is not None]
    if not kept:
        yield Text(f"At a rate of {rate} there are too few calibration images for a threshold of each score.")
        return
    realised = {row.score: percent(row.false_rejection_rate or 0.0) for row in kept}
    yield _by_set(
        found,
        f"Unknown images found, at a threshold from calibration images for at most {rate} rejections, and the test "
        "images rejected by it.",
        lambda row: percent(row.detection_rate) if row.detection_rate is not None else "",
        ("Rejected",),
        lambda one: (realised.get(one.score, ""),),
    )


def _by_set(
    found: Conclusions,
    caption: str,
    cell: Callable[[OodRow], str],
    heads: tuple[str, ...] = (),
    first: Callable[[Average], tuple[str, ...]] = lambda one: (),
) -> Table:
    """A row a score of the shipped run, best first, and a column a set, near ones first."""
    rows, sets = _rows(found), [*found.sets(True), *found.sets(False)]
    return Table(
        caption,
        ("Score", *heads, *sets),
        tuple((one.score, *first(one), *(cell(rows[one.score, name]) for name in sets)) for one in found.own),
        strong=frozenset(index for index, one in enumerate(found.own) if one.score == found.scored.name),
    )


def _bars(found: Conclusions) -> Iterator[Block]:
    if len(found.own) < 2:
        return
    charts = []
    for near, word in ((True, "near"), (False, "far")):
        if not found.sets(near):
            continue
        ranked = sorted(found.own, key=lambda one: -(one.of(near) or 0.0))
        shown = ranked[:_BARS]
        trivial = [max(one.baselines.values()) for one in found.study.unknowns if one.near == near and one.baselines]
        lines = {"best trivial baseline": sum(trivial) / len(trivial)} if trivial else {}
        svg = bars(
            [one.score for one in shown],
            [one.of(near) or 0.0 for one in shown],
            [None] * len(shown),
            axis=f"mean AUROC over {word} sets",
            start=0.5,
            references=lines,
            name=f"scores-{word}",
        )
        some = f" The best {len(shown)} of {len(ranked)} scores." if len(shown) < len(ranked) else ""
        caption = f"Scores on {counted(len(found.sets(near)), f'{word} set')}; bars start at guessing.{some}"
        charts.append(Chart(f"scores-{word}", svg, caption))
    yield Charts(tuple(charts))


def _runs(found: Conclusions) -> Iterator[Block]:
    """A few scores over all runs."""
    if len(found.study.runs) < 2:
        return
    everywhere = set.intersection(*({one.name for one in run.scores} for run in found.study.runs))
    best = [one.score for near in (True, False) if (one := found.best_score(near)) is not None]
    wanted = [name for name in dict.fromkeys((found.scored.name, *best, *_COMPARED)) if name in everywhere]
    chosen = wanted[:_MOST_COMPARED]
    if not chosen:
        return
    by = {(one.run, one.seed, one.score): one for one in found.averages}
    yield Heading("Across runs")
    for near, word in ((True, "near"), (False, "far")):
        if found.sets(near):
            yield Table(
                f"Mean AUROC over {counted(len(found.sets(near)), f'{word} set')}, for scores that every run has.",
                ("Run", "Accuracy", *chosen),
                tuple(
                    (
                        label(found, row),
                        percent(row.accuracy),
                        *(area(by[row.run, row.seed, name].of(near) or 0.0) for name in chosen),
                    )
                    for row in found.tables.classification
                ),
                strong=frozenset(
                    index
                    for index, row in enumerate(found.tables.classification)
                    if (row.run, row.seed) == (found.run.name, found.run.seed)
                ),
            )


def _pictured(found: Conclusions) -> Iterator[Block]:
    """Histograms and curves of the shipped score."""
    file, scored = found.study.shipped, found.scored
    sets = [*found.sets(True), *found.sets(False)]
    yield Heading(f"The shipped score: {scored.name}")
    threshold = threshold_for(scored, file.rate) if file.per_class else file.thresholds[0]
    if threshold is not None:
        known = file.known.astype(np.float64)
        others = {name: file.unknown[name].astype(np.float64) for name in sets}
        which = (
            "The dashed line is what one threshold for all classes would be; the file has one for each."
            if file.per_class
            else "What lies right of the dashed line is rejected."
        )
        svg = score_histograms(known, others, threshold)
        caption = f"Scores that the file gave; each row has its own height. {which}"
        yield Charts((Chart("histograms", svg, caption),))
    known, right = scored.known.astype(np.float64), predictions(found.run) == found.run.labels
    others = {name: scored.unknown[name].astype(np.float64) for name in sets}
    pairs = {name: (known, values) for name, values in others.items()}
    yield Charts(
        (
            Chart("roc", roc_curves(pairs), "ROC: unknown images found against test images rejected, every threshold."),
            Chart("precision-recall", pr_curves(pairs), "Precision and recall of rejections at every threshold."),
            Chart(
                "oscr",
                oscr_curves({name: (known, right, values) for name, values in others.items()}),
                "OSCR: test images accepted and named rightly, against unknown ones accepted.",
            ),
        )
    )


def _published(found: Conclusions) -> Iterator[Block]:
    study = found.study
    if study.name != "cifar10" or set(study.data.classes) != _CIFAR10:
        return
    own = {one.score: one for one in found.own}

    def ours(name: str, near: bool) -> str:
        value = own[name].of(near) if name in own else None
        return f"{100 * value:.2f}" if value is not None else ""

    yield Heading("Beside published numbers")
    start = "a network that had learnt from other images before" if pretrained(found.run) else "a network from scratch"
    yield Table(
        "AUROC in percent. Published: OpenOOD v1.5 (Zhang et al., OpenOOD v1.5: Enhanced benchmark for "
        "out-of-distribution detection, 2023), ResNet-18 trained on CIFAR-10 from scratch; ours: the run that is "
        "shipped, by the same score.",
        ("Method", "Published near", "Published far", "Ours near", "Ours far"),
        tuple(
            (title, f"{near:.2f}", f"{far:.2f}", ours(name, True), ours(name, False))
            for title, name, near, far in _PUBLISHED
        ),
    )
    yield Text(
        "This is no like-for-like comparison. Their near sets are CIFAR-100 and TinyImageNet, their far sets MNIST, "
        f"SVHN, Textures and Places365; ours are {joined([*found.sets(True), *found.sets(False)])}, as given. Their "
        f"network is a ResNet-18 from scratch; ours is {start}"
        + (
            ", and if that was ImageNet, its classes overlap those of sets such as CIFAR-100, so that some of the "
            "unknown is not unknown to it."
            if pretrained(found.run)
            else "."
        )
    )


def baselines(found: Conclusions) -> Section | None:
    """Trivial measures beside the scores; None if there are none."""
    sets = [one for near in (True, False) for one in found.study.unknowns if one.near == near and one.baselines]
    if not sets:
        return None
    names = list(dict.fromkeys(name for one in sets for name in one.baselines))
    rows = _rows(found)
    own = ("the shipped score", *(area(rows[found.scored.name, one.name].auroc) for one in sets))
    best = (
        "the best score of any run",
        *(area(max(row.auroc for row in found.tables.ood if row.unknown == one.name)) for one in sets),
    )
    trivial = [(name, *(area(one.baselines[name]) if name in one.baselines else "" for one in sets)) for name in names]
    table = Table(
        "AUROC. A score that does not beat these has shown nothing that a line of arithmetic could not.",
        ("Measure", *(one.name for one in sets)),
        (own, best, *trivial),
        strong=frozenset({0}),
    )
    blocks: list[Block] = [table]
    if any(one.baselines.get(PICTURE_SIZE, 0.5) > 0.5 for one in sets):
        blocks.append(
            Text(
                "Where picture size tells sets apart, their pictures were not made alike; the network sees all in one "
                "size, but traces of enlarging or shrinking remain, and a score may live on them."
            )
        )
    return Section("baselines", "Could something trivial do it?", tuple(blocks))
