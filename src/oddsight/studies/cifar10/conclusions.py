"""What follows from the numbers of a study: which run and score do best, and what a promise is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oddsight.errors import DataError
from oddsight.metrics.trivial import BASELINES
from oddsight.model.promise import Promise, judge_promise
from oddsight.studies.cifar10.results import Run, Scored, Study, Unknowns
from oddsight.studies.cifar10.tables import ClassificationRow, OodRow, PerClassRow, Tables, predictions, threshold_for

IMAGE_SIZE = BASELINES[-1]  # The one trivial measure of what networks do not see

RATES = (0.01, 0.02, 0.05, 0.1)  # False-rejection rates that are compared


class Standing(NamedTuple):
    """The trainings of one recipe."""

    name: str  # Of the recipe
    title: str  # For people
    seeds: tuple[int, ...]  # Of its runs
    accuracy: float  # Mean over the seeds
    lowest: float  # Of any seed
    highest: float  # Of any seed
    seconds: float  # To train, with what it starts from; mean over the seeds


class RunPair(NamedTuple):
    """Two runs on the same test images."""

    only_first: int  # Images that only the first names rightly
    only_second: int  # Images that only the second does
    # Of McNemar's exact test (Psychometrika 1947): how likely chance is to divide these so unevenly, if both
    # are right equally often; 1 if they differ nowhere
    p_value: float


class Average(NamedTuple):
    """AUROC of a score of a run, averaged over sets of unknowns; None where there are no sets of the sort."""

    run: str
    seed: int
    score: str
    near: float | None
    far: float | None

    def of(self, near: bool) -> float:
        """One of the two; 0 without sets."""
        return (self.near if near else self.far) or 0.0


class Rate(NamedTuple):
    """What a false-rejection rate costs and gains, by the score of the shipped run and one threshold."""

    rate: float  # Asked for
    rejected: float  # Share of the test images rejected
    near: float | None  # Share of the near unknowns detected, averaged over their sets
    far: float | None  # The same of the far


class Beaten(NamedTuple):
    """A set of unknowns that a trivial measure distinguishes from the classes better than a score does."""

    unknown: str  # The set
    baseline: str  # The measure
    area: float  # Its AUROC
    best: OodRow  # The best score of all runs
    shipped: float  # AUROC of the shipped score of the shipped run

    @property
    def verdict(self) -> str:
        """What follows, in words."""
        return f"baseline beats {'every score' if self.area > self.best.auroc else 'the shipped score'}"


@dataclass(frozen=True)
class Conclusions:
    """A study with what follows from it."""

    study: Study  # What was found
    tables: Tables  # Its numbers
    run: Run  # The one that the shipped file holds
    scored: Scored  # Its shipped score
    promise: Promise  # Whether the file keeps it
    standings: tuple[Standing, ...]  # Of the recipes, in their order
    averages: tuple[Average, ...]  # Of every score of every run; empty without unknowns
    rates: tuple[Rate, ...]  # Those that there are calibration images enough for; empty without unknowns
    beaten: tuple[Beaten, ...]  # Sets on which a trivial measure beats the shipped score

    @property
    def best(self) -> Standing:
        """The recipe of the highest accuracy, the first of equals."""
        return max(self.standings, key=lambda one: one.accuracy)

    @property
    def own(self) -> list[Average]:
        """The averages of the shipped run, best first: by near sets if there are any."""
        return sorted(filter(self.is_own, self.averages), key=lambda one: (-one.of(near=True), -one.of(near=False)))

    def is_own(self, row: Average | ClassificationRow | OodRow | PerClassRow) -> bool:
        """Whether a row is of the shipped run."""
        return (row.run, row.seed) == (self.run.name, self.run.seed)

    def sets(self, near: bool) -> list[str]:
        """Names of the near or of the far sets."""
        return [one.name for one in self.study.unknowns if one.near == near]

    def ordered(self) -> list[Unknowns]:
        """All sets, the near ones first."""
        return sorted(self.study.unknowns, key=lambda one: not one.near)

    def best_score(self, near: bool) -> Average | None:
        """Of the shipped run, on near or far sets; None without such sets."""
        return max(self.own, key=lambda one: one.of(near), default=None) if self.sets(near) else None

    def frontier(self) -> list[Standing]:
        """Recipes than which no other is as quick to train and more accurate; the quickest first."""
        kept: list[Standing] = []
        for one in sorted(self.standings, key=lambda one: (one.seconds, -one.accuracy)):
            if not kept or one.accuracy > kept[-1].accuracy:
                kept.append(one)
        return kept


def conclude(study: Study, tables: Tables) -> Conclusions:
    """Draw what follows from the numbers."""
    file = study.shipped
    run = next((one for one in study.runs if (one.name, one.seed) == (file.run, file.seed)), None)
    scored = next((one for one in run.scores if one.name == file.score), None) if run is not None else None
    if run is None or scored is None:
        raise DataError(f"the study ships {file.score} of {file.run}, seed {file.seed}, which it did not train")
    # Thresholds by class have the same spread over draws to first order, and are to reject at most as many.
    rejected = int(file.rejected.sum())
    return Conclusions(
        study=study,
        tables=tables,
        run=run,
        scored=scored,
        promise=judge_promise(file.rate, len(scored.calibration), file.rejected.size, rejected, tables.confidence),
        standings=tuple(_standings(tables)),
        averages=tuple(_averages(study, tables)),
        rates=tuple(_rates(study, scored)),
        beaten=tuple(_beaten(study, tables)),
    )


def compare_runs(first: Run, second: Run) -> RunPair:
    """Compare two runs on the same test images."""
    from scipy.stats import binomtest

    if not np.array_equal(first.labels, second.labels):
        raise DataError(f"{first.name} and {second.name} were not tested on the same images")
    ours, theirs = predictions(first) == first.labels, predictions(second) == second.labels
    more, less = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return RunPair(more, less, float(binomtest(more, more + less).pvalue) if more + less else 1.0)


def _standings(tables: Tables) -> Iterator[Standing]:
    for name in dict.fromkeys(row.run for row in tables.classification):
        rows = [row for row in tables.classification if row.run == name]
        shares = [row.accuracy for row in rows]
        seconds = sum(row.seconds_with_start for row in rows) / len(rows)
        accuracies = (sum(shares) / len(shares), min(shares), max(shares))
        yield Standing(name, rows[0].title, tuple(row.seed for row in rows), *accuracies, seconds)


def _averages(study: Study, tables: Tables) -> Iterator[Average]:
    for run, scored in ((one, scored) for one in study.runs for scored in one.scores if study.unknowns):
        key = (run.name, run.seed, scored.name)
        rows = [row for row in tables.ood if (row.run, row.seed, row.score) == key]
        yield Average(*key, *(_mean([row.auroc for row in rows if row.nearness == sort]) for sort in ("near", "far")))


def _rates(study: Study, scored: Scored) -> Iterator[Rate]:
    for rate in sorted({*RATES, study.shipped.rate}) if study.unknowns else ():
        threshold = threshold_for(scored, rate)
        if threshold is not None:
            detected = {one.name: float((scored.unknown[one.name] > threshold).mean()) for one in study.unknowns}
            means = (
                _mean([detected[one.name] for one in study.unknowns if one.near == near]) for near in (True, False)
            )
            yield Rate(rate, float((scored.known > threshold).mean()), *means)


def _beaten(study: Study, tables: Tables) -> Iterator[Beaten]:
    """Of what an image holds, the best measure a set; the size of images, which networks do not see, for itself."""
    file = study.shipped
    for one in study.unknowns:
        rows = [row for row in tables.ood if row.unknown == one.name]
        own = next(row for row in rows if (row.run, row.seed, row.score) == (file.run, file.seed, file.score))
        best = max(rows, key=lambda row: row.auroc)
        for of_size in (False, True):
            areas = {name: area for name, area in one.baselines.items() if (name == IMAGE_SIZE) == of_size}
            baseline = max(areas, key=lambda name: areas[name], default=None)
            if baseline is not None and areas[baseline] > own.auroc:
                yield Beaten(one.name, baseline, areas[baseline], best, own.auroc)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
