"""Scores of clear images and of the same with something in the air, by methods and by trivial measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.data.synthesis import Synthetic, airlight, pattern, veiled
from oddsight.errors import DataError, OddsightError
from oddsight.evaluation.compare.store import compute_once, key_of
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.image import auroc
from oddsight.metrics.pixel import pixel_metrics
from oddsight.metrics.trivial import BASELINES, trivial_scores
from oddsight.model.calibration import decide
from oddsight.model.model import Model
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, track
from oddsight.runtime.records import Arrays
from oddsight.studies.clouds.variants import Variant, add_prefix, as_array, at_rate, feasible_rate, fit_clear

MEASURES = BASELINES[:-1]  # Trivial measures; without the size of an image, which nothing in the air changes

Scores = NDArray[np.float64]
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Job:
    """What all steps share."""

    training: Sequence[ImageFile]  # Clear images to train on and to calibrate on
    testing: Sequence[ImageFile]  # Clear images to test on
    kinds: tuple[str, ...]  # Of what is in the air
    depths: tuple[float, ...]  # Optical depths, ascending
    rate: float  # The false-alarm rate asked for
    work: Path  # Where steps leave what they made
    seed: int  # Of every random choice
    progress: Progress  # Called with phase, done and total

    def key(self, *parts: object) -> str:
        """What a step depends on."""
        contents = [[image.content for image in images] for images in (self.training, self.testing)]
        return key_of("severity", contents, self.rate, self.seed, *parts)

    def make(self, image: ImageFile, kind: str) -> Iterator[Synthetic]:
        """A test image at each depth."""
        pixels = image.read()
        amounts, colour = pattern(pixels, kind, self.seed), airlight(pixels, kind)
        for depth in self.depths:
            yield veiled(pixels, amounts, depth, colour)


@dataclass(frozen=True, eq=False)
class Answers:
    """What one method or trivial measure gave to the images of one kind."""

    name: str
    trivial: bool  # Whether it is a trivial measure
    kind: str  # Of what is in the air
    rate: float  # The false-alarm rate that the threshold keeps
    threshold: float  # Scores above are alarms
    clear: Scores  # Scores of the clear images, `[n]`
    veiled: Scores  # Of the same at every depth, `[n, depths]`
    pixel_auroc: Scores  # At every depth; NaN without a map, or where all pixels or none are affected
    iou: Scores  # Of what is outlined and what is affected, at every depth; NaN likewise
    direction: str = ""  # Of a trivial measure, `higher` or `lower`


def score_by_method(variant: Variant, job: Job) -> list[Answers]:
    """Learn by a method, and score every image of every kind."""
    if variant.times is not None:
        raise OddsightError(
            f"its map is multiplied by {variant.times}, and a score of a whole image has no such factor"
        )

    def learn() -> Arrays:
        paths, watch = [image.path for image in job.training], add_prefix(job.progress, f"{variant.name}: ")
        return {"model": as_array(fit_clear(variant, paths, job.rate, job.seed, watch))}

    folder = variant.folder(job.work)
    kept = compute_once(folder / "model.npz", job.key(variant.key), learn)
    model, found = at_rate(Model.from_bytes(kept["model"].tobytes()), job.rate), []
    for kind in job.kinds:
        arrays = compute_once(
            folder / f"{kind}.npz",
            job.key(variant.key, kind, job.depths),
            lambda: _score(variant.name, model, kind, job),  # noqa: B023 - called at once
        )
        decision = model.decision
        decided = (decision.false_alarm_rate or 0.0, decision.threshold)
        scores = (arrays["clear"], arrays["veiled"], arrays["pixel_auroc"], arrays["iou"])
        found.append(Answers(variant.name, False, kind, *decided, *scores))
    return found


class _Look(NamedTuple):
    """What a model says of one test image; index 0 of each is the clear one. Masks are packed bits."""

    scores: list[float]
    maps: list[Map]
    masks: list[NDArray[np.uint8]]
    size: tuple[int, int]

    def pixels(self, place: int) -> tuple[Map, NDArray[np.bool_]]:
        """Map and mask in pixels, ``[H, W]``."""
        width, height = self.size
        mask = np.unpackbits(self.masks[place], count=width * height).reshape(height, width).astype(bool)
        return upscaled(self.maps[place], self.size), mask


def _look(model: Model, kind: str, job: Job, image: ImageFile) -> _Look:
    clear = image.read()
    first = Synthetic(clear, np.empty((0, 0), np.float32), np.zeros(clear.shape[:2], np.uint8))
    found = _Look([], [], [], (image.width, image.height))
    for made in (first, *job.make(image, kind)):
        result = model.score(made.image, source=str(image.path), one_core=True)
        found.scores.append(result.score)
        if result.map is not None:
            found.maps.append(result.map)
            found.masks.append(np.packbits(made.mask > 0))
    return found


def _score(name: str, model: Model, kind: str, job: Job) -> Arrays:
    looked = ordered_map(partial(_look, model, kind, job), job.testing)
    looks = list(track(looked, f"{name}: {kind}", len(job.testing), job.progress))
    scores = np.array([look.scores for look in looks])
    areas, overlaps = _pixels(looks, model.decision.threshold, len(job.depths))
    return {"clear": scores[:, 0], "veiled": scores[:, 1:], "pixel_auroc": areas, "iou": overlaps}


def _pixels(looks: Sequence[_Look], threshold: float, depths: int) -> tuple[Scores, Scores]:
    """Pixel AUROC and IoU at every depth: affected pixels against all others, those of the clear images included."""
    areas, overlaps = np.full(depths, np.nan), np.full(depths, np.nan)
    for depth in range(depths if looks[0].maps else 0):

        def images(place: int = depth + 1) -> Iterator[tuple[Map, NDArray[np.bool_]]]:
            for one in looks:
                yield one.pixels(0)
                yield one.pixels(place)

        both = either = 0
        for values, mask in (one.pixels(depth + 1) for one in looks):
            both += int(((values > threshold) & mask).sum())
            either += int(((values > threshold) | mask).sum())
        if either:
            overlaps[depth] = both / either
        try:
            areas[depth] = pixel_metrics(images).auroc
        except DataError:  # no pixel is affected yet
            continue
    return areas, overlaps


def score_trivially(job: Job) -> list[Answers]:
    """Trivial measures, with conformal thresholds from the images that methods learn from.

    Whether high or low values are alarms is chosen for each kind by the measure's AUROC at the greatest depth: by the
    labels, in the measure's favour.
    """

    def of(images: Sequence[ImageFile]) -> Scores:
        return np.array(list(ordered_map(lambda image: _trivial_scores(image.read()), images)))

    calibration, clear = of(job.training), of(job.testing)
    rate, nothing = feasible_rate(job.rate, len(job.training)), np.full(len(job.depths), np.nan)
    found = []
    for kind in job.kinds:
        made = _measure_trivially(kind, job)
        for column, name in enumerate(MEASURES):
            sign = 1.0 if auroc(clear[:, column], made[:, -1, column]) >= 0.5 else -1.0
            # All are rounded alike, so that equal values stay equal.
            own, normal, others = (
                (sign * values[..., column]).astype(np.float32) for values in (calibration, clear, made)
            )
            scores = (normal.astype(np.float64), others.astype(np.float64), nothing, nothing)
            direction = "higher" if sign > 0 else "lower"
            found.append(Answers(name, True, kind, rate, decide(own, rate).threshold, *scores, direction))
    return found


def _trivial_scores(pixels: NDArray[np.uint8]) -> tuple[float, ...]:
    return trivial_scores(pixels)[: len(MEASURES)]


def _measure_trivially(kind: str, job: Job) -> Scores:
    """Trivial measures of all test images, ``[n, depths, measures]``."""

    def look(image: ImageFile) -> list[tuple[float, ...]]:
        return [_trivial_scores(made.image) for made in job.make(image, kind)]

    def measure() -> Arrays:
        rows = track(ordered_map(look, job.testing), f"trivial measures: {kind}", len(job.testing), job.progress)
        return {"values": np.array(list(rows))}

    key = job.key("trivial", kind, job.depths, MEASURES)
    return np.asarray(compute_once(job.work / "trivial" / f"{kind}.npz", key, measure)["values"], np.float64)
