"""Where the one process that learns becomes the bound, when many workers extract features for a fit.

    python benchmarks/scale_fit.py IMAGES >> benchmarks/scale.csv

For each method, with its own sizes and settings, on up to 60 images of the folder IMAGES: images a second that one core
extracts features of; that the detector takes in, of features that are in memory already (the images are offered again
and again, as 2,000); and that Ray brings from two workers to the process that was started. The slower of the last two,
divided by the first, is the number of cores beyond which more are of no use. Rows are: part, engine, measure, value.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight import backbones, detectors
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from oddsight.fitting.sizing import input_size
from oddsight.scale import use_engine
from scale import say

METHODS = ("patchcore", "knn", "mahalanobis")
IMAGES, OFFERED, SENT, MEMORY = 60, 2000, 400, 2**30


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
    images = collect(Path(sys.argv[1])).images[:IMAGES]
    with use_engine("ray", workers=2) as executor:
        for name in METHODS:
            detector = detectors.create(name)
            network = backbones.backbone(backbones.suited(detector.reads, None))
            layers = network.default_layers(detector.reads, detector.stride)
            size = input_size(images, network, type(detector), None)
            extraction = Features(Extractor(network, layers, size, detector.reads), images).one
            extraction(images[0])
            start = time.process_time()
            arrays = [extraction(image) for image in images]
            extracted = len(images) / (time.process_time() - start)
            start = time.monotonic()
            detector.fit(Repeated(arrays, OFFERED), memory=MEMORY, seed=0)
            learned = OFFERED / (time.monotonic() - start)
            jobs = executor.map(partial(np.full, arrays[0].shape), map(np.float32, range(SENT)))
            list(islice(jobs, SENT // 4))
            start = time.monotonic()
            sent = sum(1 for _ in jobs) / (time.monotonic() - start)
            say(f"fit {name}", "ray", size=" x ".join(map(str, np.atleast_1d(size))),
                features=" x ".join(map(str, arrays[0].shape)), megabytes_an_image=arrays[0].nbytes / 1e6,
                images_per_second_of_a_core=extracted, images_per_second_learned=learned,
                images_per_second_through_ray=sent, cores_at_most=min(learned, sent) / extracted)  # fmt: skip


if __name__ == "__main__":
    main()
