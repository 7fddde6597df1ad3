"""Whether several crops of a frame in one run are faster than one after the other, and score the same.

    python benchmarks/crops.py path/to/data > benchmarks/crops.csv

DATA holds ``video/walkway``. Models learn from crops of what moves in clip 01, and score crops of clip 02 of 64 x 64
pixels in runs of 1, 2, 4, 8 and 16, on one core. ``milliseconds`` are of processor time, a crop, the median of repeats;
``equal`` is the share of the crops whose score is bit for bit that of a run of its own.
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

import oddsight
from oddsight.runtime.sessions import run
from oddsight.sources import VideoFile
from oddsight.watch.looks import Crops
from oddsight.watch.motion import Motion

MODELS = ({"method": "knn", "size": 96}, {"method": "padim", "size": 96}, {"method": "patchcore", "size": 96})
SIDE, COUNT, REPEATS = 64, 48, 5


def main() -> None:
    """Measure every model."""
    clips = Path(sys.argv[1]) / "video" / "walkway"
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["method", "size", "crops_a_run", "milliseconds", "equal"])
    shown = [crop.read() for crop in Crops(VideoFile(clips / "02.mp4"), roi=Motion())]
    crops = np.stack([*islice((pixels for pixels in shown if pixels.shape == (SIDE, SIDE, 3)), COUNT)])
    for options in MODELS:
        learned = list(islice(Crops(VideoFile(clips / "01.mp4"), roi=Motion()), 200))
        session = oddsight.fit(learned, groups="none", **options)._session_for_many
        alone = np.concatenate([scores(session, crops[i : i + 1]) for i in range(COUNT)])
        for count in (1, 2, 4, 8, 16):
            parts = [crops[i : i + count] for i in range(0, COUNT, count)]
            taken = []
            for _ in range(REPEATS):
                start = time.process_time()
                together = np.concatenate([scores(session, part) for part in parts])
                taken.append(1000 * (time.process_time() - start) / COUNT)
            equal = float(np.mean(together == alone))
            table.writerow(
                [options["method"], options["size"], count, f"{statistics.median(taken):.2f}", f"{equal:.2f}"]
            )
            sys.stdout.flush()


def scores(session, part) -> np.ndarray:  # noqa: ANN001 - of ONNX Runtime, and an array
    """The scores of crops in one run."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, run(session, {"image": part}, "it", seconds=600), strict=True))["score"]


if __name__ == "__main__":
    main()
