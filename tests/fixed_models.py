"""Models of every method and score that learns without PyTorch, fitted on fixed images: what they compute, by name.

Run as a program it writes one line of JSON for each model; ``scripts/compare_checkouts.py`` compares two checkouts so.
It uses only what users may use, so that it runs with every version.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

import oddsight
from textures import texture, write_textures

VERSIONS = {"oddsight", "versions"}
"""What metadata say of the libraries at work, which another machine may have in other versions."""


def registry(command: str) -> list[dict[str, Any]]:
    """What a command that lists says, as rows."""
    rows: list[dict[str, Any]] = json.loads(
        subprocess.check_output([sys.executable, "-m", "oddsight", command, "--json"])
    )
    return rows


def fixed_methods(folder: Path) -> Iterator[tuple[str, oddsight.Model]]:
    """Fit a model of every method, one after the other; the images go into ``folder``."""
    write_textures(folder, range(18))
    for row in registry("methods"):
        if not row["needs"]:
            yield row["method"], _fit(folder, row["method"], calibration_fraction=0.5)
    # The other way to calibrate.
    yield "knn, cross-calibrated", _fit(folder, "knn", calibration_fraction=0)


def fixed_scores(folder: Path) -> Iterator[tuple[str, oddsight.Model]]:
    """Fit a model that knows classes for every score, one after the other; the images go into ``folder``."""
    kinds: dict[str, dict[str, Any]] = {"bark": {"material": "bark"}, "cloth": {}, "blot": {"blot": True}}
    for name, options in kinds.items():
        write_textures(folder / name, range(12), width=64, height=64, **options)
    for row in registry("scores"):
        yield (
            row["score"],
            oddsight.fit_classes(
                folder,
                score=row["score"],
                size=32,
                layers=["head"],
                false_alarm_rate=0.3,
                calibration_fraction=0.1,
            ),
        )


def _fit(normal: Path, method: str, **settings: Any) -> oddsight.Model:
    return oddsight.fit(normal, method=method, size=64, false_alarm_rate=0.2, **settings)


def measure(model: oddsight.Model) -> dict[str, Any]:
    """Hashes of a model's graph with its weights and of its metadata but versions; and the scores of fixed images."""
    proto = onnx.load_model_from_string(model.to_bytes())
    metadata = json.loads(next(prop.value for prop in proto.metadata_props))
    named = json.dumps({name: value for name, value in metadata.items() if name not in VERSIONS}, sort_keys=True)
    results = [model.predict(texture(seed, 64, 64, material=m)) for seed, m in [(100, "cloth"), (101, "bark")]]
    return {
        "graph": hashlib.sha256(proto.graph.SerializeToString(deterministic=True)).hexdigest(),
        "metadata": hashlib.sha256(named.encode()).hexdigest(),
        "scores": [result.score for result in results],
        "p_values": [result.p_value for result in results],
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for kind, models in (("method", fixed_methods), ("score", fixed_scores)):
            for name, fitted in models(Path(place) / kind):
                print(json.dumps({"model": f"{kind} {name}", **measure(fitted)}), flush=True)
