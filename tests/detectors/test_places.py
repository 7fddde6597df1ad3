"""What looks at places: sums that can be taken apart, coarse grids, and scores without an image's own fold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddsight.detectors.padim import Sums
from oddsight.detectors.patchcore import moments
from oddsight.detectors.places import Positions, _averaging, _interpolation, own_maps
from oddsight.runtime.sessions import session

SHAPE = (5, 34, 60)


class Patches:
    """Images whose patches differ by position."""

    shape = SHAPE

    def __init__(self, count, *, seed=0):
        random = np.random.default_rng(seed)
        places = np.random.default_rng(99).normal(size=(1, *SHAPE))
        self.array = (places + random.normal(size=(count, *SHAPE))).astype(np.float32)

    def __len__(self):
        return len(self.array)

    def __iter__(self):
        return iter(self.array)


def learned(patches, folds):
    positions = Positions(*moments(patches), SHAPE, folds, 1.0)
    for number, array in enumerate(patches):
        positions.add(array, number)
    positions.finish()
    return positions


def run(positions, array):
    return session(positions.graph().SerializeToString(), threads=1).run(["score", "anomaly_map"], {"patches": array})


def own_scores(positions, images):
    return np.array([maps.max() for maps in own_maps([positions], enumerate(images))])


@pytest.fixture(scope="module")
def patches():
    return Patches(50)


@pytest.fixture(scope="module")
def positions(patches):
    return learned(patches, np.arange(50) % 5)


def test_one_image_leaves_gaussians():
    """What single precision says of the spread of one image may be less than nothing."""
    for seed in range(10):
        sums = Sums(30, 4, 8)
        sums.add(np.random.default_rng(seed).normal(50, 50, (30, 4, 8)).astype(np.float32))
        assert all(np.isfinite(values).all() for values in sums.gaussians(0.01, 50))


def test_sums_can_be_put_together_and_taken_apart():
    random = np.random.default_rng(0)
    images = random.normal(size=(41, 3, 2, 4)).astype(np.float32)
    parts = [Sums(3, 2, 4) for _ in range(3)]
    rest = Sums(3, 2, 4)
    for number, image in enumerate(images):
        parts[number % 3].add(image)
        if number % 3 != 1:
            rest.add(image)
    whole = Sums.of(parts)
    assert whole.count == 41
    for found, expected in zip(whole.without(parts[1]).gaussians(0.1), rest.gaussians(0.1), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_gaussian_whitens_the_images_that_it_was_learned_from():
    images = np.random.default_rng(0).normal(size=(5000, 2, 1, 3)) @ np.array([[3, 1, 0], [0, 2, 1], [0, 0, 1]])
    sums = Sums(2, 1, 3)
    for image in images.astype(np.float32):
        sums.add(image)
    means, whitening = sums.gaussians(0.0)
    for position in range(2):
        white = (images[:, position, 0] - means[position, 0]) @ whitening[position]
        np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=0.01)


def test_positions_of_a_block_share_a_covariance_and_not_the_mean():
    random = np.random.default_rng(0)
    images = random.normal(size=(40, 1, 2, 3)) * [[[1], [3]]] + random.normal(size=(1, 2, 3)) * 20
    sums = Sums(1, 2, 3)
    for image in images.astype(np.float32):
        sums.add(image)
    means, whitening = sums.gaussians(0.0)
    np.testing.assert_allclose(means, images.mean(axis=0), rtol=1e-5)
    expected = np.mean([np.cov(images[:, 0, position].T) for position in range(2)], axis=0)
    np.testing.assert_allclose(np.linalg.inv(whitening[0] @ whitening[0].T), expected, rtol=0.01, atol=0.02)


def test_what_is_shared_is_the_mean_covariance():
    images = np.random.default_rng(0).normal(size=(10, 2, 1, 3)) * [[[[1]], [[5]]]]
    shared = Sums(2, 1, 3)
    for image in images.astype(np.float32):
        shared.add(image)
    own = [np.cov(images[:, position, 0].T) for position in range(2)]
    _, whitening = shared.gaussians(0.0, shared=1e9)
    for matrix in whitening:
        found = np.linalg.inv(matrix @ matrix.T)
        np.testing.assert_allclose(found, np.mean(own, axis=0), rtol=1e-3, atol=1e-3)


@given(side=st.integers(1, 40), step=st.integers(1, 9))
def test_a_coarse_grid_keeps_what_is_constant_and_covers_all(side, step):
    down, up = _averaging(side, step), _interpolation(side, step, 1.0)
    assert down.shape == up.T.shape
    assert len(down) % 2 == 0
    np.testing.assert_allclose(down @ np.ones(side), 1, rtol=1e-6)
    np.testing.assert_allclose(up @ np.ones(len(down)), 1, rtol=1e-6)
    # Every value counts, in one cell; the last may be there twice, to fill a block, and is not asked twice.
    count = -(-side // step)
    assert ((down[:count] > 0).sum(axis=0) == 1).all()
    assert len(down) - count in (0, 1)
    np.testing.assert_array_equal(down[count:], down[count - 1 : count].repeat(len(down) - count, axis=0))
    assert (up[:, count:] == 0).all()


def test_the_grid_is_coarse(positions):
    assert positions.down.shape == (18, 34)
    assert positions.across.shape == (30, 60)
    assert positions.means.shape == (18 * 30 // 4, 4, 5)
    assert positions.whitening.shape == (18 * 30 // 4, 5, 5)


def test_the_graph_scores_as_the_detector_does(positions, monkeypatch):
    fresh = Patches(8, seed=1).array
    fresh[0, :, 10:12, 22:24] += 12
    score, places = run(positions, fresh)
    monkeypatch.setattr(positions, "without", [(positions.means, positions.whitening)] * 5)
    expected = [positions.own_map(array, number) for number, array in enumerate(fresh)]
    np.testing.assert_allclose(places, expected, rtol=1e-4)
    np.testing.assert_array_equal(score, places.max(axis=(1, 2)))
    assert score.argmax() == 0
    row, column = np.unravel_index(places[0].argmax(), SHAPE[1:])
    assert abs(row - 10) <= 3
    assert abs(column - 22) <= 3


def test_an_image_has_no_say_in_its_own_score(patches, positions):
    odd = Patches(50)
    odd.array[7] += 3
    folds = np.arange(50) % 5
    changed = learned(odd, folds)
    scores = own_scores(changed, odd)
    assert scores.argmax() == 7
    # With the image among what is learned from, it hardly looks odd.
    assert run(changed, odd.array[7:8])[0][0] < scores[7] / 1.3
    # What the others of its fold score does not depend on it, but for the components that all share.
    before = own_scores(positions, patches)
    mates = [number for number in np.flatnonzero(folds == 2) if number != 7]
    np.testing.assert_allclose(scores[mates], before[mates], rtol=0.05)


def test_scores_of_images_held_out_are_those_of_others():
    """What is held out is scored by fewer images than others are; with few images, that must not show."""
    few = Patches(20)
    own = own_scores(learned(few, np.arange(20) % 5), few)
    score, _ = run(learned(few, np.arange(20) % 5), Patches(60, seed=1).array)
    assert np.median(score) == pytest.approx(np.median(own), rel=0.05)


def test_images_of_one_fold_are_scored_by_all():
    few = Patches(3)
    own = own_scores(learned(few, np.zeros(3, int)), few)
    assert np.isfinite(own).all()


def test_channels_that_never_vary_do_not_matter():
    still = Patches(12)
    still.array[:, 2] = 0
    positions = learned(still, np.arange(12) % 3)
    fresh = Patches(4, seed=1).array
    fresh[:, 2] = 1e-3
    assert np.isfinite(run(positions, fresh)[0]).all()
