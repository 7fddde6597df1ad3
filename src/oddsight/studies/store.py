"""What the steps of a study leave in its work folder, to be taken up again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from oddsight.fitting.assembly import versions
from oddsight.runtime.files import make_folder
from oddsight.runtime.records import Arrays, read_arrays, write_arrays

FORMAT = 2
"""Of what is kept; another one makes everything anew."""


def state_of(*parts: object) -> str:
    """All that a step depends on, as a digest: what another state left is not taken."""
    text = json.dumps([FORMAT, versions()["oddsight"], *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def taken(path: Path, state: str) -> Arrays | None:
    """What a step left, if it was made of the same; None if there is nothing, or nothing that can be read."""
    arrays = read_arrays(path)
    if arrays is None or "state" not in arrays or str(arrays.pop("state")) != state:
        return None
    return arrays


def keep(path: Path, state: str, arrays: Arrays) -> Arrays:
    """Leave what a step made, and return it.

    Raises:
        OddsightError: If it cannot be written.
    """
    make_folder(path.parent)
    write_arrays(path, {"state": np.array(state), **arrays})
    return arrays
