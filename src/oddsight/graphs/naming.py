"""From logits to the name of a class."""

from __future__ import annotations

import numpy as np
import onnx

from oddsight.graphs.building import piece

BIAS = "head/bias"  # The name of the constant that holds a number for each class in a model file

TEMPERATURE = "naming/temperature"  # And of the one that divides the logits


def naming(classes: int, temperature: float) -> onnx.ModelProto:
    """``logits`` float32 ``[N, K]`` to ``class_index`` int64 ``[N]`` and its ``class_probability`` float32 ``[N]``.

    The temperature divides logits before the softmax (Guo et al., On calibration of modern neural networks, ICML
    2017).
    """
    return piece(
        f"""
        naming (float[N, {classes}] logits) => (int64[N] class_index, float[N] class_probability)
        <int64[1] last = {{1}}>
        {{
            class_index = ArgMax <axis = 1, keepdims = 0> (logits)
            scaled = Div (logits, temperature)
            probabilities = Softmax <axis = 1> (scaled)
            class_probability = ReduceMax <keepdims = 0> (probabilities, last)
        }}
        """,
        {"temperature": np.array(temperature, np.float32)},
    )


def head_classes(model: onnx.ModelProto, name: str = BIAS) -> int | None:
    """How many classes the head of a model has, or None if it has no head."""
    found = [tensor.dims for tensor in model.graph.initializer if tensor.name == name]
    return int(found[0][0]) if len(found) == 1 and len(found[0]) == 1 else None
