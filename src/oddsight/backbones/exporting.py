"""Feature networks in PyTorch, and their export as self-describing ONNX files."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from oddsight.backbones.catalogue import TIMM, Offer, offer
from oddsight.backbones.description import Description, default_layers, describe
from oddsight.backbones.folding import fold_constants, share_weights
from oddsight.backbones.network_shapes import activation_bytes
from oddsight.backbones.trunks import Trunk, lite_trunk, lite_weights, timm_trunk
from oddsight.errors import ModelError, OddsightError, first_line, plain
from oddsight.graphs.building import IR_VERSION, OPSET
from oddsight.runtime.files import check_writable, write_bytes
from oddsight.runtime.sessions import session

TOLERANCE = 1e-4  # How far an export may be from PyTorch, as a share of the largest absolute value of a stage


class TorchBackbone(nn.Module):
    """A feature network: pixels float32 ``[N, 3, S, S]``, 0 to 255, to the outputs of its stages.

    Its own normalisation is inside. It starts in evaluation mode.

    Attributes:
        name: What users call it.
        summary: One line on what it is.
        source: Where the weights come from, and their licence.
        paper: The paper it comes from.
        stages: Stride and channels of each stage, by name, from shallow to deep.
        layers: For what methods read, the stages that serve best by default.
        size: The default side of its input in pixels.
        multiple: What a side must be a multiple of.
        fixed: Whether it takes only ``size``.
        mirrored: Whether its answers, but not what it gives while it learns, are the mean of those to an image and to
            its mirror image, which takes twice as long.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, trunk: Trunk, *, name: str, summary: str, source: str, paper: str) -> None:
        super().__init__()
        self.name, self.summary, self.source, self.paper = name, summary, source, paper
        self.size, self.fixed, self.mirrored = trunk.size, trunk.fixed, False
        self.multiple = trunk.size if trunk.fixed else max(trunk.strides)
        if trunk.size % self.multiple:
            self.multiple = 1
        self.register_buffer("mean", torch.tensor(trunk.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(trunk.std).reshape(1, 3, 1, 1), persistent=False)
        self.trunk = trunk.module
        self._names = trunk.names
        self.eval()
        channels, self._parameters_by_stage = self._explore()
        self.stages = dict(zip(self._names, zip(trunk.strides, channels, strict=True), strict=True))
        self.layers = default_layers(self.stages)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of the stages by name, from shallow to deep: float32 ``[N, C, h, w]`` each."""
        images = (pixels - self.mean) / self.std
        outputs = self.trunk(images)
        if self.mirrored and not self.training:
            others = self.trunk(images.flip(3))
            outputs = [(one + other.flip(3)) / 2 for one, other in zip(outputs, others, strict=True)]
        return dict(zip(self._names, outputs, strict=True))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Means over the deepest stage ``[N, C]``, with the channels of pixels last, as :meth:`forward` takes them."""
        *_, deepest = self(pixels.contiguous(memory_format=torch.channels_last)).values()
        means: torch.Tensor = deepest.mean((2, 3))
        return means

    def parameters_by_stage(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of the trunk by the first stage that depends on them, from shallow to deep.

        Those that no stage depends on, such as a classifier's, are left out.
        """
        parameters = dict(self.named_parameters())
        return {stage: [parameters[name] for name in names] for stage, names in self._parameters_by_stage.items()}

    def needed_state(self) -> set[str]:
        """Names in the trunk's ``state_dict`` of all that the stages depend on."""
        trained = {name.removeprefix("trunk.") for names in self._parameters_by_stage.values() for name in names}
        owners = {name.rpartition(".")[0] for name in trained}
        buffers = {name for name, _ in self.trunk.named_buffers() if name.rpartition(".")[0] in owners}
        counters = {name for name in buffers if name.endswith("num_batches_tracked")}
        return trained | (buffers & set(self.trunk.state_dict())) - counters

    def _explore(self) -> tuple[list[int], dict[str, list[str]]]:
        """Channels of the stages, and names of the parameters that each adds to those before it."""
        with torch.enable_grad():
            outputs = self(torch.zeros(1, 3, self.size, self.size))
        if any(output.ndim != 4 for output in outputs.values()):
            raise OddsightError(f"{self.name} gives no feature maps, so it cannot be a backbone")
        # Some networks remember parts of a run in evaluation mode until they are trained again.
        self.train().eval()
        names = {parameter: name for name, parameter in self.named_parameters()}
        known: set[Any] = set()
        found: dict[str, list[str]] = {}
        for stage, output in outputs.items():
            added = _leaves(output.grad_fn, known)
            found[stage] = [name for parameter, name in names.items() if parameter in added]
        return [output.shape[1] for output in outputs.values()], found


def _leaves(node: object, known: set[Any]) -> set[Any]:
    """The parameters that a result was computed from, on paths through autograd's graph not ``known`` yet."""
    leaves: set[Any] = set()
    waiting: list[Any] = [node]
    while waiting:
        step = waiting.pop()
        if step is None or step in known:
            continue
        known.add(step)
        if hasattr(step, "variable"):
            leaves.add(step.variable)
        waiting.extend(following for following, _ in step.next_functions)
    return leaves


def torch_backbone(
    name: str, *, weights: Path | None = None, pretrained: bool = True, size: int | None = None
) -> TorchBackbone:
    """A feature network in PyTorch.

    Args:
        name: Of the catalogue (:data:`oddsight.backbones.catalogue.CATALOGUE`), or ``timm:NAME``.
        weights: A ``.safetensors`` or ``.pth`` file with the weights; nothing in it is run.
        pretrained: Without a file, whether to take the weights that the name stands for. Otherwise they are random.
        size: Side of the input in pixels for a network that takes only one size, such as a vision transformer.

    Raises:
        OddsightError: If there is no such network, or its weights cannot be had or do not fit.
    """
    offered = offer(name)
    trunk_weights = weights
    if offered.lite is not None:
        trunk = lite_trunk(offered.lite)
        trunk_weights = weights or (lite_weights(offered.lite) if pretrained else None)
    else:
        fetched = pretrained and weights is None
        trunk = timm_trunk(offered.timm, pretrained=fetched, size=size, names=offered.stages)
    if size is not None and not trunk.fixed:
        raise OddsightError(f"{name} takes images of many sizes: give the size to 'fit'")
    source = _source(offered, trunk, weights, pretrained)
    network = TorchBackbone(trunk, name=name, summary=offered.summary, source=source, paper=offered.paper)
    if trunk_weights is not None:
        _load(network, trunk_weights)
    return network


def _source(offered: Offer, trunk: Trunk, weights: Path | None, pretrained: bool) -> str:
    if weights is not None:
        return f"weights from the file {plain(weights.name)}"
    if not pretrained:
        return "random weights"
    return offered.source if not offered.name.startswith(TIMM) else f"{offered.source}; licence: {trunk.licence}"


def _load(network: TorchBackbone, path: Path) -> None:
    """Load weights, all that the stages need and nothing else."""
    state = _read_weights(path)
    inner = network.trunk.network
    needed = {name.removeprefix("network.") for name in network.needed_state()}
    own = inner.state_dict()
    missing = sorted(needed - state.keys())
    if missing:
        raise OddsightError(
            f"{path}: not the weights of {network.name}: {len(missing)} of {len(needed)} are missing, such as "
            f"{missing[0]}"
        )
    wrong = [name for name in sorted(needed) if tuple(state[name].shape) != tuple(own[name].shape)]
    if wrong:
        raise OddsightError(f"{path}: not the weights of {network.name}: {wrong[0]} has another shape")
    if not all(bool(torch.isfinite(state[name]).all()) for name in needed):
        raise OddsightError(f"{path}: holds weights that are not finite")
    inner.load_state_dict({name: state[name] for name in needed}, strict=False)


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    from timm.models import load_state_dict

    if not path.is_file():
        raise OddsightError(f"{path}: no such file")
    try:
        state = load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # torch, pickle, zipfile and safetensors raise what they like on damaged files
        raise OddsightError(
            f"{path}: not a file of weights: it must be .safetensors, or .pth with tensors only"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise OddsightError(f"{path}: not a file of weights: it must hold tensors by name")
    return state


def export(network: TorchBackbone, path: Path) -> None:
    """Write a network as one self-describing ONNX file, all at once or not at all.

    Its input is ``pixels`` float32 ``[N, 3, S, S]``, 0 to 255; its outputs are the stages. ``N`` is dynamic, and so is
    ``S`` unless the network is ``fixed`` or turns out to have its size built in. The file is compared with the network
    on noise and on a smooth image, and is not kept if a stage differs by more than :data:`TOLERANCE` of its maximum.

    Raises:
        ModelError: If it cannot be exported, or the export disagrees.
        OddsightError: If the file cannot be written.
    """
    check_writable(path)
    # A copy, so that neither mode nor device of the caller's network change.
    network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    proto, fixed = None, network.fixed
    if not fixed:
        proto = _converted(network, fixed=False)
        other = max(network.multiple, 3 * network.size // 4 // network.multiple * network.multiple)
        fixed = _difference(network, proto, other) > TOLERANCE
    if fixed or proto is None:
        proto = _converted(network, fixed=True)
    difference = _difference(network, proto, network.size)
    if not difference <= TOLERANCE:
        raise ModelError(f"{network.name} cannot be exported: in ONNX Runtime it differs by {difference:.1g}")
    described = Description(
        name=network.name,
        summary=network.summary,
        source=network.source,
        paper=network.paper,
        stages=network.stages,
        layers=network.layers,
        size=network.size,
        multiple=network.size if fixed else network.multiple,
        fixed=fixed,
        activations=activation_bytes(proto, network.size),
        graph_sha256="0" * 64,
    )
    describe(proto, described)
    write_bytes(path, proto.SerializeToString(deterministic=True))


def graph_of(
    module: nn.Module, name: str, inputs: Mapping[str, tuple[int, ...]], outputs: Sequence[str]
) -> onnx.ModelProto:
    """A module as a graph, verified on noise: the same numbers in ONNX Runtime as in PyTorch, in a batch and alone.

    The module, in evaluation mode, returns a tensor or a tuple of them. Inputs are float32 with values 0 to 255; their
    shapes, by name, lack the batch.
    """
    lots = torch.Generator().manual_seed(0)
    example = [torch.rand((2, *shape), generator=lots) * 255 for shape in inputs.values()]
    axes = {one: {0: "N"} for one in (*inputs, *outputs)}
    proto = _exported(module, name, example, outputs, axes, list(inputs))
    with torch.no_grad():
        expected = module(*example)
    expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
    graph, float32, info = proto.graph, onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph.name = name
    graph.input.extend(info(one, float32, ["N", *shape]) for one, shape in inputs.items())
    graph.output.extend(
        info(one, float32, ["N", *value.shape[1:]]) for one, value in zip(outputs, expected, strict=True)
    )
    loaded = session(proto.SerializeToString(), threads=1)
    for rows in (slice(0, 2), slice(1, 2)):
        found = loaded.run(None, {one: value[rows].numpy() for one, value in zip(inputs, example, strict=True)})
        for ours, theirs in zip(found, expected, strict=True):
            close = float(theirs.abs().max()) * TOLERANCE + 1e-7
            if not np.allclose(ours, theirs[rows].numpy(), rtol=1e-3, atol=close):
                raise ModelError(f"{name} cannot be exported to ONNX: its outputs would differ")
    return proto


def _exported(
    module: nn.Module,
    name: str,
    example: list[torch.Tensor],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    inputs: Sequence[str] = ("pixels",),
) -> onnx.ModelProto:
    """A module as a graph without traces of where it was made, and as yet without ends."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                tuple(example),
                file,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # the exporter raises what it likes
            raise ModelError(f"{name} cannot be exported to ONNX: {first_line(error)}") from error
    proto = onnx.load_model_from_string(file.getvalue())
    fold_constants(proto)
    share_weights(proto)
    proto.producer_name, proto.producer_version, proto.ir_version = "oddsight", "", IR_VERSION
    proto.graph.doc_string = ""
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del proto.graph.value_info[:], proto.graph.input[:], proto.graph.output[:]
    return proto


class _Tuple(nn.Module):
    """A network whose outputs are a tuple, as the exporter wants them."""

    def __init__(self, network: TorchBackbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.network(pixels).values())


def _converted(network: TorchBackbone, *, fixed: bool) -> onnx.ModelProto:
    """The network as an ONNX graph, not yet verified."""
    names, size = list(network.stages), network.size
    axes = {name: {0: "N"} if fixed else {0: "N", 2: f"h_{name}", 3: f"w_{name}"} for name in names}
    axes["pixels"] = {0: "N"} if fixed else {0: "N", 2: "H", 3: "W"}
    proto = _exported(_Tuple(network).eval(), network.name, [torch.rand(2, 3, size, size) * 255], names, axes)
    graph = proto.graph
    graph.name = "backbone"
    side: list[int | str] = [network.size] * 2 if fixed else ["H", "W"]
    float32, info = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph.input.append(info("pixels", float32, ["N", 3, *side]))
    graph.output.extend(
        info(name, float32, ["N", channels, f"h_{name}", f"w_{name}"]) for name, (_, channels) in network.stages.items()
    )
    return proto


def _difference(network: TorchBackbone, proto: onnx.ModelProto, size: int) -> float:
    """The largest difference between a network and its export, as a share of a stage's largest value."""
    pixels = _images(size)
    try:
        outputs = session(proto.SerializeToString(), threads=1).run(None, {"pixels": pixels})
    except Exception:  # ONNX Runtime's exceptions share no public base class
        return float("inf")
    worst = 0.0
    with torch.no_grad():
        expected = [value.numpy() for value in network(torch.from_numpy(pixels)).values()]
    for ours, theirs in zip(outputs, expected, strict=True):
        if ours.shape != theirs.shape or not np.isfinite(theirs).all():
            return float("inf")
        worst = max(worst, float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12)))
    return float("inf") if np.isnan(worst) else worst


def _images(size: int) -> NDArray[np.float32]:
    """Noise, and a smooth image with an edge, float32 ``[2, 3, size, size]``."""
    noise = np.random.default_rng(0).integers(0, 256, (3, size, size))
    y, x = np.mgrid[:size, :size] / size
    waves = [127 + 100 * np.sin(9 * x + turn) * np.cos(7 * y) + 25 * (x > 0.6) for turn in range(3)]
    return np.stack([noise, np.clip(waves, 0, 255)]).astype(np.float32)
