"""Where defects are, and how far regions reach: python benchmarks/localisation.py DATA WORK.

Writes localisation.csv: for each dataset with masks and each method the pixel metrics of its maps, and what its regions
cover in the images that it flags: regions that are what is above the threshold, and such as are cut at several parts of
the way from normal pixels to the peak (``oddsight.model.regions.REACH`` is that of Oddsight). :mod:`data_sets` says
what DATA holds; the clouds are those of the Landsat scenes that ship with Oddsight, each scene by a model of clear
tiles of others, decided by tile. WORK keeps models, to go on from after an interruption.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import oddsight
from data_sets import parts, progress
from oddsight.data.anomaly_folders import from_mvtec
from oddsight.data.anomaly_images import gather_images, look_at
from oddsight.data.images import read_image
from oddsight.data.mask_files import read_mask
from oddsight.data.reading import AS_DECLARED
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.pixel import pixel_metrics
from oddsight.model.regions import find_areas, paint
from oddsight.studies.clouds.isolation_maps import Job, Map
from oddsight.studies.clouds.isolation_scenes import clear_tiles, deal, read_scenes_with_masks
from oddsight.studies.clouds.variants import VARIANTS

HERE = Path(__file__).parent
SCENES = HERE.parent / "examples" / "landsat-clouds"
METHODS = ("patchcore", "auto")
RATE = 0.05
CUTS = (None, 0.3, 0.4, 0.5)
"""Parts of the way to the peak; None for what is above the threshold."""

Truth = NDArray[np.bool_]
Answer = tuple[oddsight.Result, Truth]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "localisation.csv")
    parser.add_argument("--sets", help="names of datasets, separated by commas; by default all with masks")
    parser.add_argument("--methods", default=",".join(METHODS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folders = [folder for folder in parts(options.data, options.work) if (folder / "ground_truth").is_dir()]
    chosen = None if options.sets is None else options.sets.split(",")
    rows: list[dict[str, object]] = []
    for method in options.methods.split(","):
        for folder in folders:
            if chosen is None or folder.name in chosen:
                rows += measured(folder.name, method, parts_answers(folder, method, options.work))
    if chosen is None or "landsat-clouds" in chosen:
        rows += measured("landsat-clouds", "patchcore-fine", list(scene_answers(options.work)))
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def parts_answers(folder: Path, method: str, work: Path) -> list[Answer]:
    """Results and masks of the test images of a folder; images without a mask that need one are left out."""
    path = work / f"{folder.name}-{method}.onnx"
    if not path.exists():
        options = {"false_alarm_rate": RATE, "memory": "3GB", "progress": progress}
        oddsight.fit(folder / "train" / "good", method=method, **options).save(path)
    model, files = oddsight.load(path), from_mvtec(folder)
    data = gather_images(files, [look_at(file, read_image(file.path), AS_DECLARED) for file in files.images])
    found = []
    for result, image, anomalous, mask in zip(
        model.predict_many([image.path for image in data.images]), data.images, data.anomalous, data.masks, strict=True
    ):
        if isinstance(result, oddsight.ImageError):
            raise result
        size = (image.width, image.height)
        if not anomalous:
            found.append((result, np.zeros(size[::-1], bool)))
        elif mask is not None and mask.share > 0:
            found.append((result, read_mask(mask.path, size, turn=mask.turn)))
    return found


def scene_answers(work: Path) -> Iterator[Answer]:
    """Results and masks of scenes."""
    variant, quiet = VARIANTS["patchcore-fine"], lambda *_: None
    scenes = read_scenes_with_masks(SCENES, progress=quiet)
    tiles = cache(partial(clear_tiles, scenes, work=work, progress=quiet))
    job = Job(scenes, deal(scenes, 4, 0), tiles, work, 0, quiet)
    for fold, indices in enumerate(job.folds):
        path = work / f"landsat-{fold}.onnx"
        if not path.exists():
            files = [file for index in job.others((fold,)) for file in tiles(variant.tile)[index]]
            options = {"method": variant.method, "layers": variant.layers, "size": variant.size, "groups": "none"}
            oddsight.fit(*files, **options, calibration_fraction=0.25, false_alarm_rate=RATE).save(path)
        model = oddsight.load(path)
        for index in indices:
            place = {"tile": variant.tile, "overlap": variant.overlap, "per_tile": True}
            yield oddsight.predict_scene(model, scenes[index].path, **place), scenes[index].clouds()


def measured(name: str, method: str, answers: Sequence[Answer]) -> list[dict[str, object]]:
    """A row for each cut."""

    def maps() -> Iterator[tuple[Map, Truth]]:
        for result, truth in answers:
            assert result.map is not None
            yield upscaled(result.map, (result.width, result.height)), truth

    exact = pixel_metrics(maps)
    common = {
        "data": name,
        "method": method,
        "images": len(answers),
        "with_mask": sum(truth.any() for _, truth in answers),
        "flagged": sum(result.anomalous and bool(truth.any()) for result, truth in answers),
        "pixel_auroc": f"{exact.auroc:.4f}",
        "aupro": f"{exact.aupro:.4f}",
        "pixel_f1_max": f"{exact.f1_max:.4f}",
    }
    return [common | {"cut": "threshold" if cut is None else cut, **covered(answers, cut)} for cut in CUTS]


def covered(answers: Sequence[Answer], cut: float | None) -> dict[str, str]:
    """What regions cover of all defects together, and the mean overlap in flagged images with a defect."""
    hits = alarms = misses = 0
    overlaps = []
    for result, truth in answers:
        found = pixels_of(result, cut)
        both, either = int((found & truth).sum()), int((found | truth).sum())
        hits, alarms, misses = hits + both, alarms + int((found & ~truth).sum()), misses + int((truth & ~found).sum())
        if truth.any() and result.anomalous:
            overlaps.append(both / either)
    values = {
        "f1": 2 * hits / max(1, 2 * hits + alarms + misses),
        "iou": hits / max(1, hits + alarms + misses),
        "mean_iou": float(np.mean(overlaps)) if overlaps else 0.0,
        "precision": hits / max(1, hits + alarms),
        "recall": hits / max(1, hits + misses),
    }
    return {column: f"{value:.4f}" for column, value in values.items()}


def pixels_of(result: oddsight.Result, cut: float | None) -> Truth:
    """The pixels in regions, if these were cut there."""
    assert result.map is not None
    if result.threshold is None or not result.anomalous:
        return np.zeros((result.height, result.width), bool)
    areas = find_areas(result.map, result.threshold, *(() if cut is None else (result.levels, cut)))
    return paint(areas, result.map, result.width, result.height, 0, result.height)


if __name__ == "__main__":
    main()
