"""What the ONNX file of a feature network says about itself: JSON under one key of its ``metadata_props``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import onnx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oddsight.errors import ModelError, plain
from oddsight.graphs.building import digest

KEY = "oddsight.backbone"

_Text = Annotated[str, Field(max_length=10_000)]
_Positive = Annotated[int, Field(ge=1, le=2**20)]
# Names of stages become names in graphs that are written as text.
_StageName = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]


class Description(BaseModel):
    """Everything that is known about a feature network; see :class:`oddsight.backbones.Backbone` for the fields.

    ``graph_sha256`` recognises a file that was edited or damaged after it was exported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    name: _Text
    summary: _Text
    source: _Text
    paper: _Text
    stages: Annotated[dict[_StageName, tuple[_Positive, _Positive]], Field(min_length=1)]
    layers: dict[_Text, Annotated[tuple[_StageName, ...], Field(min_length=1)]]
    size: _Positive
    multiple: _Positive
    fixed: bool
    activations: Annotated[int, Field(ge=0)]
    graph_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})$")]


def default_layers(stages: Mapping[str, tuple[int, int]]) -> dict[str, tuple[str, ...]]:
    """The stages that serve best for what methods read, by their strides; stages go from shallow to deep.

    As in PatchCore (Roth et al., CVPR 2022), middle stages: deep enough to know shapes, not so deep as to know only
    classes. A transformer, whose blocks share one stride, is read at a half and at three quarters of its depth.
    """
    names = list(stages)
    if len({stride for stride, _ in stages.values()}) == 1:
        chosen = _unique(names[(len(names) - 1) // 2], names[(3 * len(names) - 1) // 4])
        return {"patches/8": chosen, "patches/16": chosen, "embedding": chosen}
    fine, coarse = _nearest(stages, 8), _nearest(stages, 16)
    return {
        "patches/8": _unique(fine[-1], coarse[-1]),
        "patches/16": tuple(coarse[-2:]),
        "embedding": _unique(fine[-1], *coarse[-2:]),
    }


def read_description(proto: onnx.ModelProto) -> Description | None:
    """What a file says about itself, or None if it says nothing."""
    entries = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    if not entries:
        return None
    try:
        described = Description.model_validate_json(entries[0])
    except ValidationError as error:
        first = error.errors()[0]
        where = plain(".".join(str(part) for part in first["loc"]))
        raise ModelError(f"its description is wrong at {where or 'its start'}: {plain(first['msg'])}") from error
    if set().union(*described.layers.values(), described.stages) != set(described.stages):
        raise ModelError("its description names layers that it does not have")
    if [value.name for value in proto.graph.output] != list(described.stages):
        raise ModelError("its outputs are not the stages that its description names")
    if digest(proto) != described.graph_sha256:
        raise ModelError("its graph is not the one that was exported: the file is damaged or was edited")
    return described


def describe(proto: onnx.ModelProto, described: Description) -> None:
    """Write a description and the digest of its graph into ``proto``, in place of what it had."""
    del proto.metadata_props[:]
    text = described.model_copy(update={"graph_sha256": digest(proto)}).model_dump_json()
    proto.metadata_props.add(key=KEY, value=text)


def _nearest(stages: Mapping[str, tuple[int, int]], wanted: int) -> list[str]:
    """The stages of the stride nearest to the one wanted by ratio, the finer of two that are equally near."""
    strides = sorted({stride for stride, _ in stages.values()})
    best = min(strides, key=lambda stride: max(stride / wanted, wanted / stride))
    return [name for name, (stride, _) in stages.items() if stride == best]


def _unique(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
