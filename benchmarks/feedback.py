"""How often normal images are flagged after people have answered questions, by how the questions were chosen.

    python benchmarks/feedback.py

Writes ``feedback.csv``: for each way of asking the false-alarm rate over 200 sessions with 500 new normal images each,
and its 95 % interval over sessions.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from feedback_sessions import RATE, session  # noqa: E402

SESSIONS, HELD_OUT = 200, 500


def main() -> None:
    """Run all sessions."""
    outcomes: dict[str, list[float]] = {}
    for seed in range(SESSIONS):
        for way, flags in session(seed, HELD_OUT).items():
            outcomes.setdefault(way, []).append(float(flags.mean()))
    with (HERE / "feedback.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["asked about", "sessions", "promised rate", "false-alarm rate", "low", "high"])
        for way, rates in outcomes.items():
            half = 1.96 * np.std(rates, ddof=1) / np.sqrt(len(rates))
            row = (RATE, np.mean(rates), np.mean(rates) - half, np.mean(rates) + half)
            writer.writerow([way, len(rates), *(f"{value:.4f}" for value in row)])


if __name__ == "__main__":
    main()
