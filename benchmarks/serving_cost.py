"""Processor time that a request costs a service beyond scoring the image, and that a refusal costs.

    python benchmarks/serving_cost.py MODEL.onnx IMAGE --label "as it is" [--requests 300] [--rounds 5]

Unlike seconds on a clock, processor time hardly depends on what else the machine does. In each round ``predict_many``
scores copies of the image, a service answers as many requests for it, and as many with a wrong Host header, which it
refuses before it reads their bodies, as it does when its queue is full. Adds a row of medians to ``serving_cost.csv``,
in milliseconds of processor time; those of the clients (``http_load.py``) are reported separately. The code that is
measured is what ``oddsight`` imports.

A quick model shows the difference best: the rows of ``tiny`` are of ``tests/tiny_model.py`` and a PNG file of noise of
104 x 104 pixels, which has 33 kB.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import oddsight
from oddsight.sources import Encoded
from serving import HERE, Service

TABLE = HERE / "serving_cost.csv"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with Service(args.model) as service:
        measure(service, args.model, args.image, 20)
        rounds = [measure(service, args.model, args.image, args.requests) for _ in range(args.rounds)]
    row: dict[str, object] = {"service": args.label, "model": args.model.stem, "requests": args.requests * args.rounds}
    row |= {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}
    print(row)
    new = not TABLE.exists()
    with TABLE.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def measure(service: Service, path: Path, image: Path, count: int) -> dict[str, float]:
    """Milliseconds of processor time for each of so many images."""
    model, content = oddsight.load(path), image.read_bytes()
    list(model.predict_many(Encoded({"first": content})))
    begin = time.process_time()
    list(model.predict_many(Encoded({str(number): content for number in range(count)})))
    scoring = 1e3 * (time.process_time() - begin) / count
    answer, client = ask(service, image, count, 200, "--connections", "2")
    refusal, refused_client = ask(service, image, 5 * count, 403, "--connections", "2", "--host", "elsewhere.example")
    return {
        "predict_many ms": scoring, "answer ms": answer, "beyond predict_many ms": answer - scoring,
        "refusal ms": refusal, "client ms, answered": client, "client ms, refused": refused_client,
    }  # fmt: skip


def ask(service: Service, image: Path, count: int, status: int, *more: str) -> tuple[float, float]:
    """Milliseconds that the service and its clients take for each of so many requests."""
    before = service.cpu_seconds()
    found = json.loads(service.start_clients(image, count, *more).communicate()[0])
    time.sleep(0.1)  # for what comes behind the last answer
    after = service.cpu_seconds()
    assert {code for code, _ in found["outcomes"]} == {status}
    return 1e3 * (after - before) / count, 1e3 * found["cpu seconds"] / count


if __name__ == "__main__":
    main()
