"""Zones: the parts of a frame that are looked at, or not, and the score of each by the frame's anomaly map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, plain
from oddsight.model.events import WHOLE, Box
from oddsight.model.model import Model
from oddsight.model.result import Result, score_where
from oddsight.runtime.bounds import check_number

Point = tuple[float, float]

MOST_ZONES = 100
MOST_CORNERS = 1000
_LONGEST_NAME = 60

_SAMPLES = 8
"""Along each side of a cell, to measure which share of it lies inside a polygon."""

_SMALLEST = 1e-9
"""The smallest area of a polygon, as a share of the frame."""


@dataclass(frozen=True)
class Zone:
    """A part of the frame.

    Attributes:
        name: What events call it; unique among the zones of a frame.
        polygon: Its corners ``(x, y)`` in shares of the frame's width and height, from the upper left corner; the last
            one is joined to the first.
        kind: ``include``: it is looked at; ``exclude``: it is not, whatever else it is a part of.
        model: The model file for its own crop; None if it is scored by the anomaly map of the whole frame.
        alarms_per_hour: How many false alarms it may raise; None for its share of what all zones may.
        dwell: Seconds that an anomaly has to last there before it is an event.

    Raises:
        DataError: A value is out of range, the polygon is empty, crosses itself or leaves the frame.
    """

    name: str
    polygon: tuple[Point, ...]
    kind: Literal["include", "exclude"] = "include"
    model: Path | None = None
    alarms_per_hour: float | None = None
    dwell: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or len(self.name) > _LONGEST_NAME:
            raise DataError(f"a zone has a name of 1 to {_LONGEST_NAME} characters, not {_shown(self.name)}")
        if not self.name.isprintable() or self.name == WHOLE:
            raise DataError(f"a zone cannot be called {_shown(self.name)}: give it another name")
        if self.kind not in ("include", "exclude"):
            raise DataError(f"the kind of the zone {self.name!r} is include or exclude, not {_shown(self.kind)}")
        if self.kind == "exclude" and (self.model, self.alarms_per_hour, self.dwell) != (None, None, 0.0):
            raise DataError(f"the zone {self.name!r} is excluded: it takes no model, alarms_per_hour or dwell")
        if self.model is not None:
            object.__setattr__(self, "model", Path(self.model))
        for label, value, least in (("alarms_per_hour", self.alarms_per_hour, 1e-6), ("dwell", self.dwell, 0.0)):
            if value is None:
                continue
            number = check_number(value, f"{label} of the zone {self.name!r}")
            if not least <= number < np.inf:
                raise DataError(f"{label} of the zone {self.name!r} must be {least:g} or more, not {number:g}")
        object.__setattr__(self, "polygon", _checked_polygon(self.polygon, self.name))

    def is_of(self, model: Path) -> bool:
        """Whether it is scored as a crop by that model file."""
        return self.model is not None and self.model.resolve() == model.resolve()

    def box(self, width: int, height: int) -> Box:
        """The pixels of a frame that hold it."""
        across, down = ([point[axis] for point in self.polygon] for axis in (0, 1))
        left, top = min(int(min(across) * width), width - 1), min(int(min(down) * height), height - 1)
        right, bottom = -int(-max(across) * width // 1), -int(-max(down) * height // 1)
        return left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height)

    def contains(self, x: float, y: float) -> bool:
        """Whether a place, in shares of width and height, lies inside."""
        return bool(_inside(self.polygon, np.array([x]), np.array([y]))[0, 0])

    def covers(self, height: int, width: int) -> NDArray[np.bool_]:
        """The cells of a grid that are its own, ``[height, width]``: those of which at least half lies inside.

        If it is too small to have such cells, they are all that it touches. So every zone has at least one. Shares are
        measured at 8 x 8 places of each cell.
        """
        return _cells(self.polygon, height, width)


def check_count(count: int) -> None:
    """Refuse more zones than are looked at."""
    if count > MOST_ZONES:
        raise DataError(f"there are {count:,} zones, and at most {MOST_ZONES} are looked at")


class Zones:
    """The zones of a frame.

    Args:
        zones: Zones with different names.

    Raises:
        DataError: Two have the same name, or there are too many.
    """

    def __init__(self, zones: Iterable[Zone] = ()) -> None:
        self._zones = tuple(zones)
        check_count(len(self._zones))
        repeated = [name for name, count in Counter(zone.name for zone in self._zones).items() if count > 1]
        if repeated:
            raise DataError(f"two zones are called {repeated[0]!r}: give them different names")

    def __len__(self) -> int:
        return len(self._zones)

    def __iter__(self) -> Iterator[Zone]:
        return iter(self._zones)

    @property
    def include(self) -> tuple[Zone, ...]:
        """Those that are looked at; if there are none, the whole frame is."""
        return tuple(zone for zone in self._zones if zone.kind == "include")

    @property
    def exclude(self) -> tuple[Zone, ...]:
        """Those that are not."""
        return tuple(zone for zone in self._zones if zone.kind == "exclude")

    def at(self, x: float, y: float) -> str | None:
        """The name of the first zone at a place, in shares of width and height; None if it is not looked at."""
        if any(zone.contains(x, y) for zone in self.exclude):
            return None
        if not self.include:
            return WHOLE
        return next((zone.name for zone in self.include if zone.contains(x, y)), None)

    def covers(self, zone: Zone | None, height: int, width: int) -> NDArray[np.bool_]:
        """The cells of a grid that are a zone's, or the whole frame's, without those of excluded zones."""
        there = np.ones((height, width), bool) if zone is None else zone.covers(height, width).copy()
        for other in self.exclude:
            there &= ~other.covers(height, width)
        return there


def zone_result(result: Result, zone: Zone | None, zones: Zones, model: Model) -> Result:
    """What a zone got, from the result of its whole frame: the highest value of the anomaly map inside.

    Its p-value is the share of normal *frames* expected to have as high a value anywhere: an upper bound for the zone.

    Args:
        result: Of the frame.
        zone: The zone, or None for all that is not excluded. If nothing is excluded, that is the result itself.
        zones: All zones, for those that are excluded.
        model: The model that scored the frame.

    Raises:
        ImageError: The zone is excluded completely.
        DataError: The result has no map.
    """
    if zone is None and not zones.exclude:
        return result
    if result.map is None:
        raise DataError(NO_MAP)
    there = zones.covers(zone, *result.map.shape)
    return score_where(result, result.map, there, model.decision.threshold, model.calibration_scores)


NO_MAP = (
    "the model has no anomaly map, so it cannot say where in a frame something is: use a method that localises, or "
    "give each zone a model of its own"
)


def _checked_polygon(polygon: Sequence[Point], name: str) -> tuple[Point, ...]:
    points = [(check_number(x, "x"), check_number(y, "y")) for x, y in polygon]
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    if len(points) < 3 or len(points) > MOST_CORNERS:
        raise DataError(f"the zone {name!r} has {len(points):,} corners: a polygon has 3 to {MOST_CORNERS:,}")
    places = np.array(points)
    if not (np.isfinite(places).all() and (places >= 0).all() and (places <= 1).all()):
        raise DataError(
            f"the zone {name!r} lies outside the frame: its corners are shares of the frame's width and height, from 0 "
            "to 1"
        )
    x, y = places.T
    if abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())) / 2 < _SMALLEST:
        raise DataError(f"the zone {name!r} is empty: its corners lie on a line")
    if _crosses_itself(places):
        raise DataError(f"the zone {name!r} crosses or touches itself: draw its corners in order around it")
    return tuple(points)


def _crosses_itself(places: NDArray[np.float64]) -> bool:
    """Whether two edges of a polygon ``[n, 2]`` meet elsewhere than in the corner that they share."""
    count = len(places)
    start, end = places, np.roll(places, -1, axis=0)
    along = end - start
    if (along == 0).all(axis=1).any():
        return True  # a corner twice
    onward = np.roll(along, -1, axis=0)
    if ((_cross(along, onward) == 0) & ((along * onward).sum(axis=1) < 0)).any():
        return True  # an edge that goes back over the one before
    first, second = np.triu_indices(count, 2)
    apart = (second - first) % count != count - 1
    a, b, c, d = start[first[apart]], end[first[apart]], start[second[apart]], end[second[apart]]
    low, high = np.minimum(a, b), np.maximum(a, b)
    near = ((low <= np.maximum(c, d)) & (np.minimum(c, d) <= high)).all(axis=1)
    split = np.sign(_cross(b - a, c - a)) * np.sign(_cross(b - a, d - a)) <= 0
    other = np.sign(_cross(d - c, a - c)) * np.sign(_cross(d - c, b - c)) <= 0
    return bool((near & split & other).any())


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _inside(polygon: Sequence[Point], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which places of a grid lie inside, ``[y, x]``, by how many edges there are to the right of each."""
    odd = np.zeros((len(y), len(x)), bool)
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        rows = np.flatnonzero((y0 > y) != (y1 > y))
        if len(rows):
            odd[rows] ^= x[None] < (x0 + (y[rows] - y0) * ((x1 - x0) / (y1 - y0)))[:, None]
    return odd


@lru_cache(maxsize=4 * MOST_ZONES)
def _cells(polygon: tuple[Point, ...], height: int, width: int) -> NDArray[np.bool_]:
    across, down = ((np.arange(cells * _SAMPLES) + 0.5) / (cells * _SAMPLES) for cells in (width, height))
    inside = _inside(polygon, across, down).reshape(height, _SAMPLES, width, _SAMPLES)
    share = inside.mean(axis=(1, 3))
    there: NDArray[np.bool_] = share >= 0.5
    if not there.any():
        there = share > 0
        for x, y in polygon:
            there[min(int(y * height), height - 1), min(int(x * width), width - 1)] = True
    there.setflags(write=False)
    return there


def _shown(value: object) -> str:
    return plain(repr(value))[:_LONGEST_NAME]
