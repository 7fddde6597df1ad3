"""Regions of a map, and decisions over a batch."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import false_discovery_control

from oddsight.errors import DataError, ImageError
from oddsight.model.calibration import p_values
from oddsight.model.result import Result, control_fdr, find_regions
from tiny_model import tiny_model

MAPS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])
)
SIDES = st.integers(1, 700)


def areas(values, threshold):
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


@given(MAPS, st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), SIDES, SIDES)
def test_regions_are_the_connected_areas_above_the_threshold(values, threshold, width, height):
    regions = find_regions(values, threshold, width, height)
    rows, columns = values.shape
    expected = []
    for area in areas(values, threshold):
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
    [region] = find_regions(np.eye(3, dtype=np.float32), 0.5, 30, 60)
    assert (region.bbox, region.area, region.peak) == ((0, 0, 30, 60), 600, 1.0)


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
        assert content["regions"] == [{"bbox": [30, 20, 40, 30], "area": 100, "peak": 1.0}]


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
