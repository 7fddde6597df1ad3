"""export: the converted file has its own digest and calibration, and differs from the original within stated limits."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import oddsight
from cli_files import assert_failed, run
from oddsight.errors import DataError, ModelError, OddsightError
from oddsight.fitting import exporting
from oddsight.graphs.building import piece
from oddsight.graphs.precision import store_int8
from oddsight.runtime.sessions import session
from textures import texture, write_textures
from tiny_model import CLASSES, tiny_class_model, tiny_model

pytestmark = pytest.mark.slow

SIDE = 48
OLD = Path(__file__).parents[1] / "files" / "model-schema-1.onnx"
openvino_needed = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders: fitted (40 images), fresh (24 others), mixed (16, of which 4 have a blot)."""
    root = tmp_path_factory.mktemp("exporting")
    write_textures(root / "fitted", range(40), width=SIDE, height=SIDE)
    write_textures(root / "fresh", range(100, 124), width=SIDE, height=SIDE)
    write_textures(root / "mixed", range(200, 212), width=SIDE, height=SIDE)
    write_textures(root / "mixed", range(300, 304), width=SIDE, height=SIDE, blot=True)
    return root


@pytest.fixture(scope="module")
def model(world):
    return oddsight.fit(
        world / "fitted",
        method="patchcore",
        size=64,
        false_alarm_rate=0.1,
        calibration_fraction=0.5,
        groups="none",
    )


@pytest.fixture(scope="module")
def half(model, world):
    return oddsight.export(model, "fp16", world / "mixed")


@pytest.fixture(scope="module")
def small(model, world):
    return oddsight.export(model, "int8", world / "mixed", recalibrate=world / "fresh", groups="none", limit=1)


def files(folder):
    return sorted(folder.iterdir())


def scores(model, paths):
    return np.array([model.predict(path).score for path in paths], np.float32)


# The converted file.


def test_half_precision_halves_the_file_and_changes_no_decision(model, half, world):
    assert half.parity.images == 16
    assert half.parity.changed == 0
    assert half.parity.relative_difference < 0.05
    before, after = half.parity.bytes
    assert (before, after) == (len(model.to_bytes()), len(half.model.to_bytes()))
    assert after < 0.6 * before
    differences = np.abs(scores(half.model, files(world / "mixed")) - scores(model, files(world / "mixed")))
    assert half.parity.largest_difference == pytest.approx(differences.max(), rel=1e-3)
    assert half.parity.median_difference == pytest.approx(np.median(differences), rel=1e-3)


def test_a_converted_file_is_a_model_file(half, model, world, tmp_path):
    half.model.save(tmp_path / "half.onnx")
    loaded = oddsight.load(tmp_path / "half.onnx")
    conversion = loaded.metadata.conversion
    assert loaded.metadata.schema_version == 7
    assert (conversion.to, conversion.images, conversion.changed) == ("fp16", 16, 0)
    assert conversion.source_sha256 == model.metadata.graph_sha256 != loaded.metadata.graph_sha256
    levels, raised = model.metadata.pixels, conversion.raised
    assert loaded.metadata.pixels.median == pytest.approx(levels.median + raised)
    assert loaded.metadata.pixels.high == pytest.approx(levels.high + raised)
    assert loaded.decision.false_alarm_rate == model.decision.false_alarm_rate
    image = texture(999, 50, 40)
    plain = session((tmp_path / "half.onnx").read_bytes(), threads=1).run(["score"], {"image": image[None]})
    assert loaded.predict(image).score == plain[0][0]
    assert loaded.with_decision(false_alarm_rate=0.2).metadata.conversion == conversion
    assert oddsight.evaluate(loaded, normal=world / "fresh", anomalous=world / "mixed").counts["normal"] == 24


def test_calibration_scores_are_raised_by_the_largest_rise(model, half, world):
    before, after = (scores(one, files(world / "mixed")) for one in (model, half.model))
    passed = before <= model.decision.threshold
    raised = half.model.metadata.conversion.raised
    assert raised == pytest.approx(max(0, (after - before)[passed].max()), abs=1e-5)
    np.testing.assert_allclose(half.model.calibration_scores, model.calibration_scores + raised, rtol=1e-6)
    assert half.model.metadata.calibration == model.metadata.calibration


def test_recalibration_measures_the_scores_of_the_converted_model(small, world):
    assert small.model.metadata.conversion.raised is None
    assert small.model.metadata.calibration.model_dump() == {"kind": "split", "images": 24, "folds": 1, "groups": None}
    expected = np.sort(scores(small.model, files(world / "fresh")))
    np.testing.assert_allclose(small.model.calibration_scores, expected, rtol=1e-5)


def test_recalibration_on_the_images_of_the_fit_uses_those_that_were_kept_out(model, world):
    again = oddsight.export(model, "fp16", world / "mixed", recalibrate=world / "fitted", groups="none").model
    assert again.metadata.calibration == model.metadata.calibration
    np.testing.assert_allclose(again.calibration_scores, model.calibration_scores, rtol=5e-3)


def test_only_the_backbone_computes_with_integers(small):
    proto = onnx.load_model_from_string(small.model.to_bytes())
    quantized = [node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized) >= 10
    assert all("/efficientnet-lite0/" in name or name.split("/")[-1].startswith("stage") for name in quantized)
    assert {entry.domain for entry in proto.opset_import} == {""}
    banks = [tensor for tensor in proto.graph.initializer if "patchcore/bank_" in tensor.name]
    assert {tensor.data_type for tensor in banks} == {onnx.TensorProto.FLOAT}
    assert small.parity.images == 8  # the others showed the ranges of values


def test_weights_of_eight_bits_are_a_smaller_file_that_computes_in_float(model, half, world):
    eight = oddsight.export(model, "int8-weights", world / "mixed")
    assert eight.parity.changed == 0
    assert eight.parity.relative_difference < 0.2
    assert eight.parity.bytes[1] < 0.7 * half.parity.bytes[1]
    assert eight.model.metadata.conversion.to == "int8-weights"
    proto = onnx.load_model_from_string(eight.model.to_bytes())
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in proto.graph.node}
    stored = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    assert any("patchcore/bank_" in name for name in stored)
    assert all(np.abs(numpy_helper.to_array(tensor)).max() == 127 for tensor in stored.values())
    depthwise = [
        node.input[1] for node in proto.graph.node if any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]
    assert depthwise
    assert not any(f"{name}/int8" in stored for name in depthwise)


def test_channels_without_weights_stay_without():
    proto = piece(
        "g (float[N, 256, 5, 5] pixels) => (float[N, 2, 1, 1] x) { x = Conv (pixels, weights) }",
        {"weights": np.stack([np.zeros((256, 5, 5)), np.full((256, 5, 5), 2.54)]).astype(np.float32)},
    )
    store_int8(proto)
    assert onnx.TensorProto.INT8 in {tensor.data_type for tensor in proto.graph.initializer}
    found = session(proto.SerializeToString(), threads=1).run(None, {"pixels": np.ones((1, 256, 5, 5), np.float32)})[0]
    np.testing.assert_allclose(found.ravel(), [0, 256 * 25 * 2.54], rtol=1e-5)


def test_classes_keep_their_own_calibration(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = np.clip(rng.normal(60, 20, (9, 9, 3)), 0, 255)
        pixels[..., number % 3] += 90
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    options = {"recalibrate": tmp_path, "groups": "none", "limit": 1}
    model = oddsight.export(tiny_class_model(rate=0.3), "fp16", tmp_path, **options).model
    assert model.by_class
    assert len(model.calibration_scores) == 40
    assert np.bincount(model.calibration_classes).tolist() == [14, 13, 13]
    assert len(model.metadata.classes.thresholds) == len(CLASSES)
    kept = oddsight.export(tiny_class_model(rate=0.3), "fp16", tmp_path).model
    assert kept.metadata.classes == tiny_class_model(rate=0.3).metadata.classes


def test_a_threshold_set_by_hand_stays(world):
    model = tiny_model().with_decision(threshold=100)
    assert oddsight.export(model, "fp16", world / "mixed").model.decision == model.decision


# What is refused.


def brighter(proto):
    """A conversion that goes wrong: every score grows by half."""
    for tensor in proto.graph.initializer:
        if tensor.name.endswith("/sign"):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(np.array(1.5, np.float32), name))


def test_differences_beyond_a_limit_are_refused(world, monkeypatch):
    monkeypatch.setattr(exporting, "store_half", brighter)
    with pytest.raises(OddsightError, match=r"half of the scores differ by .* and the limit is 0\.5: .*--score-limit"):
        oddsight.export(tiny_model(), "fp16", world / "mixed", limit=1)
    with pytest.raises(OddsightError, match=r"decides otherwise on \d+ of 16 images, and the limit is 5%: .*--limit"):
        oddsight.export(tiny_model().with_decision(threshold=170), "fp16", world / "mixed")
    assert oddsight.export(tiny_model(), "fp16", world / "mixed", limit=1, score_limit=100).parity.images == 16


def test_what_cannot_be_exported(model, half, world):
    with pytest.raises(OddsightError, match="exported to int8, int8-weights, fp16, openvino, not to 'int4'"):
        oddsight.export(model, "int4", world / "mixed")
    with pytest.raises(OddsightError, match="already converted to fp16: export the model that it was made of"):
        oddsight.export(half.model, "int8", world / "mixed")
    with pytest.raises(OddsightError, match="schema 1 cannot be converted: fit the model again"):
        oddsight.export(oddsight.load(OLD), "fp16", world / "mixed")
    with pytest.raises(ModelError, match="no backbone that could be quantized: export it to fp16 or openvino"):
        oddsight.export(tiny_model(), "int8", world / "mixed")
    with pytest.raises(DataError, match="3 distinct images to compare, and at least 8 are needed"):
        oddsight.export(model, "fp16", files(world / "mixed")[:3])
    with pytest.raises(OddsightError, match="the limit of changed decisions must be at least 0, not -1"):
        oddsight.export(model, "fp16", world / "mixed", limit=-1)


def test_images_that_were_fitted_are_no_calibration(model, world):
    with pytest.raises(DataError, match=r"10 of 10 images to recalibrate on were used to fit .*give normal images"):
        oddsight.export(model, "fp16", world / "mixed", recalibrate=files(world / "fitted")[:10])
    with pytest.raises(DataError, match="needs at least 9 calibration images, and there are 4"):
        oddsight.export(model, "fp16", world / "mixed", recalibrate=files(world / "fresh")[:4], groups="none")
    with pytest.raises(DataError, match="int8 needs images besides those to recalibrate on"):
        oddsight.export(model, "int8", world / "fresh", recalibrate=world / "fresh")


# OpenVINO.


@pytest.mark.skipif(find_spec("openvino") is not None, reason="OpenVINO is installed")
def test_openvino_is_named_where_it_is_missing(model, world):
    with pytest.raises(OddsightError, match=r"OpenVINO is not installed: pip install 'oddsight\[openvino\]'"):
        oddsight.export(model, "openvino", world / "mixed")


_AT_ONCE = """
import os, sys, threading
import numpy as np
from oddsight.model.openvino import import_openvino

openvino = import_openvino()
values = openvino.opset11.parameter([1, 4], np.float32, name="x")
model = openvino.Model([openvino.opset11.relu(values)], [values])
compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
sys.setswitchinterval(1e-6)
ready = threading.Barrier(4)
ended = []

def infer():
    request = compiled.create_infer_request()
    ready.wait()
    request.infer({0: np.zeros((1, 4), np.float32)})
    ended.append(True)

threads = [threading.Thread(target=infer) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(ended), flush=True)
os._exit(0)
"""


@openvino_needed
def test_threads_that_are_the_first_to_infer_do_not_wait_for_each_other():
    """Without preparation about every second of these processes never ended."""
    for _ in range(3):
        command = [sys.executable, "-c", _AT_ONCE]
        outcome = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        assert (outcome.returncode, outcome.stdout) == (0, "4\n"), outcome.stderr


@openvino_needed
def test_openvino_scores_as_onnx_runtime_does(model, world, tmp_path):
    found = oddsight.export(model, "openvino", world / "mixed")
    assert found.parity.changed == 0
    assert found.parity.relative_difference < 0.05
    found.model.save(tmp_path / "model.xml")
    assert found.parity.bytes[1] == sum(path.stat().st_size for path in files(tmp_path))

    from oddsight.model.openvino import import_openvino

    core = import_openvino().Core()
    read = core.read_model(tmp_path / "model.xml")
    metadata = json.loads(read.get_rt_info(["oddsight"]).astype(str))
    assert metadata["conversion"]["to"] == "openvino"
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = texture(999, 90, 70)
    result = found.model.predict(image)
    assert compiled({"image": image[None]})["score"][0] == pytest.approx(result.score, rel=1e-4)
    assert result.score == pytest.approx(model.predict(image).score, rel=1e-2)


@openvino_needed
def test_openvino_sends_nothing():
    import sys

    from oddsight.model.openvino import import_openvino

    import_openvino()
    assert sys.modules["openvino_telemetry"] is None


# The command.


def test_the_command_writes_the_model_and_says_what_changed(model, world, tmp_path):
    model.save(tmp_path / "model.onnx")
    target, parity = tmp_path / "half.onnx", tmp_path / "parity.json"
    options = ("--images", world / "mixed", "--json", parity)
    outcome = run("export", tmp_path / "model.onnx", "--to", "fp16", "-o", target, *options)
    assert outcome.code == 0, outcome.err
    assert "0 of 16 decisions changed" in outcome.out
    assert "--recalibrate" in outcome.err
    assert json.loads(parity.read_text())["changed"] == 0
    described = run("info", target, "--json").json
    assert described["conversion"]["to"] == "fp16"
    assert "conversion" not in run("info", tmp_path / "model.onnx", "--json").json


def test_the_command_refuses_what_cannot_work(model, world, tmp_path):
    path = tmp_path / "model.onnx"
    model.save(path)
    options = ("--images", world / "mixed")
    assert_failed(run("export", path, "--to", "fp16", "-o", path, *options), "would replace an input")
    assert_failed(run("export", path, "--to", "openvino", "-o", tmp_path / "m.onnx", *options), "ends in .xml")
    assert_failed(
        run("export", path, "--to", "int4", "-o", tmp_path / "m.onnx", *options), "int8, int8-weights, fp16, openvino"
    )
