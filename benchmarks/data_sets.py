"""Lay real datasets out as MVTec AD does, by links: train/good, test/good, test/TYPE, ground_truth/TYPE.

DATA holds any of these folders; those that are missing are left out:

- ``magnetic-tile``: ``good``, ``defect/TYPE``, ``mask/TYPE``. 400 normal tiles to fit, the others to test.
- ``bottle``: MVTec AD's layout.
- ``satellite``: ``cloudy`` (normal) against ``desert``, ``green_area``, ``water``. Everything is first brought to
  64 x 64 RGB, as sizes and colour modes differ by class. 1,000 cloudy images to fit, the others to test.
- ``kolektor``, ``pcb``, ``textures/NAME``: MVTec AD's layout.
- ``cifar10``: Parquet files as on the Hugging Face hub (reading them takes pyarrow). Each class once as the normal one:
  500 of its training images to fit, 150 of its test images and 17 of each other class to test.

The Landsat tiles that ship with Oddsight are always there, at 32 and 64 pixels.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TILES = Path(__file__).parent.parent / "examples" / "landsat-clouds" / "tiles.py"


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is full: what was interrupted is begun anew."""
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(out)


def link(images: list[Path], folder: Path) -> None:
    """A folder of links to images."""
    folder.mkdir(parents=True)
    for image in images:
        (folder / image.name).symlink_to(image.resolve())


def drawn(folder: Path, count: int, draw: int) -> tuple[list[Path], list[Path]]:
    """``count`` images drawn at random, and the others."""
    images = sorted(folder.iterdir())
    random.Random(draw).shuffle(images)
    return images[:count], images[count:]


def shrunk(folder: Path, out: Path, most: int) -> Path:
    """A folder of up to ``most`` images of another one, drawn at random, brought to 64 x 64 RGB."""
    images, _ = drawn(folder, most, 0)
    out.mkdir(parents=True)
    for image in images:
        Image.open(image).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR).save(out / f"{image.stem}.png")
    return out


def landsat(work: Path) -> Iterator[Path]:
    """Tiles of the scenes that ship with Oddsight."""
    for side in (32, 64):
        out = work / f"landsat-{side}"
        if not out.exists():
            subprocess.run([sys.executable, TILES, out, "--tile", str(side)], check=True, stdout=subprocess.DEVNULL)
        yield out


def magnetic(data: Path, work: Path, draw: int = 0) -> Iterator[Path]:
    """Magnetic tiles, the normal ones of a draw."""
    out = work / "magnetic-tile"
    if not out.exists():
        fit, test = drawn(data / "good", 400, draw)
        with whole(out) as part:
            link(fit, part / "train" / "good")
            link(test, part / "test" / "good")
            for kind in sorted((data / "defect").iterdir()):
                link(sorted(kind.iterdir()), part / "test" / kind.name)
                link(sorted((data / "mask" / kind.name).iterdir()), part / "ground_truth" / kind.name)
    yield out


def satellite(data: Path, work: Path) -> Iterator[Path]:
    """Cloudy scenes against each other class."""
    shared = work / "satellite-64"
    if not shared.exists():
        with whole(shared) as part:
            shrunk(data / "cloudy", part / "cloudy", 10_000)
    for kind in ("desert", "green_area", "water"):
        out = work / f"satellite-{kind}"
        if not out.exists():
            fit, test = drawn(shared / "cloudy", 1000, 0)
            with whole(out) as part:
                link(fit, part / "train" / "good")
                link(test, part / "test" / "good")
                shrunk(data / kind, part / "test" / kind, 500)
        yield out


def cifar10(data: Path, work: Path) -> Iterator[Path]:
    """Each class once as the normal one."""
    from pyarrow import parquet

    files = {split: next(data.glob(f"{split}-*.parquet")) for split in ("train", "test")}
    for split, file in files.items():
        for number, row in enumerate(parquet.read_table(file).to_pylist()):
            image = work / "cifar10" / split / CIFAR10[row["label"]] / f"{number:05}.png"
            if not image.exists():
                image.parent.mkdir(parents=True, exist_ok=True)
                Image.open(io.BytesIO(row["img"]["bytes"])).save(image)
    for name in CIFAR10:
        out = work / f"cifar10-{name}"
        if not out.exists():
            with whole(out) as part:
                link(sorted((work / "cifar10" / "train" / name).iterdir())[:500], part / "train" / "good")
                for other in CIFAR10:
                    images = sorted((work / "cifar10" / "test" / other).iterdir())
                    if other == name:
                        link(images[:150], part / "test" / "good")
                    else:
                        link(images[:17], part / "test" / other)
        yield out


def panel(data: Path, work: Path) -> list[Path]:
    """Every dataset that is there but CIFAR-10."""
    found = list(landsat(work))
    if (data / "bottle").is_dir():
        found.append(data / "bottle")
    if (data / "magnetic-tile").is_dir():
        found += magnetic(data / "magnetic-tile", work)
    if (data / "satellite").is_dir():
        found += satellite(data / "satellite", work)
    return found


def parts(data: Path, work: Path) -> list[Path]:
    """Datasets of parts and textures, whose defects are small, or whose normal images are a kind of thing."""
    found = [data / name for name in ("kolektor", "pcb", "bottle") if (data / name).is_dir()]
    if (data / "magnetic-tile").is_dir():
        found += magnetic(data / "magnetic-tile", work)
    return found + sorted((data / "textures").glob("*/"))


def progress(phase: str, done: int, total: int) -> None:
    """A line now and then."""
    if done == total or done % 200 == 0:
        print(f"{phase}: {done} of {total}", flush=True)
