"""A small network that learns to give, from normal images, what a pretrained network gives."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from oddsight.runtime.parallel import cores
from oddsight.runtime.sessions import session
from oddsight.training.pixel_training import PixelNetwork

_SLOPE = 0.1
_AT_ONCE = 16


class Student(PixelNetwork):
    """Four convolutions of 3x3, of which three halve the image, and one of 1x1: a cell sees 43 pixels.

    Args:
        teacher: From ``pixels`` 0 to 255 to ``patches`` ``[N, C, S / 8, S / 8]``.
        channels: Of the patches.
        widths: Channels of the three layers that halve.
        hard: Share of the errors that is learned from: the largest.
    """

    outputs = ("imitation",)
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, teacher: onnx.ModelProto, channels: int, widths: tuple[int, int, int], hard: float) -> None:
        super().__init__()
        self._teacher = session(teacher.SerializeToString(), threads=cores())
        self.hard = hard
        layers: list[nn.Module] = []
        for before, width in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(
            *layers,
            nn.Conv2d(widths[-1], widths[-1], 3, 1, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(widths[-1], channels, 1),
        )
        # Those of the patches of normal images.
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))

    def prepare(self, pixels: torch.Tensor) -> None:
        """Take mean and spread of the teacher's channels from some images."""
        patches = torch.cat([self._patches(some) for some in pixels.split(_AT_ONCE)])
        self.mean.copy_(patches.mean((0, 2, 3), keepdim=True))
        self.scale.copy_(1 / (patches.std((0, 2, 3), keepdim=True) + 1e-6))

    def losses(self, pixels: torch.Tensor, lots: torch.Generator) -> dict[str, torch.Tensor]:
        """See :meth:`PixelNetwork.losses`: the mean of the largest squared errors."""
        squares = self._errors(pixels).flatten()
        count = max(1, round(self.hard * len(squares)))
        return {"loss": squares.topk(count).values.mean(), "error": squares.mean()}

    def validation_loss(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._errors(pixels).mean()

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What it takes the teacher's standardised patches for, from pixels 0 to 255."""
        return (self.layers((pixels / 255 - 0.5) * 4),)

    def _errors(self, pixels: torch.Tensor) -> torch.Tensor:
        target = (self._patches(pixels) - self.mean) * self.scale
        error: torch.Tensor = (self(255 * pixels)[0] - target).square()
        return error

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        given = (255 * pixels).round().detach().cpu().numpy()
        found = self._teacher.run(["patches"], {"pixels": np.ascontiguousarray(given, np.float32)})[0]
        return torch.from_numpy(found).to(pixels.device)

    def standard(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and reciprocal spread of the teacher's channels, ``[C, 1, 1]`` each."""
        return self.mean[0].cpu().numpy(), self.scale[0].cpu().numpy()
