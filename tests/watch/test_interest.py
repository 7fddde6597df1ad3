"""Regions of interest: grids, windows of a few sizes, motion, and the identity of what moves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddsight.errors import DataError, OddsightError
from oddsight.watch.interest import SIDES, Grid, open_roi, window
from oddsight.watch.motion import Motion
from oddsight.watch.tracks import Tracker, overlaps

WIDTH, HEIGHT = 120, 80


def background(number, brightness=100):
    """A noisy frame of one grey."""
    noise = np.random.default_rng(number).integers(-4, 5, (HEIGHT, WIDTH, 1))
    return np.repeat(brightness + noise, 3, axis=2).astype(np.uint8)


def with_objects(number, *places, brightness=100, side=16):
    pixels = background(number, brightness)
    for left, top in places:
        pixels[top : top + side, left : left + side] = 220
    return pixels


def started(**settings):
    motion = Motion(**settings)
    for number in range(40):
        assert motion.propose(background(number)) == []
    return motion


def test_motion_finds_what_moves_and_where():
    motion = started()
    boxes = motion.propose(with_objects(40, (20, 30), (80, 10)))
    assert not motion.light_changed
    for box, (left, top) in zip(sorted(boxes), [(20, 30), (80, 10)], strict=True):
        assert np.abs(np.subtract(box, (left, top, left + 16, top + 16))).max() <= 2


def test_near_parts_are_one_box():
    motion = started(gap=0.1)
    assert len(motion.propose(with_objects(40, (20, 30), (40, 30)))) == 1
    assert len(motion.propose(with_objects(41, (20, 30), (80, 30)))) == 2


def test_a_large_frame_is_reduced_and_boxes_are_in_its_pixels():
    motion = Motion(side=60)
    for number in range(30):
        motion.propose(background(number))
    (box,) = motion.propose(with_objects(31, (40, 20)))
    assert np.abs(np.subtract(box, (40, 20, 56, 36))).max() <= 4


def test_what_is_small_is_left_out_and_of_many_the_largest_are_kept():
    motion = started(smallest=0.05)
    assert motion.propose(with_objects(40, (20, 30))) == []
    motion = started(most=1)
    pixels = with_objects(40, (20, 30))
    pixels[0:40, 80:110] = 220
    (box,) = motion.propose(pixels)
    assert box[0] >= 75


@pytest.mark.parametrize("brightness", [30, 180])
def test_light_is_no_motion(brightness):
    motion = started()
    assert motion.propose(background(40, brightness)) == []
    assert motion.light_changed
    for number in range(41, 80):
        assert motion.propose(background(number, brightness)) == []
        assert not motion.light_changed
    assert len(motion.propose(with_objects(80, (20, 30), brightness=brightness))) == 1


@pytest.mark.slow
def test_slow_changes_of_light_are_neither():
    motion = started()
    for number in range(300):
        assert motion.propose(background(40 + number, 100 + number // 6)) == []
        assert not motion.light_changed
    assert len(motion.propose(with_objects(400, (20, 30), brightness=150))) == 1


@pytest.mark.slow
def test_what_stands_still_becomes_background():
    motion = started(memory=10)
    counts = [len(motion.propose(with_objects(40 + number, (20, 30)))) for number in range(220)]
    assert counts[0] == 1
    assert counts[-1] == 0


def test_frames_of_another_size_begin_anew():
    motion = started()
    assert motion.propose(background(0)[:40]) == []
    assert not motion.light_changed


def test_motion_says_what_is_wrong_with_its_settings():
    with pytest.raises(OddsightError, match="motion: flood must be above 0 and below 1"):
        Motion(flood=1.5)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 90), st.integers(1, 90))
def test_a_grid_covers_the_frame_with_tiles_of_one_size(columns, rows, width, height):
    boxes = Grid(columns, rows).propose(np.zeros((height, width, 3), np.uint8))
    seen = np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen[top:bottom, left:right] = True
    assert seen.all()
    assert len({(right - left, bottom - top) for left, top, right, bottom in boxes}) == 1
    assert len(boxes) == min(columns, width) * min(rows, height)


@st.composite
def boxes_in_frames(draw):
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))), width, height


@given(boxes_in_frames())
def test_a_window_holds_its_box_in_one_of_a_few_sizes(drawn):
    (left, top, right, bottom), width, height = drawn
    x, y, end, below = window((left, top, right, bottom), width, height)
    assert 0 <= x <= left < right <= end <= width
    assert 0 <= y <= top < bottom <= below <= height
    assert end - x in {*SIDES, width}
    assert below - y in {*SIDES, height}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("faces", "no regions of interest 'faces'"),
        ("grid:3", "written as columns x rows"),
        ("grid:axb", "written as columns x rows"),
        ("grid:0x3", "1 to 64 tiles, not 0 x 3"),
        ("grid:9x9", "1 to 64 tiles, not 9 x 9"),
        ("missing.onnx", "missing.onnx: cannot be read"),
    ],
)
def test_what_is_no_proposer(spec, words):
    with pytest.raises(DataError, match=words):
        open_roi(spec)


def test_proposers_by_name():
    assert isinstance(open_roi("motion"), Motion)
    for spec, size in (("grid", (3, 2)), ("grid:4x3", (4, 3))):
        grid = open_roi(spec)
        assert isinstance(grid, Grid)
        assert (grid.columns, grid.rows) == size


def test_an_object_keeps_its_number():
    tracker = Tracker()
    first, second = (0, 0, 20, 20), (50, 0, 70, 20)
    assert tracker.update([first, second]) == [1, 2]
    assert tracker.update([(54, 0, 74, 20), (4, 0, 24, 20)]) == [2, 1]
    assert tracker.update([(200, 0, 220, 20)]) == [3]


def test_an_object_is_forgotten_after_a_while_and_its_number_not_given_again():
    tracker = Tracker(patience=2)
    box = (0, 0, 20, 20)
    assert tracker.update([box]) == [1]
    for _ in range(2):
        assert tracker.update([]) == []
    assert tracker.update([box]) == [1]
    for _ in range(3):
        assert tracker.update([]) == []
    assert tracker.update([box]) == [2]


def test_pairs_are_the_best_of_all_not_of_each():
    tracker = Tracker()
    tracker.update([(0, 0, 20, 20), (10, 0, 30, 20)])
    # The first box overlaps the second object most, but then the other box would have none.
    assert tracker.update([(7, 0, 27, 20), (18, 0, 38, 20)]) == [1, 2]


@given(st.lists(boxes_in_frames().map(lambda drawn: drawn[0]), max_size=6))
def test_overlaps(boxes):
    shared = overlaps(boxes, boxes)
    assert shared.shape == (len(boxes), len(boxes))
    np.testing.assert_allclose(np.diag(shared), 1)
    np.testing.assert_allclose(shared, shared.T)
    assert ((shared >= 0) & (shared <= 1 + 1e-12)).all()


@given(st.lists(st.lists(boxes_in_frames().map(lambda drawn: drawn[0]), max_size=4), max_size=4))
def test_numbers_in_one_frame_are_different(frames):
    tracker = Tracker()
    for boxes in frames:
        given_ = tracker.update(boxes)
        assert len(given_) == len(set(given_)) == len(boxes)
