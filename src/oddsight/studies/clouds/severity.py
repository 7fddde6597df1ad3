"""How much haze, smoke or dust a method needs to see it: detection against optical depth, on synthetic images.

Clear images that were not trained on are shown to a method as they are and with something in the air, put there by
:mod:`oddsight.data.synthesis`: the same pattern at every depth, only scaled. So curves are paired, and nothing but the
amount differs. All of it is computed, none was photographed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile, split
from oddsight.data.synthetic_sets import DEFAULT_KINDS
from oddsight.errors import DataError, OddsightError
from oddsight.fitting.plan import FEWEST
from oddsight.metrics.image import auroc, binomial_interval, bootstrap_interval
from oddsight.runtime.progress import Progress, silent, track
from oddsight.studies.clouds.isolation_measures import CONFIDENCE, RESAMPLES
from oddsight.studies.clouds.severity_scores import Answers, Job, score_by_method, score_trivially
from oddsight.studies.clouds.variants import Variant, as_variant

DEFAULT_DEPTHS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
TESTED = 200  # Clear images to test on, at most

_AUROC_RESAMPLES = 300
_TEST_SHARE = 0.3

_COLUMNS = (
    *("method", "sort", "kind", "direction", "rate", "depth", "images", "detected", "share", "share_low", "share_high"),
    *("auroc", "auroc_low", "auroc_high", "pixel_auroc", "iou"),
    *("half_depth", "half_depth_low", "half_depth_high", "first_depth"),
)

Ends = tuple[float | None, float | None]  # Of an interval; None for an end beyond the greatest depth


@dataclass(frozen=True)
class Point:
    """What was seen at one depth; shares and areas from 0 to 1."""

    images: int
    detected: int  # How many of them gave an alarm
    interval: tuple[float, float]  # Of the share, exact (Clopper and Pearson)
    auroc: float | None = None  # Against the same images clear; None of the clear ones
    auroc_interval: tuple[float, float] | None = None  # Of `auroc`, by bootstrap
    # Of affected pixels against all others; None without a map, or if no pixel is affected
    pixel_auroc: float | None = None
    iou: float | None = None  # Of what is outlined with what is affected

    @property
    def share(self) -> float:
        """Of the images that gave an alarm."""
        return self.detected / self.images


@dataclass(frozen=True)
class Onset:
    """The optical depth from which on something is seen."""

    # At which half of the images give an alarm, on straight lines between the measured depths, from the false
    # alarms at 0 on; None if that is never reached
    half: float | None
    half_interval: Ends  # Of it, by drawing images anew
    # The lowest measured depth from which on the share detected is surely above the false alarms: at it and
    # at every greater depth, its interval lies above the rate that was asked for and above the share of false
    # alarms; None if there is none
    first: float | None
    first_interval: Ends  # Of it, likewise; ends are measured depths


@dataclass(frozen=True, eq=False, kw_only=True)
class Visibility(Answers):
    """What one method or trivial measure sees of one kind."""

    false_alarms: Point  # What it made of the clear images
    points: tuple[Point, ...]  # What it made of them at each depth
    onset: Onset  # From which depth on it sees

    def rows(self, depths: Sequence[float]) -> Iterator[dict[str, Any]]:
        """A row for each depth, 0 first."""
        sort = "trivial" if self.trivial else "method"
        began = (self.onset.half, *self.onset.half_interval, self.onset.first)
        for depth, point in zip((0.0, *depths), (self.false_alarms, *self.points), strict=True):
            about = (self.name, sort, self.kind, self.direction, self.rate, depth, point.images, point.detected)
            areas = (point.auroc, *(point.auroc_interval or (None, None)), point.pixel_auroc, point.iou)
            cells = (*about, point.share, *point.interval, *areas, *began)
            yield dict(zip(_COLUMNS, cells, strict=True))


@dataclass(frozen=True)
class Severity:
    """What was found."""

    kinds: tuple[str, ...]  # Of what is in the air
    depths: tuple[float, ...]  # Mean optical depths in the affected area, ascending
    rate: float  # The false-alarm rate asked for
    trained: int  # Clear images that were trained on and calibrated on
    tested: int  # Clear images that were tested on, clear and at every depth
    seen: tuple[Visibility, ...]  # Each method and trivial measure on each kind: trivial measures last
    failed: Mapping[str, str]  # Methods that could not be run, and why

    def of(self, kind: str) -> list[Visibility]:
        """What was seen of one kind, methods first."""
        return [one for one in self.seen if one.kind == kind]

    def rows(self) -> list[dict[str, Any]]:
        """For ``severity.csv``: a row for each method or measure, kind and depth.

        Shares and areas are from 0 to 1; what does not apply is None.
        """
        rows = [row for one in self.seen for row in one.rows(self.depths)]
        empty = dict.fromkeys(rows[0]) if rows else {}
        return rows + [empty | {"method": name, "sort": f"not run: {reason}"} for name, reason in self.failed.items()]


def severity_curves(
    clear_images: Sequence[ImageFile],
    work: Path,
    *,
    methods: Sequence[str | Variant],
    kinds: Sequence[str] = DEFAULT_KINDS,
    depths: Sequence[float] = DEFAULT_DEPTHS,
    rate: float = 0.01,
    seed: int = 0,
    progress: Progress = silent,
) -> Severity:
    """Learn clear images, hold false alarms at a rate, and measure what is seen at each optical depth.

    Three images in ten, at most 200, are tested on; the others are trained on and calibrated on, with the smallest
    false-alarm rate that they can promise where they are too few for the one asked for. ``clear_images`` are distinct,
    ``kinds`` are names of :data:`oddsight.data.synthesis.KINDS`, and ``depths`` ascend. What has been done before in
    the same work folder, from the same images and settings, is taken from there.
    """
    variants = dict.fromkeys(as_variant(method, 64) for method in methods)
    training, testing = _divide(clear_images, seed)
    job = Job(training, testing, tuple(kinds), tuple(depths), rate, work, seed, progress)
    seen: list[Answers] = []
    failed = {}
    for variant in variants:
        try:
            seen += score_by_method(variant, job)
        except OddsightError as error:
            failed[variant.name] = str(error)
    seen += score_trivially(job)
    found = []
    for one in track(seen, "measuring what is seen", len(seen), progress):
        points, began = tuple(_points(one, seed)), onset(one, job.depths, seed)
        found.append(Visibility(**vars(one), false_alarms=_point(one, one.clear), points=points, onset=began))
    return Severity(job.kinds, job.depths, rate, len(training), len(testing), tuple(found), failed)


def _divide(images: Sequence[ImageFile], seed: int) -> tuple[list[ImageFile], list[ImageFile]]:
    """Images to train on, and those to test on."""
    testing = min(int(_TEST_SHARE * len(images)), TESTED)
    if testing < 2 or len(images) - testing < FEWEST:
        raise DataError(
            f"{len(images)} distinct clear images are too few to train on most of them and to test on the rest: it "
            f"needs at least {FEWEST + 4}"
        )
    # Another lot than that by which a fit divides its images.
    return split(images, testing / len(images), seed + 1000)


def _points(one: Answers, seed: int) -> Iterator[Point]:
    """Alarms and areas at every depth."""
    for scores, pixel_auroc, iou in zip(one.veiled.T, one.pixel_auroc, one.iou, strict=True):
        interval = bootstrap_interval(
            one.clear, scores, auroc, confidence=CONFIDENCE, resamples=_AUROC_RESAMPLES, seed=seed
        )
        yield _point(one, scores, auroc(one.clear, scores), interval, _known(pixel_auroc), _known(iou))


def _point(one: Answers, scores: NDArray[np.float64], *areas: Any) -> Point:  # noqa: ANN401 - further fields
    detected = int((scores > one.threshold).sum())
    return Point(len(scores), detected, binomial_interval(detected, len(scores), CONFIDENCE), *areas)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def onset(one: Answers, depths: Sequence[float], seed: int) -> Onset:
    """From which depth on something is seen, with intervals over the draw of test images.

    An image is drawn with all its depths, as its pattern is the same at each.
    """
    flags = np.column_stack([one.clear, one.veiled]) > one.threshold
    rng, images = np.random.default_rng(seed), len(flags)
    draws = [flags[rng.integers(images, size=images)].sum(axis=0) for _ in range(RESAMPLES)]
    now = flags.sum(axis=0)
    return Onset(
        half=_known(half_depth(now / images, depths)),
        half_interval=_ends([half_depth(counts / images, depths) for counts in draws]),
        first=_known(first_depth(now, images, depths, one.rate)),
        first_interval=_ends([first_depth(counts, images, depths, one.rate) for counts in draws]),
    )


def _ends(values: Sequence[float]) -> Ends:
    # Of values that may be infinite, between which nothing can be interpolated.
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return _known(low), _known(high)


def half_depth(shares: NDArray[np.float64], depths: Sequence[float]) -> float:
    """Where straight lines through shares ``[1 + depths]``, the first at depth 0, first reach a half; else infinity."""
    at = np.array([0.0, *depths])
    reached = np.flatnonzero(shares >= 0.5)
    if not len(reached):
        return float(np.inf)
    first = int(reached[0])
    if first == 0:
        return 0.0
    low, high = shares[first - 1], shares[first]
    return float(at[first - 1] + (at[first] - at[first - 1]) * (0.5 - low) / (high - low))


def first_depth(counts: NDArray[np.int64], images: int, depths: Sequence[float], rate: float) -> float:
    """The lowest depth from which on detection is surely above false alarms, see :class:`Onset`; else infinity."""
    floor = max(rate, counts[0] / images)
    found = float(np.inf)
    for depth, count in reversed(list(zip(depths, counts[1:], strict=True))):
        if _surely(int(count), images) <= floor:
            break
        found = depth
    return found


@cache
def _surely(count: int, images: int) -> float:
    """The lower end of the interval of a share; the same few are asked for in every resample."""
    return binomial_interval(count, images, CONFIDENCE)[0]
