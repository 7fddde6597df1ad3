"""What auto's rule for images of one thing gives: python benchmarks/voice_weights.py DATA WORK.

Writes voice_weights.csv: for every dataset the AUROC without the rule, with it, and with its two constants chosen on
the other datasets only (those of satellites are left out together, and both of Landsat), where the mean AUROC is
highest. One model is fitted for each, at a rate of 5%, and the evidence of its voices for the test images is weighed in
all these ways. :mod:`data_sets` says what DATA holds; WORK keeps the evidence, to go on from after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import oddsight
from data_sets import panel, parts, progress
from oddsight.data.collection import count_groups
from oddsight.data.folder import find_images
from oddsight.data.images import read_image
from oddsight.detectors import evidence
from oddsight.detectors.auto import Auto
from oddsight.detectors.evidence import Tail, Voice, weighed
from oddsight.detectors.features import FeatureStream
from oddsight.fitting.plan import FitPlan
from oddsight.metrics.image import auroc
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
NEVER = (-np.inf, 0.0)
NOW = (evidence._SAME, evidence._ASIDE)
KINDS = evidence._KIND, evidence._THING
CHOICES = list(itertools.product((0.05, 0.1, 0.15), (0.0, 0.3, 0.5, 0.7, 0.9)))
"""Where images are one thing, by the spread, and how much whole images then lose."""


@dataclass(frozen=True)
class Heard:
    """What the voices of one model say of test images, before they are weighed.

    Attributes:
        voices: Spread and ability of each depth, then of each detector of places.
        images: From how many the spreads are known.
        normal: Their evidence for normal test images, ``[n, voices]``.
        anomalous: And for anomalous ones, ``[m, voices]``.
    """

    voices: NDArray[np.float64]
    images: int
    normal: NDArray[np.float64]
    anomalous: NDArray[np.float64]

    def area(self, same: float, aside: float, kinds: tuple[float, float] = KINDS) -> float:
        """AUROC with these constants."""
        before = evidence._SAME, evidence._ASIDE
        evidence._SAME, evidence._ASIDE = same, aside
        evidence._KIND, evidence._THING = kinds
        try:
            voices = [Voice((Tail(1.0, 0.0, 1.0, spread),), 1.0, np.zeros(1), able) for spread, able in self.voices]
            depths = self.normal.shape[1] - 1
            whole, places = weighed(voices[:depths], voices[depths:], self.images)
            weights = np.array([*(each.weight for each in whole), places.weight])
        finally:
            evidence._SAME, evidence._ASIDE = before
            evidence._KIND, evidence._THING = KINDS
        return auroc(*(np.logaddexp(0, weights * one).max(axis=1) for one in (self.normal, self.anomalous)))


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "voice_weights.csv")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folders = {one.name: one for one in [*parts(options.data, options.work), *panel(options.data, options.work)]}
    heard = {name: listen(folder, options.work / f"{name}.npz") for name, folder in folders.items()}
    areas = {name: np.array([one.area(*choice) for choice in CHOICES]) for name, one in heard.items()}
    rows = []
    for name, one in heard.items():
        others = [areas[other] for other in heard if kind(other) != kind(name)]
        best = int(np.mean(others, axis=0).argmax())
        rows.append(
            {
                "data": name,
                "learned": one.images,
                "normal": len(one.normal),
                "anomalous": len(one.anomalous),
                "smallest spread": f"{one.voices[: one.normal.shape[1] - 1, 0].min():.3f}",
                "AUROC without": f"{one.area(*NEVER):.4f}",
                "AUROC": f"{one.area(*NOW):.4f}",
                "AUROC left out": f"{areas[name][best]:.4f}",
                "one thing left out": CHOICES[best][0],
                "aside left out": CHOICES[best][1],
            }
        )
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


class Kept(Auto):
    """Keeps what it fitted last."""

    last: ClassVar[list[Auto]] = []

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """As ever, and keep it."""
        super().learn(features, memory=memory, seed=seed)
        Kept.last = [self]


def kind(name: str) -> str:
    """Datasets of one kind are left out together."""
    return name.partition("-")[0]


def listen(folder: Path, kept: Path) -> Heard:
    """Fit, and hear what the voices say of the test images."""
    if not kept.exists():
        plans: list[FitPlan] = []
        model = oddsight.fit(
            folder / "train" / "good", method=Kept(), false_alarm_rate=0.05, on_plan=plans.append, progress=progress
        )
        scoring = session(model.to_bytes(), threads=1)
        [fitted] = Kept.last
        weights = np.array([voice.weight for voice in fitted.voices_])
        weighing = [*fitted.voices_[:-1], *fitted.together_.alone]
        said: dict[bool, list[NDArray[np.float64]]] = {True: [], False: []}
        for path in find_images(folder / "test").images:
            [found] = scoring.run(["evidence"], {"image": read_image(path)[None]})
            # Back from what is never below zero.
            raw = np.maximum(found[0].astype(np.float64), 1e-9)
            said[path.parent.name == "good"].append(np.where(raw > 30, raw, np.log(np.expm1(raw))) / weights)
        np.savez(
            kept,
            voices=np.array([(voice.spread, voice.ability) for voice in weighing]),
            images=count_groups(plans[0].training),
            normal=np.array(said[True]),
            anomalous=np.array(said[False]),
        )
        print(folder.name, flush=True)
    with np.load(kept) as read:
        return Heard(read["voices"], int(read["images"]), read["normal"], read["anomalous"])


if __name__ == "__main__":
    main()
