"""Explanations of anomalous images, as PNG."""

from __future__ import annotations

import os
from typing import ClassVar

from oddsight.drawing.explanations import explanation
from oddsight.model.normals import NormalImages
from oddsight.model.result import Result
from oddsight.sinks.folders import FolderSink
from oddsight.sinks.sink import Run
from oddsight.sources.frame import Frame


class Explanations(FolderSink):
    """A folder of explanations of the anomalous images, as PNG; see :func:`oddsight.drawing.explanations.explanation`.

    Args:
        folder: The folder.
        normals: Small copies of normal images, to show what an image should have looked like.
    """

    what: ClassVar[str] = "explanations"

    def __init__(self, folder: str | os.PathLike[str], *, normals: NormalImages | None = None) -> None:
        super().__init__(folder)
        self._normals = normals

    def files(self, result: Result, frame: Frame, name: str, run: Run) -> dict[str, str]:
        """Write the explanation of an anomalous image."""
        if not result.anomalous:
            return {}
        return {"explanation": self.write_png(explanation(run.pixels(frame), result, self._normals), name)}
