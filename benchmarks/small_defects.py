"""Detectors on parts and textures with small defects: python benchmarks/small_defects.py DATA WORK.

Writes small_defects.csv: the quick methods at their default sizes, and ``auto`` at 224 pixels as well, for what the
resolution gives. :mod:`data_sets` says what DATA holds; WORK keeps what is finished, to go on from after an
interruption. With ``--backbone NAME --csv FILE``: only ``auto``, with that backbone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import oddsight
from data_sets import parts, progress
from oddsight.cli.comparison_output import write_csv

HERE = Path(__file__).parent
METHODS = ("auto", "patchcore", "padim", "knn")


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=HERE / "small_defects.csv")
    parser.add_argument("--backbone")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folders = parts(options.data, options.work)
    # At 5% a quarter of the images is enough to calibrate on, and each cell is fitted once.
    common = {"false_alarm_rate": 0.05, "work": options.work / "cells", "memory": "3GB", "progress": progress}
    runs: dict[str, dict[str, object]] = {"own": {"methods": METHODS}, "224": {"methods": "auto", "sizes": [224]}}
    if options.backbone:
        runs = {"other": {"methods": "auto", "backbones": options.backbone}}
    written = []
    for name, chosen in runs.items():
        path = options.csv.with_suffix(f".{name}.csv")
        write_csv(path, oddsight.compare(*folders, **chosen, **common))
        written.append(path)
    header, *rows = (line for path in written for line in path.read_text().splitlines(keepends=True))
    options.csv.write_text(header + "".join(row for row in rows if row != header))
    for path in written:
        path.unlink()


if __name__ == "__main__":
    main()
