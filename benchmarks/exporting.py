"""What converting a model changes: scores, decisions, AUROC, size and latency.

    python benchmarks/exporting.py path/to/bottle > benchmarks/exporting.csv

The folder has the layout of MVTec AD. Each method is fitted on ``train/good``, a quarter of which is kept out to
calibrate on, also after the conversion. Both models score all images in ``test``; for int8 half of them only, as the
others show the ranges of values. Forms that are not installed are left out. Latencies take turns in one run, on one
core: read their ratio.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import oddsight
from oddsight.fitting.exporting import FORMS

METHODS = ("patchcore", "auto", "mahalanobis", "padim")


def row(model: oddsight.Model, method: str, to: str, data: Path) -> dict[str, object]:
    """One method in one form."""
    made = oddsight.export(model, to, [data / "test"], recalibrate=[data / "train"], limit=1, score_limit=1000)
    before, after = (oddsight.evaluate(one, data).image["auroc"] for one in (model, made.model))
    parity = made.parity
    return {
        "method": method,
        "to": to,
        "images": parity.images,
        "decisions changed": parity.changed,
        "median difference / spread": f"{parity.relative_difference:.4f}",
        "largest difference / spread": f"{parity.largest_difference / parity.spread:.4f}",
        "AUROC before": f"{before:.4f}",
        "AUROC after": f"{after:.4f}",
        "MB before": f"{parity.bytes[0] / 1e6:.1f}",
        "size ratio": f"{parity.bytes[1] / parity.bytes[0]:.2f}",
        "ms before": f"{parity.milliseconds_p50[0]:.1f}",
        "latency ratio": f"{parity.milliseconds_p50[1] / parity.milliseconds_p50[0]:.2f}",
    }


def main(data: Path) -> None:
    """Write a row for each method and form."""
    writer = None
    for method in METHODS:
        model = oddsight.fit(data / "train", method=method, calibration_fraction=0.25, false_alarm_rate=0.05)
        for to in FORMS:
            try:
                values = row(model, method, to, data)
            except oddsight.OddsightError as error:
                print(f"{method}, {to}: {error}", file=sys.stderr)
                continue
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(values), lineterminator="\n")
                writer.writeheader()
            writer.writerow(values)
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
