"""What a false-alarm rate means for one calibration set, by its size.

    python benchmarks/rates.py > benchmarks/rates.csv

For ``n`` calibration images (or groups) and a rate: between which values the true rate lies in 95 of 100 draws of the
images, without a confidence and with one of 95 %. ``seen`` columns are from 10,000 simulated draws of normal scores:
the mean of the true rate, and in which share of draws it is above the one asked for. Empty where no threshold can be.
"""

from __future__ import annotations

import csv
import sys

import numpy as np
from scipy.stats import norm

from oddsight.model.calibration import alarms, rate_range

SIZES, RATES, DRAWS = (9, 20, 59, 99, 299, 1000), (0.01, 0.05, 0.1), 10_000


def main() -> None:
    """Write the table."""
    random = np.random.default_rng(0)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["n", "rate", "confidence", "reached", "low", "high", "seen_mean", "seen_above"])
    for n in SIZES:
        scores = np.sort(random.normal(size=(DRAWS, n)), axis=1)
        for rate in RATES:
            for confidence in (None, 0.95):
                reached = alarms(n, rate, confidence)
                row: list[object] = [n, rate, confidence or "", reached]
                if reached:
                    true = norm.sf(scores[:, n - reached])
                    low, high = rate_range(n, reached)
                    row += [f"{low:.4f}", f"{high:.4f}", f"{true.mean():.4f}", f"{(true > rate).mean():.4f}"]
                else:
                    row += [""] * 4
                table.writerow(row)


if __name__ == "__main__":
    main()
