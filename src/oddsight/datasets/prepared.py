"""Reading what ``oddsight prepare`` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.datasets.class_folders import SPLITS
from oddsight.datasets.class_images import ClassImages
from oddsight.datasets.collection import Progress
from oddsight.datasets.stored import stored
from oddsight.errors import DataError, plain

STATISTICS = "statistics.json"
"""The file that tells a prepared folder from any other."""

FORMAT = "oddsight-prepared"


def prepared_statistics(path: Path) -> dict[str, Any] | None:
    """What ``statistics.json`` in a folder says, or None if ``prepare`` did not write it."""
    try:
        found = json.loads((path / STATISTICS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def is_prepared(path: Path) -> bool:
    """Whether ``prepare`` wrote this folder."""
    return prepared_statistics(path) is not None


def read_prepared(path: Path, progress: Progress) -> dict[str, ClassImages]:
    """Read the splits of a prepared folder. Their pictures stay on disk, mapped into memory.

    Raises:
        DataError: If the folder is not whole.
    """
    said = prepared_statistics(path)
    if said is None or said.get("complete") is not True:
        raise DataError(f"{path} is not whole, as preparing it was interrupted: run 'oddsight prepare' again")
    classes, named = said.get("classes"), said.get("splits")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{path / STATISTICS} names no classes")
    splits = {}
    for split in SPLITS:
        if isinstance(named, dict) and split in named:
            splits[split] = _split(path, split, tuple(classes))
            progress("reading", len(splits), len(named))
    if "train" not in splits:
        raise DataError(f"{path / STATISTICS} names no split called train")
    return splits


def _split(path: Path, split: str, classes: tuple[str, ...]) -> ClassImages:
    file = path / f"{split}-images.npy"
    images, labels = _array(file, "r"), _array(path / f"{split}-labels.npy", None)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.flags.c_contiguous:
        raise DataError(f"{file} does not hold uint8 [N, H, W, 3]")
    if labels.dtype != np.int64:
        raise DataError(f"{path / f'{split}-labels.npy'} does not hold int64 [N]")
    try:
        return ClassImages(
            tuple(stored(images, (f"{path.name}/{split}/{number}" for number in range(len(images))))), labels, classes
        )
    except DataError as error:
        raise DataError(f"{path}, {split}: {error}") from None


def _array(file: Path, mapped: Any) -> NDArray[Any]:  # noqa: ANN401
    try:
        found = np.load(file, mmap_mode=mapped, allow_pickle=False)
    # A damaged header raises SyntaxError, EOFError, ValueError, OverflowError, ...
    except Exception as error:
        raise DataError(f"{file} is missing or damaged: {plain(str(error))[:120]}") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{file} holds no single array")
    return found
