"""The examples in the documentation run and give the numbers that Oddsight gives."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from oddsight import detectors
from textures import texture
from tiny_model import tiny_class_model

ROOT = Path(__file__).parents[1]
NODE = Path(__file__).parent / "node"


def example(document: str, language: str) -> str:
    """The tested example of that language in a document."""
    text = (ROOT / document).read_text()
    return re.search(rf"<!-- tested: {language} -->\n```{language}\n(.*?)```", text, re.DOTALL).group(1)


@pytest.fixture(scope="module", params=["auto", "mahalanobis"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("normal")
    for number in range(30):
        Image.fromarray(texture(number, 64, 64)).save(folder / f"{number}.png")
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    oddsight.fit(folder, method=request.param, size=64).save(path)
    return path


def images(tmp_path):
    for number, (height, width) in enumerate([(48, 80), (131, 57), (1, 1)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(texture(100 + number, max(height, 2), max(width, 2))[:height, :width]).save(path)
        yield path


@pytest.mark.slow
def test_python_without_oddsight(model, tmp_path):
    script = tmp_path / "score.py"
    script.write_text(example("docs/model-format.md", "python"))
    for image in images(tmp_path):
        told = json.loads(subprocess.check_output([sys.executable, script, model, image], timeout=60))
        result = oddsight.load(model).predict(image)
        assert told["score"] == pytest.approx(result.score, rel=1e-5)
        assert told["p_value"] == pytest.approx(result.p_value, rel=1e-6)
        assert told["anomalous"] == result.anomalous
        assert told["nearest"] == result.nearest
        evidence = {voice.name: pytest.approx(voice.evidence, rel=1e-5, abs=1e-6) for voice in result.voices}
        assert told.get("evidence", {}) == evidence


@pytest.mark.slow
def test_python_without_oddsight_on_a_file_of_schema_1(tmp_path):
    script = tmp_path / "score.py"
    script.write_text(example("docs/model-format.md", "python"))
    kept = Path(__file__).parent / "files" / "model-schema-1.onnx"
    image = next(images(tmp_path))
    told = json.loads(subprocess.check_output([sys.executable, script, kept, image], timeout=60))
    result = oddsight.load(kept).predict(image)
    assert told == {"score": pytest.approx(result.score), "p_value": pytest.approx(result.p_value), "anomalous": False}
    assert not result.anomalous


@pytest.mark.slow
@pytest.mark.parametrize("by_class", [True, False])
def test_python_without_oddsight_on_a_model_that_knows_classes(by_class, tmp_path):
    model = tiny_class_model(by_class=by_class)
    model.save(tmp_path / "model.onnx")
    script = tmp_path / "score.py"
    script.write_text(example("docs/model-format.md", "python"))
    # The second is above the threshold for all, and not above that of its class.
    for number, colour in enumerate([(255, 0, 240), (100, 90, 245)]):
        image = tmp_path / f"{number}.png"
        Image.new("RGB", (4, 4), colour).save(image)
        told = json.loads(subprocess.check_output([sys.executable, script, tmp_path / "model.onnx", image], timeout=60))
        result = model.predict(image)
        assert told["score"] == pytest.approx(result.score, rel=1e-5)
        assert told["p_value"] == pytest.approx(result.p_value, rel=1e-6)
        assert (told["class"], told["anomalous"], told["nearest"]) == (result.label, result.anomalous, result.nearest)
        assert told["class_probability"] == pytest.approx(result.label_probability, rel=1e-5)
        assert result.anomalous == (number == 0 or not by_class)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
@pytest.mark.skipif(not (NODE / "node_modules" / "onnxruntime-web").is_dir(), reason="run 'npm ci' in tests/node")
def test_javascript(model, tmp_path):
    script = NODE / "node_modules" / "example.mjs"
    script.write_text(example("docs/model-format.md", "javascript"))
    # Not all: starting WebAssembly takes seconds.
    for image in list(images(tmp_path))[1:]:
        pixels = np.asarray(Image.open(image).convert("RGB"))
        raw = tmp_path / "pixels.rgb"
        raw.write_bytes(pixels.tobytes())
        command = ["node", script, model, raw, str(pixels.shape[0]), str(pixels.shape[1])]
        told = json.loads(subprocess.check_output(command, timeout=60))
        result = oddsight.load(model).predict(image)
        assert told["score"] == pytest.approx(result.score, rel=1e-5)
        assert told["p_value"] == pytest.approx(result.p_value, rel=1e-6)


@pytest.mark.slow
def test_the_method_of_the_contributing_guide_works(tmp_path, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = tmp_path / "nearest_mean.py"
    code.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        importlib.import_module("nearest_mean")
        folder = tmp_path / "normal"
        folder.mkdir()
        for number in range(12):
            Image.fromarray(texture(number, 32, 32)).save(folder / f"{number}.png")
        model = oddsight.fit(folder, method="nearest-mean", size=32)
        assert model.metadata.method.name == "nearest-mean"
        assert np.isfinite(model.predict(texture(99, 40, 30)).score)
    finally:
        detectors.METHODS.pop("nearest-mean", None)
        sys.modules.pop("nearest_mean", None)


@pytest.mark.parametrize(("kind", "page"), [("normal", "methods"), ("classes", "scores")])
def test_every_detector_is_described(kind, page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert [name for name in detectors.DETECTORS[kind] if f"`{name}`" not in text] == []
