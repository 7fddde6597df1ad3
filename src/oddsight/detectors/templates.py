"""Scores that compare an image with what its class, or some class, looks like on average: SHE and KL matching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.averaging import blocks, class_means, class_sums
from oddsight.detectors.detector import Detector, Labels, detector
from oddsight.detectors.features import Vectors
from oddsight.detectors.head import Head
from oddsight.graphs.building import piece

_LEAST = 1e-12  # The least probability of a template: the divergence from one of zero would be infinite


def typical(logits: Vectors, labels: Labels) -> NDArray[np.bool_]:
    """Which images stand for their class, ``[n]``: those classified correctly, or all of a class where none is."""
    correct = logits.argmax(axis=1) == labels
    known = np.bincount(labels[correct], minlength=logits.shape[1]) > 0
    return np.asarray(correct | ~known[labels])


@detector
@dataclass
class SHE(Detector):
    """Minus the inner product of the embedding with the mean embedding of the class that it is predicted to be.

    The mean is over the training images of the class that are classified correctly; over all of them if none is, and
    over the images of all classes if it has none. An inner product needs no values above zero.
    """

    name = "she"
    summary = "how little the embedding is like the mean of its predicted class"
    paper = (
        "Zhang et al., Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with Modern "
        "Hopfield Energy, ICLR 2023"
    )
    learns_from = ("classes",)

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Average the embeddings of each class; see :meth:`Detector.fit`."""
        chosen = typical(head.logits(embeddings), labels)
        means, counts = class_means(embeddings[chosen], labels[chosen], head.classes)
        means[counts == 0] = embeddings.mean(axis=0, dtype=np.float64)
        self.means_ = means.astype(np.float32)

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            she (float[N, {self.channels_}] embedding, float[N, {self.classes_}] logits) => (float[N] score)
            <int64[1] last = {{1}}>
            {{
                predicted = ArgMax <axis = 1, keepdims = 0> (logits)
                mean = Gather <axis = 0> (means, predicted)
                products = Mul (embedding, mean)
                likeness = ReduceSum <keepdims = 0> (products, last)
                score = Neg (likeness)
            }}
            """,
            {"means": self.means_},
        )


@detector
@dataclass
class KLMatching(Detector):
    """The least Kullback-Leibler divergence of the softmax probabilities from the mean ones of any class.

    The mean is over the training images that are predicted to be of the class, whatever they are; a class that is never
    predicted has none. The paper takes held-out images: on training images, means are nearer to certainty.
    """

    name = "kl-matching"
    summary = "how little the softmax probabilities are like the mean ones of any class"
    paper = "Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, ICML 2022"
    reads = "logits"
    learns_from = ("classes",)

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Average the probabilities of each predicted class; see :meth:`Detector.fit`."""
        from scipy.special import softmax

        sums, counts = np.zeros((head.classes, head.classes)), np.zeros(head.classes)
        for part in blocks(len(embeddings)):
            probabilities = softmax(head.logits(embeddings[part]).astype(np.float64), axis=1)
            of_block, found = class_sums(probabilities, probabilities.argmax(axis=1), head.classes)
            sums += of_block
            counts += found
        templates = sums[counts > 0] / counts[counts > 0][:, None]
        self.log_templates_ = np.log(np.maximum(templates, _LEAST))

    def graph(self) -> onnx.ModelProto:
        return piece(
            f"""
            kl_matching (float[N, {self.classes_}] logits) => (float[N] score) <int64[1] last = {{1}}>
            {{
                wide = Cast <to = 11> (logits)
                log_p = LogSoftmax <axis = 1> (wide)
                p = Exp (log_p)
                products = Mul (p, log_p)
                against_entropy = ReduceSum (products, last)
                likelihoods = MatMul (p, log_templates)
                divergences = Sub (against_entropy, likelihoods)
                least = ReduceMin <keepdims = 0> (divergences, last)
                score = Cast <to = 1> (least)
            }}
            """,
            {"log_templates": np.ascontiguousarray(self.log_templates_.T)},
        )
