"""Autoencoders of pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import onnx

from oddsight.detectors.detector import detector
from oddsight.detectors.features import FeatureStream, Rows
from oddsight.detectors.gmm import GMM
from oddsight.detectors.pixel_detector import PixelDetector
from oddsight.errors import OddsightError
from oddsight.graphs.building import chain, copied, piece
from oddsight.graphs.maps import scaled_map
from oddsight.runtime.bounds import Choice, Count, Each, Positive, Sigma, Whole
from oddsight.runtime.sessions import run, session

if TYPE_CHECKING:
    from torch import nn

    from oddsight.training.pixel_training import PixelNetwork, TrainedPixels

    MakeCoder = Callable[[int, Sequence[int], int], nn.Sequential]

LOSSES = ("mse", "l1", "ssim", "mse+ssim")


@detector
@dataclass
class Autoencoder(PixelDetector):
    """Reconstruction error of the image itself, brought to 64 pixels a side, by a convolutional autoencoder.

    The score is the mean error over all pixels, with ``mse`` on values from 0 to 1; the map has the errors of the
    pixels, smoothed, in proportion, so that its maximum is the score.

    Attributes:
        code: Numbers that the image is squeezed into.
        widths: Channels of the layers of the encoder, each of which halves the image; the decoder has them the other
            way round.
        loss: Of :data:`LOSSES`; the error is measured by it, too.
        sigma: Smoothing of the map, in pixels.
        epochs: See :class:`oddsight.detectors.pixel_detector.PixelDetector`, as for the others.
    """

    name: ClassVar[str] = "autoencoder"
    summary: ClassVar[str] = "what a convolutional autoencoder does not reconstruct of the image's pixels"
    paper: ClassVar[str] = (
        "Masci et al., Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction, ICANN 2011"
    )
    localises: ClassVar[bool] = True

    code: Count = 64
    widths: Annotated[tuple[int, ...], Each(Whole(), "width")] = (32, 64, 128, 128)
    loss: Annotated[str, Choice("loss", LOSSES)] = "mse"
    sigma: Sigma = 1.5

    # Settings of some subclasses.
    noise = 0.0
    beta = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths:
            raise OddsightError(f"{self.name}: widths must name at least one layer")

    def network(self, side: int) -> PixelNetwork:
        from oddsight.training.reconstruction import convolutional_decoder, convolutional_encoder

        if 2 ** len(self.widths) > side:
            raise OddsightError(f"{self.name}: {len(self.widths)} widths halve an image of {side} pixels too often")
        return self._autoencoder(side, convolutional_encoder, convolutional_decoder)

    def _autoencoder(self, side: int, encoder: MakeCoder, decoder: MakeCoder) -> PixelNetwork:
        from oddsight.training import reconstruction

        # Of distributions there are means and variances.
        numbers = 2 * self.code if self.beta else self.code
        return reconstruction.Autoencoder(
            encoder(side, self.widths, numbers),
            decoder(side, self.widths, self.code),
            reconstruction.Errors(self.loss),
            noise=self.noise,
            divergence=self.beta or None,
        )

    def scoring(self, found: TrainedPixels, side: int) -> list[onnx.ModelProto]:
        return [scaled_map(side, side, self.sigma)]


@detector
@dataclass
class DenseAutoencoder(Autoencoder):
    """:class:`Autoencoder` whose layers are fully connected: it knows where in the image things are.

    Attributes:
        widths: Units of the layers of the encoder; the decoder has them the other way round.
    """

    name: ClassVar[str] = "dense-autoencoder"
    summary: ClassVar[str] = "what a fully connected autoencoder does not reconstruct of the image's pixels"
    paper: ClassVar[str] = (
        "Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science 2006"
    )

    widths: Annotated[tuple[int, ...], Each(Whole(), "width")] = (512, 128)

    def network(self, side: int) -> PixelNetwork:
        from oddsight.training.reconstruction import dense_decoder, dense_encoder

        return self._autoencoder(side, dense_encoder, dense_decoder)

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        parameters = 2 * 3 * shape[-1] * shape[-2] * self.widths[0]
        # Weights, gradients, Adam's two moments, the best so far, and the graph in several forms.
        return super().memory_needed(shape, count) + 4 * 10 * parameters


@detector
@dataclass
class VariationalAutoencoder(Autoencoder):
    """:class:`Autoencoder` whose codes are distributions, near a normal one; scored at their means.

    Attributes:
        beta: Weight of the codes' divergence from a normal distribution beside the error, both per value of an image.
    """

    name: ClassVar[str] = "variational-autoencoder"
    summary: ClassVar[str] = "what a variational autoencoder does not reconstruct of the image's pixels"
    paper: ClassVar[str] = "Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014"

    beta: Positive = 0.01


@detector
@dataclass
class DenoisingAutoencoder(Autoencoder):
    """:class:`Autoencoder` that is shown noisy images and makes the clean ones; scored on images as they are.

    Attributes:
        noise: Standard deviation of the noise, for values from 0 to 1.
    """

    name: ClassVar[str] = "denoising-autoencoder"
    summary: ClassVar[str] = "what an autoencoder that learned to remove noise does not reconstruct"
    paper: ClassVar[str] = (
        "Vincent et al., Extracting and Composing Robust Features with Denoising Autoencoders, ICML 2008"
    )

    noise: Positive = 0.1


@detector
@dataclass
class CodeGMM(Autoencoder):
    """Density of the code of an :class:`Autoencoder` and of its error under a mixture of Gaussians, as :class:`GMM`.

    The error counts by its logarithm, as one more number of the code: what is reconstructed badly need not have an
    unusual code.

    Attributes:
        components: See :class:`oddsight.detectors.gmm.GMM`.
        dimensions: See there.
    """

    name: ClassVar[str] = "code-gmm"
    summary: ClassVar[str] = "negative log density of an autoencoder's code and error under a mixture of Gaussians"
    paper: ClassVar[str] = "Zong et al., Deep Autoencoding Gaussian Mixture Model, ICLR 2018 (here in two steps)"
    localises: ClassVar[bool] = False

    components: Count = 5
    dimensions: Count = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gmm_ = GMM(self.components, self.dimensions, max(2, self.sample_size))

    def look_again(self, found: TrainedPixels, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Fit the mixture to codes and errors of the images; see :meth:`PixelDetector.look_again`."""
        coder = chain([copied(found.graph), self._described(features.shape[-1])], ["embedding"])
        loaded = session(coder.SerializeToString(), threads=1)
        rows = [run(loaded, {"pixels": pixels[None]}, self.name)[0][0] for pixels in features]
        self.gmm_.fit(Rows(np.stack(rows)), memory=memory, seed=seed)

    def scoring(self, found: TrainedPixels, side: int) -> list[onnx.ModelProto]:
        return [self._described(side), self.gmm_.graph()]

    def _described(self, side: int) -> onnx.ModelProto:
        """Codes and errors to the vectors whose density is estimated."""
        return piece(
            f"""
            described (float[N, {side}, {side}] errors, float[N, {self.code}] code)
            => (float[N, {self.code + 1}] embedding)
            <int64[2] grid = {{1, 2}}, int64[1] last = {{1}}, float tiny = {{1e-9}}>
            {{
                mean = ReduceMean <keepdims = 0> (errors, grid)
                above = Add (mean, tiny)
                log = Log (above)
                column = Unsqueeze (log, last)
                embedding = Concat <axis = 1> (code, column)
            }}
            """
        )
