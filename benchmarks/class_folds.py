"""What models of few labelled images gain by calibration in folds.

    python benchmarks/class_folds.py NAME=DATA ... -o benchmarks/class_folds.csv

DATA holds labelled images. Of each class a few are learned from, and up to 30 others tested; near copies are never
divided. The last class (by name) is unknown. ``folds`` is ``fit_classes`` without options: all are learned from, and
calibrated on in five folds. ``held out``: a tenth or a quarter of them is calibrated on instead. Beside the rate that
each can promise (1% or the smallest possible), a row has how many test images of known classes are named rightly
(whether they are rejected or not), how many of them are rejected, and how many of the unknown class are.
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from pathlib import Path

import numpy as np

import oddsight
from class_options import read
from oddsight.data.collection import lot
from oddsight.data.dataset import Dataset

COLUMNS = (
    *("data", "seed", "of_each_class", "way", "share", "learned", "calibrated", "promised"),
    *("known", "right", "rejected", "unknown", "unknown_rejected"),
)
WAYS = (("held out", 0.1), ("held out", 0.25), ("folds", None))
LABELLED = (6, 15, 40)
TESTED = 30


def some(data: Dataset, count: int, seed: int) -> Dataset:
    """At most so many images of each class, by lot."""
    order = sorted(range(len(data)), key=lambda at: lot(data.images[at].content, seed))
    labels = data.labels[order]
    chosen = [np.array(order)[labels == label][:count] for label in range(len(data.classes))]
    return data.subset(np.sort(np.concatenate(chosen)))


def known(data: Dataset) -> Dataset:
    """The images of all classes but the last."""
    kept = data.subset(np.flatnonzero(data.labels != len(data.classes) - 1))
    return Dataset(kept.images, kept.labels, kept.classes[:-1])


def measure(training: Dataset, test: Dataset, share: float | None, seed: int) -> list[object]:
    """What a row counts."""
    model = oddsight.fit_classes(training, calibration_fraction=share, seed=seed)
    results = list(model.predict_many([str(image.path) for image in test.images]))
    names = [test.classes[label] for label in test.labels]
    of_known = [(one, name) for one, name in zip(results, names, strict=True) if name in training.classes]
    unknown = [one for one, name in zip(results, names, strict=True) if name not in training.classes]
    right = sum(one.label == name for one, name in of_known)
    rejected = sum(one.anomalous for one, _ in of_known)
    metadata = model.metadata
    promised = metadata.decision.false_alarm_rate
    made = [metadata.training.images, metadata.calibration.scores, f"{promised:.4f}"]
    return [*made, len(of_known), right, rejected, len(unknown), sum(one.anomalous for one in unknown)]


def main() -> None:
    """Write a row for each dataset, seed, number of labelled images and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        sets = [text.partition("=") for text in options.data]
        for (name, _, folder), seed in product(sets, range(options.seeds)):
            training, test = read(folder, seed)
            tested = some(test, TESTED, seed)
            for count, (way, share) in product(LABELLED, WAYS):
                labelled = known(some(training, count, seed))
                row = [name, seed, count, way, share or "", *measure(labelled, tested, share, seed)]
                writer.writerow(row)
                file.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
