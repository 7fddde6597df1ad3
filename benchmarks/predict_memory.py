"""How much memory ``oddsight predict`` takes by the shape of an image, each in a process of its own.

    python benchmarks/predict_memory.py SMALL.onnx LARGE.onnx > benchmarks/predict_memory.csv

The models of the table are PatchCore with ``--size 224`` and ``--size 640``; the second gets the largest shapes only.

Images are PNG files of zeros, three of a shape, so that two cores have one each. Peak memory is the most that the
process and those that it starts to read images hold at once.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from hostile_files import empty_png
from oddsight import load

SHAPES = [
    *((224, 224), (1, 65536), (65536, 1), (1, 1_000_000), (1_000_000, 1), (500, 65536), (65536, 500)),
    *((2048, 65536), (65536, 2048), (4000, 4000), (8000, 8000), (11_585, 11_585), (12_000, 12_000)),
]
LARGE_SHAPES = [(2048, 65536), (65536, 2048), (11_000, 11_000)]
COLOURS = {"grey": (0, 8), "RGB": (2, 8), "16-bit RGBA": (6, 16)}


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Megabytes that a process and those it starts hold at once at most."""
    peak = 0
    while process.poll() is None:
        held = 0
        for identity in _family(process.pid):
            with suppress(OSError, StopIteration):
                status = Path(f"/proc/{identity}/status").read_text().splitlines()
                held += next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        peak = max(peak, held)
        time.sleep(0.005)
    return peak * 1024 / 1e6


def _family(parent: int) -> list[int]:
    family = [parent]
    for identity in family:
        with suppress(OSError):
            for task in Path(f"/proc/{identity}/task").iterdir():
                family += map(int, (task / "children").read_text().split())
    return family


def main() -> None:
    """Write the table to standard output."""
    table = csv.writer(sys.stdout)
    table.writerow(["size", "width", "height", "pixels", "scored", "peak_mb"])
    for model, shapes in zip(sys.argv[1:], (SHAPES, LARGE_SHAPES), strict=False):
        size = load(model).metadata.backbone.size
        for width, height in shapes:
            for name, (colour_type, depth) in COLOURS.items():
                with tempfile.TemporaryDirectory() as folder:
                    for number in range(3):
                        empty_png(Path(folder, f"{number}.png"), width, height, colour_type, depth)
                    command = [sys.executable, "-m", "oddsight", "predict", model, folder, "--json", f"{folder}/lines"]
                    command += ["--image-timeout", "0"]  # as other work may slow this one down
                    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                    peak = peak_memory(process)
                table.writerow([size, width, height, name, process.returncode == 0, f"{peak:.0f}"])
                sys.stdout.flush()


if __name__ == "__main__":
    main()
