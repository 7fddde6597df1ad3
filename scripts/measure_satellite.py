"""Set scenes aside that the study of clouds did not use, to calibrate and to test a model of clear ground.

    python scripts/measure_satellite.py SATELLITE WORK                          # WORK/calibration, WORK/test/...
    python scripts/measure_satellite.py SATELLITE WORK MODEL.onnx ... -o figures.csv

``oddsight study clouds --data SATELLITE --limit 400`` takes the first 400 scenes of each class, in the order of their
contents. Of the others, 100 of each clear class are to calibrate on, and 200 of each and 600 cloudy ones to test.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

import oddsight
from oddsight.studies.clouds.scenes import read_scenes

LIMIT, CALIBRATION, TEST = 400, 100, 200


def set_aside(data: Path, work: Path) -> None:
    """Fill WORK/calibration and WORK/test with links, unless they are there."""
    if (work / "test").exists():
        return
    for name, scenes in read_scenes(data, work / "scenes").classes.items():
        spare = [Path(scene.path) for scene in scenes[LIMIT:]]
        random.Random(0).shuffle(spare)
        parts = {"calibration": spare[:CALIBRATION], "test/clear": spare[CALIBRATION : CALIBRATION + TEST]}
        for part, chosen in ({"test/cloudy": spare[: 3 * TEST]} if name == "cloudy" else parts).items():
            folder = work / part
            folder.mkdir(parents=True, exist_ok=True)
            for path in chosen:
                (folder / f"{name}-{path.name}").symlink_to(path.resolve())


def main() -> None:
    """Set aside, and measure the models that were given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("figures.csv"))
    options = parser.parse_args()
    set_aside(options.data, options.work)
    rows: list[list[object]] = []
    for path in options.models:
        model = oddsight.load(path)
        rate = model.metadata.decision.false_alarm_rate
        test = {"normal": options.work / "test" / "clear", "anomalous": options.work / "test" / "cloudy"}
        found = oddsight.evaluate(model, **test)
        for measure in ("auroc", "recall", "false_alarm_rate"):
            values = (found.image[measure], *found.image[f"{measure}_ci"])
            rows.append([path.name, f"{rate:.4g}", measure, *(f"{value:.4f}" for value in values)])
        rows += [[path.name, f"{rate:.4g}", name, f"{value:.4f}", "", ""] for name, value in found.baselines.items()]
    if rows:
        with options.output.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [["model", "asked", "measure", "value", "low", "high"], *rows]
            )


if __name__ == "__main__":
    main()
