"""How well a model of normal images that also names types of anomalies does, with one type left out.

    python benchmarks/type_names.py MAGNETIC-TILE -o benchmarks/type_names.csv

MAGNETIC-TILE holds `good/` and `defect/TYPE/`. Half of the good tiles are learned, and the model of normal is fitted
once for each seed. Then each type in turn is unknown: half of the images of the other types are labelled
(`fit_classes` with the backbone's size, its deepest layer and `knn`; a quarter of them for calibration), all other
images are tested. Near copies are never divided. A row counts what the model says of one kind of test images.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import oddsight
from oddsight.data.class_images import stratified
from oddsight.data.classes import read_classes
from oddsight.data.collection import ImageFile
from oddsight.data.dataset import Dataset
from oddsight.data.grouping import group_images
from oddsight.metrics.image import binomial_interval

COLUMNS = ("seed", "left_out", "images_of", "number", "flagged", "right_type", "wrong_type", "unknown_type", "promised")


def halves(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Two halves of each class; near copies stay together."""
    grouped = group_images(data.images)
    return stratified(Dataset(images=grouped, labels=data.labels, classes=data.classes), 0.5, seed)


def count(model: oddsight.Model, images: Sequence[ImageFile], kind: str | None) -> list[int]:
    """How many images there are, are flagged, and get their own type, another one, or none."""
    results = [model.predict(str(image.path)) for image in images]
    flagged = [result for result in results if result.anomalous]
    right = sum(result.type == kind for result in flagged if result.type is not None)
    unknown = sum(result.type is None for result in flagged)
    return [len(results), len(flagged), right, len(flagged) - right - unknown, unknown]


def rows_of(good: Dataset, defects: Dataset, method: str, seed: int) -> list[list[object]]:
    """All rows of a seed."""
    learned, passed = halves(good, seed)
    normal = oddsight.fit([str(image.path) for image in learned.images], method=method, false_alarm_rate=0.05)
    rows: list[list[object]] = []
    labelled, tested = halves(defects, seed)
    for left_out, name in [*enumerate(defects.classes), (-1, "none")]:
        kept = labelled.subset(np.flatnonzero(labelled.labels != left_out))
        names = tuple(one for label, one in enumerate(defects.classes) if label != left_out)
        labels = np.array([names.index(defects.classes[label]) for label in kept.labels], np.int64)
        types = Dataset(images=kept.images, labels=labels, classes=names)
        fixed = {"size": 224, "layers": ["head"], "score": "knn"}
        model = oddsight.fit_classes(types, normal=normal, calibration_fraction=0.25, seed=seed, **fixed)
        promised = model.metadata.types.decision.false_alarm_rate
        counts = {"normal": count(model, passed.images, None)}
        for label, kind in enumerate(defects.classes):
            images = [image for image, own in zip(tested.images, tested.labels, strict=True) if own == label]
            counts[kind] = count(model, images, kind)
        rows += [[seed, name, kind, *values, f"{promised:.4f}"] for kind, values in counts.items()]
    return rows


def main() -> None:
    """Write a row for each seed, type left out and kind of test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--method", default="padim")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    good = read_classes(options.data)["train"]
    good = good.subset(np.flatnonzero(good.labels == good.classes.index("good")))
    defects = read_classes(options.data / "defect")["train"]
    rows = [row for seed in range(options.seeds) for row in rows_of(good, defects, options.method, seed)]
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    known = [row for row in rows if row[2] not in ("normal", row[1])]
    unknown = [row for row in rows if row[2] == row[1]]
    normal = [row for row in rows if row[2] == "normal"]
    for title, column, chosen in (
        ("normal images flagged", 4, normal),
        ("known types flagged", 4, known),
        ("known types named rightly", 5, known),
        ("known types named wrongly", 6, known),
        ("known types called unknown", 7, known),
        ("left-out types flagged", 4, unknown),
        ("left-out types called unknown", 7, unknown),
    ):
        total, number = sum(row[3] for row in chosen), sum(row[column] for row in chosen)
        low, high = binomial_interval(number, total)
        print(f"{title}: {number} of {total}, {number / total:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
