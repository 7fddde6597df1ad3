"""From scores to evidence: in NumPy, in the graph, and what it means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddsight.detectors import evidence
from oddsight.detectors.evidence import Places, Tail, Voice, speaking, voice, weighed
from oddsight.runtime.sessions import session

LARGEST = 1e25
"""A score that no detector gives."""


def normal_scores(seed, count=60, spread=0.3):
    return np.exp(np.random.default_rng(seed).normal(0, spread, count))


SCORES = st.lists(st.floats(0.01, 100), min_size=8, max_size=60).map(np.array)


def spoken(speaker, *scores, shape="N"):
    """What the graph says to scores of each detector."""
    loaded = session(speaking("deep", speaker, shape).SerializeToString(), threads=1)
    inputs = {f"deep_{number}": np.asarray(each, np.float32) for number, each in enumerate(scores)}
    return loaded.run(["deep_evidence"], inputs)[0]


def said(speaker, *scores):
    """The same from the definition."""
    each = [tail.evidence(np.asarray(score)) for tail, score in zip(speaker.tails, scores, strict=True)]
    return np.logaddexp(0, speaker.weight * np.mean(each, axis=0))


# One detector.


def test_evidence_is_the_negative_logarithm_of_how_rare_a_score_is():
    """For scores whose tail is what it is taken for."""
    random = np.random.default_rng(0)
    tail = Tail.of(np.expm1(random.exponential(size=20_000)))
    fresh = tail.evidence(np.expm1(random.exponential(size=200_000)))
    for level in (2.0, 3.0, 4.0, 5.0):
        assert (fresh > level).mean() == pytest.approx(np.exp(-level), rel=0.15)


@given(SCORES)
def test_the_tail_begins_at_a_fifth(scores):
    tail = Tail.of(scores)
    start = tail.middle * np.expm1(tail.start)
    assert tail.evidence(np.array(start)) == pytest.approx(np.log(5), abs=1e-6)
    # Between two scores, where the quantile is not one of them.
    last = len(scores) - 1
    assert (scores > start * (1 + 1e-9)).sum() <= last - int(0.8 * last)


@pytest.mark.slow
@given(SCORES, st.floats(1e-4, 1e4))
def test_the_scale_of_scores_does_not_matter(scores, scale):
    places = np.concatenate([scores, [0, 0.5, 7, 1e6]])
    expected, found = Tail.of(scores), Tail.of(scale * scores)
    np.testing.assert_allclose(found.evidence(scale * places), expected.evidence(places), rtol=1e-5, atol=1e-5)
    assert found.spread == pytest.approx(expected.spread, rel=1e-6)


@given(SCORES, st.lists(st.floats(0, 1e6), min_size=2, max_size=20, unique=True).map(sorted))
def test_a_higher_score_is_more_evidence(scores, places):
    tail = Tail.of(scores)
    assert (np.diff(tail.evidence(np.array(places))) >= 0).all()
    apart = tail.evidence(np.geomspace(1e-3, 1e12, 40) * tail.middle)
    assert (np.diff(apart) > 0).all()


@pytest.mark.parametrize(
    "scores",
    [np.zeros(20), np.ones(20), np.r_[np.zeros(19), 5.0], np.r_[np.zeros(5), np.full(15, 1e9)], normal_scores(0)],
    ids=["zero", "constant", "one above zero", "zeros below", "spread"],
)
def test_evidence_is_finite_for_any_score(scores):
    speaker = voice([scores, scores])
    places = np.array([0, 1e-30, 1e-6, 1, 1e6, LARGEST])
    assert np.isfinite([(tail.middle, tail.start, tail.excess, tail.spread) for tail in speaker.tails]).all()
    assert all(tail.spread > 0 and tail.excess > 0 and tail.middle > 0 for tail in speaker.tails)
    for found in (said(speaker, places, places), spoken(speaker, places, places)):
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert (np.diff(found) >= 0).all()
        assert found[-1] > found[0]
    assert np.isfinite(speaker.normal).all()


# Voices, in the graph.


@pytest.mark.slow
@given(SCORES, SCORES, st.floats(0.01, 1), st.integers(1, 2))
def test_the_graph_says_what_the_definition_says(first, second, weight, detectors):
    tails = [Tail.of(first), Tail.of(second)][:detectors]
    speaker = Voice(tuple(tails), weight, np.zeros(1))
    places = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 30)]).astype(np.float32)
    scores = [places, places[::-1].copy()][:detectors]
    # What single precision loses grows with how steep the tail is.
    steep = weight * max((1 + tail.start) / tail.excess for tail in tails)
    np.testing.assert_allclose(spoken(speaker, *scores), said(speaker, *scores), rtol=1e-4, atol=1e-5 * (1 + steep))


def test_a_map_is_spoken_of_cell_by_cell():
    speaker = voice([normal_scores(1)])
    grid = np.random.default_rng(0).gamma(2.0, 1.0, (3, 4, 5)).astype(np.float32)
    found = spoken(speaker, grid, shape="N, 4, 5")
    assert found.shape == grid.shape
    np.testing.assert_allclose(found, said(speaker, grid), rtol=1e-5)
    np.testing.assert_allclose(found.ravel(), spoken(speaker, grid.ravel()), rtol=1e-6)


def test_little_evidence_is_never_below_zero_and_much_is_raw():
    speaker = voice([normal_scores(2)])
    scores = np.geomspace(1e-3, 1e8, 200)
    found, raw = spoken(speaker, scores), speaker.tails[0].evidence(scores)
    assert (found > 0).all()
    np.testing.assert_allclose(found[raw > 12], raw[raw > 12], rtol=1e-5)


def test_detectors_of_one_voice_speak_for_its_mean():
    first, second = normal_scores(3), 50 * normal_scores(4, spread=0.1)
    speaker = voice([first, second])
    assert speaker.weight == 1
    expected = (Tail.of(first).evidence(first) + Tail.of(second).evidence(second)) / 2
    np.testing.assert_allclose(speaker.normal, expected)
    spreads = [np.log(each).std() for each in (first, second)]
    assert speaker.spread == pytest.approx(np.sqrt(spreads[0] * spreads[1]))


# How much a voice counts.


@given(st.lists(st.floats(0.02, 2), min_size=1, max_size=5), st.floats(0.02, 2), st.integers(8, 5000))
def test_weights_are_shares_and_the_steadiest_depth_has_all(spreads, own, images):
    depths = [voice([normal_scores(number, spread=spread)]) for number, spread in enumerate(spreads)]
    found, places = weighed(depths, [voice([normal_scores(9, spread=own)])], images)
    weights = [each.weight for each in found]
    assert len(weights) == len(depths)
    assert all(0 < weight <= 1 for weight in (*weights, places.weight))
    order = np.argsort([each.spread for each in depths], kind="stable")
    assert weights[order[0]] == 1
    assert (np.diff([weights[index] for index in order]) <= 0).all()
    # That of places depends on the depths, not on their own scores.
    assert weighed(depths, [voice([normal_scores(9)])], images)[1].weight == places.weight


def test_more_images_are_trusted_more():
    depths = [voice([normal_scores(0, spread=0.3)]), voice([normal_scores(1, spread=0.6)])]
    patches = voice([normal_scores(2)])
    ratio = depths[0].spread / depths[1].spread
    found = [weighed(depths, [patches], images)[0][1].weight for images in (8, 100, 1000, 10**9)]
    assert (np.diff(found) < 0).all()
    powers = np.log(found) / np.log(ratio)
    assert powers[0] < 0.1
    assert powers[-1] == pytest.approx(evidence._TRUST, rel=1e-4)


@pytest.mark.parametrize(("spread", "full"), [(0.05, True), (0.15, True), (0.5, False), (1.0, False)])
def test_details_tell_little_where_no_depth_finds_the_images_alike(spread, full):
    depths = [voice([normal_scores(0, spread=spread)])] * 4
    _, places = weighed(depths, [voice([normal_scores(1)])], 500)
    assert (places.weight == pytest.approx(1)) == full
    assert places.weight <= 1


def test_what_is_normal_is_weighed_like_what_is_asked():
    scores = [normal_scores(0, spread=0.6), normal_scores(1, spread=0.3), normal_scores(2)]
    depths, places = weighed([voice([s]) for s in scores[:2]], [voice([scores[2]])], 500)
    for each, own in zip([*depths, *places.alone], scores, strict=True):
        assert (np.diff(each.normal) >= 0).all()
        np.testing.assert_allclose(each.normal, np.sort(said(each, own)))


@pytest.mark.parametrize("ability", [0.0, 0.1, 0.4, 0.5, 1.0])
def test_places_count_by_what_they_see_and_depths_by_what_they_miss(ability):
    depths = [replace(voice([normal_scores(number)]), ability=seen) for number, seen in enumerate((0.0, 0.3, 1.0))]
    patches = replace(voice([normal_scores(9, spread=0.1)]), ability=ability)
    before, unshown = weighed([replace(each, ability=None) for each in depths], [replace(patches, ability=None)], 500)
    found, places = weighed(depths, [patches], 500)
    local = unshown.weight * max(0.2, min(1, ability / 0.5) ** 2)
    assert places.weight == pytest.approx(local)
    for each, alone, seen in zip(found, before, (0.0, 0.3, 1.0), strict=True):
        assert each.weight == pytest.approx(alone.weight * (1 - 0.8 * local * max(0, ability - seen)))


def thing(spread, *abilities, deepest=1.2):
    """The weight of a depth where images spread so much, beside a deeper one, and places with such abilities."""
    shallow = replace(voice([normal_scores(0, spread=spread)]), ability=0.0)
    tails = tuple(replace(tail, spread=deepest * tail.spread) for tail in shallow.tails)
    patches = [replace(voice([normal_scores(9)]), ability=ability) for ability in abilities]
    found, places = weighed([shallow, replace(shallow, tails=tails)], patches, 500)
    return shallow.spread, found[0].weight, places


def test_in_images_of_one_thing_places_are_heard():
    # Little is seen by any. In images that differ, that counts as little.
    least, _, differing = thing(0.25, 0.3, 0.15)
    assert least > 0.2
    assert differing.weight == pytest.approx(0.36 * thing(0.25, 0.5)[2].weight)
    assert differing.lift == 1
    least, depths, same = thing(0.08, 0.3, 0.15)
    assert least < 0.1
    assert same.weight == 1
    assert same.lift == 5
    assert depths == pytest.approx(0.3 * (1 - 0.8 * 0.3))
    # In between, by how much the images are one thing.
    found = [thing(spread, 0.3)[1:] for spread in (0.08, 0.17, 0.18, 0.19, 0.25)]
    assert (np.diff([places.weight for _, places in found]) < 0).all()
    assert (np.diff([places.lift for _, places in found]) < 0).all()
    assert (np.diff([weight for weight, _ in found]) > 0).all()


def test_images_that_are_most_alike_at_the_deepest_depth_are_a_kind_and_no_thing():
    _, _, kind = thing(0.08, 0.3, deepest=1.0)
    assert kind.weight == pytest.approx(0.36)
    assert kind.lift == 1
    assert thing(0.08, 0.3, deepest=0.7)[2].lift == 1
    lifts = [thing(0.08, 0.3, deepest=deepest)[2].lift for deepest in (1.0, 1.05, 1.1, 1.15)]
    assert (np.diff(lifts) > 0).all()
    assert lifts[-1] == pytest.approx(thing(0.08, 0.3, deepest=2.0)[2].lift) == pytest.approx(5)


def test_one_depth_tells_nothing_of_kinds():
    depth = replace(voice([normal_scores(0, spread=0.08)]), ability=0.0)
    assert weighed([depth], [replace(voice([normal_scores(9)]), ability=0.3)], 500)[1].lift == 5


def test_where_places_show_nothing_whole_images_keep_their_weight():
    _, depth, places = thing(0.08, 0.0, 0.0)
    assert depth == 1
    assert places.weight == pytest.approx(0.2)
    assert places.shares == pytest.approx([0.5, 0.5])


# Detectors of places, together.


def test_shares_follow_what_each_sees():
    depths = [voice([normal_scores(0)])]
    seeing = [replace(voice([normal_scores(9)]), ability=0.5, rise=rise) for rise in (3.0, 1.0, 0.5, -0.2)]
    assert weighed(depths, seeing, 100)[1].shares == pytest.approx(np.array([4, 4, 1, 0]) / 9)
    unshown = [voice([normal_scores(number)]) for number in range(3)]
    assert weighed(depths, unshown, 100)[1].shares == pytest.approx([1 / 3] * 3)


GRIDS = st.lists(st.floats(0, 1e4, width=32), min_size=12, max_size=12).map(lambda x: np.reshape(x, (3, 2, 2)))


@given(GRIDS, st.floats(0.05, 1), st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
def test_the_graph_says_together_what_the_definition_says(scores, weight, shares):
    alone = tuple(voice([normal_scores(number)]).weighing(weight) for number in range(3))
    places = Places(alone, tuple(np.array(shares) / sum(shares)), 1.0)
    names = ["a", "b", "c"]
    feed = {f"{name}_evidence": said(one, each)[None] for name, one, each in zip(names, alone, scores, strict=True)}
    loaded = session(places.graph(names, "N, 2, 2").SerializeToString(), threads=1)
    found = loaded.run(["together"], {name: each.astype(np.float32) for name, each in feed.items()})[0][0]
    np.testing.assert_allclose(found, places.together(scores.astype(np.float32)), rtol=1e-3)
    each = np.maximum(np.concatenate(list(feed.values())), 1e-3)
    assert (found <= each.max(axis=0) * 1.001).all()
    assert (found >= each.min(axis=0) * 0.999).all()


def test_what_one_alone_sees_is_less_than_what_all_see():
    alone = tuple(voice([normal_scores(number)]).weighing(1.0) for number in range(3))
    places = Places(alone, (0.4, 0.4, 0.2), 1.0)
    maps = np.ones((3, 1, 4), np.float32)
    maps[:, 0, 1], maps[0, 0, 2], maps[2, 0, 3] = 20, 20, 20
    none, every, first, last = places.together(maps)[0]
    assert every > first > last > none


def shown(defective, numbers=(0,)):
    """A voice that scores ten images from 1 to 10, and copies of some."""
    return voice([np.arange(1.0, 11.0)], [np.array(defective)], np.array(numbers, np.intp))


def test_ability_is_the_share_of_pairs_that_are_in_order():
    every = range(10)
    assert shown(np.arange(1.0, 11.0) + 100, every).ability == 1
    assert shown(np.arange(1.0, 11.0), every).ability == 0
    assert shown(np.arange(1.0, 11.0) / 2, every).ability == 0
    assert shown([8.5]).ability == pytest.approx(0.6)
    assert shown([], []).ability is None
    assert voice([normal_scores(0)]).ability is None


def test_rise_is_how_much_a_defect_adds_to_its_own_image():
    normal = np.arange(1.0, 11.0)
    assert shown(normal, range(10)).rise == 0
    evidence_of = voice([normal]).tails[0].evidence
    spread = evidence_of(normal).std()
    expected = (evidence_of(np.array([4.0, 9.0])) - evidence_of(np.array([2.0, 10.0]))).mean() / spread
    assert shown([4.0, 9.0], [1, 9]).rise == pytest.approx(expected)
    assert shown([0.5], [9]).rise < 0 < shown([11.0], [0]).rise
    assert shown([], []).rise is None
    assert np.isfinite(voice([np.ones(5)], [np.array([2.0])], np.array([0])).rise)
