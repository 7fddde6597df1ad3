"""Auto: what it holds out, what it may take, and which of its voices speaks."""

from __future__ import annotations

import tracemalloc
from copy import copy

import numpy as np
import pytest

import oddsight
from oddsight.detectors import auto
from oddsight.detectors.auto import Auto
from oddsight.detectors.knn import KNN
from oddsight.detectors.places import own_maps
from oddsight.errors import MemoryBudgetError
from oddsight.graphs.building import copied, piece, renamed
from oddsight.model.calibration import p_values
from oddsight.runtime.sessions import session
from textures import SIZE, texture

WIDTHS, GRID = (6, 10), (5, 4, 3)


class Levels:
    """Images as levels: Gaussian profiles and patches."""

    def __init__(self, count, *, seed=0, widths=WIDTHS, grid=GRID):
        random = np.random.default_rng(seed)
        self.shape = (*widths, *grid)
        self.profiles = 5 + random.normal(size=(count, sum(widths)))
        self.patches = 3 + random.normal(size=(count, *grid))

    @property
    def array(self):
        flat = self.patches.reshape(len(self), -1)
        return np.concatenate([self.profiles, flat], axis=1).astype(np.float32)

    def __len__(self):
        return len(self.profiles)

    def __iter__(self):
        return iter(self.array)


def fitted(levels, *, seed=0, **settings):
    return Auto(**settings).fit(levels, memory=10**9, seed=seed)


def run(graph, array):
    """All outputs by name."""
    loaded = session(graph.SerializeToString(), threads=1)
    names = [output.name for output in loaded.get_outputs()]
    return dict(zip(names, loaded.run(None, {loaded.get_inputs()[0].name: array}), strict=True))


def own_scores(method, levels):
    """Of images by each detector of places, ``[n, detectors]``."""
    patches = auto._Patches(levels, len(levels))
    return np.array([maps.max(axis=(1, 2)) for maps in own_maps(method.places_, enumerate(patches))])


@pytest.fixture(scope="module")
def normal():
    return Levels(60)


@pytest.fixture(scope="module")
def method(normal):
    return fitted(normal)


# The graph is what was learned.


def test_the_graph_is_its_detectors_and_their_evidence(method):
    fresh = Levels(20, seed=1)
    fresh.profiles[0] += 4
    fresh.patches[1, :, 2, 1] += 6
    array = fresh.array
    found = run(method.graph(), array)
    ends = np.cumsum(WIDTHS)
    scores = [
        [run(copied(graph), np.ascontiguousarray(array[:, end - width : end]))["score"] for graph in detectors]
        for end, width, detectors in zip(ends, WIDTHS, method.detectors_, strict=True)
    ]
    local = [run(one.graph(), fresh.patches.astype(np.float32))["anomaly_map"] for one in method.places_]
    together = np.array([method.together_.together(np.stack(maps)) for maps in zip(*local, strict=True)])
    scores.append([together.max(axis=(1, 2))])
    for column, (voice, each) in enumerate(zip(method.voices_, scores, strict=True)):
        raw = np.mean([tail.evidence(score) for tail, score in zip(voice.tails, each, strict=True)], axis=0)
        expected = np.logaddexp(0, voice.weight * raw)
        np.testing.assert_allclose(found["evidence"][:, column], expected, rtol=1e-3, atol=1e-3)
        p = p_values(voice.normal.astype(np.float32), found["evidence"][:, column])
        np.testing.assert_allclose(found["voice_p_values"][:, column], p, rtol=1e-6)
    np.testing.assert_allclose(found["score"], found["evidence"].max(axis=1), rtol=1e-5)
    # The score is the map's maximum exactly; the map is the evidence of places and what is missing to the score.
    np.testing.assert_array_equal(found["score"], found["anomaly_map"].max(axis=(1, 2)))
    speaker = method.voices_[-1]
    places = np.logaddexp(0, speaker.weight * speaker.tails[0].evidence(together))
    missing = found["score"] - places.max(axis=(1, 2))
    assert (missing > 0.1).any()
    assert (missing < 1e-3).any()
    steep = (together / together.max(axis=(1, 2), keepdims=True)) ** method.together_.lift
    np.testing.assert_allclose(found["anomaly_map"], places + missing[:, None, None] * steep, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_same_seed_learns_the_same(normal, method):
    again, other = fitted(normal), fitted(normal, seed=1)
    assert again.graph().SerializeToString(deterministic=True) == method.graph().SerializeToString(deterministic=True)
    assert other.graph().SerializeToString(deterministic=True) != method.graph().SerializeToString(deterministic=True)


@pytest.mark.slow
def test_another_unit_of_a_profile_changes_no_evidence(normal, method):
    """Standardised by each detector, and judged by what normal images score."""
    scaled, fresh = Levels(60), Levels(10, seed=1)
    scaled.profiles *= 8
    expected = run(method.graph(), fresh.array)
    fresh.profiles *= 8
    found = run(fitted(scaled).graph(), fresh.array)
    np.testing.assert_allclose(found["evidence"], expected["evidence"], rtol=0.01, atol=0.01)


# No image has a say in what is normal for itself.


def test_profiles_are_scored_by_detectors_that_did_not_see_them():
    rows = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
    folds = np.arange(23) % 5
    learned = []

    def fit(others):
        learned.append(others)
        text = """
        near (float[N, 4] embedding) => (float[N] score) <int64[1] channel = {2}, int64[1] last = {1},
                                                          int64[3] shape = {-1, 1, 4}>
        {
            alone = Reshape (embedding, shape)
            apart = Sub (alone, rows)
            distances = ReduceL2 <keepdims = 0> (apart, channel)
            score = ReduceMin <keepdims = 0> (distances, last)
        }
        """
        return piece(text, {"rows": others[None]})

    copies = rows[[0, 7, 7]] + 1
    scores, of_copies = auto._held_out(fit, rows, folds, copies, np.array([0, 7, 7]))
    for fold in range(5):
        np.testing.assert_array_equal(learned[fold], rows[folds != fold])
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    distances[folds[:, None] == folds[None]] = np.inf
    np.testing.assert_allclose(scores, distances.min(axis=1), rtol=1e-5)
    for score, other, number in zip(of_copies, copies, (0, 7, 7), strict=True):
        others = rows[folds != folds[number]]
        np.testing.assert_allclose(score, np.linalg.norm(others - other, axis=1).min(), rtol=1e-5)


@pytest.mark.slow
def test_every_profile_is_held_out_once(normal, monkeypatch):
    calls = []
    held_out = auto._held_out

    def watched(fit, rows, folds, *changed):
        calls.append((rows.shape, np.bincount(folds).tolist()))
        return held_out(fit, rows, folds, *changed)

    monkeypatch.setattr(auto, "_held_out", watched)
    fitted(normal)
    assert calls == [((60, width), [12] * 5) for width in WIDTHS for _ in range(2)]


@pytest.mark.slow
def test_images_are_scored_without_their_own_patches(normal, method):
    bank, sources = method.places_[0].fitted.bank_, method.places_[0].fitted.sources_
    assert len(set(sources)) > 50
    expected = []
    for number, image in enumerate(normal.patches.astype(np.float32)):
        # The same graph with the others' patches for its bank: smoothing and borders as when it is used.
        others = copy(method.places_[0].fitted)
        others.bank_ = bank[sources != number]
        expected.append(run(others.graph(), image[None])["score"][0])
    found = own_scores(method, normal)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert (found > 0.1).all()


@pytest.mark.slow
def test_an_odd_normal_image_is_odd_to_itself_too():
    """Its patches are all in the bank, so with them it would look like the most normal of all."""
    levels = Levels(40)
    levels.patches[7] += 25
    method = fitted(levels)
    found, at_positions = own_scores(method, levels).T
    assert at_positions.argmax() == 7
    assert found.argmax() == 7
    assert found[7] > 5 * np.median(found)
    assert run(method.places_[0].fitted.graph(), levels.patches[7:8].astype(np.float32))["score"][0] < np.median(found)


@pytest.mark.slow
def test_images_that_are_alone_in_the_bank_are_still_scored():
    levels = Levels(10)
    levels.patches[:] = levels.patches[:1, :, :1, :1]
    method = fitted(levels)
    found = run(method.graph(), Levels(4, seed=1).array)
    assert all(np.isfinite(values).all() for values in found.values())


# What it takes.


@pytest.mark.slow
def test_profiles_of_the_first_images_only_are_learned_from():
    levels, sampled = Levels(60), Levels(60)
    # Of those beyond the cap only the patches count.
    sampled.profiles[20:] = 1e6
    method = fitted(levels, images=20)
    assert [len(voice.normal) for voice in method.voices_] == [20, 20, 60]
    again = fitted(sampled, images=20)
    assert again.graph().SerializeToString(deterministic=True) == method.graph().SerializeToString(deterministic=True)
    assert len(set(method.places_[0].fitted.sources_) - set(range(20))) > 30


def test_what_it_needs_stops_growing():
    shape = (48, 80, 160, 640, 64, 28, 28)
    needed = [Auto().memory_needed(shape, count) for count in (100, 1000, 2000, 10**4, 10**7)]
    assert needed[0] < needed[1] < needed[2] == needed[3] == needed[4]
    assert Auto(images=500).memory_needed(shape, 10**7) < needed[2]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "widths"), [(30, (40, 60)), (240, (40, 60)), (60, (1200,))])
def test_it_takes_no_more_than_it_says(count, widths):
    levels = Levels(count, widths=widths)
    method = Auto(images=60, bank_size=200)
    needed = method.memory_needed(levels.shape, count)
    with pytest.raises(MemoryBudgetError, match="auto takes"):
        method.fit(levels, memory=needed - 1, seed=0)
    arrays = list(levels)
    fitted(Levels(8), bank_size=20)  # imports
    stream = type("Stream", (), {"shape": levels.shape, "__len__": lambda _: count, "__iter__": lambda _: iter(arrays)})
    tracemalloc.start()
    try:
        method.fit(stream(), memory=needed, seed=0).graph()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= needed


@pytest.mark.slow
def test_a_wide_profile_is_left_to_its_neighbours():
    assert len(auto._detectors(1000)) == 2
    assert auto._detectors(1001) == [KNN]
    method = fitted(Levels(12, widths=(1001, 6)))
    assert [len(detectors) for detectors in method.detectors_] == [1, 2]
    assert [len(voice.tails) for voice in method.voices_] == [1, 2, 1]
    fresh = Levels(3, seed=1, widths=(1001, 6))
    # Neighbours are found by direction: another length alone would not show.
    fresh.profiles[0, :1001:2] += 3
    found = run(method.graph(), fresh.array)
    assert found["evidence"][0].argmax() == 0
    assert np.isfinite(found["evidence"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 6, 8, 11])
def test_few_images_are_enough(count):
    fresh = Levels(8, seed=1)
    fresh.profiles[0, ::2] += 20
    fresh.patches[1] += 20
    found = run(fitted(Levels(count)).graph(), fresh.array)
    assert all(np.isfinite(values).all() for values in found.values())
    assert set(np.argsort(found["score"])[-2:]) == {0, 1}


def test_graphs_of_other_methods_stay_as_they_are(method):
    """Renaming is done on copies: the graph can be made twice."""
    first, second = method.graph(), method.graph()
    renamed(first, "spoiled", {"score": "spoiled"})
    assert second.SerializeToString(deterministic=True) == method.graph().SerializeToString(deterministic=True)


# Which voice speaks.


def test_the_voice_of_what_is_odd_speaks(method):
    fresh = Levels(30, seed=1)
    fresh.profiles[:10, : WIDTHS[0]] += 6
    fresh.profiles[10:20, WIDTHS[0] :] += 6
    fresh.patches[20:, :, 1, 1] += 8
    found = run(method.graph(), fresh.array)
    assert found["evidence"].argmax(axis=1).tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert (found["anomaly_map"][20:].reshape(10, -1).argmax(axis=1) == GRID[2] + 1).all()


class Stages(Levels):
    """The same, whose patches come from three stages, and which show small defects at some of them."""

    channels = (2, 2, 1)

    def __init__(self, count, *, seed=0, seen_at=()):
        super().__init__(count, seed=seed)
        self.seen_at = list(seen_at)

    def defects(self):
        for number, array in list(enumerate(self.array))[:30]:
            patches = array[sum(WIDTHS) :].reshape(GRID).copy()
            patches[self.seen_at, 2, 1] += 8
            yield number, np.concatenate([array[: sum(WIDTHS)], patches.reshape(-1)])


@pytest.mark.slow
def test_one_bank_looks_at_deep_and_one_at_shallow_stages():
    method = fitted(Stages(60, seen_at=range(5)))
    assert method.spans_ == [slice(2, 5), slice(0, 4)]
    assert method.voices(["a", "b"]) == ["a", "b", "places"]
    fresh = Levels(20, seed=1)
    fresh.patches[:10, 4, 1, 1] += 9
    fresh.patches[10:, 0, 3, 2] += 9
    deep, shallow, _ = (
        run(one.graph(), fresh.patches[:, one.span].astype(np.float32))["score"] for one in method.places_
    )
    assert deep[:10].min() > deep[10:].max()
    assert shallow[10:].min() > shallow[:10].max()
    found = run(method.graph(), fresh.array)
    assert found["evidence"].argmax(axis=1).tolist() == [2] * 20
    cells = found["anomaly_map"].reshape(20, -1).argmax(axis=1)
    assert (cells == [GRID[2] + 1] * 10 + [3 * GRID[2] + 2] * 10).mean() >= 0.7


@pytest.mark.slow
def test_what_sees_small_defects_counts_and_what_does_not_counts_less():
    methods = [fitted(Stages(60, seen_at=stages)) for stages in ((), (4,), range(5))]
    blind, deep, all_ = (method.voices_ for method in methods)
    assert [voice.ability for voice in blind] == pytest.approx([0] * 3, abs=0.2)
    assert [voice.weight for voice in (blind[-1], deep[-1], all_[-1])] == pytest.approx([0.2, 1, 1], abs=0.02)
    alone, shares = methods[1].together_.alone, methods[1].together_.shares
    assert alone[0].ability > 0.9 > 0.2 > alone[1].ability
    assert shares[0] > 10 * shares[1]
    assert methods[2].together_.shares == pytest.approx([1 / 3] * 3)
    # Whole images show nothing of them.
    assert all(seen.weight < 0.5 * unseen.weight for seen, unseen in zip(all_[:2], blind[:2], strict=True))


@pytest.fixture(scope="module")
def model(normal_folder):
    return oddsight.fit(normal_folder, method="auto", size=2 * SIZE, false_alarm_rate=0.05)


def tinted(seed):
    """Another light: hardly odd at any place, the same everywhere."""
    return np.clip(texture(seed).astype(int) + np.array([30, 0, -30]), 0, 255).astype(np.uint8)


def spotted(seed):
    """A spot of another material, a fiftieth of the image."""
    image, other = texture(seed), texture(seed, material="bark")
    image[40:54, 30:44] = other[40:54, 30:44]
    return image


@pytest.mark.slow
def test_a_tint_is_told_by_shallow_stages_and_a_spot_by_patches(model):
    seeds = range(2000, 2012)
    shallow = [*model.metadata.backbone.layers[:2], "places"]
    for result in model.predict_many([tinted(seed) for seed in seeds]):
        assert result.anomalous
        assert result.voices[0].name in shallow
    for result in model.predict_many([spotted(seed) for seed in seeds]):
        assert result.anomalous
        assert result.voices[0].name == "places"
        assert result.voices[0].p_value == pytest.approx(1 / 61)
        # The spot's middle is at 47 down and 37 across, of 96; the map is smoothed.
        place = (np.array(np.unravel_index(result.map.argmax(), result.map.shape)) + 0.5) / result.map.shape
        assert np.abs(place - np.array([47, 37]) / 96).max() <= 0.15


@pytest.mark.slow
def test_voices_say_of_fresh_normal_images_that_they_are_normal(model):
    """Each voice's p-values are roughly uniform: its normal images were held out."""
    fresh = list(model.predict_many([texture(seed) for seed in range(5000, 5150)]))
    for name in model.metadata.explanation.voices:
        p = np.array([voice.p_value for result in fresh for voice in result.voices if voice.name == name])
        assert len(p) == 150
        # Of 60 and of 150: 1 in 1,000 by chance for each (Kolmogorov and Smirnov).
        allowed = np.sqrt(-np.log(0.001 / 2) / 2 * (60 + 150) / (60 * 150))
        grid = np.arange(1, 62) / 61
        assert max(abs((p <= u + 1e-6).mean() - u) for u in grid) <= allowed + 1 / 61, name
