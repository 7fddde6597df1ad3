"""Networks that learn to make images against a network that learns to tell them from real ones.

Both learn in the same step by one optimiser: each loss sees the other network's weights as constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from oddsight.training.pixel_training import PixelNetwork
from oddsight.training.reconstruction import Centred, convolutional_decoder, convolutional_encoder, smallest

_SLOPE = 0.2
_PENALTY = 10.0  # Weight of the gradient penalty (Gulrajani et al., NeurIPS 2017)


class _Critic(nn.Module):
    """Images to the features of its last maps, and one number each."""

    def __init__(self, side: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [Centred()]
        for before, width in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
        self.features = nn.Sequential(*layers)
        self.verdict = nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * smallest(side, widths) ** 2, 1))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features(pixels)
        return features, self.verdict(features).squeeze(1)


def _held(module: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """What a module gives when its weights are constants: gradients pass through it, and none stay in it."""
    constants = {name: value.detach() for name, value in module.named_parameters()}
    outcome: torch.Tensor = functional_call(module, constants, inputs)
    return outcome


class Ganomaly(PixelNetwork):
    """An autoencoder and an encoder of what it makes; a critic keeps what it makes like real images.

    Args:
        side: Of images, in pixels.
        code: Numbers that an image is squeezed into.
        widths: Channels of the layers.
        weights: Of the adversarial, the contextual and the latent loss.
        share: Of the pixels' error beside the codes' distance.
    """

    outputs = ("raw", "errors")
    momentum = 0.5  # with more, the two chase each other (Radford et al., ICLR 2016)

    def __init__(
        self, side: int, code: int, widths: Sequence[int], weights: tuple[float, float, float], *, share: float
    ) -> None:
        super().__init__()
        self.encoder = convolutional_encoder(side, widths, code)
        self.decoder = convolutional_decoder(side, widths, code)
        self.again = convolutional_encoder(side, widths, code)
        self.critic = _Critic(side, widths)
        self.weights, self.share = weights, share

    def losses(self, pixels: torch.Tensor, lots: torch.Generator) -> dict[str, torch.Tensor]:
        """See :meth:`PixelNetwork.losses`: feature matching, reconstruction and codes; the critic's cross-entropy."""
        code = self.encoder(pixels)
        made = self.decoder(code)
        matched = functional.mse_loss(_held(self.critic, made)[0], _held(self.critic, pixels)[0].detach())
        contextual = functional.l1_loss(made, pixels)
        latent = functional.mse_loss(self.again(made), code)
        adversarial, context, coding = self.weights
        generator = adversarial * matched + context * contextual + coding * latent
        real, fake = self.critic(pixels)[1], self.critic(made.detach())[1]
        discriminator = (functional.softplus(-real).mean() + functional.softplus(fake).mean()) / 2
        return {
            "loss": generator + discriminator,
            "generator": generator,
            "discriminator": discriminator,
            "reconstruction": contextual,
        }

    def validation_loss(self, pixels: torch.Tensor) -> torch.Tensor:
        """See :meth:`PixelNetwork.validation_loss`: what of the generator's loss does not depend on the critic."""
        code = self.encoder(pixels)
        made = self.decoder(code)
        _, context, coding = self.weights
        return context * functional.l1_loss(made, pixels) + coding * functional.mse_loss(self.again(made), code)

    def likeness(self, pixels: torch.Tensor) -> torch.Tensor:
        """The reconstructions."""
        made: torch.Tensor = self.decoder(self.encoder(pixels))
        return made

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Distances ``[N]`` and errors ``[N, S, S]``, from pixels 0 to 255."""
        pixels = pixels / 255
        code = self.encoder(pixels)
        made = self.decoder(code)
        errors, codes = (made - pixels).abs().mean(1), (self.again(made) - code).square().mean(1)
        return self.share * errors.mean((1, 2)) + (1 - self.share) * codes, errors


class FAnoGan(PixelNetwork):
    """A Wasserstein GAN, and an encoder from images to the codes of which it makes them.

    The generator learns by the encoder's residuals, too: from some hundred images, by the critic alone it learns to
    make one and the same of all codes.

    Args:
        side: Of images, in pixels.
        code: Numbers that an image is made of.
        widths: Channels of the layers.
        kappa: Weight of the critic's features beside the pixels.
        adversarial: Weight of what the critic says of the generator beside the residuals.
    """

    outputs = ("raw", "errors")
    momentum = 0.5  # with more, the two chase each other (Radford et al., ICLR 2016)

    def __init__(self, side: int, code: int, widths: Sequence[int], kappa: float, adversarial: float) -> None:
        super().__init__()
        self.code, self.kappa, self.adversarial = code, kappa, adversarial
        self.generator = convolutional_decoder(side, widths, code)
        self.critic = _Critic(side, widths)
        self.encoder = convolutional_encoder(side, widths, code)

    def losses(self, pixels: torch.Tensor, lots: torch.Generator) -> dict[str, torch.Tensor]:
        """See :meth:`PixelNetwork.losses`: Wasserstein distance with a gradient penalty; the encoder's residuals."""
        code = torch.randn((len(pixels), self.code), generator=lots).to(pixels.device)
        made = self.generator(code)
        generator = -_held(self.critic, made)[1].mean()
        fake = made.detach()
        distance = self.critic(fake)[1].mean() - self.critic(pixels)[1].mean()
        discriminator = distance + _PENALTY * self._penalty(pixels, fake, lots)
        encoder = self._residual(pixels, self.likeness(pixels)).mean()
        return {
            "loss": self.adversarial * generator + discriminator + encoder,
            "generator": generator,
            "discriminator": discriminator,
            "encoder": encoder,
        }

    def _penalty(self, pixels: torch.Tensor, fake: torch.Tensor, lots: torch.Generator) -> torch.Tensor:
        share = torch.rand((len(pixels), 1, 1, 1), generator=lots).to(pixels.device)
        between = (share * pixels + (1 - share) * fake).requires_grad_(True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self.critic(between)[1].sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()

    def _residual(self, pixels: torch.Tensor, again: torch.Tensor) -> torch.Tensor:
        """The error of each image, ``[N]``; gradients pass through the critic, and none stay in it."""
        seen, made = _held(self.critic, pixels)[0], _held(self.critic, again)[0]
        features = (seen.detach() - made).square().flatten(1).mean(1)
        return (pixels - again).square().flatten(1).mean(1) + self.kappa * features

    def validation_loss(self, pixels: torch.Tensor) -> torch.Tensor:
        """See :meth:`PixelNetwork.validation_loss`: how well images are made from their codes."""
        return (pixels - self.likeness(pixels)).square().mean()

    def likeness(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the generator makes of the codes of images."""
        made: torch.Tensor = self.generator(self.encoder(pixels))
        return made

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Residuals ``[N]`` and errors ``[N, S, S]``, from pixels 0 to 255."""
        pixels = pixels / 255
        again = self.generator(self.encoder(pixels))
        features = (self.critic.features(pixels) - self.critic.features(again)).square().flatten(1).mean(1)
        squares = (pixels - again).square()
        return squares.flatten(1).mean(1) + self.kappa * features, squares.mean(1)
