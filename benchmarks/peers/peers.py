"""Oddsight beside anomalib, on the same images with the same weights: python benchmarks/peers/peers.py DATA WORK.

Writes peers.csv. DATA is a folder in the layout of MVTec AD, or the magnetic tiles as they come. anomalib runs in an
environment of its own, which is made in WORK/venv from requirements.txt if it is not there (6 GB). Both read images
brought to 224 x 224 pixels, the same stages of EfficientNet-Lite0, and score raw; its PatchCore keeps 1% of the
patches, its PaDiM 100 random channels. Metrics of both are Oddsight's, of pixels as map_trials.py does. Latencies are
medians from file to map, one image at a time (anomalib's exports of PatchCore take two, so they get one twice); cold is
a whole process with one image, from start to end. On a busy machine read ratios only.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from data_sets import drawn, magnetic
from map_trials import Tests, tests_of, truth
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.image import auroc
from oddsight.metrics.pixel import pixel_metrics

HERE = Path(__file__).parent
COLUMNS = (
    "program", "method", "learned", "normal", "anomalous", "auroc", "pixel_auroc", "aupro", "fit_seconds",
    "fit_peak_mb", "answer_ms", "onnx_ms", "openvino_ms", "cold_seconds", "cold_peak_mb", "onnx_error",
    "openvino_error",
)  # fmt: skip


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--learned", type=int, default=400, help="normal images to learn from, at most")
    parser.add_argument("--tests", type=int, help="normal and anomalous test images, at most so many of each")
    parser.add_argument("--csv", type=Path, default=HERE / "peers.csv")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    python = environment(options.work / "venv")
    folder = next(magnetic(options.data, options.work)) if (options.data / "defect").is_dir() else options.data
    train, tests = images(folder, options.work, options.learned, options.tests)
    rows = [
        peer | shown(program, method, len(list(train.iterdir())), tests, out)
        for method in ("patchcore", "padim")
        for program, out, peer in (
            ("anomalib", *ran(python, "anomalib_peer.py", method, train, tests, options.work)),
            ("oddsight", *ran(Path(sys.executable), "oddsight_peer.py", method, train, tests, options.work)),
        )
    ]
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def environment(folder: Path) -> Path:
    """The interpreter of anomalib's environment."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-r", HERE / "requirements.txt"], check=True)
    return python


def images(folder: Path, work: Path, learned: int, count: int | None) -> tuple[Path, Tests]:
    """A folder of images to learn from, as links, and those to test on."""
    train = work / f"train-{learned}"
    if not train.exists():
        train.mkdir()
        for path in drawn(folder / "train" / "good", learned, 0)[0]:
            (train / path.name).symlink_to(path.resolve())
    return train, tests_of(folder, count)


def ran(
    python: Path, script: str, method: str, train: Path, tests: Tests, work: Path
) -> tuple[Path, dict[str, float | str]]:
    """Where a program left its scores, and what was measured."""
    out = work / f"{script.removesuffix('.py')}-{method}"
    out.mkdir(parents=True, exist_ok=True)
    paths = [str(path) for path in tests.images]
    settings = out / "settings.json"
    settings.write_text(json.dumps({"train": str(train), "tests": paths, "timed": paths[:20], "out": str(out)}))
    command = [str(python), str(HERE / script), method, str(settings)]
    subprocess.run(command, check=True)
    measured = json.loads((out / "measured.json").read_text())
    measured["cold_seconds"], measured["cold_peak_mb"] = cold([*command, measured["model_file"]])
    return out, measured


def cold(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a process, the second of two."""
    code = (
        "import resource,subprocess,sys; subprocess.run(sys.argv[1:],check=True,stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1000)"
    )
    for _ in range(2):
        started = time.perf_counter()
        memory = float(subprocess.check_output([sys.executable, "-c", code, *command]))
        seconds = time.perf_counter() - started
    return seconds, memory


def shown(program: str, method: str, learned: int, tests: Tests, out: Path) -> dict[str, object]:
    """What its scores and maps are worth."""
    with np.load(out / "scores.npz") as file:
        scores, maps = file["scores"], file["maps"]
    normal, anomalous = scores[~tests.anomalous], scores[tests.anomalous]
    truths = [truth(image, mask) for image, mask in zip(tests.images, tests.masks, strict=True)]
    sized = [upscaled(np.asarray(grid, np.float32), one.shape[::-1]) for grid, one in zip(maps, truths, strict=True)]
    exact = pixel_metrics(lambda: zip(sized, truths, strict=True))
    return {
        "program": program,
        "method": method,
        "learned": learned,
        "normal": len(normal),
        "anomalous": len(anomalous),
        "auroc": auroc(normal, anomalous),
        "pixel_auroc": exact.auroc,
        "aupro": exact.aupro,
    }


if __name__ == "__main__":
    main()
