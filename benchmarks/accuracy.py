"""Compare every method on real datasets: python benchmarks/accuracy.py DATA WORK. Writes accuracy.csv.

:mod:`data_sets` says what DATA holds; CIFAR-10 is left to ``ablation.py``. WORK keeps what is finished, to go on from
after an interruption. Every method is used with its defaults. With ``--methods`` only the rows of these are replaced,
and compared with the highest among them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import oddsight
from data_sets import panel, progress
from oddsight.cli.comparison_output import write_csv

HERE = Path(__file__).parent


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "accuracy.csv")
    parser.add_argument("--methods", help="names of methods, separated by commas; by default all")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folders = panel(options.data, options.work)
    methods = options.methods.split(",") if options.methods else "all"
    before = rows(options.csv) if options.methods else {}
    common = {"work": options.work / "cells", "memory": "2GB", "progress": progress}
    write_csv(options.csv, oddsight.compare(*folders, methods=methods, **common))
    if before:
        measured = rows(options.csv)
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(next(iter(measured.values()))), lineterminator="\n")
            writer.writeheader()
            writer.writerows((before | measured).values())


def rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Rows of a table by dataset and method."""
    with path.open(newline="") as file:
        return {(row["data"], row["method"]): row for row in csv.DictReader(file)}


if __name__ == "__main__":
    main()
