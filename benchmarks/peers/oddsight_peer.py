"""One method of Oddsight, measured as anomalib_peer.py measures anomalib's; see there."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

import oddsight

TURNS = 20


def main() -> None:
    """Fit, score and measure."""
    method, settings = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    out = Path(settings["out"])
    if len(sys.argv) > 3:
        oddsight.load(sys.argv[3]).predict(settings["timed"][0])
        return
    os.environ["ODDSIGHT_CACHE"] = "off"
    started = time.perf_counter()
    model = oddsight.fit(settings["train"], method=method, size=(224, 224), false_alarm_rate=0.05)
    measured: dict[str, float | str] = {"fit_seconds": time.perf_counter() - started}
    measured["fit_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    model.save(out / "model.onnx")
    model = oddsight.load(out / "model.onnx")
    results = list(model.predict_many(settings["tests"]))
    scores, maps = [result.score for result in results], [result.map for result in results]
    np.savez(out / "scores.npz", scores=np.array(scores), maps=np.stack(maps))
    times = []
    for number in range(TURNS + 3):
        begun = time.perf_counter()
        model.predict(settings["timed"][number % len(settings["timed"])])
        times.append(1e3 * (time.perf_counter() - begun))
    measured["answer_ms"] = statistics.median(times[3:])
    measured["model_file"] = str(out / "model.onnx")
    (out / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
