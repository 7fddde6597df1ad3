"""Outlines and masks of what is anomalous."""

from __future__ import annotations

from typing import ClassVar

from oddsight.model.result import Result
from oddsight.scenes.region_files import write_regions
from oddsight.sinks.folders import FolderSink
from oddsight.sinks.sink import Run
from oddsight.sources.frame import Frame


class Regions(FolderSink):
    """A folder of outlines (GeoJSON) and masks (PNG; GeoTIFF of georeferenced images) of anomalous images."""

    what: ClassVar[str] = "regions"
    needs_map: ClassVar[bool] = True

    def files(self, result: Result, frame: Frame, name: str, run: Run) -> dict[str, str]:
        """Read from the image what its result lacks, and write the regions."""
        if not result.anomalous:
            return {}
        written = write_regions(result, run.open(frame), self.folder, name)
        return dict(zip(("outline", "mask", "geotiff"), map(str, written), strict=False))
