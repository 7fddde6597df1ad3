"""What models of few labelled images gain by calibration in folds.

    python benchmarks/class_folds.py NAME=DATA ... -o benchmarks/class_folds.csv

DATA holds labelled images. Of each class a few are learned from, and up to 30 others tested; near copies are never
divided. The last class (by name) is unknown. ``folds`` is what ``fit_classes`` does without options: all are learned
from, and calibrated on in five folds. ``held out``: a tenth or a quarter of them is calibrated on instead. The rate is
the smallest that each can promise, at least 1%, or one that is asked of all. A row has how many test images of known
classes are named rightly (whether they are rejected or not), how many of them are rejected, and how many of the unknown
class are.
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from pathlib import Path

import numpy as np

from class_options import read
from oddsight.backbones.cache import default_cache
from oddsight.data.collection import lot
from oddsight.data.dataset import Dataset
from oddsight.data.reading import AS_DECLARED
from oddsight.detectors import DEFAULTS, create
from oddsight.fitting.choosing import Open
from oddsight.fitting.class_learner import ClassLearner
from oddsight.fitting.classifiers import Probe, embed_images
from oddsight.fitting.plan import Request
from oddsight.graphs.building import chain
from oddsight.model.calibration import decide
from oddsight.runtime.progress import silent
from oddsight.runtime.sessions import run, session

COLUMNS = (
    *("data", "seed", "of_each_class", "way", "share", "asked", "learned", "calibrated", "promised"),
    *("known", "right", "rejected", "unknown", "unknown_rejected"),
)
TENTH, QUARTER, FOLDS = ("held out", 0.1), ("held out", 0.25), ("folds", None)
ASKED = 0.2
WAYS = ((TENTH, None), (QUARTER, None), (FOLDS, None), (QUARTER, ASKED), (FOLDS, ASKED))
"""How to calibrate, and the rate asked for."""

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


def measure(training: Dataset, test: Dataset, share: float | None, asked: float | None, seed: int) -> list[object]:
    """What a row counts."""
    request, cache = Request(rate=asked, fraction=share, seed=seed), default_cache()
    source, detector = Probe("efficientnet-lite0", None, None), create(DEFAULTS["classes"], "classes")
    everything = Open(size=True, layers=True, score=True)
    learner = ClassLearner(detector, source, training, request, False, AS_DECLARED, cache, silent, everything)
    plan = learner.plan()
    found = learner.learn(plan)
    assert plan.rate is not None
    decision = decide(found.scores, plan.rate)
    rows = embed_images(found.extractor, test.images, cache)
    tail = session(chain(found.pieces, ["score", "class_index"]).SerializeToString(), threads=1)
    scores, classes = run(tail, {"embedding": rows}, "embeddings")
    known = test.labels < len(training.classes)
    rejected = scores > decision.threshold
    counts = [known, known & (classes == test.labels), known & rejected, ~known, ~known & rejected]
    return [len(plan.training), len(found.scores), f"{plan.rate:.4f}", *(int(one.sum()) for one in counts)]


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
            for count, ((way, share), asked) in product(LABELLED, WAYS):
                labelled = known(some(training, count, seed))
                made = measure(labelled, tested, share, asked, seed)
                row = [name, seed, count, way, share or "", asked or "", *made]
                writer.writerow(row)
                file.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
