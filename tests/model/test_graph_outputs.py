"""What leaves a graph is checked in one place: no command believes a score that is no number."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

import oddsight
from cli_files import run
from oddsight.errors import DataError, ImageError
from oddsight.evaluation.classes import evaluate_classes
from oddsight.graphs.building import digest
from oddsight.model.metadata import KEY
from oddsight.model.model import Model
from oddsight.model.outputs import (
    read_index,
    read_map,
    read_p_value,
    read_probability,
    read_score,
    read_voices,
)
from oddsight.model.result import Result
from tiny_model import CALIBRATION, CLASSES, tiny_class_proto, tiny_proto

NAN, INF = float("nan"), float("inf")
DARK, MIDDLE, BRIGHT = (np.full((4, 4, 3), level, np.uint8) for level in (20, 60, 220))


def renamed_output(proto, name):
    """Let what is computed as ``name`` be called otherwise, so that another node can take its place."""
    for node in proto.graph.node:
        for at, output in enumerate(node.output):
            if output == name:
                node.output[at] = f"honest_{name}"
        for at, entry in enumerate(node.input):
            if entry == name:
                node.input[at] = f"honest_{name}"


def spoiled(proto, name, lines):
    """A model whose output ``name`` is computed from ``honest_NAME`` by nodes and constants of the caller's."""
    renamed_output(proto, name)
    for node, inputs, outputs, constants, attributes in lines:
        for key, value in constants.items():
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), key))
        proto.graph.node.append(onnx.helper.make_node(node, inputs, outputs, **attributes))
    [entry] = [entry for entry in proto.metadata_props if entry.key == KEY]
    entry.value = json.dumps(json.loads(entry.value) | {"graph_sha256": digest(proto)})
    return Model.from_bytes(proto.SerializeToString())


def where_bright(name, value, proto=None):
    """A model that gives ``value`` for bright images, and for others what it did."""
    lines = [
        ("ReduceMax", ["pixels"], ["brightest"], {}, {"keepdims": 0}),
        ("Greater", ["brightest", "bright_limit"], ["is_bright"], {"bright_limit": np.float32(200)}, {}),
        ("Where", ["is_bright", "bad", f"honest_{name}"], [name], {"bad": value}, {}),
    ]
    return spoiled(proto or tiny_proto(), name, lines)


BAD_OUTPUTS = {
    "score NaN": ("score", np.float32(NAN), "a score that is not a finite number \\(nan\\)"),
    "score infinite": ("score", np.float32(-INF), "a score that is not a finite number \\(-inf\\)"),
    "p-value above 1": ("p_value", np.float32(7.5), "a p-value of 7.5, which is not above 0 and at most 1"),
    "p-value 0": ("p_value", np.float32(0), "a p-value of 0,"),
    "p-value negative": ("p_value", np.float32(-0.05), "a p-value of -0.05,"),
    "p-value NaN": ("p_value", np.float32(NAN), "a p-value that is not a finite number"),
    "p-value of another score": ("p_value", np.float32(0.5), "p-value of 0.5, but its calibration scores give"),
    "p-value between": ("p_value", np.float32(0.0526), "p-value of 0.0526, but its"),
    "map NaN": ("anomaly_map", np.float32(NAN), "an anomaly map with values that are not finite"),
    "map of another score": ("anomaly_map", np.float32(3), "highest value of the model's anomaly map is 3, and its"),
    "nearest out of range": ("nearest", np.int64(3), "nearest normal image 3, but there are 3"),
    "nearest negative": ("nearest", np.int64(-1), "nearest normal image -1, but there are 3"),
}


@pytest.mark.parametrize("case", BAD_OUTPUTS)
def test_an_output_out_of_range_is_an_error_for_that_image(case):
    name, value, reason = BAD_OUTPUTS[case]
    model = where_bright(name, value)
    with pytest.raises(ImageError, match=reason) as error:
        model.predict(BRIGHT)
    assert error.value.path == "an array"
    found = list(model.predict_many([DARK, BRIGHT, MIDDLE], workers=1))
    assert [type(outcome) for outcome in found] == [Result, ImageError, Result]
    assert [found[0].score, found[2].score] == pytest.approx([20.0, 60.0])


BAD_SHAPES = {
    "two scores": ("Concat", ["honest_score", "honest_score"], {"axis": 0}, "2 values as the score of one image"),
    "no score": ("Gather", ["honest_score", "none"], {}, "0 values as the score of one image"),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_any_other_number_of_scores_is_an_error(case):
    operator, inputs, attributes, reason = BAD_SHAPES[case]
    constants = {"none": np.zeros(0, np.int64)} if "none" in inputs else {}
    model = spoiled(tiny_proto(localises=False), "score", [(operator, inputs, ["score"], constants, attributes)])
    with pytest.raises(ImageError, match=reason):
        model.predict(DARK)


BAD_CLASSES = {
    "class NaN probability": ("class_probability", np.float32(NAN), "class probability that is not a finite"),
    "class probability above 1": ("class_probability", np.float32(1.5), "class probability of 1.5"),
    "class probability 0": ("class_probability", np.float32(0), "class probability of 0"),
    "class out of range": ("class_index", np.int64(3), "class 3, but there are 3"),
    "class negative": ("class_index", np.int64(-1), "class -1, but there are 3"),
}


@pytest.mark.parametrize("case", BAD_CLASSES)
def test_a_class_out_of_range_is_an_error_for_that_image(case):
    name, value, reason = BAD_CLASSES[case]
    # Calibration by class reads the index, and fails in the graph where it is out of range.
    model = where_bright(name, value, tiny_class_proto(by_class=False))
    assert model.predict(MIDDLE).label in CLASSES
    with pytest.raises(ImageError, match=reason):
        model.predict(BRIGHT)


def test_a_graph_that_fails_on_one_size_is_an_error_for_that_image():
    lines = [
        ("Shape", ["image"], ["sides"], {}, {}),
        ("Gather", ["sides", "first_side"], ["height"], {"first_side": np.array([1])}, {}),
        ("Equal", ["height", "wrong_height"], ["is_wrong"], {"wrong_height": np.array([5])}, {}),
        ("Cast", ["is_wrong"], ["beyond"], {}, {"to": onnx.TensorProto.INT64}),
        ("Gather", ["honest_score", "beyond"], ["score"], {}, {}),
    ]
    model = spoiled(tiny_proto(localises=False), "score", lines)
    found = list(model.predict_many([DARK, np.zeros((5, 4, 3), np.uint8), MIDDLE]))
    assert [type(outcome) for outcome in found] == [Result, ImageError, Result]
    assert "the graph failed on it" in str(found[1])


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, pixels in {"1dark": DARK, "2bright": BRIGHT, "3middle": MIDDLE}.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def strict(text):
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("options", [[], ["--tile", "16"], ["--regions", "regions"], ["--fdr", "0.5"]])
def test_predict_counts_it_and_goes_on(images, tmp_path, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where_bright("score", np.float32(NAN)).save(tmp_path / "model.onnx")
    outcome = run("predict", tmp_path / "model.onnx", images, "--json", tmp_path / "out.json", *options)
    assert outcome.code == 1
    lines = [strict(line) for line in (tmp_path / "out.json").read_text().splitlines()]
    by_name = {line["path"].rsplit("/", 1)[-1]: line for line in lines}
    assert by_name["2bright.png"]["error"] == "the model gave a score that is not a finite number (nan)"
    assert all("score" in by_name[name] for name in ("1dark.png", "3middle.png"))
    assert "2bright.png: the model gave a score that is not a finite number" in outcome.err


def test_evaluate_counts_it_and_goes_on(images, tmp_path):
    where_bright("score", np.float32(NAN)).save(tmp_path / "model.onnx")
    normal, anomalous = tmp_path / "normal", tmp_path / "anomalous"
    for number, folder in enumerate((normal, anomalous)):
        folder.mkdir()
        for level in (30 + number, 90 + number, 240 + number):
            Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(folder / f"{level}.png")
    outcome = run(
        "evaluate", tmp_path / "model.onnx", "--normal", normal, "--anomalous", anomalous, "--json", tmp_path / "o.json"
    )
    assert outcome.code == 1
    found = strict((tmp_path / "o.json").read_text())
    assert (found["counts"]["normal"], found["counts"]["anomalous"], found["counts"]["unreadable"]) == (2, 2, 2)
    assert {error["path"].rsplit("/", 1)[-1] for error in found["errors"]} == {"240.png", "241.png"}


def test_labelled_evaluation_counts_it_and_goes_on():
    from oddsight.data.class_images import ClassImages
    from oddsight.data.stored import stored

    model = where_bright("score", np.float32(NAN), tiny_class_proto())
    # Red, green and blue in turn; the fourth is bright.
    colours = np.array([(90, 0, 0), (0, 90, 0), (0, 0, 90), (250, 0, 0)], np.uint8)
    images = stored(np.tile(colours[:, None, None], (1, 3, 3, 1)), "abcd")
    data = ClassImages(tuple(images), np.array([0, 1, 0, 0]), ("red", "green", "blue"))
    found = evaluate_classes(model, data)
    assert [error.path for error in found.errors] == ["d"]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.predicted.tolist() == [0, 1, 2]
    assert found.to_json()["images"] == 3
    with pytest.raises(DataError, match="none of the images of odd could be scored; the first is d: the model gave"):
        evaluate_classes(model, ClassImages(tuple(images[:3]), np.array([0, 1, 2]), data.classes), {"odd": images[3:]})


def test_fit_names_the_calibration_image_without_a_score(normal_folder, monkeypatch):
    from oddsight.detectors.knn import KNN
    from oddsight.graphs.building import piece

    one = {"one": np.array(1e6, np.float32)}
    text = """
    knn (float[N, C] embedding) => (float[N] score) <int64[1] last = {1}>
    { least = ReduceMin <keepdims = 0> (embedding, last) negative = Neg (least) below = Sub (negative, one)
      score = Log (below) }
    """
    monkeypatch.setattr(KNN, "graph", lambda self: piece(text.replace("C]", f"{self.bank_.shape[1]}]"), one))
    with pytest.raises(ImageError, match=r"png: the model gave a score that is not a finite number"):
        oddsight.fit(normal_folder, method="knn", size=64, false_alarm_rate=0.1)


# The reader itself.

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(numbers, st.lists(numbers, min_size=1, max_size=30))
def test_the_p_value_that_follows_is_accepted_and_no_other(score, calibration):
    scores = np.sort(np.array(calibration, np.float32))
    total = len(scores) + 1
    rank = 1 + int((scores >= np.float32(score)).sum())
    for other in range(1, total + 1):
        values = np.array([other / total], np.float32)
        if other == rank:
            assert read_p_value(values, score, scores, "x") == rank / total
        else:
            with pytest.raises(ImageError):
                read_p_value(values, score, scores, "x")


def test_voices_are_as_many_as_named_and_the_highest_is_the_score():
    evidence, shares = np.float32([[2.5, 0.5]]), np.float32([[0.1, 1.0]])
    said, given = read_voices(evidence, shares, 2, 2.5, "x")
    assert (said.tolist(), given.tolist()) == ([2.5, 0.5], [np.float32(0.1), 1.0])
    for spoiled_evidence, spoiled_shares, score, reason in [
        (evidence, shares, 2.0, "evidence of at most 2.5, but its score is 2"),
        (evidence[:, :1], shares, 2.5, "evidence of shape"),
        (np.float32([[2.5, NAN]]), shares, 2.5, "not a finite number"),
        (evidence, np.float32([[0.1, 1.5]]), 2.5, "p-value of a voice of 1.5"),
        (evidence, np.float32([[0.1, NAN]]), 2.5, "p-value of a voice of nan"),
    ]:
        with pytest.raises(ImageError, match=reason):
            read_voices(spoiled_evidence, spoiled_shares, 2, score, "x")


anything = st.lists(st.floats(width=32), max_size=3).map(lambda values: np.array(values, np.float32))


@given(anything)
def test_what_is_read_is_in_range_or_an_error(values):
    readers = {
        "score": (lambda: read_score(values, "x"), np.isfinite),
        "probability": (lambda: read_probability(values, "probability", "x"), lambda value: 0 < value <= 1),
        "p-value": (lambda: read_p_value(values, 15.0, CALIBRATION, "x"), lambda value: value == 19 / 20),
        "index": (lambda: read_index(values, 3, "class", "x"), lambda value: value in range(3)),
        "map": (
            lambda: read_map(values[None, None], (1, 2), 1.0, "x"),
            lambda value: value.shape == (1, 2) and value.max() == pytest.approx(1, rel=1e-4),
        ),
        "voices": (
            lambda: read_voices(values[None], values[None], 2, 0.5, "x"),
            lambda value: all(len(part) == 2 and np.isfinite(part).all() for part in value) and value[0].max() == 0.5,
        ),
    }
    for read, is_right in readers.values():
        try:
            value = read()
        except ImageError as error:
            assert error.path == "x"
        else:
            assert is_right(value)
