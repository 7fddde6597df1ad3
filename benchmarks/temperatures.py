"""What a probe gains if no images are held out for the temperature of its probabilities.

    python benchmarks/temperatures.py NAME=DATA ... -o benchmarks/temperatures.csv

DATA holds labelled images, of which at most 200 of each class are used: half to learn from (a tenth of these for
calibration, or a quarter), half to test, as in class_options.py. ``held out``: as many again for the temperature.
``cross-validated``: all of these to learn from, which is what ``fit_classes`` does. Images are brought to 128 pixels.
Beside the accuracy on the test images a row has the mean negative log-likelihood and the expected calibration error of
the probabilities.
"""

from __future__ import annotations

import argparse
import csv
from itertools import product
from pathlib import Path

from scipy.special import softmax

from class_options import read
from oddsight.backbones.cache import default_cache
from oddsight.fitting.classifiers import Probe, embed_images, temperature_of
from oddsight.fitting.parts import divide_classes
from oddsight.fitting.plan import Request
from oddsight.metrics.classification import expected_calibration_error, negative_log_likelihood

COLUMNS = ("data", "seed", "share", "way", "learned", "test_images", "accuracy", "nll", "ece", "temperature")
SIZE = 128
SHARES = (0.1, 0.25)


def measure(folder: str, seed: int, share: float, way: str) -> list[object]:
    """A row of one way to come to a temperature."""
    training, test = read(folder, seed)
    parts = divide_classes(training, share, seed, validated=way == "held out")
    source = Probe("efficientnet-lite0", None, SIZE)
    cache = default_cache()
    memory = source.memory_plan(Request(), parts.images, 0)
    learned = source.learn(parts, memory, cache, lambda *state: None)
    warmth = temperature_of(learned, parts)
    logits = learned.classifier.head.logits(embed_images(source.extractor, test.images, cache)) / warmth
    accuracy = (logits.argmax(axis=1) == test.labels).mean()
    loss = negative_log_likelihood(logits, test.labels)
    error = expected_calibration_error(softmax(logits, axis=1), test.labels)
    return [len(parts.training), len(test), *(f"{value:.4f}" for value in (accuracy, loss, error, warmth))]


def main() -> None:
    """Write a row for each dataset, seed, share held out and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    with options.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        sets = [text.partition("=") for text in options.data]
        for (name, _, folder), seed, share in product(sets, range(options.seeds), SHARES):
            for way in ("held out", "cross-validated"):
                row = [name, seed, share, way, *measure(folder, seed, share, way)]
                writer.writerow(row)
                file.flush()
                print(*row, flush=True)


if __name__ == "__main__":
    main()
