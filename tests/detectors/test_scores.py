"""What every score promises. A score is in this suite by being registered."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oddsight.detectors import METHODS, Rows, averaging, names
from oddsight.detectors.head import Head
from oddsight.detectors.one_class import OneClass
from oddsight.detectors.sampling import sample
from oddsight.detectors.scores import SCORES, Score, by_name
from oddsight.errors import DataError, OddsightError
from oddsight.graphs.building import chain
from oddsight.metrics.image import auroc
from oddsight.runtime.sessions import session
from score_references import REFERENCES

CHANNELS, CLASSES = 24, 5
SHORT = {
    "feature-autoencoder": {"steps": 60},
    "deep-svdd": {"steps": 60, "width": 32},
    "isolation-forest": {"trees": 30},
}
POSITIVE = ("ash", "dice")
"""Scores for embeddings without values below zero."""

HARD = {"one-class:isolation-forest": 0.8, "one-class:pca": 0.8}
"""Few cuts fall on the channels that tell; and 95 % of a variance that fills all channels leave little beside."""

CLOSE = 1e-5
"""Relative difference allowed between two ways to run one graph."""


def made(name, **changes):
    """The score of that name as this suite runs it."""
    if name == "openmax":
        # Of 80 images of a class, twenty are no tail: every fourth image would be a doubtful one.
        changes = {"tail": 5} | changes
    method = name.removeprefix("one-class:")
    return SCORES[name](**changes) if name in SCORES else OneClass(METHODS[method](**SHORT.get(method, {})), **changes)


def discriminant(train, labels, classes=CLASSES, sharpness=1.0):
    """The head that is right if classes are Gaussians of one variance, around the mean of all."""
    centre = train.mean(axis=0)
    means = np.stack([train[labels == one].mean(axis=0) for one in range(classes)]) - centre
    weights = sharpness * means.T
    bias = -0.5 * sharpness * np.square(means).sum(axis=1) - centre @ weights
    return Head(weights.astype(np.float32), bias.astype(np.float32))


class Toy:
    """Five Gaussian classes, each high in channels of its own; three channels tell nothing and have a mean below 0.

    What is positive has no values below 0.
    """

    def __init__(self, count=400, seed=0, *, positive=False):
        self.least = 0 if positive else -np.inf
        self.random = np.random.default_rng(seed)
        self.means = np.full((CLASSES, CHANNELS), 0.5)
        for one in range(CLASSES):
            self.means[one, 4 * one : 4 * one + 4] = 2.5
        self.means[:, -3:] = -0.5
        self.train, self.labels = self.known(count)
        self.head = discriminant(self.train, self.labels)
        self.test = self.known(200)[0]
        self.odd = self.unknown(200)

    def known(self, count):
        labels = np.arange(count) % CLASSES
        rows = self.means[labels] + self.random.normal(0, 0.4, (count, CHANNELS))
        return np.maximum(rows, self.least).astype(np.float32), labels.astype(np.int64)

    def unknown(self, count):
        """Low in every class's channels, and high where no class is."""
        mean = np.r_[np.full(CHANNELS - 4, 0.4), np.full(4, 2.5)]
        rows = mean + self.random.normal(0, 0.4, (count, CHANNELS))
        return np.maximum(rows, self.least).astype(np.float32)


@pytest.fixture(scope="module")
def toys():
    return {positive: Toy(positive=positive) for positive in (False, True)}


@pytest.fixture
def toy(request, toys):
    """Embeddings that the score of the test takes."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    return toys[name in POSITIVE]


@pytest.fixture(scope="module", params=names("classes"))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(name, toys):
    toy = toys[name in POSITIVE]
    return made(name).fit(toy.train, toy.labels, toy.head, seed=0)


def run(model, embeddings, logits):
    return answer(session(model.SerializeToString(), threads=1), embeddings, logits)


def answer(loaded, embeddings, logits):
    feed = {"embedding": embeddings, "logits": logits}
    return loaded.run(["score"], {value.name: feed[value.name] for value in loaded.get_inputs()})[0]


def scores(score, embeddings, head, logits=None):
    return run(score.graph(), embeddings, head.logits(embeddings) if logits is None else logits)


def test_every_score_has_a_name_a_line_and_a_paper(fitted, name):
    assert fitted.name == by_name(name).name == name
    assert fitted.summary
    assert re.search(r", .*(19|20)\d\d", fitted.paper)


def test_the_graph_is_a_plain_piece(fitted, toy):
    model = fitted.graph()
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx.ml"}
    widths = {"embedding": CHANNELS, "logits": CLASSES}
    for value in model.graph.input:
        batch, width = value.type.tensor_type.shape.dim
        assert (batch.dim_param, width.dim_value) == ("N", widths[value.name])
    assert [value.name for value in model.graph.output] == ["score"]
    found = scores(fitted, toy.test, toy.head)
    assert (found.shape, found.dtype) == ((200,), np.float32)


def test_it_chains_behind_the_head(fitted, toy):
    whole = chain([toy.head.graph(), fitted.graph()], ["score"])
    onnx.checker.check_model(whole)
    assert [value.name for value in whole.graph.input] == ["embedding"]
    np.testing.assert_allclose(
        run(whole, toy.test, None), scores(fitted, toy.test, toy.head), rtol=1e-4, atol=1e-5 * toy.head.weights.max()
    )


def test_the_head_is_its_graph(toy):
    loaded = session(toy.head.graph().SerializeToString(), threads=1)
    expected = toy.test.astype(np.float64) @ toy.head.weights + toy.head.bias
    for found in (loaded.run(None, {"embedding": toy.test})[0], toy.head.logits(toy.test)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_image_scores_the_same_among_others(fitted, toy):
    rows = np.concatenate([toy.test[:9], toy.odd[:8]])
    logits = toy.head.logits(rows)
    loaded = session(fitted.graph().SerializeToString(), threads=1)
    together = answer(loaded, rows, logits)
    alone = np.concatenate([answer(loaded, rows[n : n + 1], logits[n : n + 1]) for n in range(len(rows))])
    atol = CLOSE * np.abs(together).max()
    np.testing.assert_allclose(alone, together, rtol=CLOSE, atol=atol)
    np.testing.assert_allclose(answer(loaded, rows[::-1], logits[::-1])[::-1], together, rtol=CLOSE, atol=atol)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_changes_no_input(fitted, name, toy):
    train, labels, head = toy.train.copy(), toy.labels.copy(), Head(toy.head.weights.copy(), toy.head.bias.copy())
    for array in (train, labels, head.weights, head.bias):
        array.setflags(write=False)
    again = made(name).fit(train, labels, head, seed=0)
    assert again.graph().SerializeToString(deterministic=True) == fitted.graph().SerializeToString(deterministic=True)


def test_what_is_far_from_all_classes_scores_higher(fitted, toy):
    found = auroc(scores(fitted, toy.test, toy.head), scores(fitted, toy.odd, toy.head))
    assert found > HARD.get(fitted.name, 0.9)


def test_settings_say_what_was_set(fitted, name):
    kept = json.loads(json.dumps(fitted.settings()))
    assert kept == fitted.settings()
    if name in SCORES:
        assert SCORES[name](**kept).settings() == kept


# Against the definitions.


def near(found, expected):
    """To a thousandth, or to a millionth of the largest where differences cancel."""
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())


def compare(name, train, labels, head, rows):
    logits = head.logits(rows)
    found = scores(made(name).fit(train, labels, head, seed=0), rows, head, logits)
    wide = (train.astype(np.float64), labels, (head.weights.astype(np.float64), head.bias.astype(np.float64)))
    near(found, REFERENCES[name](*wide, rows.astype(np.float64), logits.astype(np.float64)))


def test_every_score_of_its_own_has_a_reference():
    assert set(REFERENCES) == set(SCORES)


@pytest.mark.parametrize("name", SCORES)
def test_the_graph_scores_as_the_definition(name, toy):
    compare(name, toy.train, toy.labels, toy.head, np.concatenate([toy.test, toy.odd, 5 * toy.odd]))


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_two_classes(name, toy):
    rows, labels = toy.train[toy.labels < 2], toy.labels[toy.labels < 2]
    compare(name, rows, labels, discriminant(rows, labels, 2), np.concatenate([toy.test, toy.odd]))


# Where the covariance hardly exists, its digits depend on the way.
@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_fewer_images_than_channels_and_classes_of_one_or_none(name, toy):
    rows, labels = toy.train[:16], np.array([0] * 7 + [1] * 7 + [2, 3])
    head = Head(toy.head.weights, toy.head.bias)
    compare(name, rows, labels, head, np.concatenate([toy.test, toy.odd]))


# Where numbers end.


def degenerate(kind, toy):
    train, labels = toy.train[:40].copy(), toy.labels[:40].copy()
    if kind == "zero":
        train[:] = 0
    elif kind == "one image":
        train, labels = train[:1], labels[:1]
    elif kind == "one image each":
        train, labels = train[:5], labels[:5]
    elif kind == "all the same":
        train[:] = train[0]
    elif kind == "channels that never vary":
        train[:, ::2] = 0
    elif kind == "huge":
        train *= 1e4
    return train, labels


KINDS = ["zero", "one image", "one image each", "all the same", "channels that never vary", "huge"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCORES)
def test_scores_are_finite_whatever_was_learned_and_asked(name, kind, toy):
    train, labels = degenerate(kind, toy)
    zeros = np.zeros((1, CHANNELS), np.float32)
    rows = np.concatenate([zeros, train[:3], -train[:3], toy.test[:3], 1e4 * toy.test[:3], -1e4 * toy.odd[:3]])
    extremes = [[1e4, -1e4, 0, 0, 0], [0] * 5, [1e4] * 5, [-1e4] * 5, [1e-30, 0, 0, 0, 0]]
    for head in (toy.head, Head(np.zeros_like(toy.head.weights), np.zeros_like(toy.head.bias))):
        fitted = made(name).fit(train, labels, head, seed=0)
        logits = np.resize(np.array(extremes, np.float32), (len(rows), CLASSES))
        both = np.concatenate([head.logits(rows), logits])
        assert np.isfinite(scores(fitted, np.concatenate([rows, rows]), head, both)).all()


def test_extremes_are_finite_for_all(fitted, toy):
    rows = np.concatenate([np.zeros((1, CHANNELS)), 1e4 * toy.test[:5], -1e4 * toy.odd[:5]]).astype(np.float32)
    assert np.isfinite(scores(fitted, rows, toy.head)).all()


LOGITS = arrays(np.float32, (3, CLASSES), elements=st.floats(-100, 100, width=32))


def of_logits(name, logits, **changes):
    score = made(name, **changes)
    score.channels_, score.classes_ = 1, logits.shape[1]
    return run(score.graph(), None, logits)


@pytest.mark.slow
@settings(max_examples=20)
@given(LOGITS, st.floats(-100, 100, width=32))
def test_a_constant_added_to_all_logits(logits, constant):
    moved = (logits.astype(np.float64) + constant).astype(np.float32)
    for name in ("msp", "entropy", "gen", "odin"):
        # Adding rounds the logits, by up to a hundred-thousandth.
        np.testing.assert_allclose(of_logits(name, moved), of_logits(name, logits), rtol=1e-3, atol=1e-4)
    for name in ("max-logit", "energy"):
        np.testing.assert_allclose(of_logits(name, moved), of_logits(name, logits) - constant, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@settings(max_examples=20)
@given(LOGITS)
def test_scores_of_logits_are_their_definitions_and_within_bounds(logits):
    wide = logits.astype(np.float64)
    for name in ("msp", "max-logit", "energy", "entropy", "gen", "odin"):
        found = of_logits(name, logits)
        expected = REFERENCES[name](None, None, None, None, wide)
        # Below this, exponentials in 32 bits are zero.
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-30 if name in ("msp", "entropy") else 1e-5)
    assert (of_logits("msp", logits) <= 1 - 1 / CLASSES + 1e-6).all()
    assert (of_logits("entropy", logits) <= np.log(CLASSES) + 1e-6).all()
    assert (of_logits("odin", logits) <= 0).all()
    assert (of_logits("energy", logits) <= of_logits("max-logit", logits) + 1e-6).all()


def test_the_most_confident_can_still_be_told_apart():
    logits = np.array([[margin, 0, 0, 0, 0] for margin in (20, 25, 30, 40, 80)], np.float32)
    for name in ("msp", "entropy", "gen", "odin"):
        assert (np.diff(of_logits(name, logits)) < 0).all(), name


@pytest.mark.parametrize("name", ["fdbd", "kl-matching", "nnguide", "openmax"])
def test_what_depends_on_differences_of_logits_only(name, toy):
    fitted = made(name).fit(toy.train, toy.labels, toy.head, seed=0)
    logits = toy.head.logits(toy.test)
    moved = scores(fitted, toy.test, toy.head, logits + np.float32(8))
    np.testing.assert_allclose(moved, scores(fitted, toy.test, toy.head, logits), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["knn", "one-class:knn"])
def test_the_length_of_an_embedding_does_not_matter_to_neighbours(name, toy):
    fitted = made(name).fit(toy.train, toy.labels, toy.head, seed=0)
    expected = scores(fitted, toy.test, toy.head)
    np.testing.assert_allclose(scores(fitted, 7 * toy.test, toy.head), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mahalanobis", "relative-mahalanobis"])
def test_the_units_of_channels_do_not_matter_to_gaussians(name, toy):
    units = np.logspace(-1, 1, CHANNELS, dtype=np.float32)
    plain, scaled = (
        scores(made(name).fit(factor * toy.train, toy.labels, toy.head, seed=0), factor * toy.test, toy.head)
        for factor in (np.float32(1), units)
    )
    np.testing.assert_allclose(scaled, plain, rtol=1e-3, atol=1e-3)


def test_react_that_cuts_nothing_is_the_energy(toy):
    expected = scores(made("energy").fit(toy.train, toy.labels, toy.head, seed=0), toy.test, toy.head)
    fitted = made("react", quantile=1 - 1e-12).fit(toy.test, toy.labels[:200], toy.head, seed=0)
    np.testing.assert_allclose(scores(fitted, toy.test, toy.head), expected, rtol=1e-4)
    assert not np.allclose(scores(fitted, 2 * toy.test, toy.head), 2 * expected, rtol=1e-4)


@pytest.mark.parametrize("name", POSITIVE)
def test_scores_for_embeddings_after_a_relu_refuse_values_below_zero(name, toys):
    toy = toys[False]
    with pytest.raises(DataError, match=f"{name} takes embeddings that follow a ReLU, .* choose another score"):
        made(name).fit(toy.train, toy.labels, toy.head, seed=0)


def test_dice_keeps_the_weights_that_contribute_most(toys):
    toy = toys[True]
    kept = made("dice", pruned=0.75).fit(toy.train, toy.labels, toy.head, seed=0).head_.weights != 0
    assert kept.sum() == 0.25 * kept.size
    contributions = toy.train.mean(axis=0, dtype=np.float64)[:, None] * toy.head.weights
    assert contributions[kept].min() > contributions[~kept].max()


def test_react_on_embeddings_that_are_mostly_zeros_cuts_what_is_not(toy):
    sparse = np.where(np.arange(CHANNELS) == toy.labels[:, None], np.abs(toy.train), 0).astype(np.float32)
    assert (sparse == 0).mean() > 0.9
    fitted = made("react").fit(sparse, toy.labels, toy.head, seed=0)
    assert fitted.most_ == pytest.approx(np.quantile(sparse[sparse > 0], 0.9))


# Many images.


@pytest.fixture(scope="module")
def many():
    return Toy(5000, positive=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SCORES, "one-class:knn", "one-class:lof"])
def test_memory_does_not_grow_with_the_square_of_the_images(name, many, monkeypatch):
    monkeypatch.setattr(averaging, "BLOCK", 1000)
    score = made(
        name, **({"bank_size": 500} if name in ("knn", "nnguide") else {} if name in SCORES else {"rows": 500})
    )
    score.fit(many.train[:100], many.labels[:100], many.head, seed=0)  # so that imports do not count
    tracemalloc.start()
    try:
        score.fit(many.train, many.labels, many.head, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * many.train.nbytes < 0.1 * 4 * len(many.train) ** 2


@pytest.mark.parametrize("name", ["knn", "nnguide"])
def test_a_bank_is_a_draw_of_the_training_images(name, toy):
    score = made(name, bank_size=50)
    bank = score.fit(toy.train, toy.labels, toy.head, seed=0).bank_
    assert bank.shape == (50, CHANNELS)
    kept = sample(Rows(toy.train), 50, 0)
    np.testing.assert_allclose(
        np.einsum("ij,ij->i", bank, kept) / np.linalg.norm(bank, axis=1), np.linalg.norm(kept, axis=1), rtol=1e-5
    )
    assert not np.array_equal(made(name, bank_size=50).fit(toy.train, toy.labels, toy.head, seed=1).bank_, bank)


def test_a_one_class_score_is_its_method(toy):
    features = Rows(toy.train)
    method = METHODS["mahalanobis"]().fit(features, memory=10**9, seed=0)
    ours = by_name("one-class:mahalanobis").fit(toy.train, toy.labels[::-1], toy.head, seed=0)
    assert isinstance(ours, Score)
    np.testing.assert_array_equal(scores(ours, toy.test, toy.head), run(method.graph(), toy.test, None))
    few = OneClass(METHODS["knn"](), rows=30).fit(toy.train, toy.labels, toy.head, seed=0)
    assert few.method.bank_.shape[0] == 30  # type: ignore[attr-defined]


def test_means_by_class_are_means(toy, monkeypatch):
    monkeypatch.setattr(averaging, "BLOCK", 7)
    labels = np.where(toy.labels == 2, 4, toy.labels)
    means, counts = averaging.class_means(toy.train, labels, 6)
    for one in range(6):
        assert counts[one] == (labels == one).sum()
        expected = toy.train[labels == one].mean(axis=0, dtype=np.float64) if counts[one] else np.zeros(CHANNELS)
        np.testing.assert_allclose(means[one], expected, rtol=1e-12)
    around = toy.train - toy.train.mean(axis=0, dtype=np.float64)
    assert averaging.spread(toy.train) == pytest.approx(np.sqrt(np.square(around).sum(axis=1).mean()))


# What cannot work.


def test_what_does_not_fit_together_is_refused(toy):
    broken = toy.train.copy()
    broken[3, 3] = np.nan
    wrong = [
        (toy.train[:, :-1], toy.labels, "24 channels"),
        (toy.train[0], toy.labels, "24 channels"),
        (toy.train, toy.labels[:-1], "400 embeddings and 399 labels"),
        (toy.train[:0], toy.labels[:0], "0 embeddings"),
        (toy.train, toy.labels + 1, "labels go from 1 to 5"),
        (toy.train, toy.labels - 1, "labels go from -1"),
        (broken, toy.labels, "not all finite"),
    ]
    for train, labels, message in wrong:
        with pytest.raises(DataError, match=message) as error:
            made("energy").fit(train, labels, toy.head, seed=0)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("weights", "bias", "message"),
    [
        (np.ones((4, 3)), np.ones(4), "takes weights"),
        (np.ones(3), np.ones(3), "takes weights"),
        (np.ones((4, 1)), np.ones(1), "two classes"),
        (np.full((4, 2), np.inf), np.ones(2), "not all finite"),
    ],
)
def test_a_head_that_is_none_is_refused(weights, bias, message):
    with pytest.raises(OddsightError, match=message):
        Head(weights.astype(np.float32), bias.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gen", {"gamma": 1.0}, "gen: gamma must be above 0 and below 1"),
        ("gen", {"top": 1}, "gen: top must be a whole number of 2"),
        ("odin", {"temperature": 0}, "odin: temperature must be above 0"),
        ("knn", {"neighbours": -1}, "knn: neighbours"),
        ("nnguide", {"bank_size": 0.5}, "nnguide: bank_size"),
        ("vim", {"dimensions": -1}, "vim: dimensions"),
        ("react", {"quantile": 1}, "react: quantile"),
        ("ash", {"pruned": 0.99}, "ash: pruned must be above 0 and at most 0.95"),
        ("dice", {"pruned": "0.9"}, "dice: pruned"),
        ("openmax", {"tail": 2}, "openmax: tail must be a whole number of 5"),
        ("one-class:knn", {"rows": 0}, "one-class:knn: rows"),
    ],
)
def test_settings_that_cannot_work_are_refused(name, settings, message):
    with pytest.raises(OddsightError, match=message):
        made(name, **settings)


SUMS = ("energy+knn", "energy+vim+gen", "msp+one-class:knn+knn")


@pytest.mark.parametrize("names_", SUMS)
def test_a_sum_adds_scores_in_units_of_their_spread(names_, toy):
    added = by_name(names_).fit(toy.train, toy.labels, toy.head, seed=0)
    assert added.name == names_
    expected = np.zeros(len(toy.test))
    for one in names_.split("+"):
        part = by_name(one).fit(toy.train, toy.labels, toy.head, seed=0)
        learned = scores(part, toy.train, toy.head).astype(np.float64)
        expected += (scores(part, toy.test, toy.head) - learned.mean()) / learned.std()
    found = scores(added, toy.test, toy.head)
    assert (found.shape, found.dtype) == ((200,), np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    onnx.checker.check_model(added.graph(), full_check=True)
    again = by_name(names_).fit(toy.train, toy.labels, toy.head, seed=0)
    assert again.graph().SerializeToString(deterministic=True) == added.graph().SerializeToString(deterministic=True)
    assert json.loads(json.dumps(added.settings())) == added.settings()
    assert auroc(found, scores(added, toy.odd, toy.head)) > 0.9


def test_a_sum_with_a_score_that_says_nothing_is_finite(toy):
    head = Head(np.zeros_like(toy.head.weights), toy.head.bias)
    added = by_name("energy+knn").fit(toy.train, toy.labels, head, seed=0)
    assert np.isfinite(scores(added, toy.test, head)).all()


def test_sums_of_one_score_or_of_one_twice_are_refused():
    for name in ("energy+energy", "msp+energy+msp"):
        with pytest.raises(OddsightError, match="at least two scores, each once"):
            by_name(name)
    for name in ("energy+", "+", "energy+luck"):
        with pytest.raises(OddsightError, match="no score"):
            by_name(name)


def test_names_that_are_none_are_refused():
    for name in ("nonsense", "one-class:patchcore", "lof"):
        with pytest.raises(OddsightError, match=r"no score .*msp.*one-class:lof"):
            by_name(name)
    with pytest.raises(OddsightError, match="patchcore reads patches"):
        OneClass(METHODS["patchcore"]())


def test_the_document_lists_every_score():
    text = (Path(__file__).parents[2] / "docs" / "scores.md").read_text()
    assert set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)) == {*SCORES, "one-class:NAME"}


@pytest.mark.slow
def test_importing_scores_is_light():
    heavy = "('scipy', 'sklearn', 'onnxruntime')"
    script = f"import sys, oddsight.detectors; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
