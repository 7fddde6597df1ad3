"""Where on Earth a GeoTIFF lies (OGC GeoTIFF 1.1): from pixels to the coordinates of its reference system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXEL_SCALE, TIEPOINT, TRANSFORMATION, DIRECTORY, DOUBLES, TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
TAGS = {PIXEL_SCALE: 12, TIEPOINT: 12, TRANSFORMATION: 12, DIRECTORY: 3, DOUBLES: 12, TEXTS: 2}
"""The tags that make a TIFF a GeoTIFF, and the types of their values: 12 is float64, 3 uint16, 2 text."""

_MODEL, _RASTER, _CITATION = 1024, 1025, 1026
_GEOGRAPHIC, _GEOGRAPHIC_CITATION, _PROJECTED, _PROJECTED_CITATION, _UNITS = 2048, 2049, 3072, 3073, 3076
_IS_PROJECTED, _IS_POINT, _METRE, _WGS84 = 1, 2, 9001, 4326


@dataclass(frozen=True, eq=False)
class Georeference:
    """How pixels lie on Earth."""

    # Float64 `[2, 3]`: times `(x, y, 1)` of pixels, from the upper left corner of the image (so that the centre of the
    # first pixel is at one half), it is `(x, y)` in the reference system
    matrix: NDArray[np.float64]
    crs: str | None  # Its name as a URN if it is one of EPSG's, else what the file calls it, or None
    metres: bool  # Whether it is projected and its unit is the metre
    tags: Mapping[int, Any]  # The file's own tags that say so

    def __call__(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coordinates ``[n, 2]`` of places ``[n, 2]`` in pixels."""
        return np.asarray(pixels @ self.matrix[:, :2].T + self.matrix[:, 2], np.float64)

    @property
    def pixel_area(self) -> float:
        """The area of a pixel, in squares of the unit."""
        return float(abs(np.linalg.det(self.matrix[:, :2])))


def georeference(tags: Mapping[int, Any]) -> Georeference | None:
    """What the tags of a TIFF say, by number; None if they place it by no linear map, but by control points."""
    if DIRECTORY not in tags:
        return None
    matrix = _matrix(tags)
    if matrix is None:
        return None
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) == 0:
        raise ValueError("its georeference is damaged")
    keys = _keys(tags)
    if keys.get(_RASTER) == _IS_POINT:  # coordinates are those of the centres of pixels
        matrix[:, 2] -= matrix[:, :2] @ (0.5, 0.5)
    projected = keys.get(_MODEL) == _IS_PROJECTED
    code = keys.get(_PROJECTED if projected else _GEOGRAPHIC)
    epsg = code if isinstance(code, int) and 1024 <= code < 32767 else None
    units = keys.get(_UNITS)
    metres = projected and (units == _METRE or (units is None and epsg is not None and _is_metric(epsg)))
    citations = (keys.get(key) for key in (_PROJECTED_CITATION, _CITATION, _GEOGRAPHIC_CITATION))
    named = next((text for text in citations if isinstance(text, str) and text), None)
    crs = named if epsg is None else _urn(epsg)
    return Georeference(matrix, crs, metres, {tag: tags[tag] for tag in TAGS if tag in tags})


def _matrix(tags: Mapping[int, Any]) -> NDArray[np.float64] | None:
    if TRANSFORMATION in tags:
        whole = np.array(tags[TRANSFORMATION], np.float64)
        if whole.size != 16:
            raise ValueError("its georeference is damaged")
        return whole.reshape(4, 4)[:2, [0, 1, 3]]
    if PIXEL_SCALE not in tags or TIEPOINT not in tags:
        return None
    scale, points = np.ravel(tags[PIXEL_SCALE]).astype(np.float64), np.ravel(tags[TIEPOINT]).astype(np.float64)
    if scale.size < 2 or points.size < 6:
        raise ValueError("its georeference is damaged")
    column, row, _, x, y, _ = points[:6]
    return np.array([[scale[0], 0, x - column * scale[0]], [0, -scale[1], y + row * scale[1]]])


def _keys(tags: Mapping[int, Any]) -> dict[int, Any]:
    """Values of the keys: numbers and texts."""
    entries = np.ravel(tags[DIRECTORY]).astype(np.int64)
    if entries.size < 4 or entries.size < 4 * (1 + entries[3]):
        raise ValueError("its georeference is damaged")
    found: dict[int, Any] = {}
    for key, place, count, value in entries[4 : 4 * (1 + entries[3])].reshape(-1, 4).tolist():
        if place == 0:
            found[key] = value
        elif place == TEXTS:
            found[key] = str(tags.get(TEXTS, ""))[value : value + count].rstrip("|\0 ")
    return found


def _is_metric(code: int) -> bool:
    """Whether it is a zone of UTM or Web Mercator, whose unit is the metre; of others the file has to say so."""
    return 32601 <= code <= 32660 or 32701 <= code <= 32760 or code == 3857


def _urn(code: int) -> str:
    # EPSG's own has latitude first, GeoTIFF and GeoJSON have longitude first.
    return "urn:ogc:def:crs:OGC:1.3:CRS84" if code == _WGS84 else f"urn:ogc:def:crs:EPSG::{code}"
