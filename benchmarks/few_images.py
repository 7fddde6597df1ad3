"""AUROC of detectors that learn from 1 to 16 normal images: python benchmarks/few_images.py DATA WORK [--draws N].

Writes few_images.csv. Each cell learns from the images drawn, with changed copies of them (``copies``: as ``fit`` does
with fewer than 8) or without, and scores the same 30 normal and 30 anomalous test images (or all there are) with the
detector's graph. Draws are nested: those of 4 images begin with those of 2. :mod:`data_sets` says what
DATA holds; the anomalous images are shared out evenly among their kinds. Features are kept in WORK.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Iterator
from itertools import chain, product, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_sets import magnetic, satellite
from oddsight import backbones, detectors
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import ImageFile, look
from oddsight.data.copies import changed_copies
from oddsight.errors import ImageError
from oddsight.fitting.sizing import input_size
from oddsight.metrics.image import auroc
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
COUNTS = (1, 2, 4, 8, 16)
TESTED = 30
WAYS = (("auto", "yes"), ("auto", "no"), ("patchcore", "yes"), ("patchcore", "no"))
COLUMNS = ("dataset", "method", "images", "draw", "copies", "learned", "normal", "anomalous", "auroc")


def datasets(data: Path, work: Path) -> Iterator[tuple[str, list[Path], list[Path], list[Path]]]:
    """Of each set its name, normal images to learn from and to test on, and anomalous ones."""
    (work / "sets").mkdir(parents=True, exist_ok=True)
    for name, folders in (
        ("satellite", list(satellite(data / "satellite", work / "sets"))),
        ("magnetic-tile", list(magnetic(data / "magnetic-tile", work / "sets"))),
        ("bottle", [data / "bottle"]),
    ):
        kinds = [kind for folder in folders for kind in sorted((folder / "test").iterdir()) if kind.name != "good"]
        mixed = chain.from_iterable(zip_longest(*(shuffled(sorted(kind.iterdir())) for kind in kinds)))
        train, normal = (sorted((folders[0] / part / "good").iterdir()) for part in ("train", "test"))
        yield name, train, shuffled(normal), [path for path in mixed if path is not None]


def shuffled(paths: list[Path], draw: int = 0) -> list[Path]:
    """The same paths in random order."""
    order = list(paths)
    random.Random(draw).shuffle(order)
    return order


def looked(paths: list[Path]) -> list[ImageFile]:
    """The images of files."""
    images = [look(path) for path in paths]
    return [image for image in images if not isinstance(image, ImageError)]


def scores(
    method: str, images: list[ImageFile], learned: list[ImageFile], tests: list[ImageFile], cache: FeatureCache
) -> NDArray[np.float32]:
    """Scores of test images by a detector that learned from images of the shapes of the first."""
    detector = detectors.create(method)
    network = backbones.backbone(backbones.suited(detector.reads))
    layers = network.default_layers(detector.reads, detector.stride)
    size = input_size(images, network, type(detector), None)
    features = Features(Extractor(network, layers, size, detector.reads), learned, cache)
    detector.fit(features, seed=0)
    graph = session(detector.graph().SerializeToString(), threads=2)
    arrays = features.of(tests)
    return np.array([graph.run(["score"], {detector.reads: array[None]})[0][0] for array in arrays])


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "few_images.csv")
    parser.add_argument("--sets", default="satellite,magnetic-tile,bottle")
    parser.add_argument("--draws", type=int, default=2)
    options = parser.parse_args()
    cache = FeatureCache(options.work / "features", 8 * 2**30)
    with options.csv.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        sets = [one for one in datasets(options.data, options.work) if one[0] in options.sets.split(",")]
        for draw, (name, train, normal, anomalous) in product(range(options.draws), sets):
            drawn = looked(shuffled(train, draw)[: max(COUNTS)])
            tests = [*looked(normal[:TESTED]), *looked(anomalous[:TESTED])]
            held = min(TESTED, len(normal))
            for count, (method, kind) in product(COUNTS, WAYS):
                images = drawn[:count]
                if (count, method, kind) == (1, "auto", "no"):
                    continue  # it weighs its voices by images that it leaves out in turn
                learned = [*images, *(changed_copies(images) if kind == "yes" else [])]
                found = scores(method, images, learned, tests, cache)
                row = (name, method, count, draw, kind, len(learned), held, len(tests) - held)
                value = auroc(found[:held], found[held:])
                table.writerow(dict(zip(COLUMNS, (*row, f"{value:.4f}"), strict=True)))
                file.flush()
                print(*row, f"{value:.4f}", flush=True)


if __name__ == "__main__":
    main()
