"""Feature networks in ONNX files: those that Oddsight exported, and plain ones of the user's own."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.compose
import onnx.version_converter
from numpy.typing import NDArray

from oddsight.backbones.description import Description, default_layers, read_description
from oddsight.backbones.network_shapes import activation_bytes
from oddsight.errors import ModelError, first_line, plain
from oddsight.graphs.building import IR_VERSION, OPSET, digest, pruned
from oddsight.graphs.preprocessing import Size, sides
from oddsight.model.file import check_safety, parse_proto, read_content
from oddsight.runtime.sessions import session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LARGEST_SIDE = 4096  # In pixels; a network with a larger input is refused

_SIDE = 224  # Where a plain network does not say its size

_RESERVED = {"image", "pixels", "patches", "embedding", "logits", "distances", "score", "p_value", "anomaly_map"}
"""Names by which the pieces of a model's graph are joined."""


@dataclass(frozen=True)
class NetworkFile:
    """A file of a feature network that passed every check."""

    described: Description  # What it says about itself, or what was found out by running it
    plain: bool  # Whether it says nothing, so that it must be brought to form by `adapted`
    sha256: str  # Of the file
    bytes: int  # Its size


def read_network(path: Path) -> NetworkFile:
    """Read and check the file of a feature network. A plain one is run on two small images to learn its stages.

    Raises:
        ModelError: In one sentence that names the file and what is wrong with it.
    """
    content = read_content(path)
    try:
        proto = _checked(content)
        described = read_description(proto)
        if described is None:
            found = _found_out(adapted(proto), path)
        else:
            _check_exported(proto)
            found = described
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return NetworkFile(found, described is None, hashlib.sha256(content).hexdigest(), len(content))


def _checked(content: bytes) -> onnx.ModelProto:
    proto = parse_proto(content)
    check_safety(proto)
    if {entry.domain for entry in proto.opset_import} - {"", "ai.onnx"}:
        raise ModelError("it uses operators for classical machine learning, so it is not a feature network")
    if len([entry for entry in proto.opset_import if entry.domain in {"", "ai.onnx"}]) != 1:
        raise ModelError("it does not say which version of the ONNX operators it uses")
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(f"not a valid ONNX graph: {first_line(error)}") from error
    return proto


def _check_exported(proto: onnx.ModelProto) -> None:
    """Refuse a file that says that Oddsight exported it and is not as Oddsight exports."""
    name, _ = _input_of(proto.graph)
    if name != "pixels" or [entry.version for entry in proto.opset_import] != [OPSET]:
        raise ModelError("its graph is not as Oddsight exports one")


def adapted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A plain network in the form that is chained: ``pixels`` to stages by name, for any number of images.

    The network given is used up.
    """
    source, side = _input_of(proto.graph)
    shape: list[int | str] = ["N", 3, side or "H", side or "W"]
    [version] = [entry.version for entry in proto.opset_import]
    if version != OPSET:
        try:
            proto = onnx.version_converter.convert_version(proto, OPSET)
        except Exception as error:  # the converter raises what it likes
            raise ModelError(
                f"it uses version {version} of the ONNX operators, which cannot be converted to {OPSET} "
                f"({first_line(error)}): export it with opset {OPSET}"
            ) from error
    outputs = [value.name for value in proto.graph.output if _may_be_map(value)]
    if not outputs:
        raise ModelError("none of its outputs is a feature map, float32 [N, C, h, w]")
    proto = onnx.compose.add_prefix(pruned(proto, outputs), "network/")
    graph = proto.graph
    graph.node.insert(0, onnx.helper.make_node("Identity", ["pixels"], [f"network/{source}"]))
    names = _stage_names(outputs)
    graph.node.extend(
        onnx.helper.make_node("Identity", [f"network/{old}"], [new]) for old, new in zip(outputs, names, strict=True)
    )
    del graph.value_info[:], graph.input[:], graph.output[:], proto.metadata_props[:]
    float32, info = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph.input.append(info("pixels", float32, shape))
    graph.output.extend(info(name, float32, ["N", f"c_{name}", f"h_{name}", f"w_{name}"]) for name in names)
    graph.name, proto.ir_version = "backbone", IR_VERSION
    return proto


def _input_of(graph: onnx.GraphProto) -> tuple[str, int | None]:
    """The name of a network's only input, and the side that it is fixed to, or None if it takes any."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    wanted = "a backbone takes one image, float32 [N, 3, S, S]"
    if len(inputs) != 1:
        raise ModelError(f"it has {len(inputs)} inputs, and {wanted}")
    tensor = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4 or dims[1] != 3 or dims[2] != dims[3]:
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        shape = ", ".join(str(dim or "?") for dim in dims)
        raise ModelError(f"its input is {kind} [{shape}], and {wanted}")
    if dims[2] > LARGEST_SIDE:
        raise ModelError(f"its input is {dims[2]:,} pixels a side, and {LARGEST_SIDE:,} is the most")
    return inputs[0].name, dims[2] or None


def _may_be_map(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.elem_type == onnx.TensorProto.FLOAT and (not tensor.HasField("shape") or len(tensor.shape.dim) == 4)


def _stage_names(outputs: list[str]) -> list[str]:
    """Names of stages after those of outputs: words that no other piece of a model's graph uses."""
    names: list[str] = []
    for output in outputs:
        name = re.sub(r"\W", "_", output, flags=re.ASCII)[:100]
        if not re.match("[A-Za-z_]", name) or name in _RESERVED:
            name = f"output_{name}"
        number, chosen = 2, name
        while chosen in names:
            number, chosen = number + 1, f"{name}_{number}"
        names.append(chosen)
    return names


def _found_out(proto: onnx.ModelProto, path: Path) -> Description:
    """Run a plain network to learn its stages, and to see that its results depend on the image alone."""
    side = proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    size = side or _SIDE
    loaded, images = session(proto.SerializeToString(), threads=1), _images(size)
    alone = [_run(loaded, images[i : i + 1], f"an image of {size} x {size} pixels") for i in (0, 1)]
    names = [value.name for value in proto.graph.output]
    maps = {name: output for name, output in zip(names, alone[0], strict=True) if np.ndim(output) == 4}
    if len(maps) < len(names):
        raise ModelError("some of its outputs are said to be feature maps [N, C, h, w], and are not")
    together = _run(loaded, images, "two images at once; export it with a dynamic batch axis")
    for name, first, second, both in zip(names, *alone, together, strict=True):
        if not np.isfinite(both).all():
            raise ModelError(f"its output {name} is not finite")
        apart = np.concatenate([first, second])
        if apart.shape != both.shape or np.abs(apart - both).max() > 1e-4 * max(np.abs(apart).max(), 1e-12):
            raise ModelError(f"its output {name} for an image depends on more than the image")
    stages = {name: (max(1, round(size / output.shape[2])), output.shape[1]) for name, output in maps.items()}
    ordered = dict(sorted(stages.items(), key=lambda stage: stage[1][0]))
    return Description(
        name=plain(path.stem),
        summary="a network of your own",
        source=f"the file {plain(path.name)}",
        paper="unknown",
        stages=ordered,
        layers=dict.fromkeys(default_layers(ordered), tuple(ordered)),
        size=size,
        multiple=size if side else 1,
        fixed=bool(side),
        activations=activation_bytes(proto, size),
        graph_sha256=digest(proto),
    )


def measured_shapes(proto: onnx.ModelProto, size: Size) -> dict[str, tuple[int, ...]]:
    """Shapes of the stages for one image of ``size`` pixels, by running the network.

    Raises:
        ModelError: If it cannot be run on such an image.
    """
    loaded = session(proto.SerializeToString(), threads=1)
    height, width = sides(size)
    outputs = _run(loaded, _images(size)[:1], f"an image of {width} x {height} pixels")
    names = [value.name for value in proto.graph.output]
    return {name: output.shape for name, output in zip(names, outputs, strict=True)}


def _run(loaded: InferenceSession, pixels: NDArray[np.float32], what: str) -> list[NDArray[np.float32]]:
    try:
        return list(loaded.run(None, {"pixels": pixels}))
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ModelError(f"it cannot be run on {what}: {first_line(error)}") from error


def _images(size: Size) -> NDArray[np.float32]:
    """Two images of noise, float32 ``[2, 3, height, width]``."""
    return np.random.default_rng(0).integers(0, 256, (2, 3, *sides(size))).astype(np.float32)
