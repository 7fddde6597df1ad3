"""Compare models of known classes before and after `oddsight export`, on the same images.

    python scripts/compare_exports.py BEFORE.onnx AFTER.onnx --labelled CIFAR10 --unknown cifar100=DIR -o figures.csv

Every fifth image of the test split and every second unknown one are scored (``--step``, ``--unknown-step``). One model
alone is measured as well.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

import oddsight
from oddsight.data.classes import read_classes
from oddsight.data.outliers import read_unlabelled
from oddsight.metrics.classification import calibration_gap, reliability_of
from oddsight.metrics.image import auroc


def main() -> None:
    """Write a row for each model and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--labelled", required=True)
    parser.add_argument("--unknown", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--step", type=int, default=5)
    parser.add_argument("--unknown-step", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    test = read_classes(options.labelled)["test"]
    chosen = test.subset(range(0, len(test), options.step))
    unknown = {name: read_unlabelled(folder) for name, _, folder in (text.partition("=") for text in options.unknown)}
    rows: list[list[object]] = []
    for path in options.models:
        model = oddsight.load(path)
        results = [model.score(image.read()) for image in chosen.images]
        right = [r.label == test.classes[label] for r, label in zip(results, chosen.labels, strict=True)]
        scores = np.array([result.score for result in results])
        probabilities = [result.label_probability or 0.0 for result in results]
        figures = {
            "bytes": path.stat().st_size,
            "accuracy": np.mean(right),
            "expected calibration error": calibration_gap(reliability_of(probabilities, right)),
            "rejected": np.mean([result.anomalous for result in results]),
        }
        for name, images in unknown.items():
            others = [model.score(image.read()) for image in images[:: options.unknown_step]]
            figures[f"AUROC {name}"] = auroc(scores, np.array([result.score for result in others]))
            figures[f"rejected {name}"] = np.mean([result.anomalous for result in others])
            figures[f"images of {name}"] = len(others)
        texts = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in figures.items()}
        rows += [[path.name, *figure] for figure in texts.items()]
    with options.output.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["model", "measure", "value"], *rows])


if __name__ == "__main__":
    main()
