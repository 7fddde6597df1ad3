"""Zones: what a polygon may be, which cells are its own, and the score of a zone by the frame's map."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.model.events import WHOLE
from oddsight.watch.zones import Zone, Zones, zone_result
from tiny_model import CALIBRATION, GRID, tiny_model

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
TOP = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.25), (0.0, 0.25))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"polygon": ((0, 0), (1, 1))}, "has 2 corners"),
        ({"polygon": ((0, 0), (1, 0), (1, 0))}, "lie on a line"),
        ({"polygon": ((0, 0), (0.5, 0.5), (1, 1))}, "lie on a line"),
        ({"polygon": ((0, 0), (1, 1), (1, 0), (0, 0.9))}, "crosses or touches itself"),
        ({"polygon": ((0, 0), (1, 0), (0.5, 0), (0.5, 1))}, "crosses or touches itself"),
        ({"polygon": ((0, 0), (0.5, 0), (0.5, 0), (0.5, 1))}, "crosses or touches itself"),
        ({"polygon": ((0, 0), (320, 0), (320, 240))}, "outside the frame"),
        ({"polygon": ((0, 0), (1, 0), (math.nan, 1))}, "outside the frame"),
        ({"polygon": ((0, 0), (1, 0), (1, -0.01))}, "outside the frame"),
        ({"polygon": tuple((0.5 + number / 4000, 0.5) for number in range(1001))}, "has 1,001 corners"),
        ({"name": " "}, "a name of 1 to 60 characters"),
        ({"name": "gate\n"}, "cannot be called"),
        ({"name": WHOLE}, "cannot be called"),
        ({"kind": "maybe"}, "include or exclude"),
        ({"kind": "exclude", "dwell": 2.0}, "is excluded: it takes no"),
        ({"alarms_per_hour": 0}, "alarms_per_hour of the zone 'gate' must be"),
        ({"dwell": -1}, "dwell of the zone 'gate' must be"),
        ({"dwell": math.inf}, "dwell of the zone 'gate' must be"),
        ({"dwell": "long"}, "must be a number"),
    ],
)
def test_what_cannot_be_a_zone(values, words):
    with pytest.raises(OddsightError, match=words) as raised:
        Zone(**{"name": "gate", "polygon": LEFT, **values})
    assert str(raised.value).count("\n") == 0


def test_a_ring_may_be_closed_or_not():
    assert Zone("gate", (*LEFT, LEFT[0])) == Zone("gate", LEFT)


def test_names_are_different():
    with pytest.raises(DataError, match="two zones are called 'gate'"):
        Zones([Zone("gate", LEFT), Zone("gate", RIGHT)])
    with pytest.raises(DataError, match="at most 100"):
        Zones([Zone(str(number), LEFT) for number in range(101)])


corners = st.tuples(*[st.floats(0, 1) for _ in range(4)]).filter(lambda c: abs(c[0] - c[2]) > 1e-3 < abs(c[1] - c[3]))
sides = st.integers(1, 24)


def rectangle(corners):
    (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
    return (left, top), (right, top), (right, bottom), (left, bottom)


@given(corners, sides, sides)
def test_cells_of_a_rectangle(corners, height, width):
    polygon = rectangle(corners)
    (left, top), (right, bottom) = polygon[0], polygon[2]
    cells = Zone("gate", polygon).covers(height, width)
    assert cells.shape == (height, width)
    assert cells.any()
    share = np.outer(lengths(top, bottom, height), lengths(left, right, width))
    if (share >= 0.75).any():
        # Shares are measured at 8 x 8 places: each side is right to an eighth.
        assert cells[share >= 0.75].all()
        assert not cells[share < 0.25].any()
    else:
        assert (share[cells] > 0).any()


def lengths(start, end, cells):
    """Which share of each cell of an axis lies between two places."""
    at = np.arange(cells)
    return np.clip(np.minimum(end * cells, at + 1) - np.maximum(start * cells, at), 0, 1)


@given(st.floats(0.01, 0.99), sides, sides)
def test_two_halves_cover_everything(cut, height, width):
    left = Zone("left", ((0, 0), (cut, 0), (cut, 1), (0, 1)))
    right = Zone("right", ((cut, 0), (1, 0), (1, 1), (cut, 1)))
    assert (left.covers(height, width) | right.covers(height, width)).all()


@given(corners, st.integers(1, 200), st.integers(1, 200))
def test_the_box_holds_the_zone(corners, height, width):
    polygon = rectangle(corners)
    left, top, right, bottom = Zone("gate", polygon).box(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    for x, y in polygon:
        assert left - 1e-9 <= x * width <= right + 1e-9
        assert top - 1e-9 <= y * height <= bottom + 1e-9


def test_a_corner_is_cut_off():
    cells = Zone("corner", ((0, 0), (1, 0), (1, 0.1), (0.1, 1), (0, 1))).covers(4, 4)
    np.testing.assert_array_equal(cells, np.add.outer(np.arange(4), np.arange(4)) <= 3)


def test_a_place_belongs_to_the_first_zone_that_is_not_excluded():
    zones = Zones([Zone("sky", TOP, kind="exclude"), Zone("gate", LEFT), Zone("all", ((0, 0), (0.9, 0), (0.9, 1)))])
    assert [zones.at(0.2, 0.1), zones.at(0.2, 0.8), zones.at(0.8, 0.8), zones.at(0.95, 0.5)] == [
        None,
        "gate",
        "all",
        None,
    ]
    assert Zones([Zone("sky", TOP, kind="exclude")]).at(0.5, 0.5) == WHOLE


def frame(*spots):
    """Black, with bright cells (row, column) of the model's grid."""
    pixels = np.zeros((8 * GRID, 8 * GRID, 3), np.uint8)
    for row, column, value in spots:
        pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = value
    return pixels


def test_a_zone_gets_the_highest_value_inside_it():
    model = tiny_model()
    left, right = Zone("left", LEFT), Zone("right", RIGHT)
    zones = Zones([left, right, Zone("sky", TOP, kind="exclude")])
    # Spots of two cells each way, as the model's resizing smooths the image.
    whole = model.predict(frame((0, 1, 250), (4, 1, 120), (4, 2, 120), (5, 6, 60)))
    assert whole.map is not None
    result, other = (zone_result(whole, zone, zones, model) for zone in (left, right))
    assert whole.score > result.score == whole.map[2:, :4].max() > other.score == whole.map[2:, 4:].max() > 0
    assert whole.p_value < result.p_value == (1 + (result.score <= CALIBRATION).sum()) / (1 + len(CALIBRATION))
    assert result.map is not None
    assert result.map.max() == result.score


def test_without_zones_a_result_stays_the_same():
    model = tiny_model()
    whole = model.predict(frame((0, 1, 250)))
    assert zone_result(whole, None, Zones(), model) is whole
    assert zone_result(whole, None, Zones([Zone("sky", TOP, kind="exclude")]), model).score == 0


def test_without_a_map_there_is_no_zone():
    model = tiny_model(localises=False)
    zone = Zone("left", LEFT)
    with pytest.raises(DataError, match="has no anomaly map"):
        zone_result(model.predict(frame()), zone, Zones([zone]), model)


def test_nothing_is_left_of_an_excluded_zone():
    model = tiny_model()
    zone = Zone("left", LEFT)
    zones = Zones([zone, replace(zone, name="no", kind="exclude")])
    with pytest.raises(ImageError):
        zone_result(model.predict(frame()), zone, zones, model)
