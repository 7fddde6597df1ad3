"""How well sums of scores tell near images, chosen on some of their classes and judged on the others.

    python benchmarks/score_sums.py OUT/work/RUN --near cifar100=DIR -o benchmarks/score_sums.csv

OUT is what `oddsight study cifar10` wrote. DIR holds images called CLASS-NAME.png or the like. For each of a number
of random halves of these classes, the score, the pair and the three scores with the highest AUROC on the one half are
looked for, and judged on the other half. Each score is divided by its standard deviation over the calibration images.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.data.outliers import read_unlabelled
from oddsight.detectors.scores import SCORES

SPLITS = 100


def above(known: NDArray[np.floating], unknown: NDArray[np.floating]) -> NDArray[np.float64]:
    """For each unknown image, the share of known ones that score lower; ties count half."""
    known = np.sort(known)
    return (np.searchsorted(known, unknown, "left") + np.searchsorted(known, unknown, "right")) / 2 / len(known)


def main() -> None:
    """Write a row for each half and number of scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--near", required=True, metavar="NAME=DIR")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    name, _, folder = options.near.partition("=")
    classes = np.array([image.path.name.split("-")[0] for image in read_unlabelled(folder)])
    known, unknown = {}, {}
    for score in SCORES:
        with np.load(options.run / f"score-{score}.npz") as values:
            spread = values["calibration"].std()
            known[score] = values["test"] / spread
            unknown[score] = values[f"unknown-{name}"] / spread
    assert len(unknown["energy"]) == len(classes)
    shares = {
        size: {
            chosen: above(sum(known[one] for one in chosen), sum(unknown[one] for one in chosen))
            for chosen in combinations(SCORES, size)
        }
        for size in (1, 2, 3)
    }
    rows, lots = [], np.random.default_rng(0)
    for split in range(SPLITS):
        distinct = np.unique(classes)
        half = np.isin(classes, lots.permutation(distinct)[: len(distinct) // 2])
        for size, found in shares.items():
            best = max(found, key=lambda chosen: found[chosen][half].mean())
            areas = (found[best][half].mean(), found[best][~half].mean(), shares[1]["energy",][~half].mean())
            rows.append([split, size, "+".join(best), *(f"{area:.4f}" for area in areas)])
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["split", "scores", "chosen", "auroc_where_chosen", "auroc_elsewhere", "energy_elsewhere"])
        writer.writerows(rows)
    for size in shares:
        own = [row for row in rows if row[1] == size]
        means = [np.mean([float(row[column]) for row in own]) for column in (3, 4, 5)]
        print(size, *(f"{mean:.4f}" for mean in means), Counter(row[2] for row in own).most_common(3))


if __name__ == "__main__":
    main()
