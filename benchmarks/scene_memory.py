"""How much memory it takes to read a scene that is no TIFF by rows (``predict --tile``), by format.

    python benchmarks/scene_memory.py > benchmarks/scene_memory.csv

Each image is read in a process of its own, 256 rows at a time. Peak memory is what that process grew by, and the whole
of the process that decodes for it, if there is one, in bytes for each pixel.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 6000

_CHILD = """
import os, sys
from pathlib import Path
from oddsight.data.decoding import set_image_limits
from oddsight.scenes.scene_image import SceneImage
set_image_limits(timeout=300, memory=10**11)

def kilobytes(process):
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

before = kilobytes("self")
scene = SceneImage(sys.argv[1])
for top in range(0, scene.height, 256):
    scene.rows(top, min(top + 256, scene.height))
children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
grown = kilobytes("self") - before + sum(map(kilobytes, children))
print(1024 * grown / (scene.width * scene.height))
"""


def variants() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Format, mode, suffix and options of Pillow's ``save``."""
    yield "PNG", "RGB", "png", {}
    yield "PNG", "RGBA", "png", {}
    yield "PNG", "L", "png", {}
    yield "JPEG", "L", "jpg", {}
    for name, progressive in (("JPEG", False), ("JPEG progressive", True)):
        for sampling in ("4:2:0", "4:4:4"):
            yield f"{name} {sampling}", "RGB", "jpg", {"subsampling": sampling, "progressive": progressive}
    yield "WebP", "RGB", "webp", {}
    yield "JPEG 2000", "RGB", "jp2", {}


def main() -> None:
    """Write a table to standard output."""
    draw = np.random.default_rng(0).integers(0, 256, (SIDE // 20, SIDE // 20, 3), dtype=np.uint8)
    image = Image.fromarray(draw).resize((SIDE, SIDE))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["format", "mode", "megapixels", "peak_bytes_per_pixel"])
    with tempfile.TemporaryDirectory() as folder:
        for name, mode, suffix, options in variants():
            path = Path(folder) / f"scene.{suffix}"
            image.convert(mode).save(path, **options)
            said = subprocess.run([sys.executable, "-c", _CHILD, path], capture_output=True, text=True, check=True)
            writer.writerow([name, mode, SIDE * SIDE // 10**6, f"{float(said.stdout):.1f}"])
            path.unlink()


if __name__ == "__main__":
    main()
