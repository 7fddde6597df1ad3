"""What the way to a memory bank costs and gives: python benchmarks/coreset.py FOLDER.

FOLDER is that of the magnetic tiles, with ``good`` and ``defect``. Writes benchmarks/coreset.csv.

400 normal tiles to fit, the others and all defective ones to test, three draws; banks of 1,000 patches; the score is
PatchCore's own (nearest neighbour, smoothed, maximum), by its own graph. Compared are Oddsight's blockwise greedy
k-centre, greedy k-centre over all patches at once, the blockwise one with distances after a random projection to 64
dimensions, and patches drawn at random.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.backbones import backbone
from oddsight.backbones.cache import default_cache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import ImageFile, collect
from oddsight.detectors.coreset import BLOCK, Coreset, k_center
from oddsight.detectors.patchcore import PatchCore
from oddsight.metrics.image import auroc
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
SIZE = 1000
Patches = NDArray[np.float32]


def blockwise(patches: Patches) -> Patches:
    """As Oddsight fits."""
    coreset = Coreset(SIZE, patches.shape[1], 10**9, 0)
    coreset.add(patches)
    return coreset.result()


def at_once(patches: Patches) -> Patches:
    """Greedy over all patches."""
    return patches[k_center(patches, SIZE, np.random.default_rng(0))]


def projected(patches: Patches) -> Patches:
    """Blockwise, with distances after a random projection."""
    rng = np.random.default_rng(0)
    projection = (rng.standard_normal((patches.shape[1], 64)) / 8).astype(np.float32)
    kept = []
    for start in range(0, len(patches), BLOCK):
        block = patches[start : start + BLOCK]
        kept.append(block[k_center(block @ projection, SIZE // 6, rng)])
    candidates = np.concatenate(kept)
    return candidates[k_center(candidates @ projection, SIZE, rng)]


def sampled(patches: Patches) -> Patches:
    """Patches drawn at random."""
    return patches[np.random.default_rng(0).choice(len(patches), SIZE, replace=False)]


WAYS: dict[str, Callable[[Patches], Patches]] = {
    "greedy k-centre, blockwise": blockwise,
    "greedy k-centre, all at once": at_once,
    "greedy k-centre, blockwise, random projection to 64": projected,
    "random patches": sampled,
}


def rows_of(
    features: Features, fit: list[ImageFile], normal: list[ImageFile], defective: list[ImageFile], draw: int
) -> list[dict[str, object]]:
    """Every way on one draw."""
    channels, height, width = features.shape
    patches = np.concatenate([one.reshape(channels, -1).T for one in features.of(fit)])
    rows = []
    for way, choose in WAYS.items():
        started = time.perf_counter()
        bank = choose(patches)
        seconds = time.perf_counter() - started
        method = PatchCore(bank_size=SIZE)
        method.grid_, method.bank_, method.centre_ = (height, width), bank, patches.mean(axis=0)
        graph = session(method.graph().SerializeToString(), threads=2)
        scores = [
            np.array([float(graph.run(["score"], {"patches": one[None]})[0][0]) for one in features.of(images)])
            for images in (normal, defective)
        ]
        rows.append(
            {
                "way": way,
                "draw": draw,
                "patches": len(patches),
                "auroc": f"{auroc(*scores):.4f}",
                "seconds": f"{seconds:.2f}",
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    lite0 = backbone("efficientnet-lite0")
    good, defective = list(collect(folder / "good").images), list(collect(folder / "defect").images)
    features = Features(Extractor(lite0, lite0.layers["patches/8"], 224, "patches"), good, default_cache())
    rows = []
    for draw in range(3):
        random.Random(draw).shuffle(good)
        rows += rows_of(features, good[:400], good[400:], defective, draw)
    with (HERE / "coreset.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
