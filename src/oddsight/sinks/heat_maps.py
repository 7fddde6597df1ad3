"""Heat maps over the images."""

from __future__ import annotations

from typing import ClassVar

from oddsight.drawing.overlays import overlay
from oddsight.model.result import Result
from oddsight.sinks.folders import FolderSink
from oddsight.sinks.sink import Run
from oddsight.sources.frame import Frame


class HeatMaps(FolderSink):
    """A folder of heat maps over the images, as PNG."""

    what: ClassVar[str] = "heat maps"
    needs_map: ClassVar[bool] = True

    def files(self, result: Result, frame: Frame, name: str, run: Run) -> dict[str, str]:
        """Write a heat map; a decision over the batch keeps the maps of possible alarms only."""
        if result.map is None:
            return {}
        return {"map": self.write_png(overlay(run.pixels(frame), result), name)}
