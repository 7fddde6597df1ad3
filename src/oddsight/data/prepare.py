"""Writing labelled images once in the forms that others read: arrays, tables, Parquet, and what is known of them.

``prepare`` writes into a folder, for each split (``train``, ``validation``, ``test``):

- ``SPLIT-images.npy``: uint8 ``[N, H, W, 3]``, RGB.
- ``SPLIT-normalised.npy``: float32 ``[N, 3, H, W]``: values of 0..1 minus the training images' mean, divided by their
  standard deviation, of each channel.
- ``SPLIT-labels.npy``: int64 ``[N]``; ``SPLIT-one-hot.npy``: uint8 ``[N, K]``.
- ``SPLIT.npz``: ``images``, ``labels`` and ``classes`` together.
- ``SPLIT.csv``: which image is where: its index, source, class, and the SHA-256 of its source's pixels.
- ``SPLIT.parquet``: PNGs and labels, laid out as on the Hugging Face hub.

and ``statistics.json``. Every array is read with ``allow_pickle=False``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.class_folders import SPLITS
from oddsight.data.class_images import ClassImages, Repeat, repeats
from oddsight.data.classes import form_of, read_classes, stratified
from oddsight.data.collection import ImageFile
from oddsight.data.folder import as_path
from oddsight.data.images import content_hash
from oddsight.data.parquet_files import can_write_parquet, write_parquet
from oddsight.data.prepared import FORMAT, STATISTICS, digest_of, is_prepared
from oddsight.errors import DataError, ImageError, OddsightError, plain
from oddsight.runtime.bounds import check_number, check_seed
from oddsight.runtime.csv_tables import csv_table
from oddsight.runtime.files import atomic_write, make_folder, write_bytes
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent, track
from oddsight.runtime.records import write_record

_PARTS = ("-images.npy", "-normalised.npy", "-labels.npy", "-one-hot.npy", ".npz", ".csv", ".parquet")
_BLOCK = 2**24  # bytes of images that are normalised or copied at a time


@dataclass(frozen=True)
class Preparation:
    """A prepared dataset.

    Attributes:
        folder: The folder of the dataset.
        form: The form of the original images.
        splits: The images, by split.
        size: Height and width of all images, in pixels.
        mean: Mean of each channel over the training images, from 0 to 1.
        std: Standard deviation of each channel, likewise.
        repeats: Images that occur more than once.
        errors: Images that could not be read.
        parquet: Whether Parquet files were written, which needs pyarrow.
    """

    folder: Path
    form: str
    splits: dict[str, ClassImages]
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    repeats: tuple[Repeat, ...]
    errors: tuple[ImageError, ...]
    parquet: bool


def prepare(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    size: int | None = None,
    validation: float = 0.0,
    normalised: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Preparation:
    """Read labelled images in any form and write them for reuse.

    Memory does not grow with the number of images, except for reading some forms (CIFAR-10's own files: 200 MB).

    Args:
        data: The images, as for :func:`~oddsight.data.classes.read_classes`.
        output: A folder: new, empty, or written by ``prepare`` before, in which case its files are replaced.
        size: Side in pixels to which images are resized (Pillow's antialiased bilinear filter). With None, images keep
            their size, which must be the same for all.
        validation: Share of each class of the training images to split off as ``validation``, chosen by content.
        normalised: Whether to write normalised arrays, too, which take four times the space of the images.
        seed: Seed of the split.
        progress: Called with phase, done and total.

    Raises:
        DataError: The images cannot be read, differ in size, or are too few to be split.
        OddsightError: A setting is invalid, or the folder holds other files or cannot be written.
    """
    data, folder = as_path(data, "a dataset"), as_path(output, "a folder to write to")
    _check(folder, data, size, validation, seed)
    form = form_of(data).name
    splits = read_classes(data, progress=progress)
    errors = tuple(error for split in splits.values() for error in split.errors)
    if validation:
        splits = _split_off(splits, validation, seed)
    shape = (size, size) if size is not None else _shared_size(splits)
    make_folder(folder)
    write_record(folder / STATISTICS, {"format": FORMAT, "complete": False})
    digests = {
        split: digest_of(_write_images(folder / f"{split}-images.npy", images, shape, progress), images.labels)
        for split, images in splits.items()
    }
    mean, std = _statistics(_mapped(folder, "train"))
    found = Preparation(folder, form, splits, shape, mean, std, tuple(repeats(splits)), errors, can_write_parquet())
    written = set().union(*(_write_split(found, split, data, normalised, progress) for split in splits))
    for stale in {split + part for split in SPLITS for part in _PARTS} - written:
        (folder / stale).unlink(missing_ok=True)
    settings = {"size": size, "validation": validation, "normalised": normalised, "seed": seed}
    write_record(folder / STATISTICS, {**_described(found, settings, data), "digests": digests})
    return found


def _check(folder: Path, data: Path, size: int | None, validation: float, seed: int) -> None:
    check_seed(seed)
    check_number(validation, "the share for validation")
    if size is not None and (not isinstance(size, int) or not 1 <= size <= 2**14):
        raise OddsightError(f"the size must be from 1 to {2**14:,} pixels, not {size!r}")
    if not 0 <= validation < 1:
        raise OddsightError(f"the share for validation must be at least 0 and below 1, not {validation:g}")
    if folder.exists() and not folder.is_dir():
        raise OddsightError(f"{folder} is a file: name a folder to write to")
    if folder.is_dir() and any(folder.iterdir()) and not is_prepared(folder):
        raise OddsightError(f"{folder} holds other files, which 'prepare' did not write: name a new or an empty folder")
    if _contains(folder, data):
        raise OddsightError(f"{folder} cannot be read and written at once: name another folder to write to")
    if _contains(data, folder):
        raise OddsightError(f"{folder} lies in {data}, where it would be read the next time: name a folder elsewhere")


def _contains(folder: Path, other: Path) -> bool:
    """Whether ``other`` is the folder, or is or would be in it."""
    real = other.resolve()
    return folder.exists() and any(one.exists() and one.samefile(folder) for one in (real, *real.parents))


def _split_off(splits: dict[str, ClassImages], share: float, seed: int) -> dict[str, ClassImages]:
    if "validation" in splits:
        raise OddsightError("the images have a validation split already: leave out the share to split off")
    training, held = stratified(splits["train"], share, seed)
    empty = [name for name, count in training.counts().items() if not count and splits["train"].counts()[name]]
    if empty:
        raise DataError(
            f"a validation share of {share:g} leaves no image of {plain(empty[0])!r} to train on: choose a smaller one"
        )
    return {"train": training, "validation": held, **{name: splits[name] for name in splits if name != "train"}}


def _shared_size(splits: Mapping[str, ClassImages]) -> tuple[int, int]:
    first = next(iter(splits.values())).images[0]
    for data in splits.values():
        for image in data.images:
            if (image.height, image.width) != (first.height, first.width):
                raise DataError(
                    f"images differ in size ({first.path} has {first.width} x {first.height} pixels, {image.path} "
                    f"{image.width} x {image.height}): choose one size for all, such as --size 64"
                )
    return first.height, first.width


def _write_split(found: Preparation, split: str, data: Path, normalised: bool, progress: Progress) -> set[str]:
    """Write all but the images of a split; the names of its files."""
    folder, images = found.folder, found.splits[split]
    pixels, names = _mapped(folder, split), [_name(image, data) for image in images.images]
    _write_tables(folder, split, images, names)
    with atomic_write(folder / f"{split}.npz", follow_links=False) as file:
        classes = np.array(images.classes, np.str_)
        np.savez(file, allow_pickle=False, images=pixels, labels=images.labels, classes=classes)
    if normalised:
        _write_normalised(folder / f"{split}-normalised.npy", pixels, found, progress)
    if found.parquet:
        with atomic_write(folder / f"{split}.parquet", follow_links=False) as file:
            write_parquet(file, track(pixels, f"writing {split}.parquet", len(pixels), progress), names, images)
    left_out = {"-normalised.npy": not normalised, ".parquet": not found.parquet}
    return {split + part for part in _PARTS if not left_out.get(part)}


def _write_header(file: IO[bytes], dtype: str, *shape: int) -> None:
    """Write what an .npy file begins with, before the values."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


def _write_images(path: Path, data: ClassImages, size: tuple[int, int], progress: Progress) -> list[str]:
    """Write pixels, and return the contents of what was written."""

    def sized(image: ImageFile) -> NDArray[np.uint8]:
        pixels = image.read()
        if pixels.shape[:2] == size:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))

    contents = []
    with atomic_write(path, follow_links=False) as file:
        _write_header(file, "|u1", len(data), *size, 3)
        images = ordered_map(sized, data.images)
        for pixels in track(images, f"writing {path.name}", len(data), progress):
            file.write(np.ascontiguousarray(pixels).data)
            contents.append(content_hash(pixels))
    return contents


def _mapped(folder: Path, split: str) -> NDArray[np.uint8]:
    return np.asarray(np.load(folder / f"{split}-images.npy", mmap_mode="r", allow_pickle=False))


def _blocks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    rows = max(1, _BLOCK // (images[0].size * 4))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel in 0..1, from exact sums."""
    counts = np.zeros((3, 256), np.int64)
    for block in _blocks(images):
        for channel in range(3):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values, pixels = np.arange(256), images.size // 3
    total, squares = (counts @ values).tolist(), (counts @ values**2).tolist()
    mean = [part / pixels / 255 for part in total]
    # In whole numbers until the end, as the difference of two large ones has few digits left otherwise.
    std = [(pixels * more - part**2) ** 0.5 / pixels / 255 for part, more in zip(total, squares, strict=True)]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _write_normalised(path: Path, images: NDArray[np.uint8], found: Preparation, progress: Progress) -> None:
    """Write ``(x / 255 - mean) / std``; a channel without any variation becomes 0."""
    values, spread = np.arange(256)[:, None] / 255, [value or 1.0 for value in found.std]
    table = ((values - np.asarray(found.mean)) / np.asarray(spread)).astype("<f4")
    count, height, width, _ = images.shape
    with atomic_write(path, follow_links=False) as file:
        _write_header(file, "<f4", count, 3, height, width)
        done = 0
        for block in _blocks(images):
            channels = [table[:, channel][block[..., channel]] for channel in range(3)]
            file.write(np.stack(channels, axis=1).data)
            done += len(block)
            progress(f"writing {path.name}", done, count)


def _write_tables(folder: Path, split: str, data: ClassImages, names: Sequence[str]) -> None:
    one_hot = (data.labels[:, None] == np.arange(len(data.classes))).astype(np.uint8)
    for name, array in (("labels", data.labels), ("one-hot", one_hot)):
        with atomic_write(folder / f"{split}-{name}.npy", follow_links=False) as file:
            np.save(file, array, allow_pickle=False)
    rows = [
        (index, name, data.classes[label], image.content)
        for index, (image, name, label) in enumerate(zip(data.images, names, data.labels.tolist(), strict=True))
    ]
    table = csv_table(["index", "source", "class", "content"], rows)
    write_bytes(folder / f"{split}.csv", table, follow_links=False)


def _name(image: ImageFile, data: Path) -> str:
    """Where an image comes from, without the folders above the data, which are of one machine."""
    path = image.path
    name = (path.relative_to(data) if path.is_relative_to(data) else path).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()


def _described(found: Preparation, settings: Mapping[str, Any], data: Path) -> dict[str, Any]:
    def placed(repeats: Iterable[Repeat]) -> list[list[dict[str, Any]]]:
        return [
            [
                {
                    "split": place.split,
                    "index": place.index,
                    "name": _name(found.splits[place.split].images[place.index], data),
                    "class": place.label,
                }
                for place in repeat.places
            ]
            for repeat in repeats
        ]

    height, width = found.size
    return {
        "format": FORMAT,
        "complete": True,
        "form": found.form,
        "settings": dict(settings),
        "classes": list(next(iter(found.splits.values())).classes),
        "height": height,
        "width": width,
        "mean": list(found.mean),
        "std": list(found.std),
        "splits": {
            split: {"images": len(images), "counts": images.counts(), "fingerprint": images.fingerprint}
            for split, images in found.splits.items()
        },
        "duplicates": {
            "within splits": placed(repeat for repeat in found.repeats if not repeat.leaks),
            "between splits": placed(repeat for repeat in found.repeats if repeat.leaks),
            "between classes": placed(repeat for repeat in found.repeats if repeat.contradicts),
        },
        "unreadable": [{"name": plain(error.path), "reason": error.reason} for error in found.errors],
        "versions": {
            "oddsight": version("oddsight"),
            "numpy": np.__version__,
            "pillow": version("pillow"),
            "python": platform.python_version(),
        },
    }
