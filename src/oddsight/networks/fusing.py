"""Batch normalisation whose statistics are fixed, put into the convolutions before it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from oddsight.networks.exporting import TorchBackbone

_CLOSE = 1e-3


def fuse(network: TorchBackbone) -> None:
    """Fuse every batch normalisation of a network in evaluation mode with the convolution whose output it reads.

    What the network computes stays the same; it learns and runs with less traffic of memory, a quarter to a half
    faster on processors. A network for which this would change anything is left as it is.
    """
    before = copy.deepcopy(network.trunk)
    pixels = 255 * torch.rand(1, 3, network.size, network.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(pixels)
        for norm, conv in _pairs(network, pixels).items():
            merged = fuse_conv_bn_eval(conv, norm)
            _replace(network.trunk, conv, merged)
            _replace(network.trunk, norm, nn.Identity())
        found = network(pixels)
    scale = {name: float(value.abs().max()) + 1e-12 for name, value in expected.items()}
    if all(float((found[name] - value).abs().max()) <= _CLOSE * scale[name] for name, value in expected.items()):
        network.requires_grad_(True)
    else:
        network.trunk = before
    network.look_again()


def _pairs(network: TorchBackbone, pixels: torch.Tensor) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Each batch normalisation whose input is the output of a convolution, with that convolution."""
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def note(module: nn.Module, given: tuple[Any, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            # The tensor is kept, so that no other can get its place in memory.
            made[id(output)] = module, output
        elif id(given[0]) in made:
            pairs[module] = made[id(given[0])][0]

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    # Subclasses may do more than their names say, such as an activation.
    chosen = [module for module in network.trunk.modules() if isinstance(module, nn.Conv2d) or type(module) is kinds[1]]
    hooks = [module.register_forward_hook(note) for module in chosen]
    try:
        network(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in root.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
