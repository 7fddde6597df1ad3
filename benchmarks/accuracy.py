"""Measure every method on real data sets and write benchmarks/accuracy.csv: python benchmarks/accuracy.py DATA.

DATA holds any of these folders; those that are missing are left out:

- ``magnetic-tile``: ``good``, ``defect/TYPE``, ``mask/TYPE``. 400 normal tiles to fit, the others to test; three draws.
- ``bottle``: MVTec AD's layout.
- ``satellite``: ``cloudy`` (normal) against ``desert``, ``green_area``, ``water``. Everything is first brought to
  64 x 64 RGB, as sizes and colour modes differ by class. 1,000 cloudy images to fit, 500 to test; three draws.

The Landsat tiles that ship with Oddsight are always measured, at 32 and 64 pixels.

Every fit uses defaults but for the method, and the calibration fraction where the table says so. Nothing is chosen by
looking at anomalous images.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import oddsight
from oddsight.methods import METHODS

HERE = Path(__file__).parent
TILES = HERE.parent / "examples" / "landsat-clouds" / "tiles.py"


@dataclass(frozen=True)
class Trial:
    """One data set, drawn once."""

    data: str
    draw: int
    fit: Path
    mvtec: Path | None = None
    normal: Path | None = None
    anomalous: Path | None = None
    masks: Path | None = None


def link(images: list[Path], folder: Path) -> Path:
    """A folder of links to images."""
    folder.mkdir(parents=True)
    for image in images:
        (folder / image.name).symlink_to(image.resolve())
    return folder


def drawn(folder: Path, count: int, draw: int, out: Path) -> tuple[Path, Path]:
    """Two folders: ``count`` images drawn at random, and the others."""
    images = sorted(folder.iterdir())
    random.Random(draw).shuffle(images)
    return link(images[:count], out / "fit"), link(images[count:], out / "normal")


def shrunk(folder: Path, out: Path, most: int) -> Path:
    """A folder of up to ``most`` images of another one, drawn at random, brought to 64 x 64 RGB."""
    images = sorted(folder.iterdir())
    random.Random(0).shuffle(images)
    out.mkdir(parents=True)
    for image in images[:most]:
        Image.open(image).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR).save(out / f"{image.stem}.png")
    return out


def trials(data: Path, work: Path) -> Iterator[Trial]:
    """Every data set that is there."""
    for side in (32, 64):
        tiles = work / f"landsat-{side}"
        subprocess.run([sys.executable, TILES, tiles, "--tile", str(side)], check=True, stdout=subprocess.DEVNULL)
        yield Trial(f"landsat-{side}", 0, tiles / "train" / "good", tiles)
    bottle = data / "bottle"
    if bottle.is_dir():
        yield Trial("bottle", 0, bottle / "train" / "good", bottle)
    magnetic = data / "magnetic-tile"
    if magnetic.is_dir():
        for draw in range(3):
            fit, normal = drawn(magnetic / "good", 400, draw, work / f"magnetic-{draw}")
            yield Trial("magnetic-tile", draw, fit, None, normal, magnetic / "defect", magnetic / "mask")
    satellite = data / "satellite"
    if satellite.is_dir():
        cloudy = shrunk(satellite / "cloudy", work / "cloudy", 10_000)
        kinds = ("desert", "green_area", "water")
        others = {kind: shrunk(satellite / kind, work / "others" / kind, 500) for kind in kinds}
        for draw in range(3):
            fit, normal = drawn(cloudy, 1000, draw, work / f"satellite-{draw}")
            for kind, folder in others.items():
                yield Trial(f"satellite, cloudy against {kind}", draw, fit, None, normal, folder)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "accuracy.csv")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        models: dict[tuple[str, str, float | None], tuple[oddsight.Model, float]] = {}
        for trial in trials(options.data, Path(folder)):
            variants = [(method, None) for method in METHODS]
            if trial.data == "magnetic-tile":
                variants += [("padim", 0.0), ("patchcore", 0.0)]
            for method, fraction in variants:
                key = (str(trial.fit), method, fraction)
                if key not in models:
                    models[key] = timed_fit(trial.fit, method, fraction)
                rows.append(row(trial, *models[key]))
                print({name: rows[-1][name] for name in ("data", "method", "calibration", "draw", "auroc")}, flush=True)
                write(rows, options.csv)


def timed_fit(folder: Path, method: str, fraction: float | None) -> tuple[oddsight.Model, float]:
    """Fit with defaults; the seconds include reading and calibration."""
    started = time.perf_counter()
    model = oddsight.fit(folder, method=method, calibration_fraction=fraction)
    return model, time.perf_counter() - started


def row(trial: Trial, model: oddsight.Model, seconds: float) -> dict[str, object]:
    """Evaluate and flatten."""
    found = oddsight.evaluate(model, trial.mvtec, normal=trial.normal, anomalous=trial.anomalous, masks=trial.masks)
    image, metadata = found.image, model.metadata
    trivial = max(found.baselines, key=lambda name: found.baselines[name])
    values = {
        "data": trial.data,
        "method": metadata.method.name,
        "layers": "+".join(metadata.backbone.layers),
        "calibration": f"{metadata.calibration.kind} {metadata.calibration.images}",
        "draw": trial.draw,
        "fitted": metadata.training.images,
        "normal": found.counts["normal"],
        "anomalous": found.counts["anomalous"],
        "auroc": image["auroc"],
        "auroc_low": image["auroc_ci"][0],
        "auroc_high": image["auroc_ci"][1],
        "average_precision": image["average_precision"],
        "fpr95": image["fpr95"],
        "asked_rate": metadata.decision.false_alarm_rate,
        "realised_rate": image["false_alarm_rate"],
        "recall": image["recall"],
        "pixel_auroc": found.pixel["auroc"] if found.pixel else "",
        "aupro": found.pixel["aupro"] if found.pixel else "",
        "best_trivial": trivial,
        "best_trivial_auroc": found.baselines[trivial],
        "fit_seconds": round(seconds, 1),
        "megabytes": round(len(model.to_bytes()) / 1e6, 1),
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def write(rows: list[dict[str, object]], path: Path) -> None:
    """Write what there is so far."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
