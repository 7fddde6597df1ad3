"""Finished cells: what a comparison or a study computed is kept in a folder, under all that it depends on.

A cell is one ``.npz`` file of arrays, and of facts that JSON can hold, with a digest of its content. What was damaged,
edited or made of something else counts as missing, and is computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.runtime.files import make_folder
from oddsight.runtime.records import Arrays, read_arrays, write_arrays

_FORMAT = 3  # Of cells; another one makes everything anew

_LIBRARIES = ("oddsight", "numpy", "onnxruntime", "scikit-learn")


def key_of(*parts: object) -> str:
    """A digest of everything that a cell depends on; versions of libraries are always among it."""
    text = json.dumps([_FORMAT, *map(version, _LIBRARIES), *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def read_cell(path: Path, key: str) -> Arrays | None:
    """The arrays of a cell; None if there is none of this key."""
    arrays = read_arrays(path)
    return None if arrays is None or str(arrays.pop("key", "")) != key else arrays


def write_cell(path: Path, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep a cell.

    Raises:
        OddsightError: If it cannot be written.
    """
    make_folder(path.parent)
    write_arrays(path, {"key": np.array(key), **arrays})


def compute_once(path: Path, key: str, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of a cell, which is computed and kept where there is none of this key."""
    arrays = read_cell(path, key)
    if arrays is None:
        arrays = compute()
        write_cell(path, key, arrays)
    return arrays


def pack(facts: Mapping[str, Any]) -> NDArray[np.str_]:
    """What JSON can hold as an array of a cell."""
    return np.array(json.dumps(facts))


def unpack(array: NDArray[Any]) -> dict[str, Any]:
    """What :func:`pack` was given."""
    facts: dict[str, Any] = json.loads(str(array))
    return facts
