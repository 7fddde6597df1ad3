"""Features of many images: streamed, in order, on every core, and remembered on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.backbones import Backbone
from oddsight.backbones.cache import FeatureCache
from oddsight.datasets.collection import ImageFile
from oddsight.graphs.building import chain, digest
from oddsight.graphs.features import READINGS
from oddsight.graphs.preprocessing import preprocessing
from oddsight.graphs.running import run, session
from oddsight.parallel import ordered_map


@dataclass(frozen=True)
class Extractor:
    """From ``image`` uint8 ``[N, H, W, 3]`` to the features a method reads, as one graph.

    Attributes:
        backbone: The network.
        layers: Which of its stages.
        size: The side in pixels to which images are brought.
        reading: ``patches`` or ``embedding``; also the name of the graph's output.
    """

    backbone: Backbone
    layers: tuple[str, ...]
    size: int
    reading: str

    @cached_property
    def graph(self) -> onnx.ModelProto:
        """Preprocessing, backbone and reading, joined."""
        shapes = self.backbone.shapes(self.layers, self.size)
        parts = [preprocessing(self.size), self.backbone.graph(self.layers), READINGS[self.reading](shapes)]
        return chain(parts, [self.reading])

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's features: ``[C, h, w]`` for patches, ``[C]`` for an embedding."""
        dims = self.graph.graph.output[0].type.tensor_type.shape.dim[1:]
        return tuple(dim.dim_value for dim in dims)


class Features:
    """The features of a list of images: iterate as often as needed, float32 arrays of :attr:`shape` in order.

    Args:
        extractor: What computes them.
        images: Of which images.
        cache: Where they are remembered, or None.
    """

    def __init__(self, extractor: Extractor, images: Sequence[ImageFile], cache: FeatureCache | None = None) -> None:
        self.extractor = extractor
        self.images = list(images)
        self.shape = extractor.shape
        self._cache = cache
        self._maker = digest(extractor.graph)
        self._session = session(extractor.graph.SerializeToString(), threads=1)

    def of(self, images: Sequence[ImageFile]) -> Features:
        """The features of other images, by the same session."""
        other = copy(self)
        other.images = list(images)
        return other

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return ordered_map(self._features, self.images)

    def _features(self, image: ImageFile) -> NDArray[np.float32]:
        known = self._cache.get(self._maker, image.content) if self._cache else None
        if known is not None and known.shape == self.shape:
            return known
        features = np.asarray(run(self._session, image.read(), str(image.path))[0][0], np.float32)
        if self._cache:
            self._cache.put(self._maker, image.content, features)
        return features
