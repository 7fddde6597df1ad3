"""How much memory and time it takes to read an image: each in a process of its own, by format and mode.

    python benchmarks/decoding_memory.py > benchmarks/decoding_memory.csv

Peak memory is what the process grew by while it read the image, in bytes for each pixel. ``counted`` is what the
program reserves before it decodes, from the header alone.
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

SIDE = 2000

_CHILD = """
import sys, time
from oddsight.data.decoding import set_image_limits
from oddsight.data.images import read_image
set_image_limits(timeout=0, memory=10**11)

def kilobytes():  # not what getrusage says, which starts from the parent's
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

before, start = kilobytes(), time.perf_counter()
image = read_image(sys.argv[1])
print(1024 * (kilobytes() - before) / (image.size / 3), time.perf_counter() - start)
"""


def variants() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Format, mode, suffix and options of Pillow's ``save``."""
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield "PNG", mode, "png", {}
    yield "PNG palette with transparency", "P", "png", {"transparency": 1}
    yield "JPEG", "L", "jpg", {}
    yield "JPEG", "CMYK", "jpg", {}
    for name, progressive in (("JPEG", False), ("JPEG progressive", True)):
        for sampling in ("4:2:0", "4:4:4"):
            yield f"{name} {sampling}", "RGB", "jpg", {"subsampling": sampling, "progressive": progressive}
    yield "JPEG turned", "RGB", "jpg", {"exif": _turned()}
    for lossless in (False, True):
        for mode in ("RGB", "RGBA"):
            yield f"WebP {'lossless' if lossless else 'lossy'}", mode, "webp", {"lossless": lossless, "method": 0}
    for mode in ("RGB", "RGBA"):
        yield "AVIF", mode, "avif", {"speed": 10}
    for mode in ("L", "RGB", "RGBA", "I;16"):
        yield "JPEG 2000", mode, "jp2", {}
    for mode in ("L", "RGB", "RGBA", "I;16", "CMYK"):
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
            yield f"TIFF {compression}", mode, "tif", {"compression": compression}
    yield "TIFF jpeg", "RGB", "tif", {"compression": "jpeg"}
    yield "BMP", "RGB", "bmp", {}
    yield "PPM", "RGB", "ppm", {}
    yield "GIF", "P", "gif", {}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def sample(mode: str) -> Image.Image:
    """An image of soft shapes and some noise."""
    down, across = np.mgrid[:SIDE, :SIDE] / 90
    noise = np.random.default_rng(0).integers(0, 8, (SIDE, SIDE))
    grey = (120 + 60 * np.sin(down) * np.cos(across) + noise).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16) * 257)
    colour = Image.fromarray(np.stack([grey, grey[::-1], grey.T], axis=2))
    if mode in ("LA", "RGBA"):
        colour.putalpha(Image.fromarray(grey.T.copy()))
    return colour.quantize(64) if mode == "P" else colour.convert(mode)


def extra_files(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Kinds that Pillow does not write."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from image_files import png

    for kind, mode, samples in ((0, "16-bit grey", 1), (2, "16-bit RGB", 3), (6, "16-bit RGBA", 4)):
        row = np.linspace(0, 65535, SIDE * samples).astype(">u2").tobytes()
        path = folder / f"deep{kind}.png"
        path.write_bytes(png(SIDE, SIDE, 16, kind, [row] * SIDE))
        yield "PNG", mode, path


def main() -> None:
    """Write the table to standard output."""
    from oddsight.data.decoding import bytes_to_decode

    table = csv.writer(sys.stdout)
    table.writerow(
        ["format", "mode", "file_bytes_per_pixel", "peak_bytes_per_pixel", "counted", "seconds_per_megapixel"]
    )
    with tempfile.TemporaryDirectory() as temporary:
        files = list(extra_files(Path(temporary)))
        for number, (name, mode, suffix, options) in enumerate(variants()):
            path = Path(temporary) / f"{number}.{suffix}"
            sample(mode).save(path, **options)
            files.append((name, mode, path))
        for name, mode, path in files:
            done = subprocess.run([sys.executable, "-c", _CHILD, path], capture_output=True, text=True, check=True)
            peak, seconds = map(float, done.stdout.split())
            pixels = SIDE * SIDE
            own = path.stat().st_size / pixels
            with Image.open(path) as image:
                counted = bytes_to_decode(image) / pixels
            table.writerow([name, mode, f"{own:.2f}", f"{peak:.1f}", f"{counted:.1f}", f"{seconds / pixels * 1e6:.4f}"])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
