"""The models in the repository: each loads, is the file that its card describes, and scores a committed image."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import oddsight

ROOT = Path(__file__).parent.parent
MODELS = sorted((ROOT / "examples").glob("*/*.onnx"))
IMAGE = min((ROOT / "examples" / "landsat-clouds" / "images").glob("*.png"))


def test_there_are_models():
    assert {path.stem for path in MODELS} == {"cifar10", "landsat", "satellite"}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_is_the_one_that_its_card_describes(path):
    card = (path.parent / "README.md").read_text("utf-8")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in re.findall("[0-9a-f]{64}", card)
    assert path.stat().st_size < 15e6
    for heading in ("Data", "How it was made", "Figures", "Limits", "Licence"):
        assert f"## {heading}" in card


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_scores_a_committed_image(path):
    model = oddsight.load(path)
    result = model.predict(IMAGE)
    assert 0 < result.p_value <= 1
    assert result.anomalous == (result.score > model.threshold_for(None))
    if model.classes:
        assert result.label in model.classes
        assert result.verdict == "none of these"  # A satellite scene is no animal and no vehicle
