"""Memory, time and AUROC of a fit by the number of images: python benchmarks/fit_memory.py DATA WORK COUNT...

Writes fit_memory.csv. DATA holds the magnetic tiles. Beyond the 400 normal ones to learn from, images are copies of
them that are shifted, turned a little, made lighter or darker, and noisy, each in a way of its own. Each fit is a
process of its own, without a cache. The test images are the same for all.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from data_sets import magnetic

HERE = Path(__file__).parent


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("counts", type=int, nargs="+")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--csv", type=Path, default=HERE / "fit_memory.csv")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folder = next(magnetic(options.data / "magnetic-tile", options.work))
    rows = []
    for count in options.counts:
        train = copies(folder / "train" / "good", options.work / f"copies-{count}", count)
        code = "import sys; sys.path.insert(0, sys.argv[1]); import fit_memory; fit_memory.fit(*sys.argv[2:])"
        found = subprocess.check_output([sys.executable, "-c", code, HERE, train, folder, options.method], text=True)
        rows.append({"method": options.method, "images": count, **json.loads(found.splitlines()[-1])})
        print(rows[-1], flush=True)
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def copies(folder: Path, out: Path, count: int) -> Path:
    """A folder of so many images: those there, then changed copies."""
    originals = sorted(folder.iterdir())
    out.mkdir(exist_ok=True)
    for number in range(len(list(out.iterdir())), count):
        source = originals[number % len(originals)]
        path = out / f"{number:06}{source.suffix}"
        if number < len(originals):
            path.symlink_to(source.resolve())
        else:
            changed(Image.open(source).convert("L"), number).save(path, quality=95)
    return out


def changed(image: Image.Image, seed: int) -> Image.Image:
    """Shifted by up to 2%, turned by up to 2 degrees, up to 5% lighter or darker, with noise of 2 grey levels."""
    rng = np.random.default_rng(seed)
    pad = max(image.size) // 10
    pixels = np.pad(np.asarray(image), pad, mode="reflect")
    turned = Image.fromarray(pixels).rotate(rng.uniform(-2, 2), Image.Resampling.BICUBIC)
    left, top = (pad + round(rng.uniform(-0.02, 0.02) * side) for side in image.size)
    grey = np.asarray(turned.crop((left, top, left + image.width, top + image.height)), np.float64)
    grey = grey * rng.uniform(0.95, 1.05) + rng.normal(0, 2, grey.shape)
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def fit(train: str, folder: str, method: str) -> None:
    """Print, as JSON, what a fit on a folder takes, and what its model is worth."""
    import oddsight

    os.environ["ODDSIGHT_CACHE"] = "off"
    started = time.perf_counter()
    model = oddsight.fit(train, method=method, false_alarm_rate=0.05, groups="none")
    seconds, memory = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    auroc = oddsight.evaluate(model, folder).image["auroc"]
    values = {"fit_seconds": f"{seconds:.0f}", "peak_mb": f"{memory:.0f}", "auroc": f"{auroc:.4f}"}
    print(json.dumps(values | {"megabytes": f"{len(model.to_bytes()) / 1e6:.1f}"}))


if __name__ == "__main__":
    main()
