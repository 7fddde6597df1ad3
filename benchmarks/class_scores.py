"""How well `fit_classes` chooses the score, with each class as the unknown one in turn.

    python benchmarks/class_scores.py NAME=DATA ... -o benchmarks/class_scores.csv

The images of DATA are those of class_options.py, whose table says which size, layers and penalty were chosen. A row is
a dataset and a class that is left out: the AUROC of each score on test images of the other classes and of that class,
and the score that the rule of `fit_classes` chooses from the training images of the other classes. Rows that are there
are kept, so a run can be continued.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from class_options import read
from oddsight.data.dataset import Dataset
from oddsight.detectors import create
from oddsight.fitting.choosing import SCORES, areas, best_score
from oddsight.fitting.classifiers import Probe, embed_images, probe
from oddsight.graphs.building import chain
from oddsight.metrics.image import auroc
from oddsight.runtime.sessions import run, session

HERE = Path(__file__).parent
COLUMNS = ("data", "unknown", "images", "unknown_images", "chosen", *SCORES)


def chosen_options(name: str) -> tuple[int, tuple[str, ...], float]:
    """Size, layers and penalty that were chosen for a dataset."""
    rows = csv.DictReader((HERE / "class_options.csv").open())
    row = next(row for row in rows if (row["data"], row["option"]) == (name, "chosen"))
    return int(row["size"]), tuple(row["layers"].split("+")), float(row["penalty"])


def without(data: Dataset, label: int) -> tuple[Dataset, np.ndarray]:
    """The images of all classes but one, and where they are."""
    kept = np.flatnonzero(data.labels != label)
    some = data.subset(kept)
    names = tuple(name for number, name in enumerate(data.classes) if number != label)
    return Dataset(some.images, some.labels - (some.labels > label), names), kept


def main() -> None:
    """Write a row for each dataset and class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=DATA")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    done = set()
    if options.output.exists():
        done = {(row["data"], row["unknown"]) for row in csv.DictReader(options.output.open())}
    with options.output.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow(COLUMNS)
        for name, _, folder in (text.partition("=") for text in options.data):
            size, layers, penalty = chosen_options(name)
            source = Probe("efficientnet-lite0", layers, size).at(size, layers, penalty)
            extractor = source.extractor
            training, test = read(folder, 0)
            learned, tested = (embed_images(extractor, part.images) for part in (training, test))
            for label, unknown in enumerate(training.classes):
                if (name, unknown) in done:
                    continue
                known, kept = without(training, label)
                head = probe(extractor, learned[kept], known, penalty).head
                is_known = test.labels != label
                found = []
                for score in SCORES:
                    fitted = create(score, "classes").fit(learned[kept], known.labels, head, seed=0)
                    loaded = session(chain([head.graph(), fitted.graph()], ["score"]).SerializeToString(), threads=1)
                    scores = run(loaded, {"embedding": tested}, "embeddings")[0]
                    found.append(f"{auroc(scores[is_known], scores[~is_known]):.4f}")
                choice = best_score(areas(learned[kept], known, source, 0))
                writer.writerow([name, unknown, int(is_known.sum()), int((~is_known).sum()), choice, *found])
                file.flush()


if __name__ == "__main__":
    main()
