"""Ways to an anomaly map, side by side: python benchmarks/map_trials.py DATA WORK [--sets NAME,...].

Writes map_trials.csv, for docs/auto.md: pixel metrics and image AUROC (of the map's maximum) of maps of single
detectors, of their sums, and of what may be done to them. Each detector learns from three quarters of the normal
images of a dataset; the rest say what its distances are at normal places. Memory banks have 1,000 patches. The magnetic
tiles are drawn three times.
:mod:`data_sets` says what DATA holds; WORK keeps distances, to go on from after an interruption. Images of more than
400,000 pixels are compared with their masks at half of their sides.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from data_sets import drawn, magnetic, parts
from oddsight.backbones import backbone
from oddsight.data.collection import look
from oddsight.data.images import read_image
from oddsight.data.mask_files import read_mask
from oddsight.detectors import Rows, create
from oddsight.detectors.evidence import Tail
from oddsight.evaluation.maps import upscaled
from oddsight.fitting.sizing import input_size
from oddsight.graphs.building import chain
from oddsight.graphs.features import patches
from oddsight.graphs.preprocessing import preprocessing, sides
from oddsight.metrics.image import auroc
from oddsight.metrics.pixel import pixel_metrics
from oddsight.runtime.sessions import session

HERE = Path(__file__).parent
LITE0 = backbone("efficientnet-lite0")
STAGES = ("stage2", "stage3", "stage4", "stage5")
DETECTORS = {
    "patchcore 3+5": ("patchcore", ("stage3", "stage5"), 1),
    "patchcore 2+3": ("patchcore", ("stage2", "stage3"), 1),
    "padim 4+5": ("padim", ("stage4", "stage5"), 2),
    "padim 3+5": ("padim", ("stage3", "stage5"), 2),
    "mahalanobis 3+5": ("patch-mahalanobis", ("stage3", "stage5"), 1),
}
"""Of each: the method, the stages that it reads, and how many cells it averages to one a side."""
LARGE, UNSMOOTHED, BANK = 400_000, 0.05, 1000
MARGIN = 32
"""Pixels of reflected image around images, where borders are reflected; a multiple of every stride."""

Grid = NDArray[np.float32]
Grids = dict[str, list[Grid]]


@dataclass(frozen=True)
class Tests:
    """Normal images that no detector learned from, and test images with their masks.

    Attributes:
        held: The normal images.
        images: The test images.
        masks: Of each; none marks a normal image.
        anomalous: Whether each is.
    """

    held: list[Path]
    images: list[Path]
    masks: list[Path | None]
    anomalous: NDArray[np.bool_]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sets", help="names of datasets, separated by commas; by default all with masks")
    parser.add_argument("--csv", type=Path, default=HERE / "map_trials.csv")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    chosen = None if options.sets is None else options.sets.split(",")
    for name, folder in datasets(options.data, options.work):
        if chosen is None or name in chosen:
            rows += measured(name, folder, options.work)
            with options.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def datasets(data: Path, work: Path) -> Iterator[tuple[str, Path]]:
    """Those with masks, the tiles drawn three times."""
    for draw in range(3):
        folder = work / f"draw-{draw}"
        folder.mkdir(parents=True, exist_ok=True)
        yield f"magnetic-tile-{draw}", next(magnetic(data / "magnetic-tile", folder, draw))
    for folder in parts(data, work):
        if (folder / "ground_truth").is_dir() and folder.name != "magnetic-tile":
            yield folder.name, folder


def measured(name: str, folder: Path, work: Path) -> list[dict[str, object]]:
    """A row for each way."""
    learned, tests = split(folder)
    held, found = distances(learned, tests, work / f"{name}-distances.npz")
    rows = []
    for way, maps in ways(held, found, tests):

        def pairs(maps: Sequence[Grid] = maps) -> Iterator[tuple[Grid, NDArray[np.bool_]]]:
            for grid, image, mask in zip(maps, tests.images, tests.masks, strict=True):
                yield beside(grid, image, mask)

        exact = pixel_metrics(pairs)
        scores = np.array([grid.max() for grid in maps])
        values = {
            "pixel_auroc": exact.auroc,
            "aupro": exact.aupro,
            "pixel_f1_max": exact.f1_max,
            "auroc": auroc(scores[~tests.anomalous], scores[tests.anomalous]),
        }
        rows.append({"data": name, "way": way} | {key: f"{value:.4f}" for key, value in values.items()})
        print(*rows[-1].values(), flush=True)
    return rows


def split(folder: Path) -> tuple[list[Path], Tests]:
    """What detectors learn from, and what they are tried on."""
    held, learned = drawn(folder / "train" / "good", len(list((folder / "train" / "good").iterdir())) // 4, 0)
    return learned, tests_of(folder, held)


def tests_of(folder: Path, held: Sequence[Path] = ()) -> Tests:
    """The test images of a folder; anomalous images without a mask are left out."""
    normal = sorted((folder / "test" / "good").iterdir())
    pairs = []
    for kind in sorted((folder / "ground_truth").iterdir()):
        masks = {path.stem.removesuffix("_mask"): path for path in kind.iterdir()}
        own = sorted((folder / "test" / kind.name).iterdir())
        pairs += [(path, masks[path.stem]) for path in own if path.stem in masks]
    pairs = [(image, mask) for image, mask in pairs if np.asarray(Image.open(mask)).any()]
    images = [*normal, *(image for image, _ in pairs)]
    masks_of = [*(None for _ in normal), *(mask for _, mask in pairs)]
    return Tests(list(held), images, masks_of, np.arange(len(images)) >= len(normal))


def distances(learned: list[Path], tests: Tests, path: Path) -> tuple[Grids, Grids]:
    """Distances by each detector at each place, of normal images that were held out and of test images."""
    if not path.exists():
        names, arrays = [], []
        for margin in (0, MARGIN):
            read = extractor(learned, margin)
            train, others = (np.stack([read(path) for path in some]) for some in (learned, tests.held + tests.images))
            for name, (method, stages, cells) in DETECTORS.items():
                if not margin or name == "patchcore 3+5":
                    names.append(name + ", borders reflected" * bool(margin))
                    arrays.append(by(method, chosen(train, stages, cells), chosen(others, stages, cells)))
                    print(names[-1], flush=True)
            del train, others
        np.savez(path, **dict(zip(names, arrays, strict=True)))
    with np.load(path) as file:
        found = {name: list(file[name].astype(np.float32)) for name in file.files}
    count = len(tests.held)
    return ({name: own[:count] for name, own in found.items()}, {name: own[count:] for name, own in found.items()})


def extractor(learned: list[Path], margin: int) -> Callable[[Path], Grid]:
    """Patches of an image, ``[C, h, w]``, at the size that auto would choose; with a margin of reflected image."""
    size = input_size([look(path) for path in learned], LITE0, type(create("auto")), None)
    height, width = sides(size)
    large = (height + 2 * margin, width + 2 * margin)
    shapes = LITE0.shapes(STAGES, large)
    graph = chain([preprocessing(large), LITE0.graph(STAGES), patches(shapes, "stage3")], ["patches"])
    loaded, cut = session(graph.SerializeToString(), threads=2), margin // LITE0.stages["stage3"][0]

    def read(path: Path) -> Grid:
        image = read_image(path)
        if margin:
            more = [(round(margin * side / of),) * 2 for side, of in zip(image.shape, (height, width), strict=False)]
            image = np.pad(image, (*more, (0, 0)), mode="reflect")
        grid = loaded.run(None, {"image": image[None]})[0][0]
        return np.asarray(grid[:, cut : grid.shape[1] - cut, cut : grid.shape[2] - cut], np.float16)

    return read


def chosen(arrays: NDArray[np.float16], stages: Sequence[str], cells: int) -> NDArray[np.float16]:
    """The channels of some stages, ``[n, c, h, w]``, averaged over so many cells a side."""
    ends = np.cumsum([LITE0.stages[name][1] for name in STAGES])
    own = np.concatenate(
        [np.arange(end - LITE0.stages[name][1], end) for name, end in zip(STAGES, ends, strict=True) if name in stages]
    )
    some = arrays[:, own]
    count, channels, height, width = some.shape
    if cells == 1:
        return some
    some = some[:, :, : height // cells * cells, : width // cells * cells]
    split = some.reshape(count, channels, height // cells, cells, width // cells, cells)
    return split.mean(axis=(3, 5), dtype=np.float32).astype(np.float16)


def by(method: str, train: NDArray[np.float16], others: NDArray[np.float16]) -> NDArray[np.float16]:
    """Distances ``[n, h, w]`` of others by a detector that learned from the first; not smoothed."""
    settings = [f"sigma={UNSMOOTHED}", *([f"bank_size={BANK}"] if method == "patchcore" else [])]
    detector = create(method, settings=settings).fit(Half(train), memory=2**32, seed=0)
    loaded = session(detector.graph().SerializeToString(), threads=2)
    return np.stack([loaded.run(["anomaly_map"], {"patches": one[None].astype(np.float32)})[0][0] for one in others])


class Half(Rows):
    """Features in memory at half precision, as a stream."""

    def __iter__(self) -> Iterator[Grid]:
        return (one.astype(np.float32) for one in self.vectors)


def ways(held: Grids, found: Grids, tests: Tests) -> Iterator[tuple[str, list[Grid]]]:
    """Every way to a map, by name."""
    for name, grids in found.items():
        yield f"{name} alone", smoothed(grids, 1)
    names = list(DETECTORS)
    z = {name: standardised(held[name], grids) for name, grids in found.items()}
    for sigma in (0.5, 2, 3):
        yield f"patchcore 3+5 alone, sigma {sigma:g}", smoothed(found["patchcore 3+5"], sigma)
    yield "patchcore 3+5 per position", smoothed(by_position(held["patchcore 3+5"], found["patchcore 3+5"]), 1)
    yield "patchcore 3+5 less the image's median", smoothed([g - np.median(g) for g in found["patchcore 3+5"]], 1)
    yield (
        "patchcore 3+5 in units of the image's median",
        smoothed([g / np.median(g) for g in found["patchcore 3+5"]], 1),
    )
    sums = {
        "both patchcores": names[:2],
        "patchcore 3+5 and padim 4+5": [names[0], "padim 4+5"],
        "both patchcores and padim 4+5": [*names[:2], "padim 4+5"],
        "both patchcores and padim 3+5": [*names[:2], "padim 3+5"],
        "both patchcores and mahalanobis": [*names[:2], "mahalanobis 3+5"],
        "all": names,
    }
    for title, some in sums.items():
        yield f"mean of {title}", smoothed(mean([z[name] for name in some]), 1)
    fused = mean([z[name] for name in sums["both patchcores and padim 4+5"]])
    yield "mean of both patchcores and padim 4+5, sigma 2", smoothed(fused, 2)
    yield (
        "maximum of both patchcores",
        smoothed([np.maximum(*pair) for pair in zip(z[names[0]], z[names[1]], strict=True)], 1),
    )
    yield "stronger evidence of both patchcores", evidence(held, found, names[:2])
    yield (
        "mean of both patchcores and padim 4+5, guided by the image",
        [guided(grid, path) for grid, path in zip(smoothed(fused, 1), tests.images, strict=True)],
    )


def smoothed(grids: Sequence[Grid], sigma: float) -> list[Grid]:
    """Gaussian smoothing, in cells."""
    return [gaussian_filter(grid.astype(np.float32), sigma, mode="nearest", truncate=3.0) for grid in grids]


def standardised(held: Sequence[Grid], grids: Sequence[Grid]) -> list[Grid]:
    """Distances less their mean at normal places, in units of their standard deviation there."""
    normal = np.stack(held)
    return [(grid - normal.mean()) / normal.std() for grid in grids]


def by_position(held: Sequence[Grid], grids: Sequence[Grid]) -> list[Grid]:
    """The same for each position, with its neighbours."""
    normal = np.stack(held)
    middle = gaussian_filter(normal.mean(axis=0), 2, mode="nearest")
    spread = np.sqrt(gaussian_filter(((normal - middle) ** 2).mean(axis=0), 2, mode="nearest"))
    return [(grid - middle) / spread for grid in grids]


def mean(parts: Sequence[Sequence[Grid]]) -> list[Grid]:
    """The mean map of each image, on the grid of the first."""
    return [
        np.mean([upscaled(np.asarray(one, np.float32), own[0].shape[::-1]) for one in own], axis=0)
        for own in zip(*parts, strict=True)
    ]


def evidence(held: Grids, found: Grids, names: Sequence[str]) -> list[Grid]:
    """As auto does, but for weights and the evidence of whole images."""
    tails = {name: Tail.of(np.array([grid.max() for grid in smoothed(held[name], 1)], np.float64)) for name in names}
    each = [[np.logaddexp(0, tails[name].evidence(grid)) for grid in smoothed(found[name], 1)] for name in names]
    return [np.maximum(*pair).astype(np.float32) for pair in zip(*each, strict=True)]


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


def beside(grid: Grid, image: Path, mask: Path | None) -> tuple[Grid, NDArray[np.bool_]]:
    """A map and a mask of one size."""
    with Image.open(image) as opened:
        size = opened.size
    truth = np.zeros(size[::-1], bool) if mask is None else read_mask(mask, size)
    if truth.size > LARGE:
        height, width = (side // 2 * 2 for side in truth.shape)
        truth = truth[:height, :width].reshape(height // 2, 2, width // 2, 2).any(axis=(1, 3))
    return upscaled(np.asarray(grid, np.float32), truth.shape[::-1]), truth


if __name__ == "__main__":
    main()
