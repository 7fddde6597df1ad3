"""What each part of ``auto`` is worth: python benchmarks/ablation.py DATA WORK. Writes ablation.csv.

Every variant combines the same evidence of the same fitted detectors, so differences are those of the combination.
Fitted on all images of ``train/good`` and tested by the method's own graph on features; AUROC needs no calibration.
On CIFAR-10, each class is once the normal one: 5,000 images to fit, all 10,000 test images.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_sets import cifar10, panel, parts
from oddsight import backbones, metrics
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from oddsight.detectors.auto import Auto
from oddsight.detectors.evidence import Voice, weighed
from oddsight.fitting.sizing import input_size
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
LOCAL = ("patches", "details")
Array = np.ndarray


@dataclass
class Heard:
    """What the voices of a fitted ``auto`` say before they are weighed."""

    names: list[str]
    voices: list[Voice]
    images: int
    normal: Array
    anomalous: Array


def hear(folder: Path, cache: FeatureCache) -> Heard:
    """Fit ``auto`` on a dataset and ask its voices about the test images."""
    network = backbones.backbone(backbones.DEFAULT)
    training = collect(folder / "train" / "good").images
    size = input_size(training, network, Auto, None)
    extractor = Extractor(network, network.default_layers("levels", 8), size, "levels")
    # Test images are the same for each class of CIFAR-10; training images are needed once.
    known = Features(extractor, training, cache)
    method = Auto().fit(Features(extractor, training), memory=10**9, seed=0)
    loaded = session(method.graph().SerializeToString(), threads=2)
    weights = np.array([voice.weight for voice in method.voices_])

    def ask(paths: list[Path]) -> Array:
        rows = [loaded.run(["evidence"], {"levels": one[None]})[0] for one in known.of(collect(*paths).images)]
        # Undo softplus and weight.
        heard = np.maximum(np.concatenate(rows, dtype=np.float64), 1e-30)
        return (heard + np.log(-np.expm1(-heard))) / weights

    test = [path for path in sorted((folder / "test").glob("*/*")) if path.is_file()]
    normal = ask([path for path in test if path.parent.name == "good"])
    anomalous = ask([path for path in test if path.parent.name != "good"])
    images = min(method.images, len(training))
    return Heard(method.voices(extractor.layers), method.voices_, images, normal, anomalous)


def weights(heard: Heard) -> Array:
    """As ``auto`` weighs its voices."""
    whole, local = heard.voices[: -len(LOCAL)], heard.voices[-len(LOCAL) :]
    return np.array([voice.weight for voice in weighed(whole, local, heard.images)])


def without_defects(heard: Heard) -> Array:
    """As if no voice had been shown small defects."""
    return weights(replace(heard, voices=[replace(voice, ability=None) for voice in heard.voices]))


def only(*names: str, others: bool = False) -> Callable[[Heard], Array]:
    """As ``auto`` does, but these voices, or all others, are silent."""
    return lambda heard: weights(heard) * np.array([(name in names) != others for name in heard.names])


VARIANTS: dict[str, Callable[[Heard], Array]] = {
    "auto": weights,
    "without synthetic defects": without_defects,
    "without details": only("details", others=True),
    "without patches and details": only(*LOCAL, others=True),
    "patches and details alone": only(*LOCAL),
    "not weighed": lambda heard: np.ones(len(heard.names)),
}


def measured(folder: Path, cache: FeatureCache) -> Iterator[dict[str, object]]:
    """A row for each variant and for each voice alone."""
    heard = hear(folder, cache)
    said = (heard.normal, heard.anomalous)
    ways = {
        name: [np.logaddexp(0, values * way(heard))[:, way(heard) > 0].max(axis=1) for values in said]
        for name, way in VARIANTS.items()
    }
    ways["sum of evidence (Fisher)"] = [np.logaddexp(0, values).sum(axis=1) for values in said]
    ways |= {f"{name} alone": [values[:, n] for values in said] for n, name in enumerate(heard.names)}
    known = {f"{name} alone": voice for name, voice in zip(heard.names, heard.voices, strict=True)}
    for name, (low, high) in ways.items():
        own = known.get(name)
        yield {
            "data": folder.name,
            "variant": name,
            "learned": heard.images,
            "normal": len(low),
            "anomalous": len(high),
            "auroc": round(metrics.auroc(low, high), 4),
            "spread": round(own.spread, 4) if own else "",
            "ability": round(own.ability, 4) if own and own.ability is not None else "",
            "weight": round(own.weight, 4) if own else "",
        }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "ablation.csv")
    parser.add_argument("--cifar10", action="store_true", help="the ten classes of CIFAR-10, too: takes hours")
    options = parser.parse_args()
    cache = FeatureCache(options.work / "features", 8 * 2**30)
    folders = list(dict.fromkeys([*panel(options.data, options.work), *parts(options.data, options.work)]))
    if options.cifar10 and (options.data / "cifar10").is_dir():
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
