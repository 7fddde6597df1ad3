"""Models that know classes: what they promise, from labelled images to one file."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image
from scipy.special import softmax
from scipy.stats import binom

import oddsight
from labelled_files import CLASSES, SIDE, draw_image, write_classes
from oddsight.backbones.cache import default_cache
from oddsight.data.class_images import ClassImages, folds
from oddsight.data.classes import read_classes
from oddsight.data.collection import ImageFile
from oddsight.data.stored import stored
from oddsight.detectors import create, names
from oddsight.errors import DataError, MemoryBudgetError, OddsightError
from oddsight.evaluation.classes import evaluate_classes
from oddsight.fitting.assembly import assemble
from oddsight.fitting.class_learner import ClassPlan, combine_classes
from oddsight.fitting.classes import fit_classes
from oddsight.fitting.classifiers import Probe, temperature_of
from oddsight.fitting.classifiers import probe as fit_probe
from oddsight.fitting.parts import divide_classes
from oddsight.fitting.plan import Request
from oddsight.graphs.calibrating import calibrating_by_class
from oddsight.metrics.classification import temperature
from oddsight.model.calibration import decide, decide_by_class, images_needed
from oddsight.model.metadata import KEY
from oddsight.model.model import Model
from oddsight.model.result import NONE_OF_THESE
from oddsight.runtime.sessions import session

RATE, SHARE = 0.2, 0.25
OPTIONS = {
    "size": SIDE,
    "layers": ["head"],
    "score": "knn",
    "calibration_fraction": SHARE,
    "false_alarm_rate": RATE,
}
OUTPUTS = ["score", "p_value", "class_index", "class_probability", "nearest"]


class Fitted:
    """One probe, and what models are assembled of."""

    def __init__(self, folder: Path, layers=None):
        self.folder = folder
        self.data = read_classes(folder)["train"]
        self.parts = divide_classes(self.data, SHARE, 0, validated=False)
        source = Probe("efficientnet-lite0", layers, SIDE)
        memory = source.memory_plan(Request(), self.parts.images, 0)
        self.extractor = source.extractor
        learned = source.learn(self.parts, memory, default_cache(), lambda *state: None)
        self.known, self.found = learned.classifier, learned.embeddings
        self.warmth = temperature_of(learned, self.parts)

    def model(self, score="knn", *, per_class=False, known=None, calibration=None) -> Model:
        """A file; ``calibration`` is another part to calibrate on, by name, and ``known`` another classifier."""
        fitted = create(score, "classes").fit(self.found.training, self.parts.training.labels, self.known.head, seed=0)
        part = calibration or "calibration"
        images = getattr(self.parts, part)
        plan = ClassPlan.of(replace(self.parts, calibration=images, held=len(images)), RATE, Request(rate=RATE))
        found = replace(self.found, calibration=getattr(self.found, part))
        return assemble(
            combine_classes(known or self.known, fitted, self.warmth, found, plan, per_class=per_class), plan
        )


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """Three classes of 40: 30 to learn from and 10 to calibrate on, of each."""
    return Fitted(write_classes(tmp_path_factory.mktemp("classes"), range(40)))


@pytest.fixture(scope="session")
def models(fitted):
    """By whether each class has a threshold of its own."""
    return {per_class: fitted.model(per_class=per_class) for per_class in (False, True)}


@pytest.fixture(params=[False, True], ids=["one threshold", "one for each class"])
def model(request, models):
    return models[request.param]


@pytest.fixture(scope="session")
def pictures():
    """Of the three classes, of none of them, and of any size."""
    kinds = [draw_image(kind, seed) for kind in (*CLASSES, "moss") for seed in range(5000, 5006)]
    return [*kinds, draw_image("bark", 1, 150)[:40], np.zeros((1, 1, 3), np.uint8), np.full((90, 30, 3), 255, np.uint8)]


def constants(model) -> dict[str, np.ndarray]:
    proto = onnx.load_model_from_string(model.to_bytes())
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


# The file.


@pytest.mark.slow
def test_plain_onnxruntime_says_what_the_model_says(model, pictures):
    loaded = onnxruntime.InferenceSession(model.to_bytes())
    assert [output.name for output in loaded.get_outputs()] == OUTPUTS
    normals = oddsight.data.collection.unpacked(model.metadata.explanation.normals)
    for image in pictures:
        result = model.predict(image)
        score, p_value, index, probability, nearest = loaded.run(OUTPUTS, {"image": image[None]})
        assert (score.dtype, p_value.dtype, index.dtype, probability.dtype, nearest.dtype) == (
            *(np.float32, np.float32, np.int64, np.float32, np.int64),
        )
        assert score[0] == pytest.approx(result.score, rel=1e-6)
        assert p_value[0] == pytest.approx(result.p_value, rel=1e-6)
        assert (CLASSES[index[0]], normals[nearest[0]]) == (result.label, result.nearest)
        assert probability[0] == pytest.approx(result.label_probability, rel=1e-6)
        assert 1 / 3 - 1e-6 <= result.label_probability <= 1


@pytest.mark.slow
def test_a_batch_says_of_each_image_what_it_says_of_it_alone(model, pictures):
    loaded = onnxruntime.InferenceSession(model.to_bytes())
    images = [image for image in pictures if image.shape == (SIDE, SIDE, 3)]
    batch = loaded.run(OUTPUTS, {"image": np.stack(images)})
    for number, image in enumerate(images):
        for together, alone in zip(batch, loaded.run(OUTPUTS, {"image": image[None]}), strict=True):
            assert together[number] == pytest.approx(alone[0], rel=1e-4)


def test_a_file_says_what_it_is(model, fitted):
    said = model.metadata
    assert (said.schema_version, said.map_size) == (3, None)
    assert tuple(said.classes.names) == model.classes == CLASSES
    assert said.classes.head == {"classifier": "probe", "penalty": 100.0, "iterations": 300}
    assert said.method.name == "knn"
    assert (said.training.images, said.training.duplicates, said.training.unreadable) == (90, 0, 0)
    assert (said.calibration.kind, said.calibration.images) == ("split", 30)
    seen = oddsight.data.collection.unpacked(said.training.images_seen)
    assert seen == sorted(image.content[:16] for image in fitted.data.images)
    nearest = oddsight.data.collection.unpacked(said.explanation.normals)
    assert nearest == sorted(image.content[:16] for image in fitted.parts.training.images)
    assert said.training.fingerprint == fitted.data.fingerprint


def test_the_nearest_image_of_one_that_was_learned_from_is_itself(model, fitted):
    for image in fitted.parts.training.images[::7]:
        assert model.predict(image.read()).nearest == image.content[:16]


@pytest.mark.slow
def test_models_without_classes_stay_in_schema_2(fitted):
    model = oddsight.fit(fitted.folder / "cloth", method="mahalanobis", size=SIDE)
    assert model.metadata.schema_version == 2
    proto = onnx.load_model_from_string(model.to_bytes())
    [text] = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    assert '"schema_version":2' in text
    assert '"classes"' not in text
    assert (model.classes, model.by_class, model.fewest) == ((), False, len(model.calibration_scores))
    result = model.predict(draw_image("cloth", 1))
    assert (result.label, result.verdict) == (None, "anomalous" if result.anomalous else "normal")
    assert "class" not in result.to_json()


# The fit.


@pytest.mark.slow
def test_the_pieces_are_what_is_fitted(models, fitted):
    """So what else this file says of the pieces holds for a fit."""
    for per_class, model in models.items():
        assert fit_classes(fitted.folder, per_class=per_class, **OPTIONS).to_bytes() == model.to_bytes()


@pytest.mark.slow
def test_names_order_and_formats_of_files_do_not_matter(models, fitted, tmp_path):
    for number, path in enumerate(sorted(fitted.folder.glob("*/*.png"), key=lambda path: path.name[::-1])):
        folder = tmp_path / path.parent.name / ("deep" if number % 2 else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(folder / f"{999 - number}.{('bmp', 'png', 'tif')[number % 3]}")
    assert fit_classes(tmp_path, **OPTIONS).to_bytes() == models[False].to_bytes()
    # Copies change nothing but their number.
    for path in sorted((tmp_path / "bark" / "deep").iterdir()):
        shutil.copy(path, tmp_path / "bark" / f"again {path.name}")
    plans = []
    copied = fit_classes(tmp_path, **OPTIONS, on_plan=plans.append)
    assert plans[0].parts.duplicates == copied.metadata.training.duplicates == 20
    assert copied.metadata.graph_sha256 == models[False].metadata.graph_sha256
    assert copied.metadata.training.fingerprint == models[False].metadata.training.fingerprint


@pytest.mark.slow
def test_another_seed_is_another_division(models, fitted):
    other = fit_classes(fitted.data, seed=1, **OPTIONS)
    assert other.metadata.training.images_seen == models[False].metadata.training.images_seen
    assert other.metadata.explanation.normals != models[False].metadata.explanation.normals


@pytest.mark.slow
def test_calibration_images_are_used_for_calibration_only(fitted, models):
    swapped = fitted.model(per_class=True, calibration="training")
    one, other = constants(models[True]), constants(swapped)
    assert one.keys() == other.keys()
    different = {name for name in one if not np.array_equal(one[name], other[name])}
    assert "calibration/scores" in different
    assert all(name.startswith("calibration/") for name in different)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_is_a_logistic_regression(classes):
    """Of two classes, too, where scikit-learn keeps one row of weights instead of two."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    labels = np.arange(60) % classes
    rows = (random.normal(size=(60, 5)) * [1, 10, 1, 0.1, 1] + labels[:, None]).astype(np.float32)
    images = ClassImages(tuple(image_of(number) for number in range(60)), labels, CLASSES[:classes])
    scaled = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-6)
    expected = LogisticRegression(C=0.01, max_iter=300, tol=1e-4).fit(scaled, labels).predict_proba(scaled)
    head = fit_probe(None, rows, images).head
    assert softmax(head.logits(rows), axis=1) == pytest.approx(expected, abs=1e-4)


def test_probabilities_are_of_logits_divided_by_a_temperature(model, fitted):
    """Which is that of logits of images that the classifier did not see, as it learned from the other folds."""
    images, rows = fitted.parts.training, fitted.found.training
    fold = folds(images, 5, 0)
    logits = np.empty((len(images), 3))
    for number in range(5):
        head = fit_probe(fitted.extractor, rows[fold != number], images.subset(np.flatnonzero(fold != number))).head
        logits[fold == number] = head.logits(rows[fold == number])
    warmth = temperature(logits, images.labels)
    assert model.metadata.classes.temperature == pytest.approx(warmth, rel=1e-6)
    assert temperature(fitted.known.head.logits(rows), images.labels) != pytest.approx(warmth, rel=1e-3)
    for image, embedding in zip(fitted.parts.calibration.images, fitted.found.calibration, strict=True):
        logits = embedding.astype(np.float64) @ fitted.known.head.weights + fitted.known.head.bias
        result = model.predict(image.read())
        assert result.label == CLASSES[logits.argmax()]
        assert result.label_probability == pytest.approx(softmax(logits / warmth).max(), rel=1e-3)


@pytest.mark.slow
def test_a_score_with_settings_is_not_changed(fitted):
    score = create("knn", "classes")
    before = dict(vars(score))
    fit_classes(fitted.data, **OPTIONS | {"score": score})
    assert vars(score) == before


def test_a_model_tells_classes_and_the_unknown_apart(models):
    for model in models.values():
        for kind in CLASSES:
            labels = [model.predict(draw_image(kind, seed)).label for seed in range(6000, 6010)]
            assert labels == [kind] * 10
        verdicts = [model.predict(draw_image("moss", seed)).verdict for seed in range(6000, 6010)]
        assert verdicts.count(NONE_OF_THESE) >= 9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classifier": "forest"}, OddsightError, "no classifier 'forest': there are probe"),
        ({"score": "loudest"}, OddsightError, "no score 'loudest': there are"),
        ({"seed": -1}, OddsightError, "seed must be 0 or more"),
        ({"false_alarm_rate": 1.0}, DataError, "between 0 and 1"),
        ({"memory": "much"}, OddsightError, "not an amount of memory"),
        ({"backbone": "spine"}, OddsightError, "no backbone 'spine'"),
        ({"layers": ["marrow"]}, OddsightError, "no layer 'marrow'"),
        ({"layers": []}, OddsightError, "no layer named: efficientnet-lite0 has stage1"),
        ({"size": 0}, OddsightError, "size .* multiple of 32"),
        ({"epochs": 3}, OddsightError, "a probe trains no network, so it takes no epochs"),
        ({"loss": "cross-entropy"}, OddsightError, "takes no loss"),
        ({"extras": []}, OddsightError, "takes no extras"),
        ({"mirrored": True}, OddsightError, "takes no mirrored"),
        ({"work": "there"}, OddsightError, "takes no work"),
        ({"accelerator": "gpu"}, OddsightError, "takes no accelerator"),
        ({"classifier": "fine-tuned", "layers": ["head"]}, OddsightError, "leave the layers out"),
        ({"classifier": "compact", "backbone": "resnet50"}, OddsightError, "leave the backbone out"),
        ({"classifier": "compact", "epochs": 0}, OddsightError, "epochs must be 1 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_read(options, error, message, monkeypatch):
    monkeypatch.setattr("oddsight.fitting.class_learner.read_classes", None)
    with pytest.raises(error, match=message) as raised:
        fit_classes("nowhere", **options)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"calibration_fraction": -0.1}, DataError, "from 0 to below 0.5"),
        ({"calibration_fraction": 0.5}, DataError, "from 0 to below 0.5"),
        ({"calibration_fraction": math.nan}, DataError, "from 0 to below 0.5"),
        (
            {"false_alarm_rate": 0.005},
            DataError,
            "at least 199 calibration images, and there are 120",
        ),
        ({"false_alarm_rate": 0.02, "per_class": True}, DataError, "at least 49 calibration images of each class"),
        (
            {"false_alarm_rate": 0.05, "calibration_fraction": 0.1},
            DataError,
            "at least 19 calibration images, and there are 12.* 0.077 or more",
        ),
        ({"memory": "1MB"}, MemoryBudgetError, "too small"),
    ],
)
def test_what_the_images_cannot_do_is_refused(fitted, options, error, message):
    with pytest.raises(error, match=message):
        fit_classes(fitted.data, size=SIDE, **options)


@pytest.mark.slow
def test_the_rate_is_the_smallest_in_reach_if_none_is_asked_for(fitted):
    plans = []
    few = fitted.data.subset([*range(3), *range(40, 43), *range(80, 83)])
    fit_classes(few, size=SIDE, on_plan=plans.append)
    fit_classes(few, size=SIDE, calibration_fraction=0.3, on_plan=plans.append)  # One calibration image of each class
    fit_classes(few, size=SIDE, per_class=True, on_plan=plans.append)
    fit_classes(fitted.data, size=SIDE, calibration_fraction=0.25, per_class=True, on_plan=plans.append)
    assert [plan.rate for plan in plans] == [1 / 10, 1 / 4, 1 / 2, 1 / 6]


# How images are divided.


def image_of(number: int, name: str = "") -> ImageFile:
    return ImageFile(Path(name or f"{number}.png"), f"{number * 7919 % 10007:064x}", 8, 8)


def images_of(labels, contents=None, names=CLASSES) -> ClassImages:
    contents = range(len(labels)) if contents is None else contents
    return ClassImages(tuple(image_of(number) for number in contents), np.array(labels, np.int64), tuple(names))


def contents_of(part: ClassImages) -> list[str]:
    return [image.content for image in part.images]


LABELS = st.lists(st.integers(0, 2), max_size=40).map(lambda more: [0, 1, 2] * 4 + more)


@pytest.mark.slow
@given(LABELS, st.floats(0.01, 0.3), st.integers(0, 5), st.randoms())
def test_parts_are_disjoint_stratified_and_of_content_only(labels, fraction, seed, random):
    data = images_of(labels)
    parts = divide_classes(data, fraction, seed)
    every = [contents_of(part) for part in (parts.training, parts.validation, parts.calibration)]
    assert sorted(chain(*every)) == sorted(contents_of(data))
    assert every == [sorted(one) for one in every]
    label_of = dict(zip(contents_of(data), labels, strict=True))
    for part in (parts.training, parts.validation, parts.calibration):
        assert [label_of[content] for content in contents_of(part)] == part.labels.tolist()
    for name, count in data.counts().items():
        held = math.ceil(fraction * count - 1e-9)
        assert parts.calibration.counts()[name] == held
        assert parts.validation.counts()[name] == math.ceil(fraction / (1 - fraction) * (count - held) - 1e-9)
        assert parts.training.counts()[name] >= 1
    # Another order and other names, and copies.
    order = [*range(len(labels)), *random.choices(range(len(labels)), k=5)]
    random.shuffle(order)
    renamed = tuple(replace(data.images[index], path=Path(f"other/{place}")) for place, index in enumerate(order))
    other = divide_classes(ClassImages(renamed, data.labels[order], CLASSES), fraction, seed)
    assert [contents_of(part) for part in (other.training, other.validation, other.calibration)] == every
    assert (other.duplicates, other.fingerprint) == (5, parts.fingerprint)


@given(LABELS, st.floats(0.01, 0.49), st.integers(0, 5))
def test_without_validation_its_images_are_learned_from(labels, fraction, seed):
    data = images_of(labels)
    parts = divide_classes(data, fraction, seed, validated=False)
    held = math.ceil(fraction * 4 - 1e-9)
    assert not parts.validation.images
    assert len(parts.training) + len(parts.calibration) == len(data)
    assert min(parts.training.counts().values()) >= 4 - held


@given(LABELS, st.integers(2, 6), st.integers(0, 5), st.integers(1, 4))
def test_folds_divide_each_class_alike_and_no_group(labels, count, seed, size):
    data = images_of(labels)
    # Groups of `size` neighbours, some of which have several classes.
    images = tuple(replace(image, group=f"{number // size}") for number, image in enumerate(data.images))
    fold = folds(ClassImages(images, data.labels, CLASSES), count, seed)
    for group in {image.group for image in images}:
        assert len({fold[number] for number, image in enumerate(images) if image.group == group}) == 1
    if size == 1:
        for label in range(3):
            sizes = np.bincount(fold[data.labels == label], minlength=count)
            assert sizes.max() - sizes.min() <= 1


def test_a_class_of_one_group_is_in_no_fold():
    data = images_of([0, 0, 0, 1, 1, 1])
    images = tuple(replace(image, group="same" * (number < 3)) for number, image in enumerate(data.images))
    fold = folds(ClassImages(images, data.labels, CLASSES), 5, 0)
    assert fold[:3].tolist() == [-1] * 3
    assert len(set(fold[3:].tolist())) == 3


def test_a_share_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(DataError, match="leaves no images to train on"):
        divide_classes(images_of([0, 1, 2] * 40), 0.49, 0)


NINE = [0, 1, 2] * 3


@pytest.mark.parametrize(
    ("labels", "contents", "names", "message"),
    [
        ([*NINE, 1], [*range(9), 0], CLASSES, "0.png and 0.png are the same image in different classes"),
        ([0, 1, 2] * 2 + [0, 1], None, CLASSES, "rust has fewer than 3 distinct images"),
        ([*NINE[:-1], 1, 2], [*range(8), 9, 2], CLASSES, "rust has fewer than 3 distinct images"),
        ([0] * 9, None, CLASSES[:1], "there is only one class"),
        ([0, 1] * 5, None, CLASSES, "rust has fewer than 3"),
        (NINE, None, ("a", "b", "none of these"), "'none of these', which is the verdict"),
        (NINE, None, ("a", "b", " None of These"), "which is the verdict on images of no class: rename it"),
        (NINE, None, ("a", "b", "caf\udce9"), "'caf\N{REPLACEMENT CHARACTER}', is empty.* or not text: rename it"),
        (NINE, None, ("a", "b", " "), "is empty"),
        (NINE, None, ("a", "b", "c" * 1001), "longer than 1,000 letters"),
        ([0, 1] * 3 + [2], None, ("a", "b", "c\nd"), "class c\N{REPLACEMENT CHARACTER}d has fewer"),
    ],
)
def test_images_that_cannot_be_learned_from_are_refused(labels, contents, names, message):
    with pytest.raises(DataError, match=message) as error:
        divide_classes(images_of(labels, contents, names), 0.1, 0)
    assert str(error.value).isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["日本語", "a\nb", "[red]x[/red]", "x" * 1000, "normal", "a,b=c"])
def test_names_of_classes_are_kept_as_they_are(fitted, name):
    names = (name, *CLASSES[1:])
    model = fitted.model("msp", known=replace(fitted.known, classes=names))
    assert Model.from_bytes(model.to_bytes()).classes == names
    result = model.predict(draw_image("bark", 5000))
    assert result.label == name
    assert result.to_json()["class"] == name


# The decision.


def test_a_verdict_is_the_class_or_none_exactly_when_the_score_is_above_the_threshold(model, pictures):
    results = [model.predict(image) for image in pictures]
    assert {result.anomalous for result in results} == {True, False}
    for result in results:
        assert result.threshold == model.threshold_for(CLASSES.index(result.label))
        assert result.anomalous == (result.score > result.threshold) == (result.p_value <= RATE)
        assert result.verdict == (NONE_OF_THESE if result.anomalous else result.label)
        said = result.to_json()
        assert (said["verdict"], said["class"]) == (result.verdict, result.label)
        assert said["class_probability"] == result.label_probability


@pytest.fixture(scope="session")
def calibrated(models, fitted):
    """Score and class of each calibration image, as the whole file gives them."""
    results = [models[True].predict(image.read()) for image in fitted.parts.calibration.images]
    return [(result.score, result.label) for result in results]


@pytest.mark.slow
def test_p_values_and_thresholds_are_within_the_class_taken(models, calibrated, pictures):
    model = models[True]
    assert model.by_class
    assert sorted(score for score, _ in calibrated) == pytest.approx(model.calibration_scores.tolist(), rel=1e-4)
    assert model.fewest == min(sum(label == kind for _, label in calibrated) for kind in CLASSES)
    own = {kind: sorted(score for score, label in calibrated if label == kind) for kind in CLASSES}
    assert model.metadata.classes.thresholds == pytest.approx(expected_thresholds(own, RATE), rel=1e-4)
    for image in pictures:
        result = model.predict(image)
        higher = sum(score >= result.score for score in own[result.label])
        assert result.p_value == (1 + higher) / (1 + len(own[result.label]))


def expected_thresholds(own, rate):
    """The least calibration score of each class above which at most a share ``rate`` of n + 1 images lies."""
    found = []
    for values in own.values():
        alarms = math.floor(Fraction(rate).limit_denominator(1000) * (len(values) + 1))
        found.append(sorted(values, reverse=True)[alarms - 1])
    return found


def test_another_rate_is_another_threshold_for_each_class(models, calibrated):
    model = models[True]
    own = {kind: [score for score, label in calibrated if label == kind] for kind in CLASSES}
    other = model.with_decision(false_alarm_rate=0.4)
    assert other.metadata.classes.thresholds == pytest.approx(expected_thresholds(own, 0.4), rel=1e-4)
    assert other.decision == decide(model.calibration_scores, 0.4)
    assert other.metadata.graph_sha256 == model.metadata.graph_sha256
    assert other.with_decision(false_alarm_rate=RATE).to_bytes() == model.to_bytes()


@pytest.mark.slow
def test_a_threshold_by_hand_is_one_for_all_classes(models, pictures):
    model = models[True]
    by_hand = model.with_decision(threshold=0.9)
    assert by_hand.metadata.classes.thresholds is None
    assert by_hand.by_class
    assert {by_hand.threshold_for(index) for index in (0, 1, 2, None)} == {0.9}
    for image in pictures:
        result, before = by_hand.predict(image), model.predict(image)
        assert (result.p_value, result.score, result.label) == (before.p_value, before.score, before.label)
        assert (result.threshold, result.false_alarm_rate) == (0.9, None)
        assert result.anomalous == (result.score > 0.9)
    assert by_hand.with_decision(false_alarm_rate=RATE).to_bytes() == model.to_bytes()


def test_too_few_images_of_a_class_for_a_rate_is_an_error_that_names_it(models):
    model = models[True]
    assert model.fewest < images_needed(0.05) <= len(model.calibration_scores)
    with pytest.raises(DataError, match=r"at least 19 calibration images of each, and 10 were predicted as bark"):
        model.with_decision(false_alarm_rate=0.05)
    assert models[False].with_decision(false_alarm_rate=0.05).decision.false_alarm_rate == 0.05


def test_a_class_that_nothing_was_taken_for_cannot_be_calibrated():
    taken = np.array([0, 0, 0, 2, 2])
    with pytest.raises(DataError, match=r"0 were predicted as cloth: add images, or use one threshold for all"):
        decide_by_class(np.arange(5, dtype=np.float32), taken, CLASSES, 0.5)
    with pytest.raises(DataError, match=r"2 were predicted as rust: ask for 0\.334 or more, add"):
        decide_by_class(np.arange(8, dtype=np.float32), np.array([0, 0, 0, 2, 2, 1, 1, 1]), CLASSES, 0.3)
    with pytest.raises(DataError, match="between 0 and 1"):
        decide_by_class(np.arange(5, dtype=np.float32), taken, CLASSES, 1.0)


VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0]) | st.floats(-1e6, 1e6, width=32)


@pytest.mark.slow
@given(st.lists(st.tuples(VALUES, st.integers(0, 2)), min_size=3, max_size=60), st.floats(0.05, 0.9))
def test_thresholds_for_each_class_are_those_of_its_own_images(pairs, rate):
    values = np.array([value for value, _ in pairs], np.float32)
    taken = np.array([label for _, label in pairs])
    counts = np.bincount(taken, minlength=3)
    if counts.min() < images_needed(rate):
        with pytest.raises(DataError, match=f"predicted as {CLASSES[counts.argmin()]}"):
            decide_by_class(values, taken, CLASSES, rate)
        return
    thresholds = decide_by_class(values, taken, CLASSES, rate)
    for index, threshold in enumerate(thresholds):
        own = values[taken == index]
        assert threshold == decide(own, rate).threshold
        for value in {*values.tolist(), threshold + 1}:
            p_value = Fraction(1 + int((own >= value).sum()), 1 + len(own))
            assert (value > threshold) == (p_value <= Fraction(rate) * (1 + Fraction(1, 10**9)))


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rate", [0.07, 0.3])
def test_each_class_is_rejected_at_most_at_the_rate(rate, ties):
    """One new image a class, after each of many calibrations: what is promised is the share over these."""
    random = np.random.default_rng([int(100 * rate), ties])
    trials, centres, spreads = 4000, np.array([0.0, 3.0, -2.0]), np.array([1.0, 0.2, 5.0])
    counts, rejected = np.array([20, 35, 50]), np.zeros(3, int)
    taken = np.repeat(np.arange(3), counts)
    for _ in range(trials):
        values = random.standard_t(3, len(taken) + 3)
        drawn = (values * spreads[[*taken, 0, 1, 2]] + centres[[*taken, 0, 1, 2]]).astype(np.float32)
        drawn = np.round(drawn) if ties else drawn
        rejected += drawn[-3:] > decide_by_class(drawn[:-3], taken, CLASSES, rate)
    assert (rejected <= binom.ppf(1 - 1e-5, trials, rate)).all(), rejected / trials
    if not ties:
        # As many as there may be, so that images are not let through for nothing.
        shares = np.floor(rate * (counts + 1)) / (counts + 1)
        assert (rejected >= binom.ppf(1e-5, trials, shares)).all(), rejected / trials


@pytest.mark.slow
@given(
    st.lists(st.tuples(VALUES, st.integers(0, 2)), min_size=1, max_size=30), st.lists(VALUES, min_size=1, max_size=4)
)
@settings(max_examples=30)
def test_the_graph_counts_within_each_class(pairs, asked):
    values = np.array([value for value, _ in pairs], np.float32)
    taken = np.array([label for _, label in pairs], np.int64)
    loaded = session(calibrating_by_class(values, taken, 3).SerializeToString(), threads=1)
    queries = [(np.float32(value), label) for value in (*asked, *values[:3].tolist()) for label in range(3)]
    feed = {
        "score": np.array([value for value, _ in queries]),
        "class_index": np.array([label for _, label in queries]),
    }
    for (value, label), found in zip(queries, loaded.run(None, feed)[0], strict=True):
        own = values[taken == label]
        assert found == np.float32((1 + (own >= value).sum()) / np.float32(1 + len(own)))


# Every score.


@pytest.fixture(scope="session")
def shallow(fitted):
    """A probe on few channels."""
    return Fitted(fitted.folder, ["stage2"])


@pytest.mark.slow
@pytest.mark.parametrize("score", [*names("classes"), "energy+vim+one-class:knn"])
def test_every_score_makes_a_working_file(shallow, fitted, score, pictures):
    # What comes out of a stage may be negative; the head ends in a ReLU.
    model = (fitted if create(score, "classes").positive else shallow).model(score)
    assert Model.from_bytes(model.to_bytes()).metadata.method.name == score
    for image in pictures[::5]:
        result = model.predict(image)
        assert np.isfinite(result.score)
        assert (
            (result.verdict == NONE_OF_THESE) == (result.score > model.decision.threshold) == (result.p_value <= RATE)
        )


@pytest.mark.slow
@pytest.mark.parametrize("score", ["one-class:feature-autoencoder", "one-class:deep-svdd", "one-class:lof"])
def test_a_method_for_one_class_says_how_many_images_it_takes(fitted, score):
    few = fitted.data.subset([*range(3), *range(40, 43), *range(80, 83)])
    with pytest.raises(DataError, match=f"{score} learns from at least 8 images, and there are 6"):
        fit_classes(few, size=SIDE, score=score, calibration_fraction=0.3)
    with pytest.raises(DataError, match=f"{score} learns from at least 8 images, and there are 7"):
        fit_classes(few, size=SIDE, score=score)  # Without the second of five folds


# Evaluating; more of it in test_labelled_cli.py.


def test_evaluating_takes_images(fitted, models):
    labels = np.array([0, 1, 2])
    test = [stored(draw_image(kind, 7000)[None], ["one"])[0] for kind in CLASSES]
    data = ClassImages(tuple(test), labels, CLASSES)
    others = [stored(draw_image(kind, 8000)[None], ["one"])[0] for kind in CLASSES]
    found = evaluate_classes(models[True], data, {"": others[:1], "labelled images": others[1:]})
    assert (found.predicted.tolist(), found.labels.tolist()) == ([0, 1, 2], [0, 1, 2])
    assert [len(results) for results in found.unknown.values()] == [1, 2]
    with pytest.raises(DataError, match="there are no labelled images to evaluate on"):
        evaluate_classes(models[True], data.subset([]))
    with pytest.raises(DataError, match="there are no images of fog to evaluate on"):
        evaluate_classes(models[True], data, {"fog": ()})
    with pytest.raises(DataError, match="1 of 2 images of fog are among the labelled images, too"):
        evaluate_classes(models[True], data, {"fog": [others[0], test[0]]})
    with pytest.raises(DataError, match="1 of 1 images of fog were used to fit this model"):
        evaluate_classes(models[True], data, {"fog": fitted.parts.calibration.images[:1]})
