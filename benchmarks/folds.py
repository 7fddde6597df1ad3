"""What it gives to learn from all images, and calibrate by folds: python benchmarks/folds.py DATA WORK.

Writes folds.csv: `auto` on parts and textures, with a quarter of the images held out for calibration, as `fit` does by
itself where that is enough for the rate, and with ``--calibration-fraction 0``, which scores each image by a model that
did not learn from it, and learns from all in the end. :mod:`data_sets` says what DATA holds; WORK keeps the models, to
go on from after an interruption; the time of a fit is then left out.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import oddsight
from data_sets import parts, progress

HERE = Path(__file__).parent
WAYS = {"held out": None, "folds": 0.0}
RATE = 0.05


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "folds.csv")
    parser.add_argument("--sets", help="names of datasets, separated by commas; by default all")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    chosen = None if options.sets is None else options.sets.split(",")
    folders = [one for one in parts(options.data, options.work) if chosen is None or one.name in chosen]
    rows = [row(folder, way, options.work) for folder in folders for way in WAYS]
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row(folder: Path, way: str, work: Path) -> dict[str, object]:
    """One fit, and what it finds."""
    path, started, seconds = work / f"{folder.name}-{way.replace(' ', '-')}.onnx", time.perf_counter(), ""
    if not path.exists():
        options = {"false_alarm_rate": RATE, "memory": "3GB", "progress": progress}
        oddsight.fit(folder / "train" / "good", calibration_fraction=WAYS[way], **options).save(path)
        seconds = f"{time.perf_counter() - started:.0f}"
    model = oddsight.load(path)
    found, calibration = oddsight.evaluate(model, folder), model.metadata.calibration
    low, high = found.image["auroc_ci"]
    return {
        "data": folder.name,
        "way": way,
        "learned": model.metadata.training.images,
        "calibrated": calibration.images,
        "normal": found.counts["normal"],
        "anomalous": found.counts["anomalous"],
        "auroc": f"{found.image['auroc']:.4f}",
        "auroc_low": f"{low:.4f}",
        "auroc_high": f"{high:.4f}",
        "recall": f"{found.image['recall']:.4f}",
        "false_alarm_rate": f"{found.image['false_alarm_rate']:.4f}",
        "pixel_auroc": f"{found.pixel['auroc']:.4f}" if found.pixel else "",
        "aupro": f"{found.pixel['aupro']:.4f}" if found.pixel else "",
        "fit_seconds": seconds,
    }


if __name__ == "__main__":
    main()
