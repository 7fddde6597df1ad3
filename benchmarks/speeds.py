"""What each speed finds and costs: python benchmarks/speeds.py DATA WORK [--sets NAME,...] [--tests COUNT].

Writes speeds.csv: the default method at each speed of ``fit --speed``, on the parts and textures of
:mod:`small_defects`. Answers are for one image in memory and its map, on every core; models and their bare networks
(EfficientNet-Lite0 through its head, at the same size) take turns, so that a busy machine slows all alike. Fits have no
cache; after each, the same images are read and their patches extracted, for the ratio.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import oddsight
from data_sets import drawn, link, parts, progress
from oddsight.backbones import backbone
from oddsight.backbones.extraction import Extractor, Features
from oddsight.data.collection import collect
from oddsight.fitting.sizing import SPEEDS
from oddsight.graphs.preprocessing import Size, sides
from oddsight.runtime.parallel import cores
from oddsight.runtime.sessions import session
from oddsight.sources import Files

HERE = Path(__file__).parent
LITE0 = backbone("efficientnet-lite0")
_ROUNDS, _TURNS = 8, 5


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sets", help="Only these, separated by commas.")
    parser.add_argument("--tests", type=int, help="Test images of each kind, drawn at random; by default all.")
    parser.add_argument("--csv", type=Path, default=HERE / "speeds.csv")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.environ["ODDSIGHT_CACHE"] = "off"
    chosen = options.sets.split(",") if options.sets else None
    rows: list[dict[str, object]] = []
    for folder in parts(options.data, options.work):
        if chosen is None or folder.name in chosen:
            rows += measure(folder, folder if options.tests is None else fewer(folder, options.tests, options.work))
            with options.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def fewer(folder: Path, count: int, work: Path) -> Path:
    """The same folder with so many test images of each kind at most, as links."""
    out = work / f"{folder.name}-{count}" / folder.name
    if not out.exists():
        for kind in sorted((folder / "test").iterdir()):
            link(drawn(kind, count, 0)[0], out / "test" / kind.name)
        if (folder / "ground_truth").is_dir():
            (out / "ground_truth").symlink_to((folder / "ground_truth").resolve())
    return out


def measure(folder: Path, tests: Path) -> list[dict[str, object]]:
    """A row for each speed."""
    models, networks, rows = [], [], []
    images = collect(folder / "train")
    for name in SPEEDS:
        started = time.perf_counter()
        model = oddsight.fit(folder / "train", speed=name, false_alarm_rate=0.05, memory="3GB", progress=progress)
        fit = time.perf_counter() - started
        size = model.metadata.backbone.size
        features = Features(Extractor(LITE0, LITE0.layers["patches/8"], size, "patches"), images.images)
        extraction = seconds(lambda features=features: sum(1 for _ in features))
        metrics = oddsight.evaluate(model, tests, progress=progress)
        rows.append(
            {
                "data": folder.name,
                "speed": name,
                "size": size if isinstance(size, int) else "x".join(map(str, size)),
                "bank": model.metadata.method.settings["bank_size"],
                "learned": len(images.images),
                "normal": metrics.counts["normal"],
                "anomalous": metrics.counts["anomalous"],
                "auroc": metrics.image["auroc"],
                "auroc_low": metrics.image["auroc_ci"][0],
                "auroc_high": metrics.image["auroc_ci"][1],
                "pixel_auroc": metrics.pixel["auroc"] if metrics.pixel else "",
                "aupro": metrics.pixel["aupro"] if metrics.pixel else "",
                "extraction_seconds": extraction,
                "fit_seconds": fit,
                "fit_ratio": fit / extraction,
                "megabytes": len(model.to_bytes()) / 1e6,
            }
        )
        models.append(model)
        networks.append(bare(size, model.metadata.backbone.layers))
    return [row | each for row, each in zip(rows, answers(models, networks, tests), strict=True)]


def bare(size: Size, layers: Sequence[str]) -> Callable[[], object]:
    """A run of the network alone at that size."""
    loaded = session(LITE0.graph(tuple(layers)).SerializeToString(), threads=cores())
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, *sides(size))).astype(np.float32)
    return lambda: loaded.run(None, {"pixels": pixels})


def answers(
    models: Sequence[oddsight.Model], networks: Sequence[Callable[[], object]], tests: Path
) -> list[dict[str, float]]:
    """Milliseconds of an answer and of the bare network, for each speed."""
    image = next(iter(Files(tests / "test"))).read()
    jobs = [
        job for model, network in zip(models, networks, strict=True) for job in (partial(model.predict, image), network)
    ]
    times = 1e3 * np.array([[block(job) for job in jobs] for _ in range(_ROUNDS)])  # [round, job, turn]
    pooled = times.transpose(1, 0, 2).reshape(len(models), 2, -1)
    return [
        {
            "answer_ms_p50": np.median(own),
            "answer_ms_p95": np.quantile(own, 0.95),
            "bare_ms_p50": np.median(network),
            "bare_ms_p95": np.quantile(network, 0.95),
            "answer_ratio": np.median(own) / np.median(network),
        }
        for own, network in pooled
    ]


def block(job: Callable[[], object]) -> list[float]:
    """Seconds of some runs after one that does not count: idle threads of another session slow the first."""
    job()
    return [seconds(job) for _ in range(_TURNS)]


def seconds(job: Callable[[], object]) -> float:
    """How long it takes once."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
