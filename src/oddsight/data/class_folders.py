"""Labelled images in files: folders that are classes, and a folder with a table of labels as Kaggle has it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from oddsight.data.collection import ImageFile, look
from oddsight.data.dataset import Dataset
from oddsight.data.folder import empty_folders, find_images, is_image_file
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, plain
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, track
from oddsight.runtime.records import read_table

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
"""The names that splits go by in folders and files."""

_TABLE = "trainLabels.csv"


def is_class_folders(path: Path) -> bool:
    """Whether the path holds class folders, or a folder ``train`` of them."""
    return path.is_dir() and (len(_class_folders(path)) > 1 or "train" in _splits(path))


def read_class_folders(path: Path, progress: Progress, reading: Reading = AS_DECLARED) -> dict[str, Dataset]:
    """Read ``PATH/CLASS/...``, or ``PATH/train/CLASS/...`` and so on: all splits must have the same classes.

    Raises:
        DataError: If they have not, or nothing of a split can be read.
    """
    found = _splits(path)
    if "train" not in found:
        return {"train": _read_folders(path, progress, reading)}
    splits = {split: _read_folders(folder, progress, reading) for split, folder in found.items()}
    classes = splits["train"].classes
    for split, data in splits.items():
        odd = sorted({*classes} ^ {*data.classes})
        if odd:
            raise DataError(
                f"{path}: train and {split} must have the same classes, but {plain(odd[0])!r} is in one of them only"
            )
    return splits


def is_labelled_by_table(path: Path) -> bool:
    """Whether the path holds ``trainLabels.csv`` and a folder ``train``."""
    return (path / _TABLE).is_file() and (path / "train").is_dir()


def read_labelled_by_table(path: Path, progress: Progress, reading: Reading = AS_DECLARED) -> dict[str, Dataset]:
    """Read ``PATH/train/ID.png`` with classes from ``PATH/trainLabels.csv`` (its columns: ``id``, ``label``).

    Images without a label and labels without an image are errors of the result.

    Raises:
        DataError: If the table cannot be read or nothing else can.
    """
    labels = _table(path / _TABLE)
    classes = tuple(sorted(set(labels.values())))
    if len(classes) < 2:
        raise DataError(f"{path / _TABLE} names fewer than two classes")
    found = find_images(path / "train")
    known = [(file, classes.index(labels[file.stem])) for file in found.images if file.stem in labels]
    errors = [*found.problems]
    errors += [ImageError(str(file), f"has no label in {_TABLE}") for file in found.images if file.stem not in labels]
    there = {file.stem for file in found.images}
    errors += [
        ImageError(str(path / "train" / name), f"is named in {_TABLE} but is not there")
        for name in labels
        if name not in there
    ]
    return {"train": _read(known, classes, errors, path, progress, reading)}


def _table(path: Path) -> dict[str, str]:
    """Labels by the names of images without suffix."""
    with read_table(path) as file:
        rows = csv.DictReader(file, strict=True)
        if not {"id", "label"} <= {*(rows.fieldnames or ())}:
            raise DataError(f"{path} needs the columns id and label")
        labels: dict[str, str] = {}
        for row in rows:
            name, label = row["id"], row["label"]
            if not name or not label:
                raise DataError(f"{path}, line {rows.line_num}: an id or a label is missing")
            if labels.setdefault(name, label) != label:
                raise DataError(f"{path} gives {plain(name)} two labels")
    return labels


def _splits(path: Path) -> dict[str, Path]:
    """The folders called like splits that hold class folders.

    One of them may be a class of that name, with images of its own and in folders, beside others: so where there are
    other class folders, a split holds no images but those of its classes.
    """
    folders = _class_folders(path)
    named = {folder: split for split, names in SPLITS.items() for folder in folders if folder.name.lower() in names}
    return {
        split: folder
        for folder, split in named.items()
        if _class_folders(folder) and (len(named) == len(folders) or not any(map(is_image_file, folder.iterdir())))
    }


def _class_folders(path: Path) -> list[Path]:
    """The folders with at least one image in them, by name."""
    entries = sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name != "__MACOSX")
    return [entry for entry in entries if not entry.name.startswith(".") and _holds_images(entry)]


def _holds_images(folder: Path) -> bool:
    """Whether an image lies in the folder or in one below it, links followed as in :func:`find_images`."""
    seen = set()
    for place, below, files in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if any(is_image_file(Path(place, name)) for name in files):
            return True
        below[:] = [name for name in below if not name.startswith(".") and name != "__MACOSX"]
    return False


def _read_folders(path: Path, progress: Progress, reading: Reading) -> Dataset:
    folders = _class_folders(path)
    found = find_images(path)
    index = {folder.name: number for number, folder in enumerate(folders)}
    errors = [*found.problems, *empty_folders(path)]
    known = []
    for file in found.images:
        name = file.relative_to(path).parts[0]
        if name in index:
            known.append((file, index[name]))
        else:
            errors.append(ImageError(str(file), "lies in no folder of a class"))
    return _read(known, tuple(index), errors, path, progress, reading)


def _read(
    files: Iterable[tuple[Path, int]],
    classes: tuple[str, ...],
    errors: list[ImageError],
    path: Path,
    progress: Progress,
    reading: Reading,
) -> Dataset:
    """Read every image once; those that cannot be read join ``errors``."""
    files = list(files)
    looks = ordered_map(partial(look, reading=reading), [file for file, _ in files])
    looks = track(looks, f"reading {path.name}", len(files), progress)
    entries = list(zip(looks, (label for _, label in files), strict=True))
    images = [(image, label) for image, label in entries if isinstance(image, ImageFile)]
    errors += [error for error, _ in entries if isinstance(error, ImageError)]
    if not images:
        reason = f"; the first of {len(errors):,} problems is {errors[0]}" if errors else ""
        raise DataError(f"none of the images in {path} can be read{reason}")
    labels = np.array([label for _, label in images], np.int64)
    return Dataset(tuple(image for image, _ in images), labels, classes, tuple(errors))
