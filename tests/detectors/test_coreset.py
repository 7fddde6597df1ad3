"""Greedy k-centre against the obvious slow one, and its streamed form."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddsight.detectors.coreset import BLOCK, Coreset, k_center


def greedy(points, count, first):
    """The obvious algorithm, in float64."""
    points = points.astype(np.float64)
    chosen = [first]
    distance = ((points - points[first]) ** 2).sum(axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return chosen


def radius(points, centres):
    """How far the farthest point is from its centre."""
    points, centres = points.astype(np.float64), centres.astype(np.float64)
    squared = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return float(np.sqrt(np.maximum(squared.min(axis=1), 0).max()))


@pytest.mark.parametrize("n", [1, 2, 50, 383, 384, 385, 386, 1000, 3000])
@pytest.mark.parametrize("dimensions", [2, 5, 30])
def test_k_center_is_the_greedy_choice(n, dimensions):
    points = np.random.default_rng([n, dimensions]).normal(size=(n, dimensions)).astype(np.float32)
    for count in {1, min(n, 7), min(n, 150)}:
        chosen = k_center(points, count, np.random.default_rng(0))
        assert chosen.tolist() == greedy(points, count, int(chosen[0]))


def test_the_first_is_random_and_seeded():
    points = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    firsts = [int(k_center(points, 1, np.random.default_rng(seed))[0]) for seed in range(20)]
    assert len(set(firsts)) > 10
    assert firsts == [int(k_center(points, 1, np.random.default_rng(seed))[0]) for seed in range(20)]


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=1, max_size=30),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_k_center_stops_when_only_copies_are_left(distinct, copies, count):
    points = np.repeat(np.array(distinct, np.float32), copies, axis=0)
    np.random.default_rng(0).shuffle(points)
    chosen = k_center(points, count, np.random.default_rng(1))
    rows = points[chosen]
    assert len(np.unique(rows, axis=0)) == len(rows) == min(count, len(np.unique(points, axis=0)))


@pytest.mark.parametrize("value", [0.0, 7.5, 1e4])
def test_k_center_of_one_point_many_times(value):
    assert len(k_center(np.full((2000, 9), value, np.float32), 100, np.random.default_rng(0))) == 1


@given(st.integers(1, 200), st.integers(1, 9000), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=15)
def test_a_coreset_is_some_of_the_vectors(size, n, dimensions, seed):
    random = np.random.default_rng(seed)
    points = random.normal(size=(n, dimensions)).astype(np.float32)
    coreset = Coreset(size, dimensions, 0, seed)
    for part in np.array_split(points, 1 + n // 700):
        coreset.add(part)
    rows = coreset.result()
    assert rows.shape == (min(n, size), dimensions) or len(rows) < size
    known = {row.tobytes() for row in points}
    assert all(row.tobytes() in known for row in rows)
    assert len(np.unique(rows, axis=0)) == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("plenty", [False, True], ids=["least memory", "plenty of memory"])
@pytest.mark.parametrize("rare", [0, 20_000, 39_999])
def test_a_stream_is_covered_and_its_rare_point_kept(plenty, rare):
    size, dimensions = 200, 8
    random = np.random.default_rng(3)
    clusters = random.normal(size=(50, dimensions)) * 10
    points = (clusters[random.integers(50, size=40_000)] + random.normal(size=(40_000, dimensions))).astype(np.float32)
    points[rare] = 200
    memory = 10**9 if plenty else Coreset.memory_needed(size, dimensions)
    coreset = Coreset(size, dimensions, memory, 0)
    for part in np.array_split(points, 100):
        coreset.add(part)
    rows = coreset.result()
    assert len(rows) == size
    assert (rows == 200).all(axis=1).any()
    direct = points[k_center(points, size, np.random.default_rng(0))]
    # In theory within a factor of 2 for each time that centres are reduced again; in practice much less.
    assert radius(points, rows) <= 1.5 * radius(points, direct)


def test_copies_do_not_crowd_out_the_rest():
    points = np.zeros((3 * BLOCK, 4), np.float32)
    distinct = np.arange(100, dtype=np.float32)
    points[:: len(points) // 99][: len(distinct), 0] = distinct
    coreset = Coreset(64, 4, Coreset.memory_needed(64, 4), 0)
    coreset.add(points)
    rows = coreset.result()[:, 0].tolist()
    assert len(set(rows)) == len(rows) == 64
    # 64 of 100 places in a row: each that was left out has a neighbour that was not.
    assert radius(distinct[:, None], np.array(rows)[:, None]) <= 1


def peak_of_a_stream(size, dimensions, memory, blocks):
    random = np.random.default_rng(0)
    tracemalloc.start()
    try:
        coreset = Coreset(size, dimensions, memory, 0)
        for _ in range(blocks):
            coreset.add(random.normal(size=(BLOCK // 4, dimensions)).astype(np.float32))
        coreset.result()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 2.0])
def test_memory_is_what_it_says_and_does_not_grow_with_the_stream(share):
    size, dimensions = 200, 16
    memory = int(share * Coreset.memory_needed(size, dimensions))
    # What arrives belongs to the caller: a quarter of a block, in float64 and float32.
    own = 12 * BLOCK // 4 * dimensions
    short, long = (peak_of_a_stream(size, dimensions, memory, blocks) - own for blocks in (220, 660))
    assert short <= memory
    assert long <= memory
    assert long <= 1.05 * short
