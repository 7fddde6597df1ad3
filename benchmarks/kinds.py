"""auto where one class of CIFAR-10 is normal: python benchmarks/kinds.py DATA WORK. Writes kinds.csv.

Images of one class are alike because they are of one kind, not because they show one thing that may have a defect
somewhere. A row has the AUROC of ``auto``, of the same voices weighed as if kinds were things, of the same as if images
never were one thing, and of the deepest depth alone. :mod:`data_sets` says what DATA holds; WORK keeps the evidence, to
go on from after an interruption.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from data_sets import cifar10
from oddsight.metrics.image import auroc
from voice_weights import NEVER, NOW, listen

ANY = (-1.0, 0.0)
"""Constants with which every kind is a thing."""


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    rows = []
    for folder in cifar10(options.data / "cifar10", options.work):
        heard = listen(folder, options.work / f"{folder.name}.npz")
        spreads = heard.voices[: heard.normal.shape[1] - 1, 0]
        rows.append(
            {
                "data": folder.name,
                "learned": heard.images,
                "normal": len(heard.normal),
                "anomalous": len(heard.anomalous),
                "smallest spread": f"{spreads.min():.3f}",
                "deepest to least of others": f"{spreads[-1] / spreads[:-1].min():.2f}",
                "auto": f"{heard.area(*NOW):.4f}",
                "kinds as things": f"{heard.area(*NOW, ANY):.4f}",
                "never one thing": f"{heard.area(*NEVER):.4f}",
                "the deepest depth alone": f"{auroc(heard.normal[:, -2], heard.anomalous[:, -2]):.4f}",
            }
        )
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
