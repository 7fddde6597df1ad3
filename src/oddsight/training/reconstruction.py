"""Networks that squeeze images through a few numbers and make them again, and how far off what they make is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from oddsight.training.pixel_training import PixelNetwork

_WINDOW = 7
_C1, _C2 = 0.01**2, 0.03**2  # The constants of SSIM for values from 0 to 1

_SLOPE = 0.2


class Centred(nn.Module):
    """Values from 0 to 1 to values around 0, from which layers learn better."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Twice their distance from a half."""
        return 2 * pixels - 1


def convolutional_encoder(side: int, widths: Sequence[int], code: int) -> nn.Sequential:
    """Images ``[N, 3, S, S]`` to codes ``[N, code]``: each width halves the image."""
    layers: list[nn.Module] = [Centred()]
    for before, width in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * smallest(side, widths) ** 2, code))


def convolutional_decoder(side: int, widths: Sequence[int], code: int) -> nn.Sequential:
    """Codes ``[N, code]`` to images ``[N, 3, S, S]`` from 0 to 1: the encoder's widths the other way round."""
    least = smallest(side, widths)
    layers: list[nn.Module] = [nn.Linear(code, widths[-1] * least**2), nn.Unflatten(1, (widths[-1], least, least))]
    for width, after in zip(reversed(widths), (*reversed(widths[:-1]), 3), strict=True):
        layers += [nn.LeakyReLU(_SLOPE), nn.ConvTranspose2d(width, after, 4, 2, 1)]
    return nn.Sequential(*layers, nn.Sigmoid())


def dense_encoder(side: int, widths: Sequence[int], code: int) -> nn.Sequential:
    """Images ``[N, 3, S, S]`` to codes ``[N, code]``, fully connected."""
    layers: list[nn.Module] = [Centred(), nn.Flatten()]
    for before, width in zip((3 * side**2, *widths), widths, strict=False):
        layers += [nn.Linear(before, width), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], code))


def dense_decoder(side: int, widths: Sequence[int], code: int) -> nn.Sequential:
    """Codes ``[N, code]`` to images ``[N, 3, S, S]`` from 0 to 1, fully connected."""
    layers: list[nn.Module] = []
    for before, width in zip((code, *reversed(widths)), reversed(widths), strict=False):
        layers += [nn.Linear(before, width), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers, nn.Linear(widths[0], 3 * side**2), nn.Unflatten(1, (3, side, side)), nn.Sigmoid())


def smallest(side: int, widths: Sequence[int]) -> int:
    """Side of the smallest maps of a convolutional encoder."""
    return side >> len(widths)


class Errors(nn.Module):
    """How far off a reconstruction is at each pixel: ``[N, 1, S, S]``, whose mean is the loss.

    Args:
        kind: ``mse``, ``l1``, ``ssim`` (one minus the structural similarity, halved; Wang et al., TIP 2004, over
            windows of 7 pixels; as a loss: Bergmann et al., VISAPP 2019) or ``mse+ssim``, their sum.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, pixels: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """The loss of images ``[N, 3, S, S]``, 0 to 1, and what was made of them."""
        if self.kind == "l1":
            error = (pixels - made).abs()
        elif self.kind == "mse":
            error = (pixels - made).square()
        else:
            error = (1 - _similarity(pixels, made)) / 2
            if self.kind == "mse+ssim":
                error = error + (pixels - made).square()
        return error.mean(1, keepdim=True)


def _similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The structural similarity of two images at each pixel and channel, at most 1."""

    def mean(values: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(values, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)

    mean1, mean2 = mean(first), mean(second)
    variances = mean((first - mean1).square()) + mean((second - mean2).square())
    covariance = mean((first - mean1) * (second - mean2))
    return ((2 * mean1 * mean2 + _C1) * (2 * covariance + _C2)) / (
        (mean1.square() + mean2.square() + _C1) * (variances + _C2)
    )


class Autoencoder(PixelNetwork):
    """An image is made again from a few numbers.

    Args:
        encoder: Images to codes; of twice the length for ``variational``: means, and logarithms of variances.
        decoder: Codes to images.
        errors: What is made small.
        noise: Standard deviation of what is added to images while it learns.
        divergence: Weight of the divergence of codes from a normal distribution, if they are variational; else None.
    """

    outputs = ("errors", "code")

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, errors: Errors, *, noise: float, divergence: float | None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.errors = encoder, decoder, errors
        self.noise, self.divergence = noise, divergence

    def losses(self, pixels: torch.Tensor, lots: torch.Generator) -> dict[str, torch.Tensor]:
        shown = pixels + self.noise * _noise(pixels, lots) if self.noise else pixels
        code = self.encoder(shown)
        if self.divergence is None:
            return {"loss": self.errors(pixels, self.decoder(code)).mean()}
        mean, log = code.chunk(2, 1)
        made = self.decoder(mean + (log / 2).exp() * _noise(mean, lots))
        reconstruction = self.errors(pixels, made).mean()
        # Per pixel, as the error is.
        divergence = (mean.square() + log.exp() - 1 - log).sum(1).mean() / 2 / pixels[0].numel()
        return {
            "loss": reconstruction + self.divergence * divergence,
            "reconstruction": reconstruction,
            "divergence": divergence,
        }

    def validation_loss(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.errors(pixels, self.likeness(pixels)).mean()

    def likeness(self, pixels: torch.Tensor) -> torch.Tensor:
        """The reconstructions."""
        made: torch.Tensor = self.decoder(self._code(pixels))
        return made

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Errors ``[N, S, S]`` and codes ``[N, C]``, from pixels 0 to 255."""
        pixels = pixels / 255
        code = self._code(pixels)
        return self.errors(pixels, self.decoder(code)).squeeze(1), code

    def _code(self, pixels: torch.Tensor) -> torch.Tensor:
        code: torch.Tensor = self.encoder(pixels)
        return code if self.divergence is None else code.chunk(2, 1)[0]


def _noise(like: torch.Tensor, lots: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=lots).to(like.device)
