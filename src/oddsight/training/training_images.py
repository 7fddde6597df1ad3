"""The images that a backbone is adapted to: distinct, with classes where folders name them, divided in two."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oddsight.data.class_images import ClassImages, stratified
from oddsight.data.collection import Collection, collect
from oddsight.data.folder import is_image_file
from oddsight.errors import DataError, ImageError
from oddsight.runtime.progress import Progress, silent

FEWEST = 8  # The fewest distinct images that a backbone is adapted to


@dataclass(frozen=True)
class TrainingImages:
    """Images to learn from and to validate on."""

    training: ClassImages  # Learned from
    validation: ClassImages  # Kept out; part of each class where there are classes
    classes: tuple[str, ...]  # Their names; empty where the images have none
    fingerprint: str  # SHA-256 over the contents of all images and their classes, hex
    errors: tuple[ImageError, ...]  # Files that could not be read


Folder = str | os.PathLike[str]


def has_class_folders(paths: Sequence[Folder]) -> bool:
    """Whether the paths are folders that hold at least two folders with images in them, and no images beside those."""
    roots = [Path(path) for path in paths]
    if not all(root.is_dir() for root in roots):
        return False
    entries = [entry for root in roots for entry in root.iterdir() if not entry.name.startswith(".")]
    if any(is_image_file(entry) for entry in entries):
        return False
    return len({entry.name for entry in entries if entry.is_dir() and any(map(is_image_file, entry.rglob("*")))}) > 1


def gather(
    paths: Sequence[Folder], *, labelled: bool, validation: float, seed: int, progress: Progress = silent
) -> TrainingImages:
    """Read every image once, name its class, and set some aside for validation by content.

    Args:
        paths: Files, folders (walked) and globs; folders only if ``labelled``.
        labelled: Whether the folders in ``paths`` are classes.
        validation: Share of the images (of each class) for validation, rounded up; above 0 and below 1.
        seed: Of the division.
        progress: Called with phase, done and total.

    Raises:
        DataError: Too few images or classes, one image in two classes, or folders that mix training and test images.
    """
    _refuse_test_images(paths)
    collection = collect(*paths, progress=progress)
    count, where = len(collection.images), ", ".join(str(path) for path in paths)
    if count < FEWEST:
        raise DataError(f"{where} holds {count} distinct images, and adapting a backbone needs at least {FEWEST}")
    names = _class_names(paths, collection) if labelled else {}
    classes = tuple(sorted(set(names.values())))
    if labelled:
        _check_classes(classes, names, where)
    labels = np.array([classes.index(names[image.content]) if labelled else 0 for image in collection.images])
    data = ClassImages(tuple(collection.images), labels, classes or ("",))
    training, held = stratified(data, validation, seed)
    if not all(training.counts().values()):
        raise DataError(f"a validation share of {validation:g} leaves no images to train on: choose a smaller one")
    fingerprint = data.fingerprint if labelled else collection.fingerprint
    return TrainingImages(training, held, classes, fingerprint, collection.errors)


def _refuse_test_images(paths: Sequence[Folder]) -> None:
    """What a backbone has learned from cannot judge it, and a folder of a benchmark holds both sorts."""
    for root in map(Path, paths):
        if (root / "train").is_dir() and (root / "test").is_dir():
            raise DataError(f"{root} holds training and test images: name {root / 'train'} or a folder in it")


def _class_names(paths: Sequence[Folder], collection: Collection) -> dict[str, str]:
    """Names of classes by the contents of images."""
    names: dict[str, str] = {}
    seen: dict[str, Path] = {}
    for image in (*collection.images, *collection.duplicates):
        name = _class_of(image.path, paths)
        if names.setdefault(image.content, name) != name:
            raise DataError(f"{seen[image.content]} and {image.path} are the same image in different classes")
        seen.setdefault(image.content, image.path)
    return names


def _class_of(path: Path, paths: Sequence[Folder]) -> str:
    for root in map(Path, paths):
        if root.is_dir() and path.is_relative_to(root):
            inside = path.relative_to(root).parts
            if len(inside) > 1:
                return inside[0]
    raise DataError(f"{path} is in no folder that names its class: it must lie in DATA/CLASS/; or use --unlabelled")


def _check_classes(classes: Sequence[str], names: dict[str, str], where: str) -> None:
    if len(classes) < 2:
        raise DataError(f"{where} holds one class, {classes[0]}: learning classes takes two or more; use --unlabelled")
    name, count = min(Counter(names.values()).items(), key=lambda entry: entry[1])
    if count < 2:
        raise DataError(f"the class {name} in {where} has one distinct image, and each class needs at least 2")
