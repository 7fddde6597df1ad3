"""Ways to outline clouds in Landsat scenes: python benchmarks/cloud_outlines.py > benchmarks/cloud_outlines.csv.

Each way gives a value to every pixel of the scenes that ship with Oddsight, from the scene alone or, for ``novelty``,
also from clear tiles of scenes of other folds: the distance to the nearest of 500 clear places in what the first two
stages of the backbone see, which is a small PatchCore. Folds are those of ``oddsight study clouds --masks``. The
threshold of a fold has the highest F1 on the masks of the others, with novelty by models that saw neither. Intervals
come from drawing scenes anew; ``difference`` is the IoU less that of brightness, on the same draws.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from oddsight import backbones
from oddsight.backbones.extraction import Extractor
from oddsight.data.images import read_image
from oddsight.evaluation.maps import upscaled
from oddsight.runtime.sessions import session
from oddsight.studies.clouds.isolation_measures import draw_scenes, interval
from oddsight.studies.clouds.isolation_scenes import brightness, deal, read_scenes_with_masks, whiteness

TILE, CELL, BANK, ROWS, COMPONENTS = 64, 4, 500, 20_000, 16
Map = NDArray[np.float32]
Way = Callable[[NDArray[np.uint8], Map], Map]

SCENES = read_scenes_with_masks(Path(__file__).parent.parent / "examples" / "landsat-clouds", progress=lambda *_: None)
FOLDS = deal(SCENES, 4, 0)
FOLD_OF = {index: fold for fold, indices in enumerate(FOLDS) for index in indices}
IMAGES = [read_image(scene.path) for scene in SCENES]
CLOUDS = [scene.clouds() for scene in SCENES]


def rise(pixels: NDArray[np.uint8], most: float = 80) -> Map:
    """Brightness less that of the darkest twentieth of the scene, of which at most ``most`` counts.

    Dark-object subtraction (Chavez, Remote Sensing of Environment 1988). Where nothing is dark, all is cloud or ice.
    """
    values = brightness(pixels)
    return values - np.float32(min(float(np.quantile(values, 0.05)), most))


def haze_line(pixels: NDArray[np.uint8]) -> Map:
    """How far blue is above what red lets expect of clear ground, after Zhang et al., RSE 2002."""
    return np.asarray(pixels[..., 2] - np.float32(0.3) * pixels[..., 0], np.float32)


def split_value(values: Map) -> float:
    """The value that divides a scene best in two (Otsu, IEEE SMC 1979)."""
    counts = np.bincount(values.astype(np.intp).ravel(), minlength=256) / values.size
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    inside = (below > 0) & (below < 1)
    return float(np.where(inside, (sums[-1] * below - sums) ** 2 / np.maximum(below * (1 - below), 1e-9), 0).argmax())


def fineness(pixels: NDArray[np.uint8]) -> Map:
    """Contrast of neighbours over contrast at large: clouds billow, ground has lines and edges."""
    values = brightness(pixels)
    fine, wide = (
        np.sqrt(np.maximum(gaussian_filter(values**2, size) - gaussian_filter(values, size) ** 2, 0))
        for size in (1.5, 10)
    )
    return np.asarray((gaussian_filter(fine, 6) + 0.5) / (gaussian_filter(wide, 6) + 0.5), np.float32)


def guided(values: Map, pixels: NDArray[np.uint8]) -> Map:
    """Edges of the image in a map: the guided filter of He et al., ECCV 2010, over 17 x 17 pixels."""
    guide = brightness(pixels)
    mean, level = uniform_filter(guide, 17), uniform_filter(values, 17)
    slope = (uniform_filter(guide * values, 17) - mean * level) / (uniform_filter(guide**2, 17) - mean**2 + 25)
    return np.asarray(uniform_filter(slope, 17) * guide + uniform_filter(level - slope * mean, 17), np.float32)


WAYS: dict[str, Way] = {
    "brightness": lambda pixels, _: brightness(pixels),
    "whiteness": lambda pixels, _: whiteness(pixels),
    "brightness, smoothed over 2 pixels": lambda pixels, _: gaussian_filter(brightness(pixels), 2),
    "haze line": lambda pixels, _: haze_line(pixels),
    "brightness less half of the scene's median": lambda pixels, _: (
        brightness(pixels) - np.float32(np.median(brightness(pixels)) / 2)
    ),
    "brightness less 0.4 of the scene's split": lambda pixels, _: (
        brightness(pixels) - np.float32(0.4 * split_value(brightness(pixels)))
    ),
    "brightness less 50 times fineness": lambda pixels, _: brightness(pixels) - 50 * fineness(pixels),
    "novelty": lambda _, novelty: novelty,
    "novelty, guided filter": lambda pixels, novelty: guided(novelty, pixels),
    "novelty times brightness": lambda pixels, novelty: novelty * brightness(pixels),
    "novelty, guided filter, times brightness": lambda pixels, novelty: guided(novelty, pixels) * brightness(pixels),
    "novelty times rise": lambda pixels, novelty: novelty * rise(pixels),
    "rise, at most 60": lambda pixels, _: rise(pixels, 60),
    "rise, at most 80": lambda pixels, _: rise(pixels),
    "rise, at most 100": lambda pixels, _: rise(pixels, 100),
    "rise and novelty": lambda pixels, novelty: rise(pixels) + novelty,
    "rise less 50 times fineness": lambda pixels, _: rise(pixels) - 50 * fineness(pixels),
}


def features() -> list[Map]:
    """What the first two stages see of each scene, on cells of 4 pixels, ``[C, h, w]``."""
    network = backbones.backbone(backbones.suited("patches", None))
    side = IMAGES[0].shape[0]
    extractor = Extractor(network, ("stage1", "stage2"), side, "patches")
    loaded = session(extractor.graph.SerializeToString(), threads=1)
    found = []
    for image in IMAGES:
        values = np.asarray(loaded.run(None, {loaded.get_inputs()[0].name: image[None]})[0][0], np.float32)
        cells, fine = side // CELL, values.shape[1] // (side // CELL)
        found.append(values.reshape(len(values), cells, fine, cells, fine).mean(axis=(2, 4)))
    return found


def clear_rows(index: int, values: Map) -> Map:
    """Features of the clear tiles of a scene, ``[n, C]``."""
    clear = ~CLOUDS[index].reshape(-1, TILE, CLOUDS[index].shape[1] // TILE, TILE).any(axis=(1, 3))
    cells = TILE // CELL
    return np.asarray(values[:, np.kron(clear, np.ones((cells, cells), bool))].T, np.float32)


def novelty_by(maps: Sequence[Map], learned: Iterable[int], tested: Iterable[int]) -> dict[int, Map]:
    """Maps of some scenes by the clear tiles of others."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([clear_rows(index, maps[index]) for index in learned])
    rows = rows[rng.choice(len(rows), min(ROWS, len(rows)), replace=False)]
    mean = rows.mean(axis=0)
    basis = np.linalg.eigh(np.cov((rows - mean).T))[1][:, -COMPONENTS:].astype(np.float32)
    bank = ((rows - mean) @ basis)[rng.choice(len(rows), BANK, replace=False)]
    found = {}
    for index in tested:
        own = (maps[index].reshape(len(maps[index]), -1).T - mean) @ basis
        squared = (own**2).sum(axis=1)[:, None] + (bank**2).sum(axis=1) - 2 * own @ bank.T
        distances = np.sqrt(np.maximum(squared.min(axis=1), 0)).reshape(maps[index].shape[1:])
        found[index] = upscaled(distances.astype(np.float32), (SCENES[index].width, SCENES[index].height))
    return found


def novelties(maps: Sequence[Map]) -> tuple[dict[int, Map], list[dict[int, Map]]]:
    """Maps by models of the other folds, and for each fold maps of the others by models that saw neither."""

    def scenes(*without: int) -> list[int]:
        return [index for index, fold in FOLD_OF.items() if fold not in without]

    count = range(len(FOLDS))
    whole = {index: one for fold in count for index, one in novelty_by(maps, scenes(fold), FOLDS[fold]).items()}
    pairs: list[dict[int, Map]] = [{} for _ in count]
    for fold in count:
        for other in range(fold):
            found = novelty_by(maps, scenes(fold, other), (*FOLDS[fold], *FOLDS[other]))
            pairs[fold] |= {index: found[index] for index in FOLDS[other]}
            pairs[other] |= {index: found[index] for index in FOLDS[fold]}
    return whole, pairs


def best_threshold(values: Mapping[int, Map]) -> tuple[float, float]:
    """The threshold of the highest F1, from which on a pixel counts, and that F1."""
    every = np.concatenate([one.ravel() for one in values.values()])
    truth = np.concatenate([CLOUDS[index].ravel() for index in values])
    order = np.argsort(-every, kind="stable")
    ranked, hits = every[order], np.cumsum(truth[order])
    scores = 2 * hits / (np.arange(1, len(every) + 1) + truth.sum())
    scores[:-1][ranked[1:] == ranked[:-1]] = 0
    return float(ranked[scores.argmax()]), float(scores.max())


Counts = NDArray[np.int64]


def main() -> None:
    """Measure and write a row for each way, and one for the way that is best on the other folds."""
    whole, pairs = novelties(features())
    counted: dict[str, Counts] = {}
    trained: dict[str, list[float]] = {}
    for name, way in WAYS.items():
        counts, f1s = np.zeros((2, len(SCENES)), np.int64), []
        for fold, indices in enumerate(FOLDS):
            threshold, f1 = best_threshold({index: way(IMAGES[index], one) for index, one in pairs[fold].items()})
            f1s.append(f1)
            for index in indices:
                found = way(IMAGES[index], whole[index]) >= threshold
                counts[:, index] = (found & CLOUDS[index]).sum(), (found & ~CLOUDS[index]).sum()
        counted[name], trained[name] = counts, f1s
    chosen = np.zeros((2, len(SCENES)), np.int64)
    for fold, indices in enumerate(FOLDS):
        best = max(WAYS, key=lambda name: trained[name][fold])
        chosen[:, list(indices)] = counted[best][:, list(indices)]
        print(f"fold {fold + 1}: {best}", file=sys.stderr)
    write(counted | {"chosen in each fold by the others": chosen})


def write(counted: Mapping[str, Counts]) -> None:
    """Write the table."""
    draws, clouds = draw_scenes(len(SCENES), 0), np.array([int(one.sum()) for one in CLOUDS])
    bright = [index for index, scene in enumerate(SCENES) if scene.bright]
    ground = sum(int((~CLOUDS[index]).sum()) for index in bright)
    fair = [index for index, scene in enumerate(SCENES) if not scene.saturated]

    def overlaps(name: str, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        hits, alarms = counted[name]
        return np.asarray((weights @ hits) / (weights @ (clouds + alarms)), np.float64)

    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = ("iou", "iou_low", "iou_high", "difference", "difference_low", "difference_high")
    writer.writerow(["way", *columns, "iou_without_saturated_scenes", "false_alarms_on_bright_ground"])
    one, few = np.ones((1, len(SCENES)), np.int64), np.isin(np.arange(len(SCENES)), fair)[None].astype(np.int64)
    for name, (_, alarms) in counted.items():
        value, base = float(overlaps(name, one)[0]), float(overlaps("brightness", one)[0])
        low, high = interval(overlaps(name, draws)) or (np.nan, np.nan)
        apart = interval(overlaps(name, draws) - overlaps("brightness", draws)) or (np.nan, np.nan)
        numbers = (value, low, high, value - base, *apart, float(overlaps(name, few)[0]), alarms[bright].sum() / ground)
        writer.writerow([name, *(f"{number:.4f}" for number in numbers)])


if __name__ == "__main__":
    main()
