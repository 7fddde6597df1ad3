"""Cut the Landsat scenes into tiles and lay them out for Oddsight, as MVTec AD lays out its classes.

    python examples/landsat-clouds/tiles.py OUT

writes ``OUT/train/good`` and ``OUT/test/good`` (tiles without a cloudy pixel), ``OUT/test/cloudy`` (at least half
covered) and ``OUT/ground_truth/cloudy`` (their masks); tiles between clear and half covered go to ``OUT/partly``.
Nearly empty tiles (grey-level standard deviation below 2, as ``oddsight check`` reports them) are left out: saturated
snow and saturated cloud are the same white square. One clear tile in three is for testing, drawn by a hash of names.

Tiles of one scene are on both sides: the question is whether cloud is told from ground that was seen, not whether
unseen kinds of ground are recognised as such.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def main() -> None:
    """Write the tiles and say how many there are of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=Path, default=HERE, help="folder with images/ and masks/")
    parser.add_argument("--tile", type=int, default=32, help="side of a tile in pixels")
    options = parser.parse_args()
    clear, counts = [], Counter[str]()
    for scene in sorted((options.scenes / "images").glob("*.png")):
        image = Image.open(scene).convert("RGB")
        mask = Image.open(options.scenes / "masks" / scene.name).convert("L")
        for name, box in boxes(scene.stem, image.size, options.tile):
            tile, covered = image.crop(box), (np.asarray(mask.crop(box)) > 0).mean()
            if np.asarray(tile.convert("L")).std() < 2:
                counts["left out: nearly empty"] += 1
            elif covered == 0:
                clear.append((name, tile))
            elif covered >= 0.5:
                counts["test/cloudy"] += 1
                save(tile, options.out / "test" / "cloudy" / name)
                save(mask.crop(box), options.out / "ground_truth" / "cloudy" / name)
            else:
                counts["partly"] += 1
                save(tile, options.out / "partly" / name)
    clear.sort(key=lambda entry: hashlib.sha256(entry[0].encode()).hexdigest())
    for number, (name, tile) in enumerate(clear):
        part = "test/good" if number < len(clear) // 3 else "train/good"
        counts[part] += 1
        save(tile, options.out / part / name)
    for kind, count in sorted(counts.items()):
        print(f"{count:5d} {kind}")


def boxes(scene: str, size: tuple[int, int], side: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Names and places of the tiles of a scene."""
    width, height = size
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            yield f"{scene}_{top:03d}_{left:03d}.png", (left, top, left + side, top + side)


def save(image: Image.Image, path: Path) -> None:
    """Save an image, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


if __name__ == "__main__":
    main()
