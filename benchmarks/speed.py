"""Measure speed and memory as ratios in one run: python benchmarks/speed.py FOLDER.

FOLDER holds 400 normal images or more. Each counts as a group of its own, so that a quarter is enough to calibrate 1%:
folds would fit six times. Writes benchmarks/speed.csv and the table in benchmarks/README.md. Every figure is the median
of several rounds in which the things compared take turns, on one machine at one time.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import oddsight
from oddsight.backbones import backbone
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from oddsight.detectors import METHODS
from oddsight.runtime.parallel import cores
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
ROUNDS = 5
MEASURED = ("auto", "knn", "mahalanobis", "padim", "patchcore")
LITE0 = backbone("efficientnet-lite0")
Row = dict[str, object]


def milliseconds(work: Callable[[], object]) -> float:
    """How long it takes once."""
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def answers(images: list[Path], folder: Path) -> list[Row]:
    """One image at a time: from a file to a Result with its map, against the bare backbone up to the layers used."""
    rows = []
    for name in MEASURED:
        model = oddsight.load(folder / f"{name}.onnx")
        info = model.metadata.backbone
        reading = METHODS[name].reads
        layers = Extractor(LITE0, tuple(info.layers), info.size, reading).stages
        bare = session(LITE0.graph(layers).SerializeToString(), threads=cores())
        pixels = {"pixels": np.random.default_rng(0).uniform(0, 255, (1, 3, 224, 224)).astype(np.float32)}
        whole, network = [], []
        # In turns of 20: the idle threads of one session would slow the other if they took turns one by one.
        for _ in range(ROUNDS + 1):
            network += [milliseconds(lambda run=bare, feed=pixels: run.run(None, feed)) for _ in range(20)]
            whole += [milliseconds(lambda of=model, image=image: of.predict(image).regions) for image in images[:20]]
        one, floor = statistics.median(whole[20:]), statistics.median(network[20:])
        rows.append(
            row(
                f"predict, one image, {name}{' with map' if METHODS[name].localises else ''}",
                one,
                "ms",
                floor,
                "bare backbone",
            )
        )
    return [*rows, beside(images, folder)]


def beside(images: list[Path], folder: Path) -> Row:
    """``auto`` against a model of a single method with a map, by turns."""
    models = [oddsight.load(folder / f"{name}.onnx") for name in ("auto", "patchcore")]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS + 1):
        for model, own in zip(models, times, strict=True):
            own += [milliseconds(lambda of=model, image=image: of.predict(image)) for image in images[:20]]
    one, other = (statistics.median(own[20:]) for own in times)
    return row("predict, one image, auto with map", one, "ms", other, "patchcore with map")


def fits(images: list[Path], folder: Path) -> list[Row]:
    """Fit on 400 images, against reading them and extracting their features, all without a cache."""
    collection = collect(*images)
    taken: dict[str, list[float]] = {"bare": []}
    for _ in range(3):
        layers = LITE0.layers["patches/8"]
        features = Features(Extractor(LITE0, layers, 224, "patches"), collection.images)
        taken["bare"].append(milliseconds(lambda features=features: sum(1 for _ in features)))
        for name in MEASURED:
            started = time.perf_counter()
            model = oddsight.fit(*images, method=name, groups="none")
            taken.setdefault(name, []).append(1000 * (time.perf_counter() - started))
            model.save(folder / f"{name}.onnx")
    bare = statistics.median(taken.pop("bare")) / 1000
    what = "reading and extracting patches"
    return [
        row(f"fit, {len(images)} images, {name}", statistics.median(times) / 1000, "s", bare, what)
        for name, times in taken.items()
    ]


def cold(images: list[Path], folder: Path) -> list[Row]:
    """Whole processes from nothing, with their peak memory."""
    command = [sys.executable, "-m", "oddsight"]
    many = [str(image) for image in images[:200]]
    jobs = {
        "oddsight --help": [*command, "--help"],
        "oddsight predict, one image, cold": [*command, "predict", str(folder / "auto.onnx"), str(images[0])],
        "oddsight predict, 200 images": [*command, "predict", str(folder / "auto.onnx"), *many],
    }
    for name in MEASURED:
        output = str(folder / "cold.onnx")
        fit = [*command, "fit", *map(str, images), "-o", output, "--method", name, "--group-by", "none"]
        jobs[f"oddsight fit, 400 images, {name}"] = fit
    rows = []
    for name, job in jobs.items():
        runs = [process(job) for _ in range(ROUNDS if "fit" not in name else 1)]
        seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        rows.append(row(f"{name}, wall time", seconds, "s"))
        rows.append(row(f"{name}, peak memory", memory, "MB"))
    return rows


def process(job: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of one process."""
    code = (
        "import json,resource,subprocess,sys,time; t=time.perf_counter(); subprocess.run(sys.argv[1:],check=True,"
        "stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL); print(json.dumps([time.perf_counter()-t,"
        "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1000]))"
    )
    seconds, memory = json.loads(subprocess.check_output([sys.executable, "-c", code, *job]))
    return seconds, memory


def throughput(images: list[Path], folder: Path) -> list[Row]:
    """Many images on every core, against one core."""
    model = oddsight.load(folder / "auto.onnx")
    list(model.predict_many(images[:10]))
    every, single = [], []
    for _ in range(3):
        every.append(milliseconds(lambda: list(model.predict_many(images[:200]))))
        single.append(milliseconds(lambda: list(model.predict_many(images[:200], workers=1))))
    return [
        row(
            "predict, 200 images, each",
            statistics.median(every) / 200,
            "ms",
            statistics.median(single) / 200,
            "one core",
        )
    ]


def row(what: str, value: float, unit: str, against: float | None = None, which: str = "") -> Row:
    """One line of the table."""
    return {
        "what": what,
        "median": f"{value:.3g}",
        "unit": unit,
        "against": which,
        "its median": f"{against:.3g}" if against is not None else "",
        "ratio": f"{value / against:.2f}" if against is not None else "",
    }


def machine() -> str:
    """Where and with what this was measured."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    from oddsight.runtime.sessions import import_onnxruntime

    onnxruntime = import_onnxruntime()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return (
        f"{cores()} cores of {model}, Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, "
        f"NumPy {np.__version__}, commit {commit.stdout.strip() or 'unknown'}"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    images = sorted(parser.parse_args().folder.iterdir())[:400]
    os.environ["ODDSIGHT_CACHE"] = "off"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = fits(images, folder)
        rows = answers(images, folder) + throughput(images, folder) + rows + cold(images, folder)
    with (HERE / "speed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    page = HERE / "README.md"
    before, _, rest = page.read_text().partition("<!-- speed -->")
    _, _, after = rest.partition("<!-- /speed -->")
    table = "\n".join([f"Measured on {machine()}.", "", *lines])
    page.write_text(f"{before}<!-- speed -->\n{table}\n<!-- /speed -->{after}")
    print(table)


if __name__ == "__main__":
    main()
