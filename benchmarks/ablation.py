"""What each part of ``auto`` is worth: python benchmarks/ablation.py DATA WORK. Writes ablation.csv.

Every variant combines the same evidence of the same fitted detectors, so differences are those of the combination.
Fitted on all images of ``train/good`` and tested by the method's own graph on features; AUROC needs no calibration.
On CIFAR-10, each class is once the normal one: 5,000 images to fit, all 10,000 test images.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from data_sets import cifar10, panel
from oddsight import backbones, metrics
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from oddsight.detectors.auto import Auto
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
BATCH = 32
Array = np.ndarray


def evidence(folder: Path, cache: FeatureCache) -> tuple[Array, Array, Array, int]:
    """Evidence before weighing of normal and of anomalous test images, spreads of the voices, number of images."""
    network = backbones.backbone(backbones.DEFAULT)
    extractor = Extractor(network, network.default_layers("levels", 8), network.size, "levels")
    training = collect(folder / "train" / "good").images
    # Test images are the same for each class of CIFAR-10; training images are needed once.
    features = Features(extractor, training)
    known = Features(extractor, training, cache)
    method = Auto().fit(features, memory=10**9, seed=0)
    loaded = session(method.graph().SerializeToString(), threads=2)
    weights = np.array([voice.weight for voice in method.voices_])

    def said(paths: list[Path]) -> Array:
        rows, some = [], []
        for one in chain(known.of(collect(*paths).images), [None]):
            if some and (one is None or len(some) == BATCH):
                rows += loaded.run(["evidence"], {"levels": np.stack(some)})
                some = []
            some.append(one)
        # Undo softplus and weight.
        heard = np.maximum(np.concatenate(rows, dtype=np.float64), 1e-30)
        return (heard + np.log(-np.expm1(-heard))) / weights

    test = [path for path in sorted((folder / "test").glob("*/*")) if path.is_file()]
    normal = said([path for path in test if path.parent.name == "good"])
    anomalous = said([path for path in test if path.parent.name != "good"])
    return normal, anomalous, np.array([voice.spread for voice in method.voices_]), min(method.images, len(training))


def strongest(trust: float, patches: str) -> Callable[[Array, Array, int], Array]:
    """The weighed maximum with another exponent, or another weight of patches."""

    def combine(values: Array, spreads: Array, images: int) -> Array:
        depths, power = spreads[:-1], trust * images / (images + 400)
        detailed = min(depths.min(), 0.2) / depths[(len(depths) - 1) // 2]
        own = {"none": 0.0, "full": 1.0, "weighed": detailed**power}[patches]
        weighed = np.logaddexp(0, values * np.append((depths.min() / depths) ** power, own))
        return np.asarray((weighed if own else weighed[:, :-1]).max(axis=1))

    return combine


VARIANTS: dict[str, Callable[[Array, Array, int], Array]] = {
    "auto": strongest(3, "weighed"),
    "weighed less (exponent 1)": strongest(1, "weighed"),
    "not weighed: the smallest p-value": strongest(0, "full"),
    "patches at full weight": strongest(3, "full"),
    "without patches": strongest(3, "none"),
    "sum of evidence (Fisher)": lambda values, spreads, images: np.logaddexp(0, values).sum(axis=1),
    "the depth that spreads least, alone": lambda values, spreads, images: values[:, int(spreads[:-1].argmin())],
}


def measured(folder: Path, cache: FeatureCache) -> Iterator[dict[str, object]]:
    """A row for each variant and for each voice alone."""
    normal, anomalous, spreads, images = evidence(folder, cache)
    voices = [*backbones.backbone(backbones.DEFAULT).default_layers("levels", 8), "patches"]
    ways = {name: [way(values, spreads, images) for values in (normal, anomalous)] for name, way in VARIANTS.items()}
    ways |= {f"{name} alone": [normal[:, n], anomalous[:, n]] for n, name in enumerate(voices)}
    known = {f"{name} alone": round(float(spread), 4) for name, spread in zip(voices, spreads, strict=True)}
    for name, (low, high) in ways.items():
        yield {
            "data": folder.name,
            "variant": name,
            "learned": images,
            "normal": len(normal),
            "anomalous": len(anomalous),
            "auroc": round(metrics.auroc(low, high), 4),
            "spread": known.get(name, ""),
        }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "ablation.csv")
    options = parser.parse_args()
    cache = FeatureCache(options.work / "features", 8 * 2**30)
    folders = panel(options.data, options.work)
    if (options.data / "cifar10").is_dir():
        folders += cifar10(options.data / "cifar10", options.work)
    rows: list[dict[str, object]] = []
    for folder in folders:
        own = list(measured(folder, cache))
        print(folder.name, {row["variant"]: row["auroc"] for row in own}, flush=True)
        rows += own
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
