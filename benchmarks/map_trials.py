"""Ways to the anomaly map of auto, side by side: python benchmarks/map_trials.py DATA WORK [--sets NAME,...].

Writes map_trials.csv, for docs/auto.md: pixel metrics, and the AUROC of the map's maximum, of maps that are made in
other ways of the evidence inside one fitted model, and of PaDiM's; of some also the F1 of regions in flagged images.
What is normal at a position is said by some training images. :mod:`data_sets` says what DATA holds; WORK keeps models
and evidence, to go on from after an interruption. Maps and masks are compared at a whole fraction of the images' sides
that leaves at most 10,000 pixels, in which all of a pixel counts as anomalous if part of it is: quick enough for many
ways. localisation.py measures at full size.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

import oddsight
from data_sets import drawn, landsat, parts, progress
from oddsight.data.images import read_image
from oddsight.data.mask_files import read_mask
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.image import auroc
from oddsight.metrics.pixel import pixel_metrics
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
TOGETHER = "oddsight/{}/together"
"""Evidence of a detector of places before it is made positive, in a model of auto."""
MAP = "oddsight/places_0"
"""What these detectors say together."""
PIXELS = 10_000

Grid = NDArray[np.float32]


@dataclass(frozen=True)
class Tests:
    """Test images with their masks.

    Attributes:
        images: All of them.
        masks: Of each; none marks a normal image.
        anomalous: Whether each is.
    """

    images: list[Path]
    masks: list[Path | None]
    anomalous: NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """What is known of images ``n``, each a map ``[n, h, w]`` but the strongest.

    Attributes:
        patches: What this detector of places says.
        details: This one.
        positions: And this.
        together: What they say together.
        map: The map of the model.
        strongest: The strongest evidence of all voices, ``[n]``.
        padim: The map of another model.
    """

    patches: Grid
    details: Grid
    positions: Grid
    together: Grid
    map: Grid
    strongest: Grid
    padim: Grid


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sets", help="names of datasets, separated by commas; by default all with masks")
    parser.add_argument("--tests", type=int, help="test images, at most so many normal and anomalous ones each")
    parser.add_argument("--held", type=int, default=40, help="training images that say what is normal")
    parser.add_argument("--csv", type=Path, default=HERE / "map_trials.csv")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    names = None if options.sets is None else options.sets.split(",")
    for folder in (*parts(options.data, options.work), *landsat(options.work)):
        if (folder / "ground_truth").is_dir() and (names is None or folder.name in names):
            rows += measured(folder, options.work, options.tests, options.held)
            with options.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def measured(folder: Path, work: Path, count: int | None, held_out: int) -> list[dict[str, object]]:
    """A row for each way."""
    tests, learned = tests_of(folder, count), drawn(folder / "train" / "good", held_out, 0)[0]
    held, found = (evidence(folder, work, which, own) for which, own in (("train", learned), ("test", tests.images)))
    truths = [truth(image, mask) for image, mask in zip(tests.images, tests.masks, strict=True)]
    flagged = found.strongest > np.quantile(found.strongest[~tests.anomalous], 0.95)
    normal = combined(held)
    rows = []
    for way, maps in ways(held, found, tests):
        sized = [
            upscaled(np.asarray(grid, np.float32), one.shape[::-1]) for grid, one in zip(maps, truths, strict=True)
        ]
        exact = pixel_metrics(lambda sized=sized: zip(sized, truths, strict=True))
        scores = np.array([grid.max() for grid in maps])
        values = {
            "pixel_auroc": exact.auroc,
            "aupro": exact.aupro,
            "pixel_f1_max": exact.f1_max,
            "auroc": auroc(scores[~tests.anomalous], scores[tests.anomalous]),
        }
        if way in normal:
            values["region_f1"] = region_f1(normal[way], sized, truths, flagged)
        counts = {"normal": int((~tests.anomalous).sum()), "anomalous": int(tests.anomalous.sum())}
        row = {"data": folder.name, **counts, "way": way, **{key: f"{value:.4f}" for key, value in values.items()}}
        rows.append({**row, "region_f1": row.get("region_f1", "")})
        print(*row.values(), flush=True)
    return rows


def region_f1(
    normal: Grid, maps: Sequence[Grid], truths: Sequence[NDArray[np.bool_]], flagged: NDArray[np.bool_]
) -> float:
    """F1 of the pixels in regions of flagged images, cut as in oddsight.model.regions."""
    middle, most = np.median(normal), np.quantile(normal, 0.99)
    right = wrong = 0
    for grid, true, said in zip(maps, truths, flagged, strict=True):
        region = (grid > max(middle + 0.4 * (grid.max() - middle), most)) & said
        right += 2 * int((region & true).sum())
        wrong += int((region != true).sum())
    return right / (right + wrong)


def evidence(folder: Path, work: Path, which: str, images: Sequence[Path]) -> Evidence:
    """What voices say of images."""
    path = work / f"{folder.name}-{which}-evidence.npz"
    if not path.exists():
        names = [*(TOGETHER.format(name) for name in ("patches", "details", "positions")), MAP, "anomaly_map"]
        proto = onnx.load_from_string(model(folder, "auto", work).to_bytes())
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names[:-1])
        auto = session(proto.SerializeToString(), threads=2)
        padim = model(folder, "padim", work)
        rows = []
        for image in images:
            pixels = read_image(image)
            *places, voices = auto.run([*names, "evidence"], {"image": pixels[None]})
            rows.append([*(one[0] for one in places), voices[0].max(), padim.predict(pixels).map])
        arrays = dict(zip(Evidence.__annotations__, zip(*rows, strict=True), strict=True))
        np.savez(path, **{name: np.stack(values) for name, values in arrays.items()})
    with np.load(path) as file:
        return Evidence(**{name: file[name] for name in file.files})


def model(folder: Path, method: str, work: Path) -> oddsight.Model:
    """A model of the normal images, as localisation.py makes it."""
    path = work / f"{folder.name}-{method}.onnx"
    if not path.exists():
        options = {"false_alarm_rate": 0.05, "memory": "3GB", "progress": progress}
        oddsight.fit(folder / "train" / "good", method=method, **options).save(path)
    return oddsight.load(path)


def tests_of(folder: Path, count: int | None = None) -> Tests:
    """The test images of a folder, or so many normal and anomalous ones; those without a mask are left out."""
    normal = sorted((folder / "test" / "good").iterdir())
    pairs = []
    for kind in sorted((folder / "ground_truth").iterdir()):
        masks = {path.stem.removesuffix("_mask"): path for path in kind.iterdir()}
        own = sorted((folder / "test" / kind.name).iterdir())
        pairs += [(path, masks[path.stem]) for path in own if path.stem in masks]
    pairs = [(image, mask) for image, mask in pairs if np.asarray(Image.open(mask)).any()]
    normal, pairs = (some if count is None else sampled(some, count) for some in (normal, pairs))
    images = [*normal, *(image for image, _ in pairs)]
    masks_of = [*(None for _ in normal), *(mask for _, mask in pairs)]
    return Tests(images, masks_of, np.arange(len(images)) >= len(normal))


def sampled(items: list[Any], count: int) -> list[Any]:
    """Some, drawn at random."""
    return random.Random(0).sample(items, min(count, len(items)))


def ways(held: Evidence, found: Evidence, tests: Tests) -> Iterator[tuple[str, Grid | list[Grid]]]:
    """Every way to a map, by name."""
    yield from combined(found).items()
    yield "places alone", found.together
    yield "patches alone", found.patches
    yield "details alone", found.details
    yield "positions alone", found.positions
    yield "PaDiM alone", found.padim
    both = (found.patches + found.details) / 2
    yield "mean of patches and details", both
    yield (
        "mean of patches and details, peak raised to the score, power 4",
        raised(softplus(both), found.strongest[:, None, None], 4),
    )
    for sigma in (1, 2):
        yield f"mean of patches and details, smoothed by {sigma} more cells", smoothed(both, sigma)
    yield "mean of patches and details, without the outermost ring of cells", without_border(both)
    yield "mean of patches and details, per position", by_position((held.patches + held.details) / 2, both)
    yield "mean of patches and details, less the image's median", both - np.median(both, axis=(1, 2), keepdims=True)
    yield (
        "mean of patches and details, guided by the image",
        [guided(*pair) for pair in zip(both, tests.images, strict=True)],
    )
    z = [standardised(getattr(held, name), getattr(found, name)) for name in ("patches", "details", "padim")]
    fused = np.stack(
        [np.mean([upscaled(one, both.shape[:0:-1]) for one in own], axis=0) for own in zip(*z, strict=True)]
    )
    yield "mean of standardised evidence of patches, details and PaDiM", fused
    yield "the same, smoothed by 1 more cell", smoothed(fused, 1)
    first = np.stack(
        [np.mean([one, upscaled(two, one.shape[::-1])], axis=0) for one, two in zip(z[0], z[2], strict=True)]
    )
    yield "mean of standardised evidence of patches and PaDiM", first


def combined(found: Evidence) -> dict[str, Grid]:
    """What the three detectors of places say together, in several ways, and as it is in the model."""
    three = softplus(np.stack([found.patches, found.details, found.positions]))
    strongest = found.strongest[:, None, None]
    maps = {"as it is": found.map}
    for name, together in (
        ("strongest evidence", three.max(axis=0)),
        ("root of the sum of squares", np.sqrt((three**2).sum(axis=0))),
        ("mean", three.mean(axis=0)),
        ("geometric mean", np.exp(np.log(np.maximum(three, 1e-3)).mean(axis=0))),
        ("geometric mean by shares", found.together),
    ):
        maps[f"{name} of the three, scaled to the score"] = raised(together, strongest, 1)
        maps[f"{name} of the three, not scaled"] = together
        for power in (2, 4):
            maps[f"{name} of the three, raised to the score, power {power}"] = raised(together, strongest, power)
    return maps


def softplus(values: Grid) -> Grid:
    """Positive, as in the model."""
    return np.logaddexp(np.float32(0), values)


def raised(maps: Grid, strongest: Grid, power: int) -> Grid:
    """Maps whose maximum is the strongest evidence, and which are otherwise as they were."""
    peak = maps.max(axis=(1, 2), keepdims=True)
    return maps + (strongest - peak) * (maps / peak) ** power


def smoothed(maps: Grid, sigma: float) -> Grid:
    """Gaussian smoothing, in cells."""
    return gaussian_filter(maps, (0, sigma, sigma), mode="nearest", truncate=3.0)


def without_border(maps: Grid) -> Grid:
    """The outermost ring of cells replaced by the next one."""
    return np.pad(maps[:, 1:-1, 1:-1], ((0, 0), (1, 1), (1, 1)), mode="edge")


def by_position(held: Grid, maps: Grid) -> Grid:
    """Less the mean of normal images at each position and its neighbours, in units of the standard deviation there."""
    middle = gaussian_filter(held.mean(axis=0), 2, mode="nearest")
    spread = np.sqrt(gaussian_filter(((held - middle) ** 2).mean(axis=0), 2, mode="nearest"))
    return (maps - middle) / spread


def standardised(held: Grid, maps: Grid) -> Grid:
    """Less the mean of normal places, in units of their standard deviation."""
    return (maps - held.mean()) / held.std()


def guided(grid: Grid, path: Path, cells: float = 1.5, smallest: float = 0.01) -> Grid:
    """A map at the size of a grey image, its edges moved to those of the image (He et al., ECCV 2010)."""
    image = Image.open(path).convert("L")
    scale = min(1.0, 4 * max(grid.shape) / max(image.size))
    guide = (
        np.asarray(image.resize([round(side * scale) for side in image.size], Image.Resampling.BOX), np.float32) / 255
    )
    values = upscaled(grid, guide.shape[::-1])
    blur = partial(uniform_filter, size=2 * round(cells * guide.shape[0] / grid.shape[0] / 2) + 1)
    slope = (blur(guide * values) - blur(guide) * blur(values)) / (blur(guide**2) - blur(guide) ** 2 + smallest)
    return np.asarray(blur(slope) * guide + blur(blur(values) - slope * blur(guide)), np.float32)


def truth(image: Path, mask: Path | None) -> NDArray[np.bool_]:
    """Which pixels are anomalous, on a coarser grid."""
    with Image.open(image) as opened:
        size = opened.size
    marked = np.zeros(size[::-1], bool) if mask is None else read_mask(mask, size)
    step = math.ceil(math.sqrt(marked.size / PIXELS))
    height, width = (side // step * step for side in marked.shape)
    return marked[:height, :width].reshape(height // step, step, width // step, step).any(axis=(1, 3))


if __name__ == "__main__":
    main()
