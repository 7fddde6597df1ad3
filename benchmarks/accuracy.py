"""Compare every method on real datasets: python benchmarks/accuracy.py DATA WORK. Writes accuracy.csv.

:mod:`data_sets` says what DATA holds; CIFAR-10 is left to ``ablation.py``. WORK keeps what is finished, to go on from
after an interruption. Every method is used with its defaults.
"""

from __future__ import annotations

import argparse
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
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folders = panel(options.data, options.work)
    found = oddsight.compare(*folders, work=options.work / "cells", memory="2GB", progress=progress)
    write_csv(options.csv, found)


if __name__ == "__main__":
    main()
