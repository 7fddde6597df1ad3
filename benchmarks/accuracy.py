"""Compare every method on real data sets: python benchmarks/accuracy.py DATA WORK. Writes accuracy.csv, cifar10.csv.

:mod:`data_sets` says what DATA holds. WORK keeps what is finished, to go on from after an interruption.

Every method is used with its defaults. On CIFAR-10, where a hundred thousand images are scored by every method, most
methods are left out, and ``auto`` is evaluated by its whole model file.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

import oddsight
from data_sets import cifar10, panel
from oddsight.comparison_output import write_csv

HERE = Path(__file__).parent


def progress(phase: str, done: int, total: int) -> None:
    """A line now and then."""
    if done == total or done % 200 == 0:
        print(f"{phase}: {done} of {total}", flush=True)


def compare_panel(data: Path, work: Path, out: Path) -> None:
    """Every method on every data set but CIFAR-10."""
    folders = panel(data, work)
    every = oddsight.compare(*folders, work=work / "cells", memory="2GB", progress=progress)
    write_csv(out / "accuracy.csv", every)


def compare_cifar10(data: Path, work: Path, out: Path) -> None:
    """One class of CIFAR-10 against the nine others."""
    folders = list(cifar10(data / "cifar10", work))
    rows: list[dict[str, object]] = []
    path = out / "cifar10-auto.csv"
    if path.exists():
        with path.open() as file:
            rows = list(csv.DictReader(file))
    for folder in folders:
        if any(row["data"] == folder.name for row in rows):
            continue
        rows.append(evaluated(folder))
        print(rows[-1], flush=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    chosen = ("knn", "mahalanobis", "gmm", "lof")
    singles = oddsight.compare(
        *folders,
        methods=chosen,
        layers=("default", "stage6", "head"),
        work=work / "cells",
        memory="3GB",
        progress=progress,
    )
    write_csv(out / "cifar10.csv", singles)


def evaluated(folder: Path) -> dict[str, object]:
    """``auto`` on one class, by the whole file, nothing remembered: its features would fill the disk."""
    os.environ["ODDSIGHT_CACHE"] = "off"
    started = time.perf_counter()
    model = oddsight.fit(folder / "train" / "good", memory="2GB")
    seconds = time.perf_counter() - started
    found = oddsight.evaluate(model, folder)
    os.environ.pop("ODDSIGHT_CACHE")
    return {
        "data": folder.name,
        "method": model.metadata.method.name,
        "learnt": model.metadata.training.images,
        "normal": found.counts["normal"],
        "anomalous": found.counts["anomalous"],
        "auroc": found.image["auroc"],
        "auroc_low": found.image["auroc_ci"][0],
        "auroc_high": found.image["auroc_ci"][1],
        "recall": found.image["recall"],
        "false_alarm_rate": found.image["false_alarm_rate"],
        "asked_rate": model.metadata.decision.false_alarm_rate,
        "fit_seconds": round(seconds, 1),
        "megabytes": round(len(model.to_bytes()) / 1e6, 1),
    }


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", choices=["panel", "cifar10"])
    parser.add_argument("--csv", type=Path, default=HERE, metavar="FOLDER")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.only != "cifar10":
        compare_panel(options.data, options.work, options.csv)
    if options.only != "panel" and (options.data / "cifar10").is_dir():
        compare_cifar10(options.data, options.work, options.csv)


if __name__ == "__main__":
    main()
