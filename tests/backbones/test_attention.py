"""Embeddings that look somewhere: weighted averages of places."""

from __future__ import annotations

import numpy as np
import pytest

from oddsight.graphs.features import attended, patches
from oddsight.runtime.sessions import session

SHAPES = {"fine": (3, 8, 12), "coarse": (5, 4, 6)}
GRID = (4, 6)


def embedded(attention: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The embedding of random stages ``[C]``, and their patches ``[C, h, w]``."""
    rng = np.random.default_rng(0)
    stages = {name: rng.normal(size=(1, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    feed = {**stages, "attention": attention[None].astype(np.float32)}
    embedding = session(attended(SHAPES, GRID).SerializeToString(), threads=1).run(["embedding"], feed)[0]
    places = session(patches(SHAPES).SerializeToString(), threads=1).run(["patches"], stages)[0]
    return embedding[0], places[0]


@pytest.mark.parametrize("level", [-3.0, 0.0, 1e9])
def test_a_flat_map_looks_everywhere_alike(level):
    embedding, places = embedded(np.full(GRID, level))
    np.testing.assert_allclose(embedding, places.mean(axis=(1, 2)), atol=1e-5)


def test_only_what_rises_counts():
    attention = np.full(GRID, -2.0)
    attention[:2, :2] = 5.0
    embedding, places = embedded(attention)
    assert not np.allclose(embedding, places.mean(axis=(1, 2)), atol=0.05)
    # The map is brought to the finer grid linearly, so that its edge is a slope two places wide.
    weights = np.zeros((8, 12))
    weights[:5, :5] = np.outer([1, 1, 1, 0.75, 0.25], [1, 1, 1, 0.75, 0.25])
    np.testing.assert_allclose(embedding, (places * weights / weights.sum()).sum(axis=(1, 2)), atol=1e-4)


@pytest.mark.parametrize("change", [lambda one: 1e-4 * one, lambda one: 1e4 * one, lambda one: one + 7])
def test_the_scale_of_the_map_does_not_matter(change):
    attention = np.random.default_rng(1).uniform(0, 3, GRID)
    np.testing.assert_allclose(embedded(change(attention))[0], embedded(attention)[0], atol=1e-4)
