"""What each speed finds and costs: python benchmarks/speeds.py DATA WORK [--sets NAME,...].

Writes speeds.csv: the default method at each speed of ``fit --speed``, on the parts and textures of
:mod:`small_defects`. Time for an answer is measured in turns, so that a busy machine slows all speeds alike; it is of
one image in memory, on every core.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

import oddsight
from data_sets import parts, progress
from oddsight.fitting.sizing import SPEEDS
from oddsight.sources import Files

HERE = Path(__file__).parent
_TURNS = 20


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sets", help="Only these, separated by commas.")
    parser.add_argument("--csv", type=Path, default=HERE / "speeds.csv")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    chosen = options.sets.split(",") if options.sets else None
    rows = []
    for folder in parts(options.data, options.work):
        if chosen is None or folder.name in chosen:
            rows += measure(folder)
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure(folder: Path) -> list[dict[str, object]]:
    """A row for each speed."""
    models, rows = [], []
    for name in SPEEDS:
        start = time.perf_counter()
        model = oddsight.fit(
            folder / "train", speed=name, false_alarm_rate=0.05, memory="3GB", cache=None, progress=progress
        )
        seconds = time.perf_counter() - start
        metrics = oddsight.evaluate(model, folder, progress=progress)
        auroc = metrics.image["auroc"]
        rows.append(
            {
                "data": folder.name,
                "speed": name,
                "size": model.metadata.backbone.size,
                "bank": model.metadata.method.settings["bank_size"],
                "normal": metrics.counts["normal"],
                "anomalous": metrics.counts["anomalous"],
                "auroc": auroc,
                "fit_seconds": seconds,
                "megabytes": len(model.to_bytes()) / 1e6,
            }
        )
        models.append(model)
    images = [next(iter(Files(folder / "test"))).read()] * _TURNS
    times = np.array([[_seconds(model, image) for model in models] for image in images])
    for row, each in zip(rows, times.T, strict=True):
        row |= {"answer_ms_p50": 1e3 * np.median(each), "answer_ms_p95": 1e3 * np.quantile(each, 0.95)}
    return rows


def _seconds(model: oddsight.Model, image: np.ndarray) -> float:
    start = time.perf_counter()
    model.predict(image)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
