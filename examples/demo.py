"""The main job from beginning to end, on the Landsat scenes that ship with Oddsight: python examples/demo.py OUT.

Learns clear ground from tiles without clouds, scores tiles it has never seen, measures itself against the cloud masks,
and writes reports with images. The commands are the ones a user would type.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(*command: str | Path) -> None:
    """Show a command as a user would type it, and run it."""
    program, *arguments = map(str, command)
    print("\n$ " + " ".join([program, *arguments]), flush=True)
    start = {"python": [sys.executable], "oddsight": [sys.executable, "-m", "oddsight"]}[program]
    subprocess.run([*start, *arguments], check=True)


def main() -> None:
    """Run everything into one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    tiles, large = out / "tiles", out / "tiles-64"

    run("python", HERE / "landsat-clouds" / "tiles.py", tiles)
    run("oddsight", "check", tiles / "train")
    # Is there a cloud? The default method, which needs no choice.
    run("oddsight", "fit", tiles / "train" / "good", "-o", out / "clouds.onnx")
    run("oddsight", "predict", out / "clouds.onnx", tiles / "test", "--json", out / "predictions.jsonl")
    run("oddsight", "evaluate", out / "clouds.onnx", tiles, "--report", out / "report.html")
    # Where is it, and what should it have looked like? Patches of shallow layers on larger tiles.
    where = out / "where.onnx"
    run("python", HERE / "landsat-clouds" / "tiles.py", large, "--tile", "64")
    shallow = ["--method", "patchcore", "--layers", "stage2,stage3"]
    run("oddsight", "fit", large / "train" / "good", "-o", where, *shallow)
    run("oddsight", "evaluate", where, large, "--report", out / "where.html")
    images = ["--maps", out / "maps", "--explain", out / "explained"]
    run("oddsight", "predict", where, large / "partly", *images, "--json", out / "where.jsonl")
    print(f"\nThe reports:      {out / 'report.html'} and {out / 'where.html'}\nThe heat maps:    {out / 'maps'}")
    print(f"The explanations: {out / 'explained'}")


if __name__ == "__main__":
    main()
