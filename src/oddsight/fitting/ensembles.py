"""Classifiers side by side in one network: their embeddings are joined, and their logits added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from oddsight.backbones import Backbone, backbone
from oddsight.backbones.description import Description, default_layers, describe
from oddsight.backbones.extraction import Extractor
from oddsight.backbones.folding import share_weights
from oddsight.backbones.network_shapes import activation_bytes
from oddsight.detectors.head import Head
from oddsight.graphs.building import chain, piece, renamed
from oddsight.runtime.files import write_bytes


@dataclass(frozen=True, eq=False)
class Member:
    """A classifier of an ensemble."""

    name: str  # A word that no other member has
    network: Backbone
    layer: str  # The stage of the network whose mean over an image is the embedding
    head: Head  # From the embedding to logits
    sizes: tuple[int, ...]  # In pixels, at which it sees an image; its embedding is the mean of those at each


def join_networks(members: Sequence[Member], size: int, path: Path) -> Extractor:
    """Write one network that gives the embeddings of all members, and an extractor that puts them side by side.

    It reads images of ``size`` pixels a side, which it enlarges for its members: what is larger is reduced first, so
    that it is as blurred as what they learned from.
    """
    pieces, stages, views = [], {}, 0
    for member in members:
        maps = []
        for side in member.sizes:
            views += 1
            names = {"pixels": f"pixels_{views}", member.layer: f"map_{views}"}
            trunk = renamed(member.network.graph((member.layer,)), f"view_{views}", names)
            channels, height, width = member.network.shapes((member.layer,), side)[member.layer]
            pieces += [_enlarging(size, side, views), trunk]
            maps.append((f"map_{views}", (channels, height, width)))
        pieces.append(_mean(member.name, maps))
        stages[member.name] = (size, channels)
    proto = chain(pieces, list(stages))
    share_weights(proto)
    proto.graph.name = "backbone"
    described = Description(
        name="ensemble",
        summary="several classifiers side by side",
        source="; ".join(dict.fromkeys(member.network.source for member in members)),
        paper="Lakshminarayanan et al., Simple and scalable predictive uncertainty estimation using deep ensembles, "
        "NeurIPS 2017",
        stages=stages,
        layers=default_layers(stages),
        size=size,
        multiple=size,
        fixed=True,
        activations=activation_bytes(proto, size),
        graph_sha256="0" * 64,
    )
    describe(proto, described)
    write_bytes(path, proto.SerializeToString(deterministic=True))
    return Extractor(backbone(path), tuple(stages), size, "embedding")


def _enlarging(size: int, side: int, number: int) -> onnx.ModelProto:
    return piece(
        f"""
        enlarging_{number} (float[N, 3, {size}, {size}] pixels) => (float[N, 3, {side}, {side}] pixels_{number})
        <int64[2] side = {{{side}, {side}}}>
        {{
            pixels_{number} = Resize <axes = [2, 3], mode = "linear",
                                      coordinate_transformation_mode = "half_pixel"> (pixels, , , side)
        }}
        """
    )


def _mean(name: str, maps: Sequence[tuple[str, tuple[int, int, int]]]) -> onnx.ModelProto:
    """Maps float32 ``[N, C, h, w]`` of one network to their mean over places and maps, ``[N, C, 1, 1]``."""
    inputs = ", ".join(f"float[N, {', '.join(map(str, shape))}] {one}" for one, shape in maps)
    return piece(
        f"""
        mean_{name} ({inputs}) => (float[N, {maps[0][1][0]}, 1, 1] {name})
        {{
            {" ".join(f"mean_{one} = GlobalAveragePool ({one})" for one, _ in maps)}
            {name} = Mean ({", ".join(f"mean_{one}" for one, _ in maps)})
        }}
        """
    )


def join_heads(
    heads: Sequence[Head], embeddings: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[Head, list[float]]:
    """A head on joined embeddings whose logits are a weighted sum of those of the heads, and the weights.

    The weights, which are not negative, have the least negative log-likelihood of images that the heads did not learn
    from: ``embeddings`` float32 ``[n, C]`` and ``labels`` int64 ``[n]`` (stacking; Wolpert, Stacked generalization,
    Neural Networks 1992).
    """
    ends = np.cumsum([head.channels for head in heads])
    parts = np.split(embeddings, ends[:-1], axis=1)
    logits = np.stack([head.logits(part) for head, part in zip(heads, parts, strict=True)]).astype(np.float64)
    right = logits[:, np.arange(len(labels)), labels]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        joined = np.tensordot(weights, logits, 1)
        shares = np.exp(joined - logsumexp(joined, axis=1, keepdims=True))
        slope = (np.einsum("mnk,nk->mn", logits, shares) - right).mean(axis=1)
        return float((logsumexp(joined, axis=1) - weights @ right).mean()), slope

    start = np.full(len(heads), 1 / len(heads))
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(heads)).x
    scaled = [head.weights * np.float32(weight) for head, weight in zip(heads, weights, strict=True)]
    bias = sum(head.bias * np.float32(weight) for head, weight in zip(heads, weights, strict=True))
    return Head(np.concatenate(scaled), np.asarray(bias, np.float32)), weights.tolist()
