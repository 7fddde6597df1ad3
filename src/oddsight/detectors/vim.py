"""ViM: what lies beside the principal space of the embeddings, as the logit of one more class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import onnx

from oddsight.detectors.averaging import blocks
from oddsight.detectors.detector import Detector, Labels, detector
from oddsight.detectors.energy import energy_lines
from oddsight.detectors.features import Vectors
from oddsight.detectors.head import Head
from oddsight.graphs.building import piece
from oddsight.runtime.bounds import Whole


@detector
@dataclass
class ViM(Detector):
    """The virtual logit minus the logarithm of the sum of exponentials of the others.

    The virtual logit is the length of the embedding's part beside the principal space, scaled so that its mean over the
    training images is that of the highest logit (without its sign, should that be negative). Zero is where all logits
    vanish.

    Attributes:
        dimensions: Of the principal space. 0 is the paper's choice: 1,000 of 2,048 channels and more, 512 of 768 and
            more, half of fewer. If the training images do not span as many, it is half of what they span, as otherwise
            nothing of them would lie beside it.
    """

    name = "vim"
    summary = "energy, and what of the embedding lies beside the principal space of the training images"
    paper = "Wang et al., ViM: Out-Of-Distribution with Virtual-logit Matching, CVPR 2022"
    learns_from = ("classes",)

    dimensions: Annotated[int, Whole(0)] = 0

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Find the principal space; see :meth:`Detector.fit`."""
        # What float32 leaves of a direction that the head does not have must not be inverted.
        inverse = np.linalg.pinv(head.weights.T.astype(np.float64), rcond=1e-5)
        self.origin_ = -inverse @ head.bias.astype(np.float64)
        second = np.zeros((self.channels_, self.channels_))
        for part in blocks(len(embeddings)):
            centred = embeddings[part] - self.origin_
            second += centred.T @ centred
        variances, directions = np.linalg.eigh(second / len(embeddings))
        spanned = int((variances > 1e-10 * variances[-1]).sum())
        dimensions = self.dimensions or _of_the_paper(self.channels_)
        dimensions = dimensions if dimensions < spanned else spanned // 2
        self.principal_ = directions[:, self.channels_ - dimensions :]
        lengths = highest = 0.0
        for part in blocks(len(embeddings)):
            centred = embeddings[part] - self.origin_
            beside = centred - (centred @ self.principal_) @ self.principal_.T
            lengths += float(np.linalg.norm(beside, axis=1).sum())
            highest += float(head.logits(embeddings[part]).max(axis=1).sum(dtype=np.float64))
        self.alpha_ = abs(highest) / lengths if lengths > 0 else 0.0

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            vim (float[N, {self.channels_}] embedding, float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}>
            {{
                centred = Sub (embedding, origin)
                projected = MatMul (centred, principal)
                within = Gemm <transB = 1> (projected, principal)
                residual = Sub (centred, within)
                length = ReduceL2 <keepdims = 0> (residual, last)
                virtual = Mul (length, alpha)
                {energy_lines()}
                score = Sub (virtual, confidence)
            }}
            """,
            {
                "origin": self.origin_.astype(np.float32),
                "principal": np.ascontiguousarray(self.principal_, np.float32),
                "alpha": np.array(self.alpha_, np.float32),
            },
        )


def _of_the_paper(channels: int) -> int:
    return 1000 if channels >= 2048 else 512 if channels >= 768 else channels // 2
