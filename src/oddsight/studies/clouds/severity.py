"""How much haze, smoke or dust a method needs to see it: detection against optical depth, on synthetic images.

Clear images that were not trained on are shown to a method as they are and with something in the air, put there by
:mod:`oddsight.data.synthesis`: the same pattern at every depth, only scaled. So curves are paired, and nothing but the
amount differs. All of it is computed, none was photographed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oddsight.data.collection import ImageFile, look, split
from oddsight.data.synthesis import check_severity, kind_by_name
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.fitting.plan import FEWEST
from oddsight.metrics.trivial import BASELINES
from oddsight.model.calibration import check_rate
from oddsight.runtime.progress import Progress, silent
from oddsight.studies.clouds.isolation_variants import Variant, as_variant
from oddsight.studies.clouds.severity_curves import Curve, Onset, Point, curve, onset
from oddsight.studies.clouds.severity_scores import Job, Seen, seen, seen_trivially

DEFAULT_KINDS = ("haze", "smoke", "dust")
DEFAULT_DEPTHS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
DEFAULT_RATE = 0.01
TESTED = 200
"""Clear images to test on, at most."""

MEASURES = BASELINES[:-1]
"""Trivial measures; without the size of an image, which nothing in the air changes."""

_TEST_SHARE = 0.3


@dataclass(frozen=True)
class Seeing:
    """What one method or trivial measure sees of one kind."""

    name: str  # Of the method or measure
    trivial: bool  # Whether it is a trivial measure
    kind: str  # Of what is in the air
    rate: float  # The false-alarm rate that its threshold keeps
    clear: Point  # What it made of the clear images: depth 0
    curve: Curve  # What it made of them at each depth
    onset: Onset  # From which depth on it sees
    direction: str = ""  # Of a trivial measure: `higher` or `lower` values are alarms; else empty


@dataclass(frozen=True)
class Severity:
    """What was found."""

    kinds: tuple[str, ...]  # Of what is in the air
    depths: tuple[float, ...]  # Mean optical depths in the affected area, ascending
    rate: float  # The false-alarm rate asked for
    trained: int  # Clear images that were trained on and calibrated on
    tested: int  # Clear images that were tested on, clear and at every depth
    seen: tuple[Seeing, ...]  # Each method and trivial measure on each kind: trivial measures last
    failed: Mapping[str, str]  # Methods that could not be run, and why
    seed: int  # Of every random choice

    def of(self, kind: str) -> list[Seeing]:
        """What was seen of one kind, methods first."""
        return [one for one in self.seen if one.kind == kind]

    def rows(self) -> list[dict[str, Any]]:
        """For ``severity.csv``: a row for each method or measure, kind and depth, 0 first; flat.

        Shares and areas are from 0 to 1; what does not apply is None.
        """
        rows = [row for one in self.seen for row in _rows(one, self.depths)]
        empty = dict.fromkeys(rows[0]) if rows else {}
        return rows + [empty | {"method": name, "sort": f"not run: {reason}"} for name, reason in self.failed.items()]


def _rows(one: Seeing, depths: Sequence[float]) -> Iterator[dict[str, Any]]:
    for depth, point in zip((0.0, *depths), (one.clear, *one.curve.points), strict=True):
        low, high = point.auroc_interval or (None, None)
        half_low, half_high = one.onset.half_interval
        yield {
            "method": one.name,
            "sort": "trivial" if one.trivial else "method",
            "kind": one.kind,
            "direction": one.direction,
            "rate": one.rate,
            "depth": depth,
            "images": point.images,
            "detected": point.detected,
            "share": point.share,
            "share_low": point.interval[0],
            "share_high": point.interval[1],
            "auroc": point.auroc,
            "auroc_low": low,
            "auroc_high": high,
            "pixel_auroc": point.pixel_auroc,
            "iou": point.iou,
            "half_depth": one.onset.half,
            "half_depth_low": half_low,
            "half_depth_high": half_high,
            "first_depth": one.onset.first,
        }


def severity_curves(
    clear_images: Sequence[ImageFile | str | os.PathLike[str]],
    work: Path,
    *,
    methods: Sequence[str | Variant],
    kinds: Sequence[str] = DEFAULT_KINDS,
    depths: Sequence[float] = DEFAULT_DEPTHS,
    rate: float = DEFAULT_RATE,
    seed: int = 0,
    progress: Progress = silent,
) -> Severity:
    """Learn clear images, hold false alarms at a rate, and measure what is seen at each optical depth.

    Three images in ten, at most 200, are tested on; the others are trained on and calibrated on. What has been
    done before in the same work folder, from the same images and settings, is taken from there.

    Args:
        clear_images: Clear images; the same image counts once.
        work: Where steps leave what they made.
        methods: Names of methods, or variants of them with settings of their own.
        kinds: Names of :data:`oddsight.data.synthesis.KINDS`.
        depths: Mean optical depths in the affected area, above 0.
        rate: The false-alarm rate; where there are too few images for it, the smallest that they can promise.
        seed: Of every random choice.
        progress: Called with phase, done and total.

    Raises:
        DataError: Too few images to train on and to test on, or a rate that is none.
        ImageError: An image that cannot be read.
        OddsightError: A setting that cannot work. A method that cannot be run is named in the result instead.
    """
    ordered = _checked(kinds, depths, rate)
    wanted = list(dict.fromkeys(as_variant(method, 64) for method in methods))
    training, testing = _divided(_distinct(clear_images, progress), seed)
    job = Job(training, testing, tuple(kinds), ordered, rate, work, seed, progress)
    found: list[Seen] = []
    failed = {}
    for variant in wanted:
        try:
            found += seen(variant, job)
        except OddsightError as error:
            failed[variant.name] = str(error)
    found += seen_trivially(MEASURES, job)
    judged = []
    for done, one in enumerate(found, 1):
        judged.append(_judged(one, job))
        progress("measuring what is seen", done, len(found))
    return Severity(tuple(kinds), ordered, rate, len(training), len(testing), tuple(judged), failed, seed)


def _checked(kinds: Sequence[str], depths: Sequence[float], rate: float) -> tuple[float, ...]:
    check_rate(rate)
    if not kinds or not depths or len(set(kinds)) < len(kinds) or len(set(depths)) < len(depths):
        raise OddsightError("name at least one kind and one optical depth, each of them once")
    for kind in kinds:
        kind_by_name(kind)
    for depth in depths:
        check_severity(depth)
        if not depth:
            raise OddsightError("an optical depth of 0 changes nothing: clear images are always measured")
    return tuple(sorted(depths))


def _distinct(images: Sequence[ImageFile | str | os.PathLike[str]], progress: Progress) -> list[ImageFile]:
    found: dict[str, ImageFile] = {}
    for done, image in enumerate(images, 1):
        known = image if isinstance(image, ImageFile) else look(Path(image))
        if isinstance(known, ImageError):
            raise known
        found.setdefault(known.content, known)
        progress("reading clear images", done, len(images))
    return list(found.values())


def _divided(images: Sequence[ImageFile], seed: int) -> tuple[list[ImageFile], list[ImageFile]]:
    """Images to train on, and those to test on."""
    testing = min(int(_TEST_SHARE * len(images)), TESTED)
    if testing < 2 or len(images) - testing < FEWEST:
        raise DataError(
            f"{len(images)} distinct clear images are too few to train on most of them and to test on the rest: it "
            f"needs at least {FEWEST + 4}"
        )
    # Another lot than that by which a fit divides its images.
    return split(images, testing / len(images), seed + 1000)


def _judged(one: Seen, job: Job) -> Seeing:
    found = curve(one, seed=job.seed)
    return Seeing(
        name=one.name,
        trivial=one.trivial,
        kind=one.kind,
        rate=one.rate,
        clear=found.clear,
        curve=found,
        onset=onset(one, job.depths, job.seed),
        direction=one.direction,
    )
