"""Adversarially trained networks of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import onnx

from oddsight.detectors.detector import detector
from oddsight.detectors.pixel_detector import PixelDetector
from oddsight.errors import OddsightError
from oddsight.graphs.maps import scaled_map
from oddsight.runtime.bounds import Count, Each, NonNegative, Positive, Share, Sigma, Whole

if TYPE_CHECKING:
    from oddsight.training.pixel_training import PixelNetwork, TrainedPixels


@dataclass
class _Adversarial(PixelDetector):
    """What the two have in common: layers, and a map of errors at pixels in proportion to the score.

    Attributes:
        code: Numbers that an image is squeezed into.
        widths: Channels of the layers, each of which halves the image.
        sigma: Smoothing of the map, in pixels.
    """

    localises: ClassVar[bool] = True
    until_the_end: ClassVar[bool] = True

    learning_rate: Positive = 2e-4
    code: Count = 64
    widths: Annotated[tuple[int, ...], Each(Whole(), "width")] = (32, 64, 128, 128)
    sigma: Sigma = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or len(self.widths) > self.most_widths:
            raise OddsightError(f"{self.name}: widths must name one layer to {self.most_widths}")

    most_widths: ClassVar[int] = 4
    """As many as a side that is a multiple of 16 can be halved."""

    def scoring(self, found: TrainedPixels, side: int) -> list[onnx.ModelProto]:
        return [scaled_map(side, side, self.sigma, by="raw")]

    def activations(self) -> int:
        return 5000


@detector
@dataclass
class Ganomaly(_Adversarial):
    """How far what is made of an image lies from the image itself: in its pixels, and in the codes of both.

    An autoencoder makes the image again, and a second encoder looks at what it made; while they learn, a critic keeps
    that like real images. The first paper's score is the distance of the codes alone; here the error of the pixels
    joins it, as in the second. The map has that error in proportion.

    Attributes:
        share: Of the pixels' error in the score; the rest is of the codes' distance.
        adversarial: Weight of what the critic says.
        contextual: Weight of the error of the image.
        latent: Weight of the distance of the codes.
    """

    name: ClassVar[str] = "ganomaly"
    summary: ClassVar[str] = "how far the image and its reconstruction by a GAN lie apart, and their codes"
    paper: ClassVar[str] = (
        "Akcay et al., GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training, ACCV 2018; "
        "Akçay et al., Skip-GANomaly, IJCNN 2019 (its score)"
    )

    share: Share = 0.9
    adversarial: NonNegative = 1.0
    contextual: NonNegative = 50.0
    latent: NonNegative = 1.0

    def network(self, side: int) -> PixelNetwork:
        from oddsight.training.adversarial import Ganomaly as Network

        weights = (self.adversarial, self.contextual, self.latent)
        return Network(side, self.code, self.widths, weights, share=self.share)


@detector
@dataclass
class FAnoGAN(_Adversarial):
    """Residual between the image and the nearest that a generator of normal images makes: pixels, and features.

    A Wasserstein GAN learns to make normal images, and, beside it, an encoder to find the code of an image, by which
    the generator learns, too; the features are the critic's. The map has the errors of the pixels in proportion.

    Attributes:
        kappa: Weight of the features beside the pixels.
        adversarial: Weight of what the critic says of the generator. The critic's slope is about 1 for a whole image,
            and that of a mean squared error some hundredths of that or less: with equal weights the generator ends at
            one image for all codes.
    """

    name: ClassVar[str] = "f-anogan"
    summary: ClassVar[str] = "how far the image is from what a GAN of normal images makes of its code"
    paper: ClassVar[str] = (
        "Schlegl et al., f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks, "
        "Medical Image Analysis 2019 (here generator and encoder learn together)"
    )

    kappa: NonNegative = 1.0
    adversarial: NonNegative = 1e-3

    def network(self, side: int) -> PixelNetwork:
        from oddsight.training.adversarial import FAnoGan

        return FAnoGan(side, self.code, self.widths, self.kappa, self.adversarial)
