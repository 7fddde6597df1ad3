"""What each part of ``auto`` is worth: python benchmarks/ablation.py DATA WORK. Writes ablation.csv.

Every variant combines the same evidence of the same fitted detectors, so differences are those of the combination.
Fitted on all images of ``train/good`` and tested by the method's own graph on features; AUROC needs no calibration.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from data_sets import panel, parts
from oddsight import backbones, metrics
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from oddsight.data.grouping import group_images
from oddsight.detectors import evidence
from oddsight.detectors.auto import Auto, _local
from oddsight.detectors.evidence import Places, Voice, weighed
from oddsight.fitting.sizing import input_size
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
ALONE = "{}/together"
"""What a detector of places says alone, before it is made positive, in the graph of auto."""
Array = np.ndarray


@dataclass
class Heard:
    """What the voices of a fitted ``auto`` say before they are weighed.

    Attributes:
        depths: The voices of the whole image, by name.
        places: The detectors of places.
        names: Theirs.
        images: From how many the spreads are known.
        normal: Of normal test images, the evidence of depths and of places together, ``[n, depths + 1]``.
        anomalous: Of anomalous ones.
        normal_alone: Of normal test images, that of each detector of places, ``[n, detectors]``.
        anomalous_alone: Of anomalous ones.
    """

    depths: dict[str, Voice]
    places: Places
    names: list[str]
    images: int
    normal: Array
    anomalous: Array
    normal_alone: Array
    anomalous_alone: Array


def hear(folder: Path, cache: FeatureCache) -> Heard:
    """Fit ``auto`` on a dataset and ask its voices about the test images."""
    network = backbones.backbone(backbones.DEFAULT)
    training = group_images(collect(folder / "train" / "good").images)
    size = input_size(training, network, Auto, None)
    extractor = Extractor(network, network.default_layers("levels", 8), size, "levels")
    # Features of test images are kept, to go on from after an interruption; training images are needed once.
    known = Features(extractor, training, cache)
    method = Auto().fit(Features(extractor, training), memory=10**9, seed=0)
    names = _local(method.spans_)
    outputs = [ALONE.format(name) for name in names]
    proto = method.graph()
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    loaded = session(proto.SerializeToString(), threads=2)
    weights = np.array([voice.weight for voice in method.voices_])

    def ask(paths: list[Path]) -> tuple[Array, Array]:
        rows, alone = [], []
        for one in known.of(collect(*paths).images):
            evidence, *maps = loaded.run(["evidence", *outputs], {"levels": one[None]})
            rows.append(evidence[0])
            alone.append([each.max() for each in maps])
        # Undo softplus and weight.
        heard = np.maximum(np.array(rows, np.float64), 1e-30)
        return (heard + np.log(-np.expm1(-heard))) / weights, np.array(alone) / method.together_.weight

    test = [path for path in sorted((folder / "test").glob("*/*")) if path.is_file()]
    normal, normal_alone = ask([path for path in test if path.parent.name == "good"])
    anomalous, anomalous_alone = ask([path for path in test if path.parent.name != "good"])
    depths = dict(zip(extractor.layers, method.voices_, strict=False))
    images = min(method.images, len(training))
    return Heard(depths, method.together_, names, images, normal, anomalous, normal_alone, anomalous_alone)


def weights(heard: Heard) -> Array:
    """As ``auto`` weighs its voices."""
    depths, places = weighed(list(heard.depths.values()), heard.places.alone, heard.images)
    return np.array([*(voice.weight for voice in depths), places.weight])


def without_defects(heard: Heard) -> Array:
    """As if no voice had been shown small defects."""
    depths = {name: replace(voice, ability=None) for name, voice in heard.depths.items()}
    alone = tuple(replace(voice, ability=None) for voice in heard.places.alone)
    return weights(replace(heard, depths=depths, places=replace(heard.places, alone=alone)))


def kinds_as_things(heard: Heard) -> Array:
    """As if images that are alike were one thing, even where they are most alike at the deepest depth."""
    before = evidence._KIND, evidence._THING
    evidence._KIND, evidence._THING = -1.0, 0.0
    try:
        return weights(heard)
    finally:
        evidence._KIND, evidence._THING = before


VARIANTS: dict[str, Callable[[Heard], Array]] = {
    "auto": weights,
    "kinds as things": kinds_as_things,
    "not weighed by synthetic defects": without_defects,
    "not weighed": lambda heard: np.ones(len(heard.depths) + 1),
    "without places": lambda heard: weights(heard) * np.array([1] * len(heard.depths) + [0]),
}


def apart(heard: Heard, evidence: Array, alone: Array) -> Array:
    """The score if the strongest detector of places spoke for all three."""
    own = weights(heard)
    both = np.concatenate([own[:-1] * evidence[:, :-1], own[-1] * alone], axis=1)
    return np.logaddexp(0, both).max(axis=1)


def measured(folder: Path, cache: FeatureCache) -> Iterator[dict[str, object]]:
    """A row for each variant and for each voice alone."""
    heard = hear(folder, cache)
    said = (heard.normal, heard.anomalous)
    each = (heard.normal_alone, heard.anomalous_alone)
    ways = {
        name: [np.logaddexp(0, values * way(heard))[:, way(heard) > 0].max(axis=1) for values in said]
        for name, way in VARIANTS.items()
    }
    ways["the strongest detector of places"] = [apart(heard, *both) for both in zip(said, each, strict=True)]
    ways["sum of evidence (Fisher)"] = [np.logaddexp(0, values).sum(axis=1) for values in said]
    ways |= {f"{name} alone": [v[:, n] for v in said] for n, name in enumerate([*heard.depths, "places"])}
    ways |= {f"{name} alone": [v[:, n] for v in each] for n, name in enumerate(heard.names)}
    voices = heard.depths | dict(zip(heard.names, heard.places.alone, strict=True))
    known = {f"{name} alone": voice for name, voice in voices.items()}
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
    options = parser.parse_args()
    cache = FeatureCache(options.work / "features", 8 * 2**30)
    folders = list(dict.fromkeys([*panel(options.data, options.work), *parts(options.data, options.work)]))
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
