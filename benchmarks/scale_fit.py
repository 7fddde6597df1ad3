"""Where the one process that learns becomes the bound, when many workers extract features for a fit.

    python benchmarks/scale_fit.py IMAGES [COUNT OFFERED [METHOD ...]] >> benchmarks/scale.csv

For each method, with its own sizes and settings, on COUNT images (60) of the folder IMAGES: images a second that one
core extracts features of, and that the detector takes in, of features that are in memory already (the same again and
again, OFFERED times, 1,000). The second divided by the first is the number of cores beyond which more are of no use, if
the way to the process is quick enough. Seconds are those of a processor. Rows are: part, engine, measure, value.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight import backbones, detectors
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from oddsight.fitting.sizing import input_size
from scale import say

METHODS = ("patchcore", "knn", "mahalanobis")
MEMORY = 2**30


class Repeated:
    """Features in memory, again and again."""

    def __init__(self, arrays: list[NDArray[np.float32]], count: int) -> None:
        self.arrays, self.count, self.shape = arrays, count, arrays[0].shape

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self.arrays[number % len(self.arrays)] for number in range(self.count))


def main() -> None:
    """Measure each method."""
    count, offered = map(int, sys.argv[2:4] or (60, 1000))
    images = collect(Path(sys.argv[1])).images[:count]
    for name in sys.argv[4:] or METHODS:
        detector = detectors.create(name)
        network = backbones.backbone(backbones.suited(detector.reads, None))
        layers = network.default_layers(detector.reads, detector.stride)
        size = input_size(images, network, type(detector), None)
        extraction = Features(Extractor(network, layers, size, detector.reads), images).one
        extraction(images[0])
        start = time.process_time()
        arrays = [extraction(image) for image in images]
        extracted = len(images) / (time.process_time() - start)
        start = time.process_time()
        detector.fit(Repeated(arrays, offered), memory=MEMORY, seed=0)
        learned = offered / (time.process_time() - start)
        say(f"fit {name}", "one process", images=len(images), offered=offered,
            size=" x ".join(map(str, np.atleast_1d(size))), features=" x ".join(map(str, arrays[0].shape)),
            megabytes_an_image=arrays[0].nbytes / 1e6, images_per_second_extracted=extracted,
            images_per_second_learned=learned, cores_at_most=learned / extracted)  # fmt: skip


if __name__ == "__main__":
    main()
