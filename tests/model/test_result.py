"""Regions of a map, and decisions over a batch."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import false_discovery_control

from oddsight.errors import DataError, ImageError
from oddsight.model.calibration import p_values
from oddsight.model.regions import find_areas
from oddsight.model.result import Result, Tiling, control_fdr
from oddsight.model.sections import PixelLevels
from tiny_model import tiny_model

MAPS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])
)
SIDES = st.integers(1, 700)


def islands(values, threshold):
    """Connected areas by flooding, as sets of cells."""
    left = {tuple(map(int, cell)) for cell in np.argwhere(values > threshold)}
    found = []
    while left:
        edge, area = [left.pop()], set()
        while edge:
            row, column = edge.pop()
            area.add((row, column))
            near = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= near
            edge.extend(near)
        found.append(area)
    return found


def found(values, threshold, width, height, levels=None):
    """What an image of that size with that map gets."""
    values = np.asarray(values, np.float32)
    return Result(None, width, height, float(values.max()), 0.1, threshold, None, values, levels=levels)


@given(MAPS, st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), SIDES, SIDES)
def test_regions_are_the_connected_areas_above_the_threshold(values, threshold, width, height):
    regions = found(values, threshold, width, height).regions
    rows, columns = values.shape
    expected = []
    for area in islands(values, threshold):
        down, across = [row for row, _ in area], [column for _, column in area]
        box = (
            int(np.floor(min(across) * width / columns)),
            int(np.floor(min(down) * height / rows)),
            int(np.ceil((max(across) + 1) * width / columns)),
            int(np.ceil((max(down) + 1) * height / rows)),
        )
        peak = max(float(values[cell]) for cell in area)
        expected.append((box, max(1, round(len(area) * width * height / (rows * columns))), peak))
    assert sorted((r.bbox, r.area, r.peak) for r in regions) == sorted(expected)
    assert [r.peak for r in regions] == sorted((r.peak for r in regions), reverse=True)
    for (left, top, right, bottom), area, peak in ((r.bbox, r.area, r.peak) for r in regions):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert 1 <= area <= (right - left) * (bottom - top)
        assert peak > threshold


def test_areas_that_touch_at_a_corner_are_one_region():
    [region] = found(np.eye(3), 0.5, 30, 60).regions
    assert (region.bbox, region.area, region.peak, region.threshold) == ((0, 0, 30, 60), 600, 1.0, 0.5)


LEVELS = st.builds(
    PixelLevels, median=st.sampled_from([-2.0, 0.0, 0.4, 1.5]), high=st.sampled_from([-1.0, 0.2, 0.5, 3])
)


@pytest.mark.slow
@given(MAPS, st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), LEVELS)
def test_regions_reach_down_to_their_cut_and_leave_no_peak_out(values, threshold, levels):
    areas = find_areas(values, threshold, levels)
    taken = np.zeros(values.shape, int)
    for area in areas:
        local = values[area.place]
        assert area.peak == local[area.inside].max() > threshold
        assert local[area.inside].min() > area.cut >= min(levels.high, threshold)
        assert area.cut <= max(threshold, levels.high, values.max())
        taken[area.place] += area.inside
    assert taken.max(initial=0) <= 1
    assert bool(areas) == bool(values.max() > threshold)
    # Every island above the threshold has a cell in some region, its highest one if it stands alone.
    for island in islands(values, threshold):
        assert any(taken[cell] for cell in island)


def test_a_region_has_the_extent_of_its_defect():
    values = np.zeros((20, 20))
    values[4:10, 4:10] = 1.05  # above the threshold, but less than three tenths from 0.2, around it, to the peak
    values[5:9, 5:9] = 1.6
    values[6:8, 6:8] = 3.2
    values[15, 15], values[15, 16], values[2, 15] = 1.3, 0.8, 0.9
    one = found(values, 1.0, 200, 200, PixelLevels(median=0.2, high=0.5))
    assert [(r.bbox, r.peak, round(r.threshold, 6)) for r in one.regions] == [
        ((50, 50, 90, 90), pytest.approx(3.2), 1.1),
        ((150, 150, 170, 160), pytest.approx(1.3), 0.53),
    ]
    old = found(values, 1.0, 200, 200)
    assert [r.bbox for r in old.regions] == [(40, 40, 100, 100), (150, 150, 160, 160)]


def test_a_lower_peak_beside_a_high_one_stays_a_region():
    values = np.array([[0, 9, 0, 0, 2, 0], [0, 0.6, 0.6, 0.6, 0.6, 0]])
    one = found(values, 1.0, 60, 20, PixelLevels(median=0, high=0.5))
    assert [(r.peak, round(r.threshold, 6)) for r in one.regions] == [(9.0, 2.7), (2.0, 1.0)]


def test_regions_have_p_values_of_their_peaks():
    values = np.array([[0, 9, 0, 3, 0]])
    calibration = np.arange(1, 10, dtype=np.float32)
    one = replace(found(values, 2.0, 50, 10), calibration=calibration)
    assert [r.p_value for r in one.regions] == [0.2, 0.8]
    four = replace(one, tiling=Tiling(count=4, size=64, overlap=0, per_tile=False))
    assert [r.p_value for r in four.regions] == [0.8, 1.0]
    assert [r.p_value for r in replace(one, tiling=Tiling(4, 64, 0, per_tile=True)).regions] == [0.2, 0.8]


def test_a_threshold_that_float32_cannot_hold_gives_an_alarm_its_region():
    one = found([[0.1, 0]], 0.1, 20, 10)
    assert one.anomalous == bool(one.regions) == one.mask().any()


def result(score, calibration, threshold=None, values=None):
    p = float(p_values(calibration, np.array([score], np.float32))[0])
    return Result("a.png", 80, 80, float(np.float32(score)), p, threshold, 0.1, values)


@pytest.mark.parametrize(
    ("threshold", "with_map", "anomalous", "regions"),
    [(0.5, True, True, 1), (1.0, True, False, 0), (None, True, False, 0), (0.5, False, True, 0)],
)
def test_a_result_is_anomalous_strictly_above_its_threshold(threshold, with_map, anomalous, regions):
    values = np.zeros((8, 8), np.float32)
    values[2, 3] = 1
    one = Result("a.png", 80, 80, 1.0, 0.5, threshold, None, values if with_map else None)
    assert (one.anomalous, len(one.regions)) == (anomalous, regions)
    content = json.loads(json.dumps(one.to_json()))
    assert (content["anomalous"], len(content["regions"]), content["path"]) == (anomalous, regions, "a.png")
    assert content["threshold"] == threshold
    if regions:
        [region] = content["regions"]
        [[ring]] = region.pop("polygons")
        assert region == {"bbox": [30, 20, 40, 30], "area": 100, "peak": 1.0, "threshold": 0.5, "p_value": None}
        assert ring == [[30, 25], [35, 20], [40, 25], [35, 30], [30, 25]]


def slow_benjamini_hochberg(p, rate):
    """Flag the k lowest, for the largest k with ``p_(k) <= k rate / m``."""
    order = sorted(p)
    passed = [order[k - 1] for k in range(1, len(p) + 1) if order[k - 1] <= k * rate / len(p) * (1 + 1e-12)]
    return [value <= max(passed, default=-1) for value in p]


CALIBRATION = st.lists(st.integers(0, 40), min_size=1, max_size=120)


@given(CALIBRATION, st.lists(st.integers(0, 60), max_size=40), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5, 0.9]))
def test_a_batch_decision_is_that_of_benjamini_and_hochberg(calibration, scores, rate):
    array = np.array(calibration, np.float32)
    values = np.ones((2, 2), np.float32)
    decided = control_fdr([result(score, array, 3.0, values) for score in scores], rate, array)
    exact = p_values(array, np.array(scores, np.float32))
    adjusted = false_discovery_control(exact) if len(exact) else exact
    flags = [one.anomalous for one in decided]
    assert flags == (adjusted <= rate * (1 + 1e-12)).tolist()
    assert flags == slow_benjamini_hochberg(exact.tolist(), rate)
    assert [one.score for one in decided] == scores
    thresholds = {one.threshold for one in decided}
    assert len(thresholds) <= 1
    assert any(flags) == (thresholds not in (set(), {None}))
    assert all(one.map is not None for one in decided if one.anomalous)


def test_a_batch_where_nothing_is_flagged_has_no_threshold():
    calibration = np.arange(99, dtype=np.float32)
    decided = control_fdr([result(score, calibration, 1.0) for score in (3, 50, 80)], 0.05, calibration)
    assert [(one.anomalous, one.threshold, one.false_alarm_rate) for one in decided] == [(False, None, None)] * 3


def test_errors_pass_through_a_batch_decision():
    calibration = np.arange(99, dtype=np.float32)
    error = ImageError("b.png", "broken")
    decided = control_fdr(iter([error, result(500, calibration), error]), 0.05, calibration)
    assert decided[0] is decided[2] is error
    assert decided[1].anomalous
    assert control_fdr([], 0.05, calibration) == []
    assert control_fdr([error], 0.05, calibration) == [error]


@pytest.mark.parametrize("rate", [0, 1, -1, float("nan")])
def test_false_discovery_rates_outside_of_zero_to_one_are_refused(rate):
    with pytest.raises(DataError, match="between 0 and 1"):
        control_fdr([], rate, np.arange(9, dtype=np.float32))


def test_maps_that_cannot_be_flagged_are_dropped():
    calibration = np.arange(99, dtype=np.float32)
    values = np.ones((2, 2), np.float32)
    decided = control_fdr([result(s, calibration, None, values) for s in (10, 500)], 0.05, calibration)
    assert decided[0].map is None
    assert decided[1].map is values


@pytest.mark.slow
@pytest.mark.parametrize("n", [9, 19, 99, 999])
def test_the_false_discovery_rate_holds_on_normal_batches(n):
    """Where all are normal, every alarm is false: any alarm at all must be as rare as the rate."""
    random = np.random.default_rng(n)
    alarms = 0
    for _ in range(300):
        calibration = random.normal(size=n).astype(np.float32)
        batch = [result(score, calibration) for score in random.normal(size=20)]
        alarms += any(one.anomalous for one in control_fdr(batch, 0.2, calibration))
    assert alarms <= 300 * 0.2 + 4 * np.sqrt(300 * 0.2 * 0.8)


@pytest.mark.parametrize("level", [185, 195])
def test_what_is_flagged_at_a_rate_has_a_p_value_up_to_it(level):
    model = tiny_model(rate=0.1 if level == 185 else 0.05)
    one = model.predict(np.full((4, 4, 3), level, np.uint8))
    assert one.anomalous
    assert one.p_value == p_values(model.calibration_scores, np.array([level], np.float32))[0]
    assert one.p_value <= one.false_alarm_rate
