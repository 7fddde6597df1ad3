"""Small networks that learn from scratch."""

from __future__ import annotations

import torch
from torch import nn

from oddsight.backbones.exporting import TorchBackbone
from oddsight.backbones.trunks import Trunk

WIDTHS = {"compact": (64, 128, 256), "wide": (64, 256, 256)}
"""Channels of the three stages of each convolutional network."""

_DIRECTIONS = 16
"""How many of the 27 in which patches of 3x3 pixels differ are kept, by variance; the others are mostly noise."""

_MOMENTUM = 0.1


class _Block(nn.Module):
    """Two convolutions; the first halves the image."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(_convolution(channels, width), nn.MaxPool2d(2), *_normalised(width))
        self.deep = nn.Sequential(_convolution(width, width), *_normalised(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outcome: torch.Tensor = self.deep(self.narrow(x))
        return outcome


class _Compact(nn.Module):
    """Patches of 3x3 pixels, decorrelated, in both signs as the activation lets one pass; then three stages."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2 * _DIRECTIONS, 3, padding=1)
        self.activation = nn.GELU()
        self.stages = nn.ModuleList()
        channels = 2 * _DIRECTIONS
        for width in widths:
            self.stages.append(_Block(channels, width))
            channels = width

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x, outputs = self.activation(self.stem(x)), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def look_at(self, images: torch.Tensor) -> None:
        """Make the stem whiten the patches of images like these, normalised ``[N, 3, h, w]``, for good.

        Directions of little variance then count as much as others from the start, which saves many epochs.
        """
        patches = nn.functional.unfold(images, 3).transpose(1, 2).reshape(-1, 27)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T.double()))
        directions = (vectors / (values + 5e-4).sqrt()).T.float()[-_DIRECTIONS:]
        with torch.no_grad():
            self.stem.weight.copy_(torch.cat([directions, -directions]).reshape(-1, 3, 3, 3))
            self.stem.bias.zero_()
        self.stem.requires_grad_(False)


class _Textbook(nn.Module):
    """Three convolutions with pooling between them, and one dense layer, as in many a tutorial."""

    def __init__(self, size: int) -> None:
        super().__init__()
        side = ((size - 2) // 2 - 2) // 2 - 2
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 64, 3), nn.ReLU()),
        )
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(64 * side * side, 64), nn.ReLU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = self.layers(x)
        return [maps, self.dense(maps)[:, :, None, None]]


def _convolution(channels: int, width: int) -> nn.Conv2d:
    """A convolution that begins by handing on what it gets."""
    layer = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:channels])
    return layer


def _normalised(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(width, momentum=_MOMENTUM), nn.GELU()


def build_network(name: str, size: int, images: torch.Tensor) -> TorchBackbone:
    """A network that knows nothing yet.

    Args:
        name: ``compact`` or ``wide`` (whitened patches, then stages of :data:`WIDTHS` channels), or ``textbook``.
        size: Side of its input in pixels; the textbook's dense layer takes no other.
        images: Some that it is going to learn from, float32 ``[N, 3, h, w]`` with values 0 to 255, for the
            statistics of its first layer.
    """
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3)).clamp_min(1)
    names: tuple[str, ...]
    strides: tuple[int, ...]
    module: _Compact | _Textbook
    if name in WIDTHS:
        module = _Compact(WIDTHS[name])
        module.look_at((images - mean[:, None, None]) / std[:, None, None])
        names, strides = ("stage1", "stage2", "stage3"), (2, 4, 8)
    else:
        module = _Textbook(size)
        names, strides = ("maps", "dense"), (4, size)
    trunk = Trunk(
        module, names, strides, tuple(mean.tolist()), tuple(std.tolist()), size, name == "textbook", "none needed"
    )
    return TorchBackbone(trunk, name=name, summary=f"{name}, from scratch", source="from scratch", paper="")
