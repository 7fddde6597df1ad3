"""How well a model of normal images that also names types of anomalies does, with one type left out.

    python benchmarks/type_names.py DATA WORK

Writes type_names.csv, of all or some ways (``--ways``). :mod:`data_sets` says what DATA holds; sets with two types of
anomalies or more are used. The model of normal is ``auto`` at 5%, fitted once for each set. Then each type in turn is
unknown: half of the images of the other types are labelled, and all other images are tested. Near copies are never
divided. ``folds`` is ``fit_classes`` without options: types are named from where the model finds anomalies, and all
labelled images are learned from and calibrated on, in folds. ``held out``: a quarter of them is calibrated on instead,
and not learned from. ``everywhere``: so, and the whole image counts alike. A row counts what the model says of one kind
of test images; ``right_of_all`` counts those whose most likely type is theirs, whether they are flagged or not.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import oddsight
from data_sets import parts
from oddsight.data.class_images import stratified
from oddsight.data.classes import read_classes
from oddsight.data.collection import ImageFile
from oddsight.data.dataset import Dataset
from oddsight.data.grouping import group_images
from oddsight.fitting import classes as fitting
from oddsight.metrics.image import binomial_interval

COLUMNS = (
    *("data", "seed", "way", "left_out", "images_of", "number"),
    *("flagged", "right_type", "wrong_type", "unknown_type", "right_of_all", "promised"),
)
WAYS = {
    "folds": (fitting.attention_of, None),
    "held out": (fitting.attention_of, 0.25),
    "everywhere": (lambda normal: None, 0.25),
}
"""Where to look, and the share for calibration."""


def halves(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Two halves of each class; near copies stay together."""
    grouped = group_images(data.images)
    return stratified(Dataset(images=grouped, labels=data.labels, classes=data.classes), 0.5, seed)


def without(data: Dataset, left_out: str) -> Dataset:
    """The images of all other classes."""
    names = tuple(name for name in data.classes if name != left_out)
    kept = data.subset([row for row, label in enumerate(data.labels) if data.classes[label] != left_out])
    labels = np.array([names.index(data.classes[label]) for label in kept.labels], np.int64)
    return Dataset(images=kept.images, labels=labels, classes=names)


def count(model: oddsight.Model, images: Sequence[ImageFile], kind: str) -> list[int]:
    """How many images there are, are flagged, get their own type, another one, or none; and would get their own."""
    results = list(model.predict_many([str(image.path) for image in images]))
    flagged = [result for result in results if result.anomalous]
    right = sum(result.type == kind for result in flagged)
    unknown = sum(result.type is None for result in flagged)
    likely = sum(result.most_like is not None and result.most_like.name == kind for result in results)
    return [len(results), len(flagged), right, len(flagged) - right - unknown, unknown, likely]


def rows_of(folder: Path, seed: int, normal: oddsight.Model, ways: Sequence[str]) -> list[list[object]]:
    """All rows of a set and a seed."""
    test = read_classes(folder / "test")["train"]
    good = test.subset(np.flatnonzero(test.labels == test.classes.index("good")))
    labelled, tested = halves(without(test, "good"), seed)
    rows: list[list[object]] = []
    for way in ways:
        fitting.attention_of, share = WAYS[way]
        for left_out in [*labelled.classes, "none"]:
            types = without(labelled, left_out)
            if len(types.classes) < 2:
                continue
            model = oddsight.fit_classes(types, normal=normal, calibration_fraction=share, seed=seed)
            counts = {"normal": count(model, good.images, "normal")}
            for label, kind in enumerate(tested.classes):
                own = [image for image, at in zip(tested.images, tested.labels, strict=True) if at == label]
                counts[kind] = count(model, own, kind)
            assert model.metadata.types is not None
            promised = f"{model.metadata.types.decision.false_alarm_rate:.4f}"
            rows += [[folder.name, seed, way, left_out, kind, *row, promised] for kind, row in counts.items()]
    return rows


def shares(rows: Sequence[Sequence[object]]) -> None:
    """Print what was counted, by set and way."""
    by = defaultdict(list)
    for row in rows:
        by[row[0], row[2]].append(row)
    for (data, way), some in by.items():
        known = [row for row in some if row[4] not in ("normal", row[3])]
        unknown = [row for row in some if row[4] == row[3]]
        normal = [row for row in some if row[4] == "normal"]
        for title, column, of, chosen in (
            ("normal images flagged", 6, 5, normal),
            ("known types flagged", 6, 5, known),
            ("of these named rightly", 7, 6, known),
            ("of these named wrongly", 8, 6, known),
            ("of these called unknown", 9, 6, known),
            ("known types, called unknown", 9, 5, known),
            ("most likely type of known types right", 10, 5, known),
            ("left-out types flagged", 6, 5, unknown),
            ("of these called unknown", 9, 6, unknown),
        ):
            number, total = (sum(int(str(row[index])) for row in chosen) for index in (column, of))
            low, high = binomial_interval(number, total)
            print(f"{data}, {way}: {title}: {number} of {total}, {number / total:.3f} ({low:.3f} to {high:.3f})")


def main() -> None:
    """Write a row for each set, seed, way to look, type left out and kind of test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[list[object]] = []
    for folder in parts(options.data, options.work):
        if len(list((folder / "test").iterdir())) > 2:
            normal = oddsight.fit(folder / "train" / "good", false_alarm_rate=0.05)
            rows += [row for seed in range(options.seeds) for row in rows_of(folder, seed, normal, options.ways)]
    with options.output.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    shares(rows)


if __name__ == "__main__":
    main()
