"""Methods against what they are made of: scikit-learn's estimators, formulas, and themselves patch by patch."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from oddsight import backbones
from oddsight.backbones.extraction import Extractor
from oddsight.detectors import METHODS, deep_svdd, kde
from oddsight.detectors.features import Rows as Vectors
from oddsight.detectors.isolation_forest import _expected_path, _rounded_down
from oddsight.detectors.patchwise import Patchwise
from oddsight.detectors.sampling import sample, sample_bytes
from oddsight.detectors.standardising import Standard
from oddsight.errors import MemoryBudgetError, OddsightError
from oddsight.graphs.building import chain, copied, piece
from oddsight.runtime.sessions import session

SCENES = Path(__file__).parents[2] / "examples" / "landsat-clouds" / "images"
VECTOR_METHODS = ["feature-autoencoder", "deep-svdd", "gmm", "isolation-forest", "kde", "lof", "one-class-svm", "pca"]
PATCH_METHODS = ["patch-autoencoder", "patch-gmm", "patch-mahalanobis", "patch-pca"]
SMALL = {
    "feature-autoencoder": {"steps": 60},
    "deep-svdd": {"steps": 60, "width": 64},
    "isolation-forest": {"trees": 50},
    "patch-autoencoder": {"steps": 60},
}
"""Settings that keep training short where what is learned does not matter."""


class Rows(Vectors):
    """An array of any numbers as a stream of features."""

    def __init__(self, array):
        super().__init__(np.asarray(array, np.float32))


def make(name, **settings):
    return METHODS[name](**(SMALL.get(name, {}) | settings))


def fitted(name, array, seed=0, **settings):
    return make(name, **settings).fit(Rows(array), memory=10**9, seed=seed)


def run(graph, features, outputs=None):
    loaded = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return loaded.run(outputs, {loaded.get_inputs()[0].name: np.asarray(features, np.float32)})


def scores(method, features):
    return run(method.graph(), features, ["score"])[0]


def landsat(reading):
    """Features of the tiles of real scenes, clear and cloudy, and which of them are of the last scenes."""
    network = backbones.backbone(backbones.DEFAULT)
    layers = network.layers["patches/8" if reading == "patches" else reading]
    extractor = Extractor(network, layers, 64, reading)
    loaded = session(extractor.graph.SerializeToString(), threads=1)
    tiles = []
    for scene in sorted(SCENES.glob("*.png"))[::2]:
        pixels = np.asarray(Image.open(scene).convert("RGB"))
        tiles += [pixels[y : y + 64, x : x + 64] for y in (0, 64, 128, 192) for x in range(0, 256, 64)]
    return np.concatenate([loaded.run(None, {"image": tile[None]})[0] for tile in tiles])


@pytest.fixture(scope="module")
def embeddings():
    """To learn from, and others: ``[n, C]`` each."""
    array = landsat("embedding")
    return array[::2], array[1::2]


@pytest.fixture(scope="module")
def patches():
    """To learn from, and others: ``[n, C, h, w]`` each."""
    array = landsat("patches")[::3]
    return array[::2], array[1::2]


# What the graph computes is what the estimator computes.


def standardised(method, x):
    return (x.astype(np.float64) - method.standard_.mean) / method.standard_.scale


def by_isolation_forest(method, x):
    return -method.estimator_.score_samples(x)


def by_one_class_svm(method, x):
    return -np.log(method.estimator_.score_samples(standardised(method, x)) / method.estimator_.dual_coef_.sum())


def by_lof(method, x):
    return -method.estimator_.score_samples(standardised(method, x))


def by_kde(method, x):
    from sklearn.neighbors import KernelDensity

    # With several leaves it goes no lower than 1e-16 of the highest density, all that its bounds can tell from zero.
    estimator = KernelDensity(bandwidth=method.bandwidth_, leaf_size=len(method.bank_)).fit(method.bank_)
    peak = -0.5 * x.shape[1] * np.log(2 * np.pi * method.bandwidth_**2)
    return peak - estimator.score_samples(standardised(method, x))


def by_gmm(method, x):
    z = standardised(method, x)
    latent = method.subspace_.transform(z)
    beside = np.square(z - method.subspace_.inverse_transform(latent)).sum(axis=1)
    latent /= method.spread_
    mixture = method.estimator_
    peaks = [
        np.log(share) + stats.multivariate_normal.logpdf(mean, mean, covariance)
        for share, mean, covariance in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
    ]
    return beside / (2 * method.noise_) + np.logaddexp.reduce(peaks) - mixture.score_samples(latent)


def by_pca(method, x):
    z = standardised(method, x)
    return np.linalg.norm(z - method.estimator_.inverse_transform(method.estimator_.transform(z)), axis=1)


def by_autoencoder(method, x):
    z = standardised(method, x)
    return np.linalg.norm(z - method.estimator_.predict(z), axis=1)


def by_deep_svdd(method, x):
    weights = tuple(one.astype(np.float64) for one in method.weights_)
    away = deep_svdd.forward(weights, standardised(method, x)) - method.centre_
    return np.linalg.norm(away, axis=1) / np.linalg.norm(method.centre_)


ESTIMATORS = {
    "feature-autoencoder": by_autoencoder,
    "deep-svdd": by_deep_svdd,
    "gmm": by_gmm,
    "isolation-forest": by_isolation_forest,
    "kde": by_kde,
    "lof": by_lof,
    "one-class-svm": by_one_class_svm,
    "pca": by_pca,
}

# Graphs compute in float32, of 24 bits, and estimators in float64. Sums over some hundred channels of numbers that
# partly cancel leave five to six decimal digits. A forest only compares and counts.
AGREEMENT = dict.fromkeys(VECTOR_METHODS, 2e-5) | {"isolation-forest": 1e-6}


@pytest.mark.parametrize("name", VECTOR_METHODS)
def test_the_graph_scores_as_the_estimator_does(name, embeddings):
    normal, others = embeddings
    method = fitted(name, normal)
    expected = ESTIMATORS[name](method, others)
    assert np.ptp(expected) > 0.1 * np.median(expected)
    np.testing.assert_allclose(scores(method, others), expected, rtol=AGREEMENT[name])


def test_a_one_class_svm_orders_images_as_its_decision_function_does(embeddings):
    method = fitted("one-class-svm", embeddings[0], nu=0.2)
    decisions = method.estimator_.decision_function(standardised(method, embeddings[1]))
    found = scores(method, embeddings[1])
    assert (np.argsort(found) == np.argsort(-decisions)).mean() > 0.98
    boundary = -np.log(-method.estimator_.intercept_[0] / method.estimator_.dual_coef_.sum())
    clear = np.abs(decisions) > 1e-5
    np.testing.assert_array_equal(found[clear] > boundary, decisions[clear] < 0)


@pytest.mark.slow
def test_a_mixture_of_several_gaussians_scores_as_the_estimator_does():
    random = np.random.default_rng(0)
    places = 8 * random.normal(size=(3, 6))
    rows = (places[random.integers(3, size=900)] + random.normal(size=(900, 6))).astype(np.float32)
    method = fitted("gmm", rows, dimensions=4)
    assert len(method.estimator_.weights_) == 3
    np.testing.assert_allclose(scores(method, rows[:100]), by_gmm(method, rows[:100]), rtol=2e-5)
    single = fitted("gmm", random.normal(size=(900, 6)))
    assert len(single.estimator_.weights_) == 1


@given(st.floats(-1e30, 1e30), st.integers(-2, 2))
def test_a_cut_in_float32_leaves_every_number_on_its_side(threshold, steps):
    cut = np.array([threshold])
    rounded = _rounded_down(cut)
    near = np.float32(threshold)
    for _ in range(abs(steps)):
        near = np.nextafter(near, np.float32(np.inf * np.sign(steps)))
    assert (near <= rounded[0]) == (np.float64(near) <= threshold)


def test_the_expected_path_is_that_of_random_cuts():
    # Of one tree for n points: the mean depth of a leaf satisfies this recursion over where the first cut falls.
    depth = [0.0, 0.0]
    for n in range(2, 40):
        depth.append(1 + sum(k * depth[k] + (n - k) * depth[n - k] for k in range(1, n)) / (n * (n - 1)))
    assert _expected_path(np.array([1, 2])).tolist() == [0, 1]
    # The paper replaces the harmonic number by its approximation.
    np.testing.assert_allclose(_expected_path(np.arange(10, 40)), depth[10:], rtol=0.04)


@pytest.mark.slow
def test_the_bandwidth_is_the_likeliest_for_each_left_out(embeddings):
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KernelDensity

    points = Standard.deviations(embeddings[0])(embeddings[0])[:30]
    best = kde.bandwidth(points)
    likelihoods = [
        cross_val_score(KernelDensity(bandwidth=factor * best), points, cv=LeaveOneOut()).mean()
        for factor in (0.9, 0.99, 1, 1.01, 1.1)
    ]
    assert max(likelihoods) == likelihoods[2]


def test_copies_do_not_make_the_bandwidth_vanish():
    points = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    assert kde.bandwidth(np.concatenate([points, points[:5]])) > 0.1
    assert kde.bandwidth(np.zeros((10, 5), np.float32)) > 0


# Deep SVDD.


def test_the_gradients_are_those_of_the_loss():
    random = np.random.default_rng(0)
    weights = random.normal(size=(5, 7)), random.normal(size=(7, 3))
    x, centre, decay = random.normal(size=(11, 5)), random.normal(size=3), 0.3
    _, gradients = deep_svdd.loss(weights, x, centre, decay)
    for number, gradient in enumerate(gradients):
        for place in np.ndindex(gradient.shape):
            values = []
            for step in (1e-6, -1e-6):
                moved = [one.copy() for one in weights]
                moved[number][place] += step
                values.append(deep_svdd.loss(tuple(moved), x, centre, decay)[0])
            assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_training_draws_normal_images_nearer_than_others(embeddings):
    normal = embeddings[0]
    before, after = (fitted("deep-svdd", normal[:60], steps=steps) for steps in (1, 400))
    fresh = normal[60:]
    assert np.median(scores(after, fresh)) < 0.7 * np.median(scores(before, fresh))
    # The centre is that of the first outputs, and stays.
    np.testing.assert_array_equal(before.centre_, after.centre_)


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        (np.ones((20, 9)), {}),
        (np.random.default_rng(0).random((50, 9)), {"weight_decay": 1e4, "learning_rate": 1e-2, "steps": 2000}),
    ],
    ids=["the same embedding", "weights that vanish"],
)
def test_a_collapsed_network_is_refused(rows, settings):
    with pytest.raises(OddsightError, match=r"deep-svdd collapsed.*use"):
        fitted("deep-svdd", rows, **settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:Training interrupted")
@pytest.mark.parametrize("name", ["feature-autoencoder", "deep-svdd", "patch-autoencoder"])
def test_training_that_diverges_is_refused(name, embeddings, patches):
    normal = patches[0] if name in PATCH_METHODS else embeddings[0]
    with pytest.raises(OddsightError, match="training diverged: use a smaller learning_rate"):
        fitted(name, normal, learning_rate=1e30)


# Settings.

WRONG = [
    ("pca", {"variance": 1.0}, "variance must be above 0 and below 1, not 1.0"),
    ("pca", {"variance": "0.9"}, "variance must be above 0 and below 1, not '0.9'"),
    ("patch-pca", {"variance": 0}, "pca: variance"),
    ("patch-pca", {"sigma": 0.0}, "patch-pca: sigma must be above 0"),
    ("patch-mahalanobis", {"sample_size": 0}, "sample_size must be a whole number of 1 or more, not 0"),
    ("gmm", {"components": 0}, "components must be a whole number"),
    ("gmm", {"dimensions": 2.5}, "dimensions must be a whole number of 1 or more, not 2.5"),
    ("patch-gmm", {"components": True}, "components must be a whole number"),
    ("kde", {"bank_size": 1}, "bank_size must be a whole number of 2 or more"),
    ("lof", {"neighbours": -1}, "neighbours must be a whole number"),
    ("lof", {"bank_size": 1}, "bank_size must be a whole number of 2 or more"),
    ("one-class-svm", {"nu": 1.0}, "nu must be above 0 and below 1"),
    ("one-class-svm", {"nu": float("nan")}, "nu must be above 0 and below 1"),
    ("isolation-forest", {"trees": 0}, "trees must be a whole number"),
    ("isolation-forest", {"tree_size": 1}, "tree_size must be a whole number of 2 or more"),
    ("feature-autoencoder", {"bottleneck": 0}, "bottleneck must be a whole number"),
    ("feature-autoencoder", {"learning_rate": float("inf")}, "learning_rate must be above 0"),
    ("patch-autoencoder", {"steps": 0}, "steps must be a whole number"),
    ("deep-svdd", {"weight_decay": -1e-9}, "weight_decay must be 0 or more"),
    ("deep-svdd", {"sample_size": 9}, "sample_size must be a whole number of 10 or more"),
    ("deep-svdd", {"outputs": None}, "outputs must be a whole number"),
]


@pytest.mark.parametrize(("name", "settings", "message"), WRONG, ids=str)
def test_settings_that_cannot_work_are_refused_at_once(name, settings, message):
    with pytest.raises(OddsightError, match=message) as error:
        METHODS[name](**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [*VECTOR_METHODS, *PATCH_METHODS])
def test_settings_are_what_was_set(name):
    settings = make(name).settings()
    assert METHODS[name](**settings).settings() == settings
    assert METHODS[name]().settings().keys() == settings.keys()


# Any number of images, in bounded memory.


def test_a_sample_is_all_or_some_of_the_vectors():
    array = np.arange(5 * 3 * 2 * 4, dtype=np.float32).reshape(5, 3, 2, 4)
    every = array.reshape(5, 3, 8).transpose(0, 2, 1).reshape(40, 3)
    for size in (40, 1000):
        np.testing.assert_array_equal(sample(Rows(array), size, 0), every)
    drawn = sample(Rows(array), 17, 0)
    np.testing.assert_array_equal(drawn, every[np.isin(every[:, 0], drawn[:, 0])])
    assert len(drawn) == 17
    np.testing.assert_array_equal(sample(Rows(array), 17, 0), drawn)
    assert not np.array_equal(sample(Rows(array), 17, 1), drawn)
    np.testing.assert_array_equal(sample(Rows(every), 17, 0), drawn)


@pytest.mark.slow
def test_every_vector_is_as_likely_to_be_drawn():
    every = np.arange(30, dtype=np.float32)[:, None]
    counts = np.zeros(30)
    for seed in range(1000):
        counts[sample(Rows(every), 10, seed)[:, 0].astype(int)] += 1
    # Each is drawn 333 times on average; the variance of a draw without replacement is that of this statistic.
    assert stats.chi2(29).sf(((counts - 1000 / 3) ** 2).sum() / (1000 / 3 * 2 / 3) * 29 / 30) > 0.001


def peak_of(work):
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("images", [30, 400])
def test_sampling_takes_the_memory_it_says(images):
    array = np.zeros((images, 20, 12, 12), np.float32)
    features = Rows(array)
    assert peak_of(lambda: sample(features, 1500, 0)) <= sample_bytes((20, 12, 12), images, 1500)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*VECTOR_METHODS, *PATCH_METHODS])
def test_learning_takes_no_more_than_it_says_for_any_number_of_images(name, monkeypatch):
    # Looking for the libraries whose threads are limited takes half a megabyte, whatever is learned.
    module = sys.modules["oddsight.detectors.detector"]  # the room's attribute of that name is the decorator
    monkeypatch.setattr(module, "threadpool_limits", lambda *_: nullcontext())
    random = np.random.default_rng(0)
    size = {"bank_size": 300} if name in ("kde", "lof", "one-class-svm") else {"sample_size": 300}
    shape = (60, 4, 5) if name in PATCH_METHODS else (60,)
    few, many = (Rows(1 + random.random((count, *shape))) for count in (40, 1200))
    method = make(name, **size)
    needed = [method.memory_needed(shape, len(features)) for features in (few, many)]
    assert method.memory_needed(shape, 10**7) == method.memory_needed(shape, 10**4)
    replace(method).fit(few, memory=10**9, seed=0).graph()  # imports what it needs
    for features, bytes_ in zip((few, many), needed, strict=True):
        assert peak_of(lambda f=features, b=bytes_: replace(method).fit(f, memory=b, seed=0).graph()) <= bytes_
        with pytest.raises(MemoryBudgetError, match="raise the memory budget"):
            replace(method).fit(features, memory=bytes_ - 1, seed=0)


@pytest.mark.slow
def test_banks_are_no_larger_than_they_may_be():
    rows = np.random.default_rng(0).random((500, 12))
    assert len(fitted("kde", rows, bank_size=100).bank_) == 100
    assert len(fitted("lof", rows, bank_size=100).bank_) == 100
    svm = fitted("one-class-svm", rows, bank_size=100, nu=0.99)
    assert len(svm.estimator_.support_vectors_) in (99, 100)
    assert fitted("isolation-forest", rows, tree_size=64).estimator_.max_samples_ == 64


# Determinism, and what is learned.

RANDOM = {"feature-autoencoder", "deep-svdd", "isolation-forest", "patch-autoencoder"}
"""Beyond the draw of a sample; and mixtures, where they have more than one component."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*VECTOR_METHODS, *PATCH_METHODS])
def test_the_same_seed_gives_the_same_graph(name, embeddings, patches):
    normal = patches[0][:12] if name in PATCH_METHODS else embeddings[0]
    graphs = [fitted(name, normal, seed).graph().SerializeToString(deterministic=True) for seed in (0, 0, 1)]
    assert graphs[0] == graphs[1]
    if name != "patch-gmm":
        assert (graphs[0] != graphs[2]) == (name in RANDOM)


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTOR_METHODS)
def test_the_farther_the_odder(name):
    random = np.random.default_rng(0)
    rows = 3 + random.normal(size=(200, 3)) @ random.normal(size=(3, 10)) + 0.1 * random.normal(size=(200, 10))
    direction = random.normal(size=10)
    far = rows[:1] + np.array([0.0, 3, 10, 100, 1e4, 1e6])[:, None] * direction
    method = fitted(name, rows, **({"steps": 400} if "steps" in SMALL.get(name, {}) else {}))
    found = scores(method, far)
    assert np.isfinite(found).all()
    if name == "isolation-forest":
        # Beyond the range of the normal images all is equally odd.
        assert found[0] < found[1] <= found[2] <= found[3] == found[4] == found[5] < 1
    else:
        assert (np.diff(found) > 0).all()
    assert found[3] > scores(method, rows).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(VECTOR_METHODS) - {"deep-svdd"}))
def test_scores_are_finite_where_nothing_varies(name):
    same = np.full((12, 6), 0.7)
    found = scores(fitted(name, same), np.array([[0.7] * 6, [0.7] * 5 + [0.71], [1e4] * 6]))
    assert np.isfinite(found).all()
    still = np.random.default_rng(0).random((30, 6))
    still[:, 2] = 0
    assert np.isfinite(scores(fitted(name, still), np.eye(6))).all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, 7, 20])
@pytest.mark.parametrize("name", VECTOR_METHODS)
def test_few_images_are_enough(name, count, embeddings):
    method = fitted(name, embeddings[0][:count])
    found = scores(method, embeddings[1])
    assert np.isfinite(found).all()
    # The cuts between few images make few cells.
    assert len(np.unique(found)) > (0.3 if name == "isolation-forest" else 0.7) * len(found)


# Patch by patch.


@pytest.mark.slow
@pytest.mark.parametrize("name", PATCH_METHODS)
def test_a_map_is_the_method_for_vectors_patch_by_patch(name, patches):
    normal, others = patches
    # So narrow a Gaussian leaves the map as it is.
    method = fitted(name, normal, sigma=0.1)
    assert isinstance(method, Patchwise)
    score, anomaly_map = run(method.graph(), others)
    channels, height, width = others.shape[1:]
    for image, found in zip(others, anomaly_map, strict=True):
        each = scores(method.vectors_, image.reshape(channels, -1).T)
        np.testing.assert_allclose(found, each.reshape(height, width), rtol=1e-5)
    np.testing.assert_array_equal(score, anomaly_map.max(axis=(1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("name", PATCH_METHODS)
def test_a_patch_scores_the_same_at_any_place(name, patches):
    normal, others = patches
    method = fitted(name, normal, sigma=0.1)
    moved = np.ascontiguousarray(others[:, :, ::-1].transpose(0, 1, 3, 2))
    [found], [turned] = (run(method.graph(), images, ["anomaly_map"]) for images in (others, moved))
    np.testing.assert_allclose(turned, found[:, ::-1].transpose(0, 2, 1), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", PATCH_METHODS)
def test_patches_learn_what_the_method_for_vectors_learns_from_them(name, patches):
    normal = patches[0]
    method = fitted(name, normal)
    rows = normal.transpose(0, 2, 3, 1).reshape(-1, normal.shape[1])
    alone = method.of_vectors().fit(Rows(rows), memory=10**9, seed=0)
    assert alone.graph().SerializeToString() == method.vectors_.graph().SerializeToString()


# The operators of trees in a chain.


def test_a_chain_imports_the_operators_of_its_pieces(embeddings):
    method = fitted("isolation-forest", embeddings[0], trees=5)
    before = piece("before (float[N, 232] pixels) => (float[N, 232] embedding) { embedding = Identity (pixels) }")
    whole = chain([before, method.graph()], ["score"])
    again = chain([copied(whole)], ["score"])
    for graph in (whole, again):
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18), ("ai.onnx.ml", 3)]
    np.testing.assert_array_equal(run(again, embeddings[1])[0], scores(method, embeddings[1]))
