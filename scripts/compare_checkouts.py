"""Say whether two checkouts of Oddsight learn the same models, to the byte, on this machine.

Every method and score that needs no PyTorch is fitted on fixed images by each checkout; graphs with their weights and
metadata without versions are compared by hash. Where a graph differs, the largest difference of scores says how much
it matters. Takes some minutes; exits with 1 if anything differs.

    python scripts/compare_checkouts.py ../oddsight-before .

Bytes may differ between processors and versions of NumPy, so this compares two checkouts and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = Path(__file__).resolve().parents[1] / "tests" / "fixed_models.py"

Rows = dict[str, dict[str, Any]]


def start(checkout: Path) -> subprocess.Popen[str]:
    """Start fitting every model with the code of a checkout."""
    source = checkout.resolve() / "src"
    if not (source / "oddsight").is_dir():
        sys.exit(f"error: {checkout} is no checkout of Oddsight: it has no src/oddsight")
    # One thread and no cache: what is compared is what the code computes, and the same on every run.
    changes = {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ODDSIGHT_CACHE": "off"}
    return subprocess.Popen([sys.executable, WORKER], env=os.environ | changes, stdout=subprocess.PIPE, text=True)


def collect(process: subprocess.Popen[str]) -> Rows:
    """Wait for the models of a process, by name."""
    output, _ = process.communicate()
    if process.returncode:
        sys.exit("error: a checkout failed; see above")
    return {row.pop("model"): row for row in map(json.loads, output.splitlines())}


def differences(before: Rows, now: Rows) -> list[str]:
    """One line for each model that is not the same."""
    lines = [f"{name}: only in the first" for name in before.keys() - now.keys()]
    lines += [f"{name}: only in the second" for name in now.keys() - before.keys()]
    for name in before.keys() & now.keys():
        old, new = before[name], now[name]
        if old["graph"] != new["graph"]:
            pairs = zip(old["scores"], new["scores"], strict=True)
            largest = max(abs(a - b) / max(abs(a), abs(b), 1e-30) for a, b in pairs)
            lines.append(f"{name}: graph or weights differ; scores by {largest:.2g} of their value")
        elif old["metadata"] != new["metadata"]:
            lines.append(f"{name}: the same graph, other metadata")
    return sorted(lines)


def main() -> None:
    """Compare the checkouts named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("now", type=Path)
    folders = parser.parse_args()
    processes = [start(folder) for folder in (folders.before, folders.now)]
    before, now = map(collect, processes)
    lines = differences(before, now)
    print("\n".join(lines) or f"the same {len(before)} models")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
