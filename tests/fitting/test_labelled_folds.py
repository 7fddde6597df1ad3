"""Few labelled images: all are learned from, and a probe is calibrated in folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from labelled_files import CLASSES, SIDE, write_classes
from oddsight.data.class_images import ClassImages
from oddsight.data.classes import read_classes
from oddsight.data.collection import ImageFile
from oddsight.detectors.knn import KNN
from oddsight.errors import DataError
from oddsight.evaluation.classes import evaluate_classes
from oddsight.fitting.class_learner import divide
from oddsight.fitting.classes import fit_classes
from oddsight.fitting.parts import divide_classes, fold_of
from oddsight.fitting.plan import Request
from oddsight.report import write_report

OPTIONS = {"size": SIDE, "layers": ["head"], "score": "knn"}


def drawn(labels, size=1) -> ClassImages:
    """Images that are not there, in groups of ``size`` neighbours of one class."""
    order = np.argsort(labels, kind="stable")
    images = []
    for number, label in enumerate(np.array(labels)[order].tolist()):
        group = f"{label} {number // size}" if size > 1 else ""
        images.append(ImageFile(Path(f"{number}.png"), f"{number * 7919 % 10007:064x}", 8, 8, group=group))
    return ClassImages(tuple(images), np.array(labels, np.int64)[order], CLASSES)


@given(st.lists(st.integers(0, 2), max_size=40).map(lambda more: [0, 1, 2] * 6 + more), st.integers(1, 3))
def test_all_images_are_learned_from_and_one_of_each_group_is_calibrated_on(labels, size):
    data = drawn(labels, size)
    parts = divide_classes(data, 0.0, 0, validated=False)
    assert parts.kind == "cross"
    assert sorted(image.content for image in parts.images) == sorted(image.content for image in data.images)
    assert (parts.training.fingerprint, parts.held) == (parts.fingerprint, len(data))
    assert len(parts.calibration) == len({image.unit for image in data.images})
    assert [parts.training.images[at] for at in parts.calibrated] == list(parts.calibration.images)
    assert parts.training.labels[parts.calibrated].tolist() == parts.calibration.labels.tolist()
    fold = fold_of(parts.training, 0)
    for unit in {image.unit for image in data.images}:
        assert len({fold[at] for at, image in enumerate(parts.training.images) if image.unit == unit}) == 1


def test_a_fold_without_which_a_class_is_empty_is_not_calibrated_on():
    data = drawn([0] * 10 + [1] * 10)
    # All of the second class are with some of the first.
    images = [replace(image, group="both" * (number >= 8)) for number, image in enumerate(data.images)]
    mixed = ClassImages(tuple(images), data.labels, CLASSES[:2])
    fold = fold_of(mixed, 0)
    assert set(fold[8:].tolist()) == {-1}
    assert set(fold[:8].tolist()) > {-1}
    with pytest.raises(DataError, match=f"{CLASSES[1]} are in too few groups to train on some and calibrate on others"):
        divide_classes(mixed, 0.0, 0, validated=False)


def test_a_class_of_one_group_cannot_be_calibrated_on():
    data = drawn([0] * 4 + [1] * 4 + [2] * 4)
    images = tuple(replace(image, group="same" * (number < 4)) for number, image in enumerate(data.images))
    with pytest.raises(DataError, match=f"{CLASSES[0]} are in too few groups"):
        divide_classes(replace(data, images=images), 0.0, 0, validated=False)


def test_a_network_that_is_trained_needs_images_held_out():
    with pytest.raises(DataError, match="needs images held out: choose a calibration fraction above 0"):
        divide_classes(drawn([0, 1, 2] * 6), 0.0, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of ten."""
    return write_classes(tmp_path_factory.mktemp("few"), range(10))


@pytest.fixture(scope="module")
def watched(folder):
    """A model of these images, and how many images each detector learned from, and which."""
    learned = []

    class Watched(KNN):
        def learn_classes(self, embeddings, *others):
            learned.append(embeddings.copy())
            super().learn_classes(embeddings, *others)

    score = Watched(neighbours=1)
    model = fit_classes(folder, size=SIDE, layers=["head"], score=score, false_alarm_rate=0.1)
    return model, learned


def test_where_a_tenth_is_too_few_all_are_calibrated_on(watched):
    model, learned = watched
    info = model.metadata.calibration
    assert (info.kind, info.folds, info.images, info.scores) == ("cross", 5, 30, 30)
    assert model.metadata.training.images == 30
    assert sorted(map(len, learned)) == [24] * 5 + [30]


def test_each_image_is_scored_by_what_did_not_learn_from_it(watched, folder):
    model, learned = watched
    *of_folds, whole = learned
    rows = {row.tobytes() for row in whole}
    left_out = [rows - {row.tobytes() for row in fold} for fold in of_folds]
    assert [len(part) for part in left_out] == [6] * 5
    assert set().union(*left_out) == rows
    # A nearest neighbour among all would be the image itself, at no distance.
    proto = onnx.load_model_from_string(model.to_bytes())
    scores = next(
        found
        for found in map(numpy_helper.to_array, proto.graph.initializer)
        if found.shape == (30,) and found.dtype == np.float32 and (np.diff(found) >= 0).all()
    )
    own = [model.predict(path).score for path in sorted(folder.rglob("*.png"))]
    assert max(own) < scores.min()


def test_the_share_asked_for_is_held_out(folder):
    held = fit_classes(folder, **OPTIONS, calibration_fraction=0.2)
    assert (held.metadata.calibration.kind, held.metadata.calibration.images) == ("split", 6)
    assert held.decision.false_alarm_rate == pytest.approx(1 / 7)
    folds = fit_classes(folder, **OPTIONS, calibration_fraction=0.0)
    assert (folds.metadata.calibration.kind, folds.metadata.calibration.images) == ("cross", 30)
    assert folds.decision.false_alarm_rate == pytest.approx(1 / 31)
    assert folds.to_bytes() == fit_classes(folder, **OPTIONS).to_bytes()


def test_each_class_has_a_threshold_from_folds(folder):
    model = fit_classes(folder, **OPTIONS, per_class=True)
    assert model.metadata.calibration.kind == "cross"
    assert len(model.metadata.classes.thresholds) == 3


@pytest.mark.parametrize(
    ("count", "asked", "more", "kind"),
    [
        (990, {}, {}, "split"),
        (960, {}, {}, "cross"),  # 96 held out promise 1.04%
        (960, {"rate": 0.1}, {}, "cross"),
        (990, {"rate": 0.1}, {}, "split"),
        (990, {"rate": 0.005}, {}, "cross"),
        (990, {"confidence": 0.9}, {}, "cross"),
        (990, {}, {"per_class": True}, "cross"),
        (960, {}, {"validated": True}, "split"),
        (960, {"fraction": 0.1}, {}, "split"),
        (990, {"fraction": 0.0}, {}, "cross"),
    ],
)
def test_a_tenth_is_held_out_where_that_is_enough_for_one_per_cent(count, asked, more, kind):
    options = {"per_class": False, "validated": False} | more
    assert divide(drawn([0, 1, 2] * (count // 3)), Request(**asked), **options).kind == kind


def test_the_report_says_that_the_rate_is_not_strict(watched, folder, tmp_path):
    model, _ = watched
    others = read_classes(write_classes(tmp_path / "others", range(100, 104)))["train"]
    evaluation = evaluate_classes(model, others)
    write_report(evaluation, model, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "divided into 5 parts" in text
    assert "close to the promise rather than strictly below it" in text
