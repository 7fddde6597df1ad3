"""Results as JSON Lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from oddsight.errors import ImageError
from oddsight.model.normals import NormalImages
from oddsight.runtime.files import atomic_write
from oddsight.sinks.sink import Prediction, Run, Write


class JsonLines:
    """A line of JSON for each image: what :meth:`oddsight.Result.to_json` gives and the files that other sinks wrote.

    Args:
        target: A path, which is written all at once or not at all, or an open text stream.
        normals: Small copies of normal images, which know where the most similar one was found.
    """

    def __init__(self, target: str | os.PathLike[str] | IO[str], *, normals: NormalImages | None = None) -> None:
        self._target, self._normals = target, normals

    @contextmanager
    def open(self, run: Run) -> Iterator[Write]:
        """Start the file."""
        if isinstance(self._target, str | os.PathLike):
            with atomic_write(self._target) as file:
                yield lambda prediction: _ignore(file.write(self._line(prediction).encode()))
        else:
            stream = self._target
            yield lambda prediction: _ignore(stream.write(self._line(prediction)))

    def _line(self, prediction: Prediction) -> str:
        outcome = prediction.outcome
        if isinstance(outcome, ImageError):
            content: dict[str, Any] = {"path": outcome.path, "error": outcome.reason}
        else:
            content = outcome.to_json() | {"nearest": self._nearest(outcome.nearest)}
            if prediction.files is not None:
                content["files"] = prediction.files
        return json.dumps(content, allow_nan=False) + "\n"

    def _nearest(self, content: str | None) -> dict[str, str | None] | None:
        if content is None:
            return None
        return {"content": content, "path": self._normals.path(content) if self._normals is not None else None}


def _ignore(_: int) -> None:
    """How many bytes were written, nobody asks."""
