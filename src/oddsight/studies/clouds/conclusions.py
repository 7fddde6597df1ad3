"""What follows from the numbers of a study of clouds: how methods stand, and what tells them from arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from oddsight.errors import DataError
from oddsight.metrics.significance import Placements, delong, holm, placements
from oddsight.studies.clouds.results import CloudStudy, Measurement, ShippedScenes, Trivial
from oddsight.studies.clouds.scenes import Side
from oddsight.studies.clouds.tables import ALL, CloudTables, SceneRow


@dataclass(frozen=True)
class Standing:
    """One method on one side, over its seeds."""

    method: str  # Its name
    seeds: tuple[int, ...]  # By which it could be run
    # Of each anomalous class, and of all where there are several, a row a seed
    rows: Mapping[str, tuple[SceneRow, ...]]

    @property
    def classes(self) -> tuple[str, ...]:
        """The anomalous classes."""
        return tuple(name for name in self.rows if name != ALL)

    @property
    def whole(self) -> str:
        """What the rows of all anomalous images are under."""
        return ALL if ALL in self.rows else self.classes[0]

    @property
    def areas(self) -> dict[str, float]:
        """AUROC of each class, the mean over seeds."""
        return {name: self.mean(name, "auroc") for name in self.classes}

    @property
    def area(self) -> float:
        """AUROC, the mean over classes and seeds."""
        return float(np.mean([row.auroc for name in self.classes for row in self.rows[name]]))

    @property
    def interval(self) -> tuple[float, float]:
        """The mean of the intervals of the classes."""
        low, high = (np.mean([self.mean(kind, f"auroc_{end}") for kind in self.classes]) for end in ("low", "high"))
        return float(low), float(high)

    def knows(self, name: str, field: str) -> bool:
        """Whether every row of a class has a field."""
        return all(getattr(row, field) is not None for row in self.rows[name])

    def mean(self, name: str, field: str) -> float:
        """The mean of a field of the rows of a class over seeds."""
        return float(np.mean([getattr(row, field) for row in self.rows[name]]))

    def span(self, name: str) -> tuple[float, float]:
        """The lowest and the highest AUROC of a class over seeds."""
        areas = [row.auroc for row in self.rows[name]]
        return min(areas), max(areas)


@dataclass(frozen=True)
class Contest:
    """The default method against another, or against a trivial measure, on one anomalous class."""

    side: str  # Name of the side
    anomalous: str  # The class
    rival: str  # Name of the other
    trivial: bool  # Whether it is such a measure
    own: float  # AUROC of the default method, the mean over seeds
    area: float  # AUROC of the other
    # Of DeLong's test, over seeds by twice the mean, corrected after Holm over all rivals of its sort; None
    # if there are too few images
    p_value: float | None
    verdict: str  # How the default method compares: `better`, `worse`, `not distinguishable` or `untested`

    @property
    def conclusion(self) -> str:
        """What follows for the default method, in words."""
        if self.trivial and self.area > self.own:
            return "baseline wins" if self.verdict == "worse" else "baseline ahead, not significantly"
        return self.verdict


@dataclass(frozen=True)
class Conclusions:
    """What a report says."""

    study: CloudStudy  # What was found
    tables: CloudTables  # Its numbers
    standings: Mapping[str, tuple[Standing, ...]]  # Of every side, the best method first
    contests: tuple[Contest, ...]  # Of the default method, on every side and class

    def default(self, side: str) -> Standing:
        """How the default method stands."""
        return next(one for one in self.standings[side] if one.method == self.study.default)

    def best_rival(self, side: str, anomalous: str, *, trivial: bool) -> Contest | None:
        """The other method, or trivial measure, of the highest AUROC; None if there is none."""
        own = [one for one in self.contests if (one.side, one.anomalous, one.trivial) == (side, anomalous, trivial)]
        return max(own, key=lambda one: one.area, default=None)

    def beaten(self) -> list[Contest]:
        """Trivial measures that reach more than the default method on a class, the best of each class."""
        best = (self.best_rival(side.name, name, trivial=True) for side in self.study.sides for name in side.anomalous)
        return [one for one in best if one is not None and one.area > one.own]

    def shipped(self, side: str) -> ShippedScenes:
        """The file of a side."""
        return next(one for one in self.study.shipped if one.side == side)


def conclude(study: CloudStudy, tables: CloudTables) -> Conclusions:
    """Compare what a study measured."""
    standings = {side.name: tuple(_standings(tables, side)) for side in study.sides}
    contests = (
        contest
        for side in study.sides
        for kind in side.anomalous
        for trivial in (False, True)
        for contest in _contests(study, side.name, kind, trivial, tables.confidence)
    )
    return Conclusions(study, tables, standings, tuple(contests))


def _standings(tables: CloudTables, side: Side) -> list[Standing]:
    by_method: dict[str, dict[str, list[SceneRow]]] = {}
    for row in tables.scenes:
        if row.normal == side.name and not row.error:
            by_method.setdefault(row.method, {}).setdefault(row.anomalous, []).append(row)
    found = []
    for name, kinds in by_method.items():
        seeds = tuple(row.seed for row in next(iter(kinds.values())))
        found.append(Standing(name, seeds, {kind: tuple(rows) for kind, rows in kinds.items()}))
    return sorted(found, key=lambda one: -round(one.area, 9))


def _contests(study: CloudStudy, side: str, kind: str, trivial: bool, confidence: float) -> Iterator[Contest]:
    """The default method against others of one sort on one class, by the seeds that both have."""
    own = {one.seed: one for one in study.of(side, study.default)}
    rivals: dict[str, list[tuple[Placements, Placements]]] = {}
    for one in study.trivial if trivial else study.measured:
        name = one.name if isinstance(one, Trivial) else one.method
        if one.side == side and one.seed in own and name != study.default:
            rivals.setdefault(name, []).append((_place(own[one.seed], kind), _place(one, kind)))
    p_values = [_p_value(pairs) for pairs in rivals.values()]
    corrected = holm([1.0 if value is None else value for value in p_values]).tolist()
    for (name, pairs), raw, p_value in zip(rivals.items(), p_values, corrected, strict=True):
        mine, theirs = (float(np.mean([placed.auroc for placed in sort])) for sort in zip(*pairs, strict=True))
        verdict = "untested" if raw is None else "not distinguishable"
        if raw is not None and p_value <= 1 - confidence:
            verdict = "better" if mine > theirs else "worse"
        yield Contest(side, kind, name, trivial, mine, theirs, None if raw is None else float(p_value), verdict)


def _place(one: Measurement | Trivial, kind: str) -> Placements:
    """Placements of the test images; of a trivial measure in the direction that works better."""
    found = placements(one.normal, one.anomalous[kind])
    lower = isinstance(one, Trivial) and found.auroc < 0.5
    return placements(-one.normal, -one.anomalous[kind]) if lower else found


def _p_value(pairs: Sequence[tuple[Placements, Placements]]) -> float | None:
    """Of several seeds, whose test images overlap, twice the mean: valid whatever their dependence.

    (Vovk & Wang, Combining p-values via averaging, Biometrika 2020.)
    """
    try:
        values = [delong(*pair).p_value for pair in pairs]
    except DataError:
        return None
    return values[0] if len(values) == 1 else min(1.0, 2 * float(np.mean(values)))
