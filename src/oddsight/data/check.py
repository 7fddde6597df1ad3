"""Checking a folder of images before anything is learned from it: what is in it, and what is wrong with it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from oddsight.data.folder import Found, as_path, empty_folders, find_images, others_ignored
from oddsight.data.images import ImageHeader, content_hash, read_header, read_image
from oddsight.data.near_copies import near_copies, sketch
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError
from oddsight.runtime.parallel import ordered_map

EMPTY_DEVIATION = 2.0  # The standard deviation of the grey levels 0..255 below which an image is nearly empty

BLUR_SIDE = 256  # The longer side, in pixels, to which an image is reduced before its sharpness is measured

BLUR_FRACTION = 0.1  # The fraction of the folder's median sharpness below which an image counts as blurred

GIVEAWAY_SHARE = 0.5  # The difference between two sub-folders' shares from which a property could give a class away

GIVEAWAY_IMAGES = 4  # Sub-folders with fewer images than this are not compared

_COMMON_SIZES = 5


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, or a folder or link that leads nowhere."""

    path: str
    reason: str


@dataclass(frozen=True)
class Alike:
    """Images that are the same, or nearly so, and whether they lie in more than one sub-folder."""

    paths: tuple[str, ...]
    crosses_subfolders: bool


@dataclass(frozen=True)
class Kinds:
    """What kinds of images there are among those that could be read. Counts go by value, the commonest first."""

    # The least, the median and the greatest in pixels; None if there are no images
    width: tuple[int, float, int] | None
    height: tuple[int, float, int] | None  # Likewise
    sizes: dict[str, int]  # Images by `width x height`, the five commonest only
    modes: dict[str, int]  # Images by Pillow's mode
    bit_depths: dict[str, int]  # Images by bits a channel
    formats: dict[str, int]  # Images by format


@dataclass(frozen=True)
class Subfolder:
    """What one folder holds itself, without its sub-folders: ``images`` files, of which some may be unreadable."""

    path: str
    images: int
    unreadable: int
    kinds: Kinds


@dataclass(frozen=True)
class CheckReport:
    """What :func:`check` found. Paths are relative to the folder (which is ``.`` itself), with forward slashes."""

    folder: str  # The folder, as it was named
    images: int  # Files that count as images
    ignored: int  # Other files and hidden folders, which were passed over
    kinds: Kinds  # Sizes, modes, bit depths and formats over all sub-folders
    subfolders: tuple[Subfolder, ...]  # The folders that hold images
    unreadable: tuple[Unreadable, ...]  # What could not be read, and why
    duplicates: tuple[Alike, ...]  # Groups of images with exactly the same pixels
    # Groups of images that look nearly the same, see `oddsight.data.near_copies.near_copies`; of exact duplicates only
    # the first is compared. A fit on the folder keeps the images of a group together.
    near_duplicates: tuple[Alike, ...]
    nearly_empty: tuple[str, ...]  # Images of next to one grey level: its standard deviation is below `EMPTY_DEVIATION`
    blurred: tuple[str, ...]  # Images far less sharp than is usual in the folder
    notes: tuple[str, ...]  # Warnings in words, above all of what could give a class away without a look at the pixels

    def to_json(self) -> dict[str, Any]:
        """The report as what ``json.dumps`` takes and ``json.loads`` gives back."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return content


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of one readable image."""

    path: str
    subfolder: str
    header: ImageHeader
    content: str
    sketch: bytes
    deviation: float
    sharpness: float  # NaN for images under 3 pixels wide or high

    @property
    def size(self) -> str:
        return f"{self.header.width} x {self.header.height}"


def check(
    folder: str | os.PathLike[str],
    *,
    reading: Reading = AS_DECLARED,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Look at every image in a folder and report what could spoil a training on it.

    Example:
        >>> report = oddsight.check("parts")
        >>> report.images, report.unreadable
        (24, ())

    An image is *blurred* if the variance of its Laplacian, a measure of sharpness, is below a tenth of the median over
    the folder's images. Both are measured on the grey image reduced to at most 256 pixels a side, so that images of
    different resolutions are comparable and noise counts less; nearly empty images are left out. This is a hint only:
    plain objects are never sharp.

    Images are read in as many threads as there are processors, and only a small copy of each is kept (1 KB).

    Args:
        folder: The folder, searched like :func:`~oddsight.data.folder.find_images`.
        reading: Bands and scale of TIFF files.
        progress: Called in this thread as ``progress(done, total)`` after each image.

    Raises:
        DataError: The folder is missing or has no image.
    """
    root = as_path(folder, "a folder")
    found = _found(root)
    outcomes: list[_Look | Unreadable] = []
    for outcome in ordered_map(partial(_look_at, root=root, reading=reading), found.images):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(found.images))
    looks = [outcome for outcome in outcomes if isinstance(outcome, _Look)]
    unreadable = [Unreadable(_relative(Path(problem.path), root), problem.reason) for problem in found.problems]
    unreadable += [outcome for outcome in outcomes if isinstance(outcome, Unreadable)]
    same = _grouped(looks, lambda look: look.content).values()
    empty = [f"{_relative(Path(problem.path), root)} is an empty folder" for problem in empty_folders(root)]
    return CheckReport(
        folder=os.fsdecode(folder),
        images=len(found.images),
        ignored=found.ignored,
        kinds=_kinds(looks),
        subfolders=_subfolders(found.images, looks, root),
        unreadable=tuple(unreadable),
        duplicates=tuple(_alike(group) for group in same if len(group) > 1),
        near_duplicates=_near_duplicates([group[0] for group in same]),
        nearly_empty=tuple(look.path for look in looks if look.deviation < EMPTY_DEVIATION),
        blurred=_blurred(looks),
        notes=(*_notes(looks), *empty),
    )


def _found(root: Path) -> Found:
    if os.path.isfile(root):  # noqa: PTH113 - Path's methods raise where the way there is barred
        raise DataError(f"{root} is a file, not a folder")
    if not os.path.isdir(root):  # noqa: PTH112
        raise DataError(f"no such folder: {root}")
    found = find_images(root)
    if not found.images:
        reason = f": {found.problems[0]}" if found.problems else ""
        raise DataError(f"no images in {root}{others_ignored(found.ignored)}{reason}")
    return found


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _look_at(path: Path, root: Path, reading: Reading) -> _Look | Unreadable:
    name = _relative(path, root)
    try:
        header = read_header(path)
        image = read_image(path, reading=reading)
        content = content_hash(image)
        grey = Image.fromarray(image).convert("L")
        del image
        small = sketch(np.asarray(grey))
        deviation = ImageStat.Stat(grey).stddev[0]
        grey.thumbnail((BLUR_SIDE, BLUR_SIDE))
        sharpness = _sharpness(np.asarray(grey))
        return _Look(name, _relative(path.parent, root), header, content, small, deviation, sharpness)
    except ImageError as error:
        return Unreadable(name, error.reason)


def _sharpness(grey: NDArray[np.uint8]) -> float:
    """The variance of the Laplacian; NaN where there is no inner pixel."""
    if min(grey.shape) < 3:
        return float("nan")
    from scipy.ndimage import laplace

    return float(laplace(grey.astype(np.float32))[1:-1, 1:-1].var())


def _counts(values: Iterator[str], most: int | None = None) -> dict[str, int]:
    """How often each value occurs, the commonest first."""
    return dict(Counter(sorted(values)).most_common(most))


def _kinds(looks: Sequence[_Look]) -> Kinds:
    return Kinds(
        width=_spread([look.header.width for look in looks]),
        height=_spread([look.header.height for look in looks]),
        sizes=_counts((look.size for look in looks), _COMMON_SIZES),
        modes=_counts(look.header.mode for look in looks),
        bit_depths=_counts(str(look.header.bit_depth) for look in looks),
        formats=_counts(look.header.format for look in looks),
    )


def _spread(values: list[int]) -> tuple[int, float, int] | None:
    return (min(values), float(np.median(values)), max(values)) if values else None


def _grouped(looks: Sequence[_Look], key: Callable[[_Look], str]) -> dict[str, list[_Look]]:
    groups: dict[str, list[_Look]] = {}
    for look in looks:
        groups.setdefault(key(look), []).append(look)
    return groups


def _subfolders(paths: Sequence[Path], looks: Sequence[_Look], root: Path) -> tuple[Subfolder, ...]:
    readable = _grouped(looks, lambda look: look.subfolder)
    counts = Counter(_relative(path.parent, root) for path in paths)
    return tuple(
        Subfolder(name, images, images - len(readable.get(name, [])), _kinds(readable.get(name, [])))
        for name, images in sorted(counts.items())
    )


def _alike(looks: Sequence[_Look]) -> Alike:
    return Alike(tuple(look.path for look in looks), len({look.subfolder for look in looks}) > 1)


def _near_duplicates(distinct: Sequence[_Look]) -> tuple[Alike, ...]:
    labels = near_copies([look.sketch for look in distinct])
    groups = (np.flatnonzero(labels == label).tolist() for label in np.flatnonzero(np.bincount(labels) > 1))
    return tuple(_alike([distinct[at] for at in group]) for group in groups)


def _blurred(looks: Sequence[_Look]) -> tuple[str, ...]:
    measured = [look for look in looks if look.deviation >= EMPTY_DEVIATION and not np.isnan(look.sharpness)]
    if not measured:
        return ()
    limit = BLUR_FRACTION * float(np.median([look.sharpness for look in measured]))
    return tuple(look.path for look in measured if look.sharpness < limit)


def _notes(looks: Sequence[_Look]) -> tuple[str, ...]:
    subfolders = _grouped(looks, lambda look: look.subfolder)
    groups = {name: group for name, group in subfolders.items() if len(group) >= GIVEAWAY_IMAGES}
    notes = [
        _giveaway("size", groups, lambda look: look.size) or _larger(groups),
        _giveaway("colour mode", groups, lambda look: look.header.mode),
        _giveaway("bit depth", groups, lambda look: f"{look.header.bit_depth} bits"),
        _giveaway("format", groups, lambda look: look.header.format),
    ]
    if several := sum(look.header.frames > 1 for look in looks):
        notes.append(f"{several:,} files have several frames or pages, of which only the first is read")
    return tuple(note for note in notes if note)


def _giveaway(what: str, groups: dict[str, list[_Look]], value_of: Callable[[_Look], str]) -> str | None:
    """Find the value whose share differs most between two sub-folders, and say so if it could give them away."""
    shares = {
        name: {value: count / len(group) for value, count in Counter(map(value_of, group)).items()}
        for name, group in groups.items()
    }
    best = (0.0, "", "", "")
    # Where shares differ by a half, the value is the commonest of one of the two.
    for value in sorted({max(share, key=share.__getitem__) for share in shares.values()}):
        most = max(shares, key=lambda name: shares[name].get(value, 0.0))
        least = min(shares, key=lambda name: shares[name].get(value, 0.0))
        best = max(best, (shares[most].get(value, 0.0) - shares[least].get(value, 0.0), value, most, least))
    difference, value, most, least = best
    if difference < GIVEAWAY_SHARE:
        return None
    return (
        f"the {what} alone could give a sub-folder away: {value} in {shares[most][value]:.0%} of the images of {most}, "
        f"in {shares[least].get(value, 0.0):.0%} of those of {least}"
    )


def _larger(groups: dict[str, list[_Look]]) -> str | None:
    """Compare the sub-folders of the smallest and the largest images, where no two sizes need be the same."""
    pixels = {
        name: np.sort([look.header.width * look.header.height for look in group]) for name, group in groups.items()
    }
    if len(pixels) < 2:
        return None
    low = min(pixels, key=lambda name: float(np.median(pixels[name])))
    high = max(pixels, key=lambda name: float(np.median(pixels[name])))
    limits = np.concatenate([pixels[low], pixels[high]])
    shares = [np.searchsorted(pixels[name], limits, side="right") / len(pixels[name]) for name in (low, high)]
    at = int(np.argmax(shares[0] - shares[1]))
    if shares[0][at] - shares[1][at] < GIVEAWAY_SHARE:
        return None
    return (
        f"the size alone could give a sub-folder away: at most {limits[at]:,} pixels in {shares[0][at]:.0%} of the "
        f"images of {low}, in {shares[1][at]:.0%} of those of {high}"
    )
