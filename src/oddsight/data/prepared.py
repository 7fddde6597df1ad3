"""Reading what ``oddsight prepare`` wrote."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.data.class_folders import SPLITS
from oddsight.data.class_images import ClassImages
from oddsight.data.stored import stored
from oddsight.errors import DataError
from oddsight.runtime.progress import Progress
from oddsight.runtime.records import DIGEST, digest_json, read_regular

STATISTICS = "statistics.json"  # The file that tells a prepared folder from any other

FORMAT = "oddsight-prepared"

MOST = 10_000_000  # Images of a split that are read, at most: each takes about a kilobyte of memory

_LARGEST = 2**28  # Bytes of `statistics.json`, at most


def prepared_statistics(path: Path) -> dict[str, Any] | None:
    """What ``statistics.json`` in a folder says, or None if ``prepare`` did not write it."""
    try:
        found = json.loads(read_regular(path / STATISTICS, _LARGEST))
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def is_prepared(path: Path) -> bool:
    """Whether ``prepare`` wrote this folder, even if its statistics are damaged."""
    named = os.path.lexists(path / STATISTICS) and os.path.lexists(path / "train-images.npy")
    return named or prepared_statistics(path) is not None


def read_prepared(path: Path, progress: Progress) -> dict[str, ClassImages]:
    """Read the splits of a prepared folder. Their images stay on disk, mapped into memory."""
    said = prepared_statistics(path)
    if said is None:
        raise DataError(f"{path / STATISTICS} is damaged: run 'oddsight prepare' again")
    if said.get("complete") is not True:
        raise DataError(f"{path} is incomplete, because preparing it was interrupted: run 'oddsight prepare' again")
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
    _check_digests(path, said, splits)
    return splits


def digest_of(contents: Iterable[str], labels: NDArray[np.int64]) -> str:
    """SHA-256 over contents of images (:func:`oddsight.data.images.content_hash`) and their labels, in order."""
    state = hashlib.sha256("".join(contents).encode())
    state.update(labels.astype("<i8").tobytes())
    return state.hexdigest()


def _check_digests(path: Path, said: dict[str, Any], splits: dict[str, ClassImages]) -> None:
    known, again = said.get("digests"), "run 'oddsight prepare' again"
    if not isinstance(known, dict) or DIGEST not in said:
        raise DataError(f"{path} was prepared by an older Oddsight, which kept no digests: {again}")
    if said[DIGEST] != digest_json(said):
        raise DataError(f"{path / STATISTICS} is damaged or was edited: {again}")
    for split, data in splits.items():
        if known.get(split) != digest_of((image.content for image in data.images), data.labels):
            raise DataError(f"the images or labels of {path}, {split}, are damaged or were edited: {again}")


def _split(path: Path, split: str, classes: tuple[str, ...]) -> ClassImages:
    file = path / f"{split}-images.npy"
    images, labels = _array(file), _array(path / f"{split}-labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.flags.c_contiguous:
        raise DataError(f"{file} does not hold uint8 [N, H, W, 3]")
    if not images.size:
        raise DataError(f"{file} holds no pixels: its shape is {images.shape}")
    if len(images) > MOST:
        raise DataError(f"{file} holds {len(images):,} images, more than the limit of {MOST:,}")
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise DataError(f"{path / f'{split}-labels.npy'} does not hold int64 [N]")
    if len(labels) != len(images):
        raise DataError(f"{path}, {split}: there are {len(images):,} images but {len(labels):,} labels")
    names = (f"{path.name}/{split}/{number}" for number in range(len(images)))
    try:
        return ClassImages(tuple(stored(images, names)), np.array(labels), classes)
    except DataError as error:
        raise DataError(f"{path}, {split}: {error}") from None


def _array(file: Path) -> NDArray[Any]:
    """An array that stays on disk, whatever its header promises."""
    if not file.is_file():  # a pipe might never end
        raise DataError(f"{file} is missing or damaged: no such file, or not a regular one")
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    # A damaged header raises SyntaxError, EOFError, ValueError, OverflowError, ... and NumPy's advice is not for here.
    except Exception as error:
        raise DataError(f"{file} is missing or damaged: not an array that 'prepare' wrote") from error
    if not isinstance(found, np.ndarray):
        raise DataError(f"{file} does not hold a single array")
    return found
