"""Writing regions: GeoJSON, and masks as PNG and GeoTIFF."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from oddsight.model.regions import Region, Ring
from oddsight.model.result import Result
from oddsight.runtime.result_files import write_result
from oddsight.scenes.georeference import TAGS, TEXTS, Georeference
from oddsight.scenes.scene_image import SceneImage

_ROWS = 64
_ROWS_PER_STRIP = 278


def write_regions(result: Result, image: SceneImage, folder: Path, name: str) -> list[Path]:
    """Write the regions of a result as ``NAME.geojson``, ``NAME-mask.png`` and, on Earth, ``NAME-mask.tif``."""
    place = image.georeference
    written = [folder / f"{name}.geojson", folder / f"{name}-mask.png"]
    write_result(written[0], json.dumps(geojson(result.regions, place), allow_nan=False).encode() + b"\n")
    pixels = _mask(result, image)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
    write_result(written[1], file.getvalue())
    if place is not None:
        written.append(folder / f"{name}-mask.tif")
        _write_geotiff(written[2], pixels, place)
    return written


def geojson(regions: Sequence[Region], place: Georeference | None) -> dict[str, Any]:
    """A FeatureCollection (RFC 7946) with a feature for each region.

    Coordinates are those of the reference system, which the member ``crs`` names as GeoJSON did before RFC 7946 and
    GDAL still reads it; without one they are pixels, and the member ``coordinates`` says so.
    """
    features = []
    for region in regions:
        properties: dict[str, Any] = {
            "peak": region.peak,
            "threshold": region.threshold,
            "p_value": region.p_value,
            "area_pixels": region.area,
            "bbox_pixels": list(region.bbox),
        }
        if place is not None and place.metres:
            properties["area_m2"] = region.area * place.pixel_area
        polygons = [[_ring(ring, place, outer=not hole) for hole, ring in enumerate(own)] for own in region.polygons]
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if place is None:
        return content | {"coordinates": "pixels: x to the right, y down, from the upper left corner"}
    if place.crs is not None:
        content["crs"] = {"type": "name", "properties": {"name": place.crs}}
    return content


def _ring(ring: Ring, place: Georeference | None, *, outer: bool) -> list[list[float]]:
    """Outer rings counterclockwise and holes clockwise, where y points up, as RFC 7946 wants them."""
    points = np.array(ring) if place is None else place(np.array(ring))
    (x, y), (onward_x, onward_y) = (points[:-1] - points[0]).T, (points[1:] - points[0]).T
    counterclockwise = float((x * onward_y - onward_x * y).sum()) > 0
    return [[float(x), float(y)] for x, y in (points if counterclockwise == outer else points[::-1])]


def _mask(result: Result, image: SceneImage) -> NDArray[np.uint8]:
    pixels = np.empty((result.height, result.width), np.uint8)
    for top in range(0, result.height, _ROWS):
        bottom = min(top + _ROWS, result.height)
        found = result.mask(top, bottom)
        if image.leaves_out and found.any():
            valid = image.rows(top, bottom)[1]
            found &= True if valid is None else valid
        pixels[top:bottom] = np.where(found, np.uint8(255), np.uint8(0))
    return pixels


def _write_geotiff(path: Path, pixels: NDArray[np.uint8], place: Georeference) -> None:
    tags = ImageFileDirectory_v2()
    for code, value in place.tags.items():
        tags.tagtype[code] = TAGS[code]
        tags[code] = str(value) if code == TEXTS else tuple(np.ravel(value).tolist())
    tags[_ROWS_PER_STRIP] = _ROWS
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=tags)
    write_result(path, content.getvalue())
