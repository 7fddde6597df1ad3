"""Small synthetic defects: small, somewhere, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddsight.data.defects import DEFECTS, small_defects


def image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.slow
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_images_of_any_shape_get_one_of_each_kind(height, width, seed):
    whole = image(height, width)
    before = whole.copy()
    copies = list(small_defects(whole, seed))
    assert len(copies) == DEFECTS
    assert all(copy.shape == whole.shape and copy.dtype == np.uint8 for copy in copies)
    np.testing.assert_array_equal(whole, before)
    for copy, again in zip(copies, small_defects(whole, seed), strict=True):
        np.testing.assert_array_equal(copy, again)


@pytest.mark.parametrize("seed", range(10))
def test_they_are_small_and_in_one_place(seed):
    whole = image(200, 300)
    for copy, most in zip(small_defects(whole, seed), (0.006, 0.03, 0.02), strict=True):
        changed = (copy != whole).any(axis=2)
        assert 0 < changed.mean() < most
        rows, columns = np.nonzero(changed)
        assert np.ptp(rows) <= 150
        assert np.ptp(columns) <= 200


def test_other_seeds_put_them_elsewhere():
    first, second = (next(small_defects(image(200, 200), seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)
