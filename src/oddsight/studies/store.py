"""What the steps of a study leave in its work folder, to be taken up again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import OddsightError
from oddsight.files import atomic_write
from oddsight.fitting import versions

FORMAT = 2
"""Of what is kept; another one makes everything anew."""

Arrays = dict[str, NDArray[Any]]


def state_of(*parts: object) -> str:
    """All that a step depends on, as a digest: what another state left is not taken."""
    text = json.dumps([FORMAT, versions()["oddsight"], *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def taken(path: Path, state: str) -> Arrays | None:
    """What a step left, if it was made of the same; None if there is nothing, or nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["state"]) != state:
                return None
            return {name: file[name] for name in file.files if name != "state"}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def keep(path: Path, state: str, arrays: Arrays) -> Arrays:
    """Leave what a step made, and return it.

    Raises:
        OddsightError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OddsightError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error
    with atomic_write(path) as file:
        np.savez(file, state=np.array(state), **arrays)  # type: ignore[arg-type]
    return arrays
