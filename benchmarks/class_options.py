"""How well `fit_classes` does without options, beside what fixed options reach.

    python benchmarks/class_options.py NAME=DATA ... -o benchmarks/class_options.csv

DATA holds labelled images, of which at most 200 of each class are used: half to learn from, half to test. Near copies
are never divided. The last class (by name) is unknown: its test images are to be detected. A row is an option: a size,
layers, a penalty and a score. `chosen` is what `fit_classes` takes without any, and `seconds` is how long that took
from images whose features are not known yet. All options learn from the same images.
"""

from __future__ import annotations

import argparse
import csv
import time
from itertools import product
from pathlib import Path

import numpy as np

import oddsight
from oddsight.backbones import backbone
from oddsight.backbones.extraction import Extractor
from oddsight.data.class_images import stratified
from oddsight.data.classes import read_classes
from oddsight.data.dataset import Dataset
from oddsight.data.grouping import group_images
from oddsight.detectors import create
from oddsight.detectors.head import Head
from oddsight.fitting.choosing import PENALTIES, SCORES, SIDES
from oddsight.fitting.classifiers import embed_images, probe
from oddsight.fitting.parts import divide_classes
from oddsight.graphs.building import chain
from oddsight.metrics.image import auroc
from oddsight.runtime.sessions import run, session

COLUMNS = (
    "data",
    "seed",
    "option",
    "size",
    "layers",
    "penalty",
    "score",
    "images",
    "unknown",
    "accuracy",
    "auroc",
    "seconds",
)
LAYERS = (("head",), ("stage3", "stage4", "stage5"), ("stage3", "stage4", "stage5", "head"))
STAGES = LAYERS[-1]
MOST = 200
SHARE = 0.1


def read(folder: str, seed: int) -> tuple[Dataset, Dataset]:
    """Images to learn from and to test, of distinct contents."""
    data = read_classes(folder)["train"]
    distinct = {image.content: index for index, image in enumerate(data.images)}
    data = data.subset(sorted(distinct.values()))
    lots = np.random.default_rng(seed)
    chosen = [lots.permutation(np.flatnonzero(data.labels == label))[:MOST] for label in range(len(data.classes))]
    data = data.subset(np.sort(np.concatenate(chosen)))
    return stratified(Dataset(group_images(data.images), data.labels, data.classes), 0.5, seed)


class Trial:
    """Images of a dataset, of whose classes the last is unknown."""

    def __init__(self, folder: str, seed: int) -> None:
        training, self.test = read(folder, seed)
        self.last, self.seed = len(training.classes) - 1, seed
        kept = training.subset(np.flatnonzero(training.labels != self.last))
        self.known = Dataset(kept.images, kept.labels, kept.classes[:-1])
        self.training = divide_classes(self.known, SHARE, seed, validated=False).training
        self.is_known = self.test.labels != self.last
        self._embeddings: dict[int, list[np.ndarray]] = {}
        self._heads: dict[tuple[int, tuple[str, ...], float], Head] = {}

    def embeddings(self, size: int, layers: tuple[str, ...]) -> list[np.ndarray]:
        """Of the training and test images."""
        network = backbone("efficientnet-lite0")
        if size not in self._embeddings:
            extractor = Extractor(network, STAGES, size, "embedding")
            self._embeddings[size] = [embed_images(extractor, part.images) for part in (self.training, self.test)]
        ends = dict(zip(STAGES, np.cumsum([network.stages[name][1] for name in STAGES]).tolist(), strict=True))
        columns = np.concatenate([np.arange(ends[name] - network.stages[name][1], ends[name]) for name in layers])
        return [rows[:, columns] for rows in self._embeddings[size]]

    def head(self, size: int, layers: tuple[str, ...], penalty: float) -> Head:
        """Of a probe."""
        option = size, layers, penalty
        if option not in self._heads:
            extractor = Extractor(backbone("efficientnet-lite0"), layers, size, "embedding")
            self._heads[option] = probe(extractor, self.embeddings(size, layers)[0], self.training, penalty).head
        return self._heads[option]

    def measure(self, size: int, layers: tuple[str, ...], penalty: float, score: str) -> list[object]:
        """Numbers of test images, accuracy and AUROC."""
        learned, tested = self.embeddings(size, layers)
        head = self.head(size, layers, penalty)
        fitted = create(score, "classes").fit(learned, self.training.labels, head, seed=self.seed)
        loaded = session(chain([head.graph(), fitted.graph()], ["score"]).SerializeToString(), threads=1)
        scores = run(loaded, {"embedding": tested}, "embeddings")[0]
        right = head.logits(tested).argmax(axis=1)[self.is_known] == self.test.labels[self.is_known]
        area = auroc(scores[self.is_known], scores[~self.is_known])
        return [int(self.is_known.sum()), int((~self.is_known).sum()), f"{right.mean():.4f}", f"{area:.4f}"]


def main() -> None:
    """Write a row for each dataset, seed and option."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (name, _, folder), seed in product([text.partition("=") for text in options.data], range(options.seeds)):
            trial = Trial(folder, seed)
            started = time.perf_counter()
            model = oddsight.fit_classes(trial.known, calibration_fraction=SHARE, seed=seed)
            seconds = time.perf_counter() - started
            network = model.metadata.backbone
            penalty = float(model.metadata.classes.head["penalty"])
            made = network.size, tuple(network.layers), penalty, model.metadata.method.name
            row = [made[0], "+".join(made[1]), *made[2:], *trial.measure(*made), f"{seconds:.1f}"]
            writer.writerow([name, seed, "chosen", *row])
            print(name, seed, "chosen", *row, flush=True)
            for size, layers, penalty, score in product(SIDES, LAYERS, PENALTIES, SCORES):
                values = trial.measure(size, layers, penalty, score)
                writer.writerow([name, seed, "fixed", size, "+".join(layers), penalty, score, *values, ""])
                file.flush()


if __name__ == "__main__":
    main()
