"""Scores of clear images and of the same with something in the air, by methods and by trivial measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.data.synthesis import Synthetic, airlight, pattern, veiled
from oddsight.errors import DataError, OddsightError
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.image import auroc
from oddsight.metrics.pixel import pixel_metrics
from oddsight.metrics.trivial import BASELINES, trivial_scores
from oddsight.model.calibration import decide, smallest_rate
from oddsight.model.model import Model
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress
from oddsight.runtime.records import Arrays
from oddsight.studies.clouds.isolation_variants import Variant, at_rate, described, fit_clear, place_of
from oddsight.studies.store import keep, state_of, taken

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

    def state(self, *parts: object) -> str:
        """What a step depends on."""
        contents = [[image.content for image in images] for images in (self.training, self.testing)]
        return state_of("severity", contents, self.rate, self.seed, *parts)

    def made(self, image: ImageFile, kind: str) -> Iterator[Synthetic]:
        """A test image at each depth."""
        pixels = image.read()
        amounts, colour = pattern(pixels, kind, self.seed), airlight(pixels, kind)
        for depth in self.depths:
            yield veiled(pixels, amounts, depth, colour)


@dataclass(frozen=True, eq=False)
class Seen:
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


def seen(variant: Variant, job: Job) -> list[Seen]:
    """Learn by a method, and score every image of every kind.

    Raises:
        OddsightError: If the method cannot be fitted.
    """
    if variant.times is not None:
        raise OddsightError(
            f"its map is multiplied by {variant.times}, and a score of a whole image has no such factor"
        )
    folder, own = place_of(variant, job.work), job.state(described(variant))
    path = folder / "model.npz"
    known = taken(path, own)
    if known is None:

        def told(phase: str, done: int, total: int) -> None:
            job.progress(f"{variant.name}: {phase}", done, total)

        fitted = fit_clear(variant, [image.path for image in job.training], job.rate, job.seed, told)
        known = keep(path, own, {"model": np.frombuffer(fitted.to_bytes(), np.uint8)})
    model = at_rate(Model.from_bytes(known["model"].tobytes()), job.rate)
    found = []
    for kind in job.kinds:
        state, path = job.state(described(variant), kind, job.depths), folder / f"{kind}.npz"
        arrays = taken(path, state)
        if arrays is None:
            arrays = keep(path, state, _scored(variant.name, model, kind, job))
        rate = model.decision.false_alarm_rate or 0.0
        found.append(
            Seen(
                name=variant.name,
                trivial=False,
                kind=kind,
                rate=rate,
                threshold=model.decision.threshold,
                clear=arrays["clear"],
                veiled=arrays["veiled"],
                pixel_auroc=arrays["pixel_auroc"],
                iou=arrays["iou"],
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _Look:
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


def _scored(name: str, model: Model, kind: str, job: Job) -> Arrays:
    def look(image: ImageFile) -> _Look:
        clear = image.read()
        images = [Synthetic(clear, np.empty((0, 0), np.float32), np.zeros(clear.shape[:2], np.uint8))]
        found = _Look([], [], [], (image.width, image.height))
        for made in (*images, *job.made(image, kind)):
            result = model.score(made.image, source=str(image.path), one_core=True)
            found.scores.append(result.score)
            if result.map is not None:
                found.maps.append(result.map)
                found.masks.append(np.packbits(made.mask > 0))
        return found

    looks = []
    for done, one in enumerate(ordered_map(look, job.testing), 1):
        looks.append(one)
        job.progress(f"{name}: {kind}", done, len(job.testing))
    scores = np.array([one.scores for one in looks])
    areas, overlaps = _pixels(looks, model.decision.threshold, len(job.depths))
    return {"clear": scores[:, 0], "veiled": scores[:, 1:], "pixel_auroc": areas, "iou": overlaps}


def _pixels(looks: Sequence[_Look], threshold: float, depths: int) -> tuple[Scores, Scores]:
    """Pixel AUROC and IoU at every depth: affected pixels against all others, those of the clear images included."""
    areas, overlaps = np.full(depths, np.nan), np.full(depths, np.nan)
    if not looks[0].maps:
        return areas, overlaps
    for depth in range(depths):

        def images(place: int = depth + 1) -> Iterator[tuple[Map, NDArray[np.bool_]]]:
            for one in looks:
                yield one.pixels(0)
                yield one.pixels(place)

        both = either = 0
        for one in looks:
            values, mask = one.pixels(depth + 1)
            both += int(((values > threshold) & mask).sum())
            either += int(((values > threshold) | mask).sum())
        if either:
            overlaps[depth] = both / either
        try:
            areas[depth] = pixel_metrics(images).auroc
        except DataError:  # no pixel is affected yet
            continue
    return areas, overlaps


def seen_trivially(measures: Sequence[str], job: Job) -> list[Seen]:
    """Trivial measures, with conformal thresholds from the images that methods learn from.

    Whether high or low values are alarms is chosen for each kind by the measure's AUROC at the greatest depth: by the
    labels, in the measure's favour.
    """
    columns = [BASELINES.index(name) for name in measures]

    def of(images: Sequence[ImageFile]) -> Scores:
        return np.array(list(ordered_map(lambda image: trivial_scores(image.read()), images)))[:, columns]

    calibration, clear = of(job.training), of(job.testing)
    rate = max(job.rate, smallest_rate(len(job.training)))
    found = []
    for kind in job.kinds:
        made = _veiled_trivially(kind, columns, job)
        for column, name in enumerate(measures):
            sign = 1.0 if auroc(clear[:, column], made[:, -1, column]) >= 0.5 else -1.0
            own = (sign * calibration[:, column]).astype(np.float32)
            nothing = np.full(len(job.depths), np.nan)
            found.append(
                Seen(
                    name=name,
                    trivial=True,
                    kind=kind,
                    rate=rate,
                    threshold=decide(own, rate).threshold,
                    # Rounded as the threshold is, so that equal values stay equal.
                    clear=(sign * clear[:, column]).astype(np.float32).astype(np.float64),
                    veiled=(sign * made[..., column]).astype(np.float32).astype(np.float64),
                    pixel_auroc=nothing,
                    iou=nothing,
                    direction="higher" if sign > 0 else "lower",
                )
            )
    return found


def _veiled_trivially(kind: str, columns: Sequence[int], job: Job) -> Scores:
    """Trivial measures of all test images, ``[n, depths, measures]``."""
    state, path = job.state("trivial", kind, job.depths, list(columns)), job.work / "trivial" / f"{kind}.npz"
    arrays: Mapping[str, NDArray[np.generic]] | None = taken(path, state)
    if arrays is None:

        def measured(image: ImageFile) -> list[tuple[float, ...]]:
            return [trivial_scores(made.image) for made in job.made(image, kind)]

        rows = []
        for done, row in enumerate(ordered_map(measured, job.testing), 1):
            rows.append(row)
            job.progress(f"trivial measures: {kind}", done, len(job.testing))
        arrays = keep(path, state, {"values": np.array(rows)[..., columns]})
    return np.asarray(arrays["values"], np.float64)
