"""Files of zones: GeoJSON in shares of the frame, and the flat strings that Frigate's configuration has."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from oddsight.errors import DataError, OddsightError, plain, some
from oddsight.runtime.files import write_bytes
from oddsight.runtime.records import read_up_to
from oddsight.watch.zones import Zone, Zones, check_count

_LARGEST = 2**20
_PROPERTIES = ("name", "kind", "model", "alarms_per_hour", "dwell")
_FORMS = "zones are a GeoJSON FeatureCollection, or flat strings x,y,x,y,... by name"
_COORDINATES = "relative: x to the right and y down, from 0 to 1, from the upper left corner of the frame"

TEMPLATE = Zones(
    [
        Zone("gate", ((0.1, 0.3), (0.6, 0.3), (0.6, 0.9), (0.1, 0.9)), dwell=1.0),
        Zone("clock", ((0.7, 0.05), (0.95, 0.05), (0.95, 0.15), (0.7, 0.15)), kind="exclude"),
    ]
)
"""What zones can look like, to be changed."""


def read_zones(path: str | os.PathLike[str]) -> Zones:
    """Read a file of zones.

    It is a GeoJSON FeatureCollection of polygons with the properties ``name``, ``kind`` (``include`` or ``exclude``),
    ``model``, ``alarms_per_hour`` and ``dwell``, of which only the name is required. Also read are Frigate's flat
    strings, ``x,y,x,y,...``: one alone, which is called as the file, or several by name in a JSON object. The paths of
    models are relative to the file's folder.

    Raises:
        DataError: The file cannot be read, or a zone is wrong; the message says which.
    """
    path = Path(path)
    try:
        content = read_up_to(path, _LARGEST)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{path}: the zones cannot be read: {reason}") from None
    try:
        return parse_zones(content, name=path.stem, folder=path.parent)
    except OddsightError as error:
        raise DataError(f"{path}: {error}") from None


def parse_zones(content: bytes, *, name: str = "zone", folder: Path = Path()) -> Zones:
    """As :func:`read_zones`, of the content of a file; ``name`` is for a flat string without one."""
    try:
        text = content.decode("utf-8-sig")
        loaded = _flat(text) or json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise DataError(f"not JSON: {_FORMS}") from None
    if isinstance(loaded, str):
        return Zones([Zone(name, _pairs(loaded, name))])
    if not isinstance(loaded, dict):
        raise DataError(_FORMS)
    if "type" not in loaded:
        check_count(len(loaded))
        return Zones([_named(key, value) for key, value in loaded.items()])
    features = loaded.get("features")
    if loaded["type"] != "FeatureCollection" or not isinstance(features, list):
        raise DataError("zones are a GeoJSON FeatureCollection with a list of features")
    check_count(len(features))
    return Zones([_zone(feature, number, folder) for number, feature in enumerate(features, 1)])


def zones_json(zones: Zones, folder: Path = Path()) -> dict[str, Any]:
    """Zones as a GeoJSON FeatureCollection, with the paths of models relative to a folder where they lie below it."""
    features = []
    for zone in zones:
        values = {
            "name": zone.name,
            "kind": zone.kind,
            "model": None if zone.model is None else _relative(zone.model, folder),
            "alarms_per_hour": zone.alarms_per_hour,
            "dwell": zone.dwell or None,
        }
        ring = [[*point] for point in (*zone.polygon, zone.polygon[0])]
        properties = {key: value for key, value in values.items() if value is not None}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "coordinates": _COORDINATES, "features": features}


def write_zones(path: str | os.PathLike[str], zones: Zones) -> None:
    """Write a file of zones, all at once or not at all.

    Raises:
        OddsightError: The file cannot be written.
    """
    content = zones_json(zones, Path(path).parent)
    # One zone a line, to be changed by hand.
    features = ",\n ".join(json.dumps(feature, allow_nan=False) for feature in content.pop("features"))
    start = json.dumps(content).removesuffix("}")
    write_bytes(path, f'{start}, "features": [\n {features}\n]}}\n'.encode())


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


def _relative(model: Path, folder: Path) -> str:
    return (model.relative_to(folder) if model.is_relative_to(folder) else model).as_posix()


def _flat(text: str) -> str | None:
    """A flat string without quotes."""
    return text.strip() if text.strip() and set(text) <= set("0123456789.,+-eE \t\r\n") else None


def _named(name: str, value: object) -> Zone:
    """A zone of Frigate's configuration: a flat string, a list of numbers, or an object that has one of these."""
    if isinstance(value, Mapping):
        unknown = [key for key in value if key != "coordinates"]
        if unknown:
            raise DataError(f"the zone {plain(name)!r} has the unknown property {some(unknown, 1)}: give coordinates")
        value = value.get("coordinates")
    return Zone(name, _pairs(value, name))


def _pairs(value: object, name: str) -> tuple[tuple[float, float], ...]:
    parts: Any = value.split(",") if isinstance(value, str) else value
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"the zone {plain(name)!r} is not a flat string of numbers: x,y,x,y,...") from None
    if len(numbers) % 2:
        raise DataError(f"the zone {plain(name)!r} has {len(numbers)} numbers, an odd count: give x,y for each corner")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _zone(feature: object, number: int, folder: Path) -> Zone:
    """A zone of a GeoJSON feature."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise DataError(f"feature {number} is not a GeoJSON Feature")
    values = feature.get("properties") or {}
    if not isinstance(values, dict):
        raise DataError(f"the properties of feature {number} are not a JSON object")
    values = {key: value for key, value in values.items() if value is not None}
    name = values.get("name")
    if not isinstance(name, str):
        raise DataError(f"feature {number} has no name: every zone needs the property name")
    unknown = [key for key in values if key not in _PROPERTIES]
    if unknown:
        raise DataError(
            f"the zone {plain(name)!r} has the unknown property {some(unknown, 1)}: there are {', '.join(_PROPERTIES)}"
        )
    model = values.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise DataError(f"the model of the zone {plain(name)!r} is the path of a file")
    where = None if model is None else folder / model
    return Zone(**values, polygon=_ring(feature.get("geometry"), name), model=where)


def _ring(geometry: object, name: str) -> tuple[tuple[float, float], ...]:
    label = f"the zone {plain(name)!r}"
    if not isinstance(geometry, dict) or geometry.get("type") != "Polygon":
        raise DataError(f"{label} is not a Polygon: draw one polygon for each zone")
    rings = geometry.get("coordinates")
    if not isinstance(rings, list) or not rings:
        raise DataError(f"{label} is empty: a Polygon has a ring of corners")
    if len(rings) > 1:
        raise DataError(f"{label} has a hole: draw it as a zone of its own, with the kind exclude")
    ring = rings[0]
    if not isinstance(ring, list) or not all(isinstance(point, list) and len(point) == 2 for point in ring):
        raise DataError(f"{label} has corners that are not [x, y]")
    for point in ring:
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in point):
            raise DataError(f"{label} has corners that are not numbers")
    return tuple((x, y) for x, y in ring)
