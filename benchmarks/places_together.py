"""How auto's detectors of places best speak together: python benchmarks/places_together.py DATA WORK.

Writes places_together.csv: for every dataset the AUROC if the strongest of them speaks for all, as it is, and in the
way that is best on the other datasets only (those of satellites are left out together, and both of Landsat). The ways
are the geometric and the arithmetic mean, with shares by several powers of what each detector sees of small synthetic
defects: by how much its evidence rises, at most one. One model is fitted for each dataset, at a rate of 5%.
:mod:`data_sets` says what DATA holds; WORK keeps what the detectors say, to go on from after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

import oddsight
from data_sets import panel, parts, progress
from oddsight.data.folder import find_images
from oddsight.data.images import read_image
from oddsight.detectors.auto import Auto, _local, _own, _Patches
from oddsight.detectors.evidence import Places, Tail
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.places import own_maps
from oddsight.metrics.image import auroc
from oddsight.runtime.sessions import session
from voice_weights import kind

HERE = Path(__file__).parent
NOW = ("geometric", 2)
CHOICES = [NOW, *itertools.product(("geometric",), (0, 1, 4)), *itertools.product(("arithmetic",), (0, 1, 2, 4))]
"""Means, and powers of the rise."""

Maps = NDArray[np.float32]


class Kept(Auto):
    """Keeps itself, and what its detectors of places say of normal images."""

    last: ClassVar[Auto]
    own: ClassVar[Maps]

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """As ever, and keep it."""
        super().learn(features, memory=memory, seed=seed)
        first = islice(enumerate(_Patches(features, self.images)), _own(self.shape_))
        Kept.last, Kept.own = self, np.stack(list(own_maps(self.places_, first)))


@dataclass(frozen=True)
class Said:
    """What is known of a dataset: raw evidence of each detector of places, and the highest of whole images.

    Attributes:
        own: Of normal images by detectors that did not learn from them, ``[n, detectors, h, w]``.
        tests: Of test images, ``[m, detectors, h, w]``.
        whole: Weighed evidence of whole test images, ``[m]``.
        good: Which are normal, ``[m]``.
        rises: Of the detectors.
        weight: Of places.
    """

    own: Maps
    tests: Maps
    whole: NDArray[np.float64]
    good: NDArray[np.bool_]
    rises: NDArray[np.float64]
    weight: float

    def area(self, mean: str, power: float) -> float:
        """AUROC if they speak together like this."""
        shares = np.clip(self.rises, 1e-6, 1) ** power
        shares /= shares.sum()
        own, tests = (self._highest(maps, mean, shares) for maps in (self.own, self.tests))
        return self._area(Tail.of(own).evidence(tests))

    def apart(self) -> float:
        """AUROC if the strongest speaks for all."""
        return self._area(self.tests.max(axis=(1, 2, 3)).astype(np.float64))

    def _area(self, places: NDArray[np.float64]) -> float:
        scores = np.maximum(self.whole, np.logaddexp(0, self.weight * places))
        return auroc(scores[self.good], scores[~self.good])

    def _highest(self, maps: Maps, mean: str, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        positive = np.maximum(np.logaddexp(0, np.float32(self.weight) * maps), 1e-3)
        if mean == "geometric":
            together = np.exp(np.einsum("k,nkij->nij", shares, np.log(positive)))
        else:
            together = np.einsum("k,nkij->nij", shares, positive)
        return np.asarray(together.max(axis=(1, 2)), np.float64)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "places_together.csv")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folders = {one.name: one for one in [*parts(options.data, options.work), *panel(options.data, options.work)]}
    said = {name: listen(folder, options.work / f"{name}.npz") for name, folder in folders.items()}
    areas = {name: np.array([one.area(*choice) for choice in CHOICES]) for name, one in said.items()}
    rows = [row(name, one, areas) for name, one in said.items()]
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row(name: str, said: Said, areas: dict[str, NDArray[np.float64]]) -> dict[str, object]:
    """The numbers of one dataset."""
    others = [areas[other] for other in areas if kind(other) != kind(name)]
    best = int(np.mean(others, axis=0).argmax())
    return {
        "data": name,
        "normal": int(said.good.sum()),
        "anomalous": int((~said.good).sum()),
        "rises": " ".join(f"{rise:.2f}" for rise in said.rises),
        "strongest": f"{said.apart():.4f}",
        "together": f"{areas[name][0]:.4f}",
        "left out": f"{areas[name][best]:.4f}",
        "chosen": f"{CHOICES[best][0]}, power {CHOICES[best][1]}",
        **{f"{mean}, power {power}": f"{area:.4f}" for (mean, power), area in zip(CHOICES, areas[name], strict=True)},
    }


def listen(folder: Path, kept: Path) -> Said:
    """Fit, and hear what the detectors say of the test images."""
    if not kept.exists():
        model = oddsight.fit(folder / "train" / "good", method=Kept(), false_alarm_rate=0.05, progress=progress)
        fitted = Kept.last
        names = [f"oddsight/{name}/together" for name in _local(fitted.spans_)]
        proto = onnx.load_from_string(model.to_bytes())
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        scoring = session(proto.SerializeToString(), threads=2)
        paths = find_images(folder / "test").images
        tests, whole = [], []
        for path in paths:
            found, *maps = scoring.run(["evidence", *names], {"image": read_image(path)[None]})
            whole.append(found[0, :-1].max())
            tests.append(np.concatenate(maps) / fitted.together_.weight)
        np.savez(
            kept,
            own=raw(fitted.together_, Kept.own),
            tests=np.stack(tests),
            whole=np.array(whole, np.float64),
            good=np.array([path.parent.name == "good" for path in paths]),
            rises=np.array([one.rise for one in fitted.together_.alone], np.float64),
            weight=fitted.together_.weight,
        )
        print(folder.name, flush=True)
    with np.load(kept) as read:
        return Said(**{name: read[name] for name in read.files})


def raw(places: Places, maps: Maps) -> Maps:
    """From scores to evidence, ``[n, detectors, h, w]``."""
    each = [one.tails[0].evidence(maps[:, number]) for number, one in enumerate(places.alone)]
    return np.stack(each, axis=1).astype(np.float32)


if __name__ == "__main__":
    main()
