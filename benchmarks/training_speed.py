"""How fast networks learn on processors, and what makes them quick: python benchmarks/training_speed.py.

Writes training_speed.csv. Each measurement is a process of its own, the ways in turn, as what the C library is told
holds until it ends. The ways: ``plain``; ``kept``: freed memory is kept; ``quick``: convolutions and normalisations are
one, with gradients of our own, too; ``half``: in half precision, too.
"""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import time
from pathlib import Path

STEPS, ROUNDS = 5, 2
WAYS = ("plain", "kept", "quick", "half")
CASES = [
    ("efficientnet-lite0", 64, 128, WAYS),
    ("efficientnet-lite0", 96, 128, WAYS),
    ("efficientnet-lite0", 128, 128, WAYS),
    ("compact", 32, 256, WAYS[:2]),
    ("autoencoder", 64, 32, WAYS[:2]),
]


def rate(name: str, size: int, batch: int, way: str) -> float:
    """Images a second, by the median step after two."""
    from contextlib import nullcontext

    import torch
    from torch.nn import functional

    from oddsight.backbones.exporting import torch_backbone
    from oddsight.detectors.autoencoders import Autoencoder
    from oddsight.training.classifying import Network
    from oddsight.training.compact import build_network
    from oddsight.training.convolutions import quick_convolutions
    from oddsight.training.trainer import keep_freed_memory

    if way != "plain":
        keep_freed_memory()
    lots = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch, 3, size, size), generator=lots).float()
    labels = torch.randint(10, (batch,), generator=lots)
    if name == "autoencoder":
        network = Autoencoder().network(size)
    else:
        network = Network(build_network(name, size, images) if name == "compact" else torch_backbone(name), 10)
    network.train(name == "compact")
    optimizer = torch.optim.AdamW([one for one in network.parameters() if one.requires_grad], 1e-4)
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        pairs = network.backbone.trunk.normalised_convolutions() if way in WAYS[2:] else None
        if name == "autoencoder":
            loss = network.losses(images / 255, lots)["loss"]
        else:
            half = torch.autocast("cpu", torch.bfloat16, enabled=way == "half")
            with half, quick_convolutions(pairs) if pairs is not None else nullcontext():
                logits = network(images)
            loss = functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return batch / statistics.median(times[2:])


def main() -> None:
    """Measure all cases."""
    rows = []
    for name, size, batch, ways in CASES:
        for round_ in range(ROUNDS):
            for way in ways:
                command = [sys.executable, __file__, name, str(size), str(batch), way]
                found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                rows.append([name, size, batch, way, round_, f"{float(found):.1f}"])
                print(*rows[-1], flush=True)
    with (Path(__file__).parent / "training_speed.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["network", "size", "batch", "way", "round", "images a second"])
        table.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(rate(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
    else:
        main()
