"""What the search for near copies makes of real image sets, and of bursts of their images.

    python benchmarks/near_copies.py DATA > benchmarks/near_copies.csv

DATA holds folders of images; those of ``FOLDERS`` that are missing are left out. A row says how many groups the images
of a folder form: up to 400 as they are, or bursts of 12 of them, 6 shots each, which ought to form 12 groups of 6.
"""

from __future__ import annotations

import csv
import io
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.folder import find_images
from oddsight.data.near_copies import near_copies, sketch

FOLDERS = (
    "magnetic-tile/good",
    "bottle/train/good",
    "satellite/water",
    "satellite/green_area",
    "satellite/desert",
    "satellite/cloudy",
    "kolektor/train/good",
    "pcb/train/good",
    "textures/banded/train/good",
    "textures/cracked/train/good",
    "textures/crosshatched/train/good",
    "landsat-clouds/images",
    "ood/cifar100-2000",
)
IMAGES, THINGS, SHOTS = 400, 12, 6

Pixels = NDArray[np.uint8]
Random = np.random.Generator


def noisy(image: Pixels, chance: Random) -> Pixels:
    """With noise of a camera: a standard deviation of 2 grey levels."""
    return np.clip(image + chance.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def lit(image: Pixels, chance: Random) -> Pixels:
    """Up to 15 % brighter or darker, and up to 8 grey levels."""
    return np.clip(image * chance.uniform(0.85, 1.15) + chance.uniform(-8, 8), 0, 255).astype(np.uint8)


def moved(image: Pixels, chance: Random) -> Pixels:
    """Moved by up to 1 % of the longer side, in either direction."""
    most = 0.01 * max(image.shape)
    right, down = chance.uniform(-most, most, 2)
    shifted = Image.fromarray(image).transform(
        image.shape[1::-1], Image.Transform.AFFINE, (1, 0, right, 0, 1, down), Image.Resampling.BILINEAR
    )
    margin = int(np.ceil(most)) + 1
    return np.asarray(shifted)[margin:-margin, margin:-margin]


def compressed(image: Pixels, chance: Random) -> Pixels:
    """As JPEG of a quality from 50 to 80."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=int(chance.integers(50, 81)))
    return np.asarray(Image.open(buffer))


def shot(image: Pixels, chance: Random) -> Pixels:
    """All of these."""
    return compressed(noisy(lit(moved(image, chance), chance), chance), chance)


BURSTS: tuple[Callable[[Pixels, Random], Pixels], ...] = (noisy, lit, moved, compressed, shot)


def read(path: Path) -> Pixels:
    """RGB, at most 256 pixels a side."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((256, 256))
    return np.asarray(small)


def main(data: Path) -> None:
    """Write the table."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["folder", "what", "images", "groups", "largest", "images_in_groups"])
    for name in FOLDERS:
        if not (data / name).is_dir():
            continue
        paths = sorted(find_images(data / name).images)
        random.Random(0).shuffle(paths)
        images = [read(path) for path in paths[:IMAGES]]
        chance = np.random.default_rng(0)
        sets = {"as it is": images}
        for change in BURSTS:
            sets[change.__name__] = [change(image, chance) for image in images[:THINGS] for _ in range(SHOTS)]
        for what, shots in sets.items():
            sizes = np.unique(near_copies([sketch(image) for image in shots]), return_counts=True)[1]
            table.writerow([name, what, len(shots), len(sizes), sizes.max(), sizes[sizes > 1].sum()])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
