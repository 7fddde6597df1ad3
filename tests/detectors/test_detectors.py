"""What one concept of detectors promises: checks in one place, and old ways to write a detector."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
import onnx
import pytest

from oddsight import detectors
from oddsight.detectors import DETECTORS, METHODS, Detector, FeatureStream, Method, Reading, Rows, create, method, names
from oddsight.detectors.head import Head
from oddsight.detectors.knn import KNN
from oddsight.detectors.mahalanobis import Mahalanobis
from oddsight.detectors.scores import SCORES, Score, score
from oddsight.errors import DataError, MemoryBudgetError, OddsightError
from oddsight.graphs.building import piece
from oddsight.runtime.sessions import session

LABELS = np.arange(40) % 2
EMBEDDINGS = np.random.default_rng(0).normal(0, 0.1, (40, 2)).astype(np.float32) + np.eye(2, dtype=np.float32)[LABELS]
HEAD = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
DISTANCE = """
{name} (float[N, 2] embedding) => (float[N] score) <int64[1] last = {{1}}>
{{
    x = Sub (embedding, mean)
    score = ReduceL2 <keepdims = 0> (x, last)
}}
"""


def scores(detector, embeddings=EMBEDDINGS):
    loaded = session(detector.graph().SerializeToString(), threads=1)
    return loaded.run(["score"], {"embedding": embeddings})[0]


def test_every_detector_has_a_name_of_its_own():
    """Of two that share one, the second would silently take the place of the first."""
    modules = [value for value in vars(detectors).values() if isinstance(value, ModuleType)]
    found = {cls for module in modules for cls in vars(module).values() if isinstance(cls, type)}
    own = {cls for cls in found if issubclass(cls, Detector) and "name" in vars(cls)}
    assert len(own) >= len(METHODS)
    assert [cls for cls in own for kind in cls.learns_from if DETECTORS[kind].get(cls.name) is not cls] == []


@pytest.mark.parametrize("cls", [KNN, Mahalanobis])
def test_one_class_learns_from_normal_images_and_from_classes(cls):
    assert METHODS[cls.name] is SCORES[cls.name] is cls
    normal, classes = cls().fit(Rows(EMBEDDINGS), memory=10**9, seed=0), cls().fit(EMBEDDINGS, LABELS, HEAD, seed=0)
    assert not np.allclose(scores(normal), scores(classes))
    again = classes.fit(Rows(EMBEDDINGS), seed=0)
    np.testing.assert_array_equal(scores(again), scores(normal))


def test_neighbours_that_count_are_recorded():
    detector = KNN().fit(EMBEDDINGS, seed=0)
    assert detector.settings() == {"neighbours": 1, "bank_size": 10000}
    assert detector.fit(EMBEDDINGS, LABELS, HEAD, seed=0).settings()["neighbours"] == 10
    assert KNN(neighbours=3).fit(EMBEDDINGS, LABELS, HEAD, seed=0).settings()["neighbours"] == 3


@pytest.mark.parametrize("name", names())
def test_learning_without_memory_is_refused(name):
    shape = {"embedding": (24,), "patches": (24, 8, 8), "pixels": (3, 64, 64), "levels": (24, 24, 24, 8, 8)}
    features = Rows(np.zeros((20, *shape[METHODS[name].reads]), np.float32))
    features.shape = shape[METHODS[name].reads]
    with pytest.raises(MemoryBudgetError, match=f"{name} takes"):
        create(name).fit(features, memory=1000, seed=0)


@pytest.mark.parametrize("name", sorted(set(METHODS) ^ set(SCORES)))
def test_learning_from_something_else_is_refused(name):
    if name in METHODS:
        with pytest.raises(OddsightError, match=f"{name} learns from normal images: give no labels"):
            create(name).fit(EMBEDDINGS, LABELS, HEAD, seed=0)
        with pytest.raises(OddsightError, match="learns from normal images"):
            create(create(name), "classes")
    else:
        with pytest.raises(OddsightError, match=f"{name} learns from images of known classes: give labels"):
            create(name, "classes").fit(EMBEDDINGS, seed=0)
        with pytest.raises(OddsightError, match="learns from images of known classes"):
            create(create(name, "classes"))


def test_labels_and_head_go_together_and_fit_the_embeddings():
    for labels, head in ((LABELS, None), (None, HEAD)):
        with pytest.raises(OddsightError, match=re.escape("knn takes labels and a head together")):
            KNN().fit(EMBEDDINGS, labels, head, seed=0)
    with pytest.raises(DataError, match="as many"):
        KNN().fit(EMBEDDINGS, LABELS[1:], HEAD, seed=0)
    with pytest.raises(DataError, match="not all finite"):
        KNN().fit(np.full_like(EMBEDDINGS, np.nan), LABELS, HEAD, seed=0)


def test_a_method_that_overrides_fit_works(registry):
    @method
    @dataclass
    class NearestMean(Method):
        name: ClassVar[str] = "nearest-mean"
        summary: ClassVar[str] = "distance from the mean"
        paper: ClassVar[str] = "none"
        reads: ClassVar[Reading] = "embedding"
        localises: ClassVar[bool] = False

        def fit(self, features: FeatureStream, *, memory: int, seed: int) -> NearestMean:  # type: ignore[override]
            self.require(memory, features.shape, len(features))
            self.mean_ = sum(features) / len(features)
            return self

        def graph(self) -> onnx.ModelProto:
            return piece(DISTANCE.format(name="nearest_mean"), {"mean": np.asarray(self.mean_)})

        def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
            return 64

    expected = np.linalg.norm(EMBEDDINGS - EMBEDDINGS.mean(axis=0), axis=1)
    fitted = create("nearest-mean").fit(Rows(EMBEDDINGS), memory=10**6, seed=0)
    np.testing.assert_allclose(scores(fitted), expected, rtol=1e-5)
    in_sum = create("one-class:nearest-mean", "classes").fit(EMBEDDINGS, LABELS, HEAD, seed=0)
    np.testing.assert_allclose(scores(in_sum), expected, rtol=1e-5)


def test_a_score_that_defines_learn_works(registry):
    @score
    @dataclass
    class NearMean(Score):
        name = "near-mean"
        summary = "distance from the mean"
        paper = "none"

        def _learn(self, embeddings, labels, head, seed):
            self.mean_ = embeddings.mean(axis=0)

        def graph(self):
            return piece(DISTANCE.format(name="near_mean"), {"mean": self.mean_})

    fitted = create("near-mean", "classes").fit(EMBEDDINGS, LABELS, HEAD, seed=0)
    np.testing.assert_allclose(scores(fitted), np.linalg.norm(EMBEDDINGS - EMBEDDINGS.mean(axis=0), axis=1), rtol=1e-5)
    assert "near-mean" not in METHODS
    assert isinstance(fitted, Detector)


def test_which_detectors_are_scores():
    for name in names("classes"):
        assert isinstance(create(name, "classes"), Score)
    assert not isinstance(create("patchcore"), Score)
    assert issubclass(Score, Method)
