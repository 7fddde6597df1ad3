"""Model files: one that is sound loads for ever, any other is refused in one line and never run."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import oddsight
from oddsight.errors import ImageError, ModelError
from oddsight.graphs.building import chain, digest, piece
from oddsight.graphs.calibrating import CLASSES, SCORES, calibrating
from oddsight.graphs.naming import BIAS
from oddsight.model.metadata import KEY
from oddsight.model.model import Model
from textures import SIZE, texture
from tiny_model import CALIBRATION, GRID, NORMALS, TAKEN, tiny_class_model, tiny_class_proto, tiny_model, tiny_proto

DATA = Path(__file__).parents[1] / "files"
OLD, KEPT, KEPT_CLASSES = (DATA / f"model-schema-{number}.onnx" for number in (1, 2, 3))
IMAGE = texture(1, 31, 17)


def make_kept_files():
    """What made schemas 2 and 3, and before them schema 1. Not to be run again: the files stay as they are."""
    tiny_model().save(KEPT)
    tiny_class_model().save(KEPT_CLASSES)


# A file that was written once is read by every later version.


RECORDED = [
    (np.full((5, 9, 3), 55, np.uint8), 55.0, 0.75, False, None),
    (np.full((64, 64, 3), 175, np.uint8), 175.0, 0.15, False, None),
    (np.full((64, 64, 3), 185, np.uint8), 185.0, 0.1, True, None),
    (np.full((1, 1, 3), (255, 0, 240), np.uint8), 165.0, 0.2, False, 0),
    (np.full((1, 1, 3), (10, 90, 240), np.uint8), 340 / 3, 0.45, False, 2),
    (np.full((1, 1, 3), (90, 240, 10), np.uint8), 340 / 3, 0.45, False, 1),
    (np.full((1, 1, 3), 255, np.uint8), 255.0, 0.05, True, None),
    (np.arange(3, 8 * 8 * 3 + 3, dtype=np.uint8).reshape(8, 8, 3), 193.0, 0.05, True, 2),
]
"""Images, what they scored when the files were written, and which normal image schema 2 calls nearest, if one is."""


@pytest.mark.parametrize("path", [OLD, KEPT], ids=["schema 1", "schema 2"])
@pytest.mark.parametrize(("image", "score", "p_value", "anomalous", "nearest"), RECORDED)
def test_kept_files_give_the_recorded_scores(path, image, score, p_value, anomalous, nearest):
    model = oddsight.load(path)
    result = model.predict(image)
    assert result.score == pytest.approx(score, rel=1e-5)
    assert result.p_value == pytest.approx(p_value, rel=1e-6)
    assert result.anomalous == anomalous
    assert result.map.shape == model.metadata.map_size == (GRID, GRID)
    assert result.voices == ()
    if path == OLD:
        assert result.nearest is None
    else:
        assert result.nearest in (NORMALS if nearest is None else [NORMALS[nearest]])
    assert model.calibration_scores.tolist() == CALIBRATION.tolist()
    assert (model.decision.threshold, model.decision.false_alarm_rate) == (180.0, 0.1)


RECORDED_CLASSES = [
    ((255, 0, 240), 165.0, "red", 0.57244, 2 / 8, "none of these", 0),
    ((230, 100, 90), 140.0, "red", 0.88099, 3 / 8, "red", 0),
    ((10, 250, 190), 150.0, "green", 0.76363, 2 / 7, "none of these", 1),
    ((90, 240, 10), 340 / 3, "green", 0.94354, 3 / 7, "green", 1),
    ((60, 100, 50), 70.0, "green", 0.55029, 5 / 7, "green", 1),
    ((10, 90, 240), 340 / 3, "blue", 0.94354, 4 / 7, "blue", 2),
    ((100, 90, 230), 140.0, "blue", 0.88099, 3 / 7, "blue", 2),
]
"""Colours, and what a file of schema 3 made of them when it was written: its score, class and that one's probability,
its p-value among calibration images predicted as the class, and the verdict by the class's own threshold."""


@pytest.mark.parametrize(("colour", "score", "label", "probability", "p_value", "verdict", "nearest"), RECORDED_CLASSES)
def test_the_kept_file_with_classes_gives_the_recorded_verdicts(
    colour, score, label, probability, p_value, verdict, nearest
):
    model = oddsight.load(KEPT_CLASSES)
    result = model.predict(np.full((3, 2, 3), colour, np.uint8))
    assert result.score == pytest.approx(score, rel=1e-5)
    assert result.p_value == pytest.approx(p_value, rel=1e-6)
    assert (result.label, result.verdict, result.nearest) == (label, verdict, NORMALS[nearest])
    assert result.label_probability == pytest.approx(probability, rel=1e-4)
    assert result.anomalous == (verdict == "none of these")
    assert model.classes == ("red", "green", "blue")
    assert [model.threshold_for(index) for index in range(3)] == [160.0, 140.0, 150.0]
    assert (result.threshold, result.false_alarm_rate) == (model.threshold_for(model.classes.index(label)), 0.3)


@pytest.mark.parametrize(
    ("path", "schema"), [(OLD, 1), (KEPT, 2), (KEPT_CLASSES, 3)], ids=["schema 1", "schema 2", "schema 3"]
)
def test_the_kept_files_are_small_and_whole(path, schema):
    assert path.stat().st_size < 5000
    model = Model.load(path)
    assert model.to_bytes() == path.read_bytes()
    assert model.metadata.schema_version == schema
    assert (model.metadata.explanation is None) == (schema == 1)
    assert (model.metadata.classes is None) == (schema < 3)
    # Another decision keeps the schema, and what it says.
    again = model.with_decision(threshold=1.0).with_decision(false_alarm_rate=model.decision.false_alarm_rate)
    assert again.to_bytes() == model.to_bytes()


# Files that are no models.

NOT_MODELS = {
    "empty": b"",
    "text": b"This is not a model.\n" * 100,
    "json": json.dumps({"schema_version": 1}).encode(),
    "random": np.random.default_rng(0).bytes(5000),
    "zeros": bytes(5000),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.",
}


def refused(path, message=""):
    with pytest.raises(ModelError) as error:
        oddsight.load(path)
    text = str(error.value)
    assert text.isprintable(), text  # in particular: one line
    assert len(text) <= 2000
    assert str(path) in text
    assert re.search(message, text), text
    return text


@pytest.mark.parametrize("kind", NOT_MODELS)
def test_files_that_are_no_models_are_refused(tmp_path, kind):
    path = tmp_path / "model.onnx"
    path.write_bytes(NOT_MODELS[kind])
    refused(path, "not an ONNX file|an empty file|not an Oddsight model")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_truncated_files_are_refused(tmp_path, share):
    content = KEPT.read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    refused(path)


@pytest.mark.parametrize("name", ["missing.onnx", "", "nul\0.onnx"])
def test_what_cannot_be_opened_is_refused(tmp_path, name):
    with pytest.raises(ModelError, match="cannot be read"):
        oddsight.load(f"{tmp_path}/{name}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_at_once(tmp_path):
    path = tmp_path / "model.onnx"
    os.mkfifo(path)
    errors = []

    def attempt():
        try:
            oddsight.load(path)
        except ModelError as error:
            errors.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(60)
    waiting = thread.is_alive()
    if waiting:  # let it go
        path.open("wb").close()
        thread.join(10)
    assert not waiting
    assert len(errors) == 1


# Models that are not ours, or not as we made them.


def metadata_of(proto):
    [entry] = [entry for entry in proto.metadata_props if entry.key == KEY]
    return entry, json.loads(entry.value)


def edit(**changes):
    """Set fields of the metadata; ``a__b`` is field b of section a, and ... removes one."""

    def spoil(proto):
        entry, content = metadata_of(proto)
        for name, value in changes.items():
            *sections, field = name.split("__")
            place = content
            for section in sections:
                place = place[section]
            if value is ...:
                del place[field]
            else:
                place[field] = value
        entry.value = json.dumps(content)

    return spoil


def raw_metadata(text):
    def spoil(proto):
        metadata_of(proto)[0].value = text

    return spoil


def hostile(change):
    """Change the graph and make the digest fit, as someone would who means harm."""

    def spoil(proto):
        change(proto)
        edit(graph_sha256=digest(proto))(proto)

    return spoil


def no_metadata(proto):
    del proto.metadata_props[:]


def twice_metadata(proto):
    proto.metadata_props.add(key=KEY, value=proto.metadata_props[0].value)


def constant(proto, name):
    [found] = [tensor for tensor in proto.graph.initializer if tensor.name == name]
    return found


def edited_weight(proto):
    constant(proto, "mean/sign").CopyFrom(numpy_helper.from_array(np.array(1.01, np.float32), "mean/sign"))


def edited_opset(proto):
    proto.opset_import[0].version = 19


def external(proto):
    tensor = constant(proto, "mean/sign")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def external_in_attribute(proto):
    node = proto.graph.node.add(op_type="Constant", output=["unused"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    node.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    node.attribute[0].t.external_data.add(key="location", value="/etc/passwd")


def external_in_sparse_attribute(proto):
    node = proto.graph.node.add(op_type="Constant", output=["unused"])
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    values = node.attribute[0].sparse_tensor.values
    values.data_location = onnx.TensorProto.EXTERNAL
    values.external_data.add(key="location", value="/etc/passwd")


def custom_domain(proto):
    proto.opset_import.add(domain="evil.example", version=1)


def custom_node(proto):
    proto.graph.node[0].domain = "evil.example"


def custom_node_in_a_branch(proto):
    node = proto.graph.node.add(op_type="If")
    node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
    node.attribute[0].g.node.add(op_type="Run", domain="evil.example")


def functions(proto):
    proto.functions.add(name="f", domain="")


def sparse(proto):
    proto.graph.sparse_initializer.add().values.name = "s"


def training_info(proto):
    proto.training_info.add()


def other_input(proto):
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def second_input(proto):
    proto.graph.input.add(name="path")


def output_order(proto):
    first, second = proto.graph.output[1], proto.graph.output[0]
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in (first, second)]
    del proto.graph.output[:2]
    proto.graph.output.extend(copies)


def no_output(proto):
    del proto.graph.output[:]


def no_calibration(proto):
    constant(proto, SCORES).name = "other"


def calibration(values):
    def change(proto):
        constant(proto, SCORES).CopyFrom(numpy_helper.from_array(np.array(values), SCORES))

    return change


def malformed_calibration(proto):
    constant(proto, SCORES).dims[0] = 5  # of 19


def text_calibration(proto):
    tensor = onnx.TensorProto(name=SCORES, data_type=onnx.TensorProto.STRING, dims=[19])
    tensor.string_data.extend([b"text"] * 19)
    constant(proto, SCORES).CopyFrom(tensor)


def calibration_of_no_type(proto):
    constant(proto, SCORES).data_type = 999


def other_map(proto):
    edit(map_size=[GRID // 2, 2 * GRID])(proto)


def voiced(width, voices):
    """A model with outputs for ``width`` voices that names ``voices``."""

    def change(proto):
        for name in ("evidence", "voice_p_values"):
            proto.graph.node.add(op_type="Concat", input=["score"] * width, output=[name])
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", width]))

    def spoil(proto):
        hostile(change)(proto)
        edit(explanation__voices=voices)(proto)

    return spoil


def fields_of(version):
    return f"wrong: the fields and the schema version do not fit together: these are of version {version}$"


NAN, STEPS = float("nan"), CALIBRATION.tolist()


SPOILED = {
    "no metadata": (no_metadata, "not an Oddsight model"),
    "metadata twice": (twice_metadata, "not an Oddsight model"),
    "metadata no JSON": (raw_metadata("{"), "not valid JSON"),
    "metadata nested deeply": (raw_metadata("[" * 100_000), "not valid JSON"),
    "metadata a list": (raw_metadata("[1]"), "schema version is None"),
    "a later schema": (edit(schema_version=10), "schema version is 10.* reads versions 1 to 9"),
    "schema 8 with nothing of it": (edit(schema_version=8), fields_of(2)),
    "schema 7 with nothing of it": (edit(schema_version=7), fields_of(2)),
    "levels of pixels with schema 2": (edit(pixels={"median": 1.0, "high": 2.0}), fields_of(7)),
    "levels of pixels that are infinite": (
        edit(schema_version=7, pixels={"median": 1.0, "high": float("inf")}),
        "metadata is",
    ),
    "schema 6 with nothing of it": (edit(schema_version=6), fields_of(2)),
    "schema 5 with nothing of it": (edit(schema_version=5), fields_of(2)),
    "schema 4 without curves": (edit(schema_version=4), fields_of(2)),
    "schema 1 with an explanation": (edit(schema_version=1), fields_of(2)),
    "schema 2 without an explanation": (edit(explanation=...), fields_of(1)),
    "schema 3 without classes": (edit(schema_version=3), fields_of(2)),
    "schema 1 with nearest": (edit(schema_version=1, explanation=...), "outputs are not score, p_value, anomaly_map$"),
    "schema as a truth": (edit(schema_version=True), "schema version is True"),
    "normals no base64": (edit(explanation__normals="!"), "wrong at explanation.normals"),
    "normals cut": (edit(explanation__normals="ERER="), "wrong at explanation.normals"),
    "seen images cut": (edit(training__images_seen="ERERA"), "wrong at training.images_seen"),
    "voices without outputs": (edit(explanation__voices=["deep"]), "outputs are not .* evidence, voice_p_values"),
    "voices denied": (voiced(2, []), "outputs are not score, p_value, anomaly_map, nearest$"),
    "voices too many": (voiced(2, ["deep", "shallow", "patches"]), "number of its voices"),
    "voices too few": (voiced(2, ["patches"]), "number of its voices"),
    "no schema": (edit(schema_version=...), "schema version is None"),
    "schema as text": (edit(schema_version="1"), "schema version is '1'"),
    "field missing": (edit(method=...), "wrong at method"),
    "field unknown": (edit(command="rm"), "wrong at command"),
    "field of wrong type": (edit(training__images="many"), "wrong at training.images"),
    "setting not finite": (edit(method__settings={"deep": [NAN]}), "wrong at method.settings.deep"),
    "version of 5 MB": (edit(schema_version="9" * 5_000_000), "its schema version is '9999"),
    "method of 5 MB": (edit(method__name="m" * 5_000_000), "wrong at method.name"),
    "key of 5 MB": (edit(**{"k" * 5_000_000: 1}), "wrong at kkk"),
    "threshold not finite": (edit(decision__threshold=NAN), "wrong at decision.threshold"),
    "rate above one": (edit(decision__false_alarm_rate=1.5), "wrong at decision.false_alarm_rate"),
    "threshold edited": (edit(decision__threshold=170.5), "does not follow from its calibration"),
    "rate edited": (edit(decision__false_alarm_rate=0.2), "does not follow from its calibration"),
    "rate out of reach": (edit(decision__false_alarm_rate=0.01), "threshold cannot be right"),
    "calibration count edited": (edit(calibration__images=18), "not as many as it says"),
    "map denied": (edit(map_size=None), "outputs are not score, p_value, nearest$"),
    "digest edited": (edit(graph_sha256="0" * 64), "damaged or was edited"),
    "weight edited": (edited_weight, "damaged or was edited"),
    "opset edited": (edited_opset, "damaged or was edited"),
    "calibration edited": (calibration(np.float32([*STEPS[:-1], 191])), "damaged or was edited"),
    "external data": (hostile(external), "data in another file"),
    "external data in a node": (hostile(external_in_attribute), "data in another file"),
    "custom domain": (hostile(custom_domain), r"operators of its own \(evil.example\)"),
    "custom operator": (hostile(custom_node), "operator evil.example.* of its own"),
    "custom operator in a branch": (hostile(custom_node_in_a_branch), "operator evil.example.Run of its own"),
    "functions": (hostile(functions), r"operators of its own \(functions\)"),
    "sparse constants": (hostile(sparse), "sparse constants"),
    "training graph": (hostile(training_info), "training graphs"),
    "other input": (hostile(other_input), "input is not one image"),
    "second input": (hostile(second_input), "input is not one image"),
    "outputs in another order": (hostile(output_order), "outputs are not score, p_value, anomaly_map"),
    "no outputs": (hostile(no_output), "outputs are not"),
    "no calibration": (hostile(no_calibration), "calibration scores are missing"),
    "calibration NaN": (hostile(calibration(np.float32([*STEPS[:-1], NAN]))), "not finite and ascending"),
    "calibration infinite": (hostile(calibration(np.float32([*STEPS[:-1], np.inf]))), "not finite and ascending"),
    "calibration descending": (hostile(calibration(np.float32(STEPS[::-1]))), "not finite and ascending"),
    "calibration a table": (hostile(calibration(np.float32([STEPS]))), "calibration scores are missing"),
    "calibration malformed": (hostile(malformed_calibration), "calibration"),
    "calibration text": (hostile(text_calibration), "calibration"),
    "calibration of no type": (hostile(calibration_of_no_type), "calibration"),
    "external data in a sparse constant": (hostile(external_in_sparse_attribute), "refused"),
    "map of another size": (other_map, "map"),
    "field name of two lines": (edit(**{"command\nline": 1}), "wrong at"),
}


def classes_of_calibration(values, kind=np.int64):
    def change(proto):
        constant(proto, CLASSES).CopyFrom(numpy_helper.from_array(np.array(values, kind), CLASSES))

    return change


def another_class_first(proto):
    classes = TAKEN.copy()
    classes[[0, 1]] = classes[[1, 0]]
    classes_of_calibration(classes)(proto)


def renamed_constant(name):
    def change(proto):
        constant(proto, name).name = "other"

    return change


def malformed_classes(proto):
    constant(proto, CLASSES).dims[0] = 5  # of 19


def in_schema_2(proto):
    edit(schema_version=2, classes=...)(proto)


def with_classes_hidden(proto):
    """Schema 2, whose outputs tell of no classes, and whose p-values are by class all the same."""

    def change(spoiled):
        for value in [value for value in spoiled.graph.output if value.name.startswith("class_")]:
            spoiled.graph.output.remove(value)

    hostile(change)(proto)
    in_schema_2(proto)


FEW, OTHER = "as many classes as it names", "do not follow from its calibration scores"
SPOILED_CLASSES = {
    "classes with schema 2": (edit(schema_version=2), fields_of(3)),
    "classes denied": (in_schema_2, "outputs are not score, p_value, nearest$"),
    "classes hidden": (with_classes_hidden, "its calibration images have classes, and it knows none"),
    "classes as text": (edit(classes="red"), "wrong at classes"),
    "one name": (edit(classes__names=["red"]), "wrong at classes.names"),
    "names too few": (edit(classes__names=["red", "green"], classes__thresholds=[160.0, 140.0]), FEW),
    "names too many": (edit(classes__names=[*"rgbx"], classes__thresholds=[160.0, 140.0, 150.0, 1.0]), FEW),
    "names alike": (edit(classes__names=["red", "red", "blue"]), "wrong: two classes share a name"),
    "a name that is none": (edit(classes__names=["red", None, "blue"]), "wrong at classes.names.1"),
    "temperature zero": (edit(classes__temperature=0.0), "wrong at classes.temperature"),
    "temperature infinite": (edit(classes__temperature=float("inf")), "wrong at classes.temperature"),
    "a threshold for each too few": (edit(classes__thresholds=[160.0, 140.0]), "not as many thresholds as classes"),
    "a threshold for each edited": (edit(classes__thresholds=[160.0, 140.0, 150.5]), OTHER),
    "thresholds exchanged": (edit(classes__thresholds=[140.0, 160.0, 150.0]), OTHER),
    "thresholds not finite": (edit(classes__thresholds=[160.0, 140.0, NAN]), "wrong at classes.thresholds.2"),
    "thresholds denied": (edit(classes__thresholds=None), OTHER),
    "thresholds beside one by hand": (edit(decision__false_alarm_rate=None), OTHER),
    "rate out of a class's reach": (
        edit(decision__false_alarm_rate=0.1, decision__threshold=180.0),
        "thresholds cannot be right.* were predicted as green",
    ),
    "calibration classes edited": (another_class_first, "damaged or was edited"),
    "calibration classes out of range": (hostile(classes_of_calibration(TAKEN + 1)), "calibration images do not"),
    "calibration classes below zero": (hostile(classes_of_calibration(TAKEN - 1)), "calibration images do not"),
    "calibration classes too few": (hostile(classes_of_calibration(TAKEN[1:])), "calibration images do not"),
    "calibration classes a table": (hostile(classes_of_calibration(TAKEN[None])), "calibration images do not"),
    "calibration classes of another type": (hostile(classes_of_calibration(TAKEN, np.int32)), "are damaged"),
    "calibration classes malformed": (hostile(malformed_classes), "are damaged"),
    "calibration classes hidden": (hostile(renamed_constant(CLASSES)), OTHER),
    "no head": (hostile(renamed_constant(BIAS)), FEW),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "spoil", "message"),
    [
        pytest.param(make, *case, id=kind)
        for make, cases in ((tiny_proto, SPOILED), (tiny_class_proto, SPOILED_CLASSES))
        for kind, case in cases.items()
    ],
)
def test_spoiled_models_are_refused(tmp_path, make, spoil, message):
    proto = make()
    spoil(proto)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    refused(path, message)


def test_thresholds_for_each_class_take_a_calibration_of_each(tmp_path):
    proto = tiny_class_proto(by_class=False)
    edit(classes__thresholds=[140.0] * 3)(proto)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    refused(path, OTHER)
    edit(classes__thresholds=None)(proto)
    path.write_bytes(proto.SerializeToString())
    assert not oddsight.load(path).by_class


def test_a_class_that_is_not_there_is_an_error():
    proto = tiny_class_proto(by_class=False)

    def one_further(spoiled):
        node = next(node for node in spoiled.graph.node if "class_index" in node.output)
        node.output[0] = "least"
        spoiled.graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "further"))
        at = list(spoiled.graph.node).index(node) + 1
        added = onnx.helper.make_node("Add", ["least", "further"], ["class_index"])
        later = [onnx.NodeProto.FromString(one.SerializeToString()) for one in spoiled.graph.node[at:]]
        del spoiled.graph.node[at:]
        spoiled.graph.node.extend([added, *later])

    hostile(one_further)(proto)
    model = Model.from_bytes(proto.SerializeToString())
    assert model.predict(np.full((1, 1, 3), (255, 0, 0), np.uint8)).label == "green"
    with pytest.raises(ImageError, match="gave class 3, but there are 3"):
        model.predict(np.full((1, 1, 3), (0, 0, 255), np.uint8))


def test_a_graph_that_onnxruntime_refuses_is_an_error_when_it_is_run(tmp_path):
    proto = tiny_proto()

    def unknown_operator(spoiled):
        spoiled.graph.node[0].op_type = "Explode"

    hostile(unknown_operator)(proto)
    model = Model.from_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="ONNX Runtime refuses the graph"):
        model.predict(IMAGE)


def test_a_nearest_image_that_is_not_there_is_an_error():
    proto = tiny_proto()
    edit(explanation__normals="ERERERERERE=")(proto)  # one, where the graph counts three
    model = Model.from_bytes(proto.SerializeToString())
    assert model.predict(np.full((1, 1, 3), (255, 0, 0), np.uint8)).nearest == NORMALS[0]
    with pytest.raises(ImageError, match="nearest"):
        model.predict(np.full((1, 1, 3), (0, 0, 255), np.uint8))


def test_other_onnx_models_are_refused(tmp_path):
    path = tmp_path / "other.onnx"
    onnx.save(chain([piece("p (float[N] a) => (float[N] b) { b = Abs (a) }")], ["b"]), path)
    refused(path, "not an Oddsight model")
    onnx.save(calibrating(CALIBRATION), path)
    refused(path, "not an Oddsight model")


def test_a_threshold_set_by_hand_needs_no_calibration_behind_it():
    by_hand = tiny_model().with_decision(threshold=12.5)
    assert (by_hand.decision.threshold, by_hand.decision.false_alarm_rate) == (12.5, None)
    back = by_hand.with_decision(false_alarm_rate=0.1)
    assert back.to_bytes() == tiny_model().to_bytes()


# Any change of bytes gives the same behaviour or an error, and never anything else.


def behaviour(model):
    result = model.predict(IMAGE)
    # Names are what the metadata say, which nothing else in the file could tell from other names.
    label = result.label and (model.classes.index(result.label), result.label_probability)
    scored = result.score, result.p_value, result.threshold, label
    return scored, result.map is None or result.map.tobytes(), result.voices


def same_or_refused(content, expected):
    try:
        found = behaviour(Model.from_bytes(content))
    except (ModelError, ImageError) as error:
        assert str(error).isprintable()
    else:
        assert found == expected


@st.composite
def changes(draw):
    """Places as shares of the file's length, and what happens there."""
    one = st.tuples(
        st.floats(0, 1),
        st.one_of(
            st.tuples(st.just("flip"), st.integers(0, 7)),
            st.tuples(st.just("set"), st.integers(0, 255)),
            st.tuples(st.just("insert"), st.binary(min_size=1, max_size=9)),
            st.tuples(st.just("delete"), st.integers(1, 9)),
            st.tuples(st.just("cut"), st.just(0)),
        ),
    )
    return draw(st.lists(one, min_size=1, max_size=3))


def changed(content, made):
    data = bytearray(content)
    for share, (what, how) in made:
        at = min(int(share * len(data)), len(data) - 1)
        if what == "flip":
            data[at] ^= 1 << how
        elif what == "set":
            data[at] = how
        elif what == "insert":
            data[at:at] = how
        elif what == "delete":
            del data[at : at + how]
        else:
            del data[at:]
        if not data:
            break
    return bytes(data)


TINY = [path.read_bytes() for path in (KEPT, KEPT_CLASSES)]
TINY_BEHAVIOUR = [behaviour(Model.from_bytes(content)) for content in TINY]


@pytest.mark.slow
@given(st.integers(0, 1), changes())
@settings(max_examples=600)
def test_changed_bytes_give_the_same_model_or_an_error(which, made):
    same_or_refused(changed(TINY[which], made), TINY_BEHAVIOUR[which])


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["schema 2", "schema 3"])
def test_every_single_byte_matters_or_does_no_harm(which):
    content = TINY[which]
    for at in range(0, len(content), 3):
        same_or_refused(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :], TINY_BEHAVIOUR[which])


@pytest.fixture(scope="module")
def real(normal_folder):
    model = oddsight.fit(normal_folder, method="knn", size=SIZE, false_alarm_rate=0.05)
    return model.to_bytes(), behaviour(model)


@pytest.mark.slow
@given(made=changes())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes_of_a_real_model_give_the_same_model_or_an_error(real, made):
    content, expected = real
    same_or_refused(changed(content, made), expected)
