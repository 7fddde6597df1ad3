"""Lay real datasets out as folders of classes, for class_options.py: python benchmarks/class_sets.py DATA WORK.

Writes to WORK:

- ``cifar10``: the first 200 training images of each class of DATA/cifar10, which are Parquet files as on the Hugging
  Face hub.
- ``textures``: the images of DATA/textures/NAME, which has MVTec AD's layout, by what they show.
- ``landsat``: up to 16 tiles of 64 pixels of each Landsat scene that ships with Oddsight, by biome.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from data_sets import CIFAR10

SCENES = Path(__file__).parent.parent / "examples" / "landsat-clouds" / "images"
COUNT, SIDE = 200, 64


def cifar10(data: Path, work: Path) -> None:
    """The first images of each class."""
    from pyarrow.parquet import ParquetFile

    counts = [0] * len(CIFAR10)
    for batch in ParquetFile(data / "train-00000-of-00001.parquet").iter_batches(1000):
        for cell, label in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            if counts[label] < COUNT:
                folder = work / CIFAR10[label]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{counts[label]:04}.png").write_bytes(cell["bytes"])
                counts[label] += 1


def textures(data: Path, work: Path) -> None:
    """Links to the images, each once."""
    known: set[str] = set()
    for kind in sorted(data.iterdir()):
        for folder in [kind / "train" / "good", *(kind / "test").iterdir()]:
            name = kind.name if folder.name == "good" else folder.name
            (work / name).mkdir(parents=True, exist_ok=True)
            for image in sorted(folder.iterdir()):
                if image.name not in known:
                    known.add(image.name)
                    (work / name / image.name).symlink_to(image.resolve())


def landsat(work: Path) -> None:
    """Tiles of every scene."""
    for path in sorted(SCENES.glob("*.png")):
        scene = Image.open(path).convert("RGB")
        folder = work / path.name.split("_")[1]
        folder.mkdir(parents=True, exist_ok=True)
        for left in range(0, scene.width - SIDE + 1, SIDE):
            for top in range(0, scene.height - SIDE + 1, SIDE):
                tile = scene.crop((left, top, left + SIDE, top + SIDE))
                tile.save(folder / f"{path.stem}-{left}-{top}.png")


def main() -> None:
    """Write all sets."""
    data, work = map(Path, sys.argv[1:])
    cifar10(data / "cifar10", work / "cifar10")
    textures(data / "textures", work / "textures")
    landsat(work / "landsat")


if __name__ == "__main__":
    main()
