"""An autoencoder of features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.patchwise import Patchwise
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.detectors.standardising import Standard
from oddsight.errors import OddsightError
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Count, Positive, Whole

_BATCH = 256
_PATIENCE = 100  # Steps without progress on the rows held out, after which training stops


@detector
@dataclass
class FeatureAutoencoder(Detector):
    """Reconstruction error of standardised embeddings by a network that squeezes them through a few numbers.

    Trained with Adam until a tenth of the images, held out, is reconstructed no better. Another seed is another
    network: scores differ more from seed to seed than those of methods without random weights.

    Attributes:
        width: Units of the layers before and after the bottleneck.
        bottleneck: Units of the narrowest layer.
        steps: Of training, at most.
        learning_rate: Of Adam.
        sample_size: Embeddings to learn from, at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "feature-autoencoder"
    summary: ClassVar[str] = "what a small autoencoder of normal embeddings does not reconstruct"
    paper: ClassVar[str] = "Sakurada and Yairi, Anomaly Detection Using Autoencoders, MLSDA 2014"
    reads: ClassVar[Reading] = "embedding"

    width: Count = 128
    bottleneck: Count = 32
    steps: Count = 1000
    learning_rate: Positive = 2e-3
    sample_size: Annotated[int, Whole(10)] = 10000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Train the network; see :meth:`Detector.fit`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        embeddings = sample(features, self.sample_size, seed)
        self.standard_ = Standard.deviations(embeddings)
        x = self.standard_(embeddings)
        held = max(2, len(x) // 10)
        steps_an_epoch = -(-(len(x) - held) // _BATCH)
        self.estimator_ = MLPRegressor(
            hidden_layer_sizes=(self.width, self.bottleneck, self.width),
            batch_size=min(_BATCH, len(x) - held),
            learning_rate_init=self.learning_rate,
            max_iter=-(-self.steps // steps_an_epoch),
            early_stopping=True,
            # Half a row less, as the number of rows is rounded up.
            validation_fraction=(held - 0.5) / len(x),
            n_iter_no_change=max(5, _PATIENCE // steps_an_epoch),
            random_state=seed % 2**32,
        )
        with warnings.catch_warnings():
            # To stop at the last step is no fault: how many is a setting.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.estimator_.fit(x, x)
        if not np.isfinite(self.estimator_.best_validation_score_):
            raise OddsightError(f"{self.name}: training diverged: use a smaller learning_rate")

    def graph(self) -> onnx.ModelProto:
        weights = dict(self.standard_.weights)
        lines, last = [], len(self.estimator_.coefs_) - 1
        layers = zip(self.estimator_.coefs_, self.estimator_.intercepts_, strict=True)
        for number, (matrix, offsets) in enumerate(layers):
            weights |= {f"w{number}": matrix.astype(np.float32), f"b{number}": offsets.astype(np.float32)}
            before, after = f"h{number}" if number else "x", f"a{number}" if number < last else "reconstruction"
            lines.append(f"{after} = Gemm ({before}, w{number}, b{number})")
            if number < last:
                lines.append(f"h{number + 1} = Relu (a{number})")
        return piece(
            f"""
            feature_autoencoder (float[N, {self.estimator_.n_features_in_}] embedding) => (float[N] score)
            <int64[1] last = {{1}}>
            {{
                {Standard.LINES}
                {" ".join(lines)}
                residual = Sub (x, reconstruction)
                score = ReduceL2 <keepdims = 0> (residual, last)
            }}
            """,
            weights,
        )

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``sample_size`` images."""
        rows, channels = sample_count(shape, count, self.sample_size), shape[0]
        parameters = 2 * self.width * (channels + self.bottleneck)
        batches = _BATCH * (4 * channels + 6 * self.width)
        # Weights, gradients and Adam's two moments, the best so far, and the layers of the rows held out.
        network = 8 * (8 * parameters + batches + rows // 10 * (channels + 2 * self.width))
        return sample_bytes(shape, count, self.sample_size) + 4 * rows * 5 * channels + network


@detector
@dataclass
class PatchAutoencoder(Patchwise):
    """:class:`FeatureAutoencoder` of patches.

    Attributes:
        width: Units of the layers before and after the bottleneck.
        bottleneck: Units of the narrowest layer.
        steps: Of training, at most.
        learning_rate: Of Adam.
    """

    name: ClassVar[str] = "patch-autoencoder"
    summary: ClassVar[str] = "what a small autoencoder of normal patches does not reconstruct"
    paper: ClassVar[str] = (
        "Ndiour et al., FRE: A Fast Method For Anomaly Detection And Segmentation, arXiv 2211.12650, 2022"
    )

    width: Count = 128
    bottleneck: Count = 32
    steps: Count = 1000
    learning_rate: Positive = 2e-3

    def of_vectors(self) -> FeatureAutoencoder:
        return FeatureAutoencoder(self.width, self.bottleneck, self.steps, self.learning_rate, self.sample_size)
