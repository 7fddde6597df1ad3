"""Features of many images: streamed, in order, on every core, and remembered on disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain as flattened

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.backbones import Backbone
from oddsight.backbones.cache import FeatureCache
from oddsight.data.collection import ImageFile
from oddsight.graphs.building import chain, digest, renamed
from oddsight.graphs.features import embedding, level_widths, levels, patch_shape, patches
from oddsight.graphs.preprocessing import preprocessing
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent
from oddsight.runtime.sessions import CPU, Graph, device, run, session


@dataclass(frozen=True)
class Extractor:
    """From ``image`` uint8 ``[N, H, W, 3]`` to the features a method reads, as one graph.

    Attributes:
        backbone: The network.
        layers: Which of its stages.
        size: The side in pixels to which images are brought.
        reading: ``patches``, ``embedding``, ``levels`` or ``pixels``; also the name of the graph's output.
    """

    backbone: Backbone
    layers: tuple[str, ...]
    size: int
    reading: str

    @cached_property
    def graph(self) -> onnx.ModelProto:
        """Preprocessing, backbone and reading, joined."""
        if self.reading == "pixels":
            return preprocessing(self.size)
        parts = [preprocessing(self.size), self.backbone.graph(self.stages), self.reading_graph()]
        return chain(parts, [self.reading])

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The stages it takes from the backbone: ``layers``, and for levels also those of the patches."""
        return tuple(dict.fromkeys((*self.layers, *(self._local if self.reading == "levels" else ()))))

    def reading_graph(self) -> onnx.ModelProto:
        """From the backbone's stages to the reading."""
        shapes = self.backbone.shapes(self.layers, self.size)
        if self.reading == "levels":
            return levels(shapes, self.backbone.shapes(self._local, self.size))
        return patches(shapes) if self.reading == "patches" else embedding(shapes)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """What one image's features are: ``[C, h, w]`` for patches and pixels, ``[C]`` for an embedding.

        For levels, whose array is flat: the width of each profile, then ``C, h, w`` of the patches.
        """
        shapes = self.backbone.shapes(self.layers, self.size)
        if self.reading == "levels":
            return (*level_widths(shapes), *patch_shape(self.backbone.shapes(self._local, self.size)))
        return (
            patch_shape(shapes)
            if self.reading in ("patches", "pixels")
            else (sum(shape[0] for shape in shapes.values()),)
        )

    @cached_property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of the array that holds one image's features."""
        if self.reading == "levels":
            return (sum(self.shape[:-3]) + math.prod(self.shape[-3:]),)
        return self.shape

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the grid of patches."""
        return self.shape[-2], self.shape[-1]

    @property
    def _local(self) -> tuple[str, ...]:
        return self.backbone.layers["patches/8"]


@dataclass(frozen=True, eq=False)
class Extraction:
    """A job: from an image's file to its features. What it takes to another process is a graph and a folder.

    Attributes:
        graph: From image to features.
        maker: What the cache knows the features by.
        shape: Of one image's array.
        cache: Where they are remembered, or None.
    """

    graph: Graph
    maker: str
    shape: tuple[int, ...]
    cache: FeatureCache | None

    def __call__(self, image: ImageFile) -> NDArray[np.float32]:
        """The features of one image."""
        known = self.cache.get(self.maker, image.content, self.shape) if self.cache else None
        if known is not None:
            return known
        feed = {"image": image.read()[None]}
        features = np.asarray(run(self.graph.session, feed, str(image.path))[0][0], np.float32)
        if self.cache:
            self.cache.put(self.maker, image.content, features)
        return features


class Features:
    """The features of a list of images: iterate as often as needed, float32 arrays of :attr:`shape` in order.

    Args:
        extractor: What computes them.
        images: Of which images.
        cache: Where they are remembered, or None.

    Attributes:
        one: The job that computes those of one image.
    """

    def __init__(self, extractor: Extractor, images: Sequence[ImageFile], cache: FeatureCache | None = None) -> None:
        self.extractor = extractor
        self.images = list(images)
        self.shape = extractor.shape
        self.one = Extraction(
            Graph(extractor.graph.SerializeToString), _maker(extractor.graph), extractor.array_shape, cache
        )

    def of(self, images: Sequence[ImageFile]) -> Features:
        """The features of other images, by the same session."""
        other = copy(self)
        other.images = list(images)
        return other

    @property
    def groups(self) -> NDArray[np.intp]:
        """For each image the first position in its group, ``[n]``."""
        firsts: dict[str, int] = {}
        return np.array([firsts.setdefault(image.unit, at) for at, image in enumerate(self.images)], np.intp)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return map_jobs(self.one, self.images)


def extract_together(
    extractors: Sequence[Extractor], images: Sequence[ImageFile], cache: FeatureCache, progress: Progress = silent
) -> None:
    """Fill a cache with what several extractors read, by one run of the backbone an image.

    The features are, bit by bit, those that each extractor computes alone. Where ONNX Runtime optimises the joint graph
    so that they would not be, the extractors run one after the other.

    Args:
        extractors: Of one backbone and size.
        images: Of which images.
        cache: Must have room for all of it.
        progress: Called with phase, done and total.
    """
    if not extractors or not images:
        return
    # Extractors keep their graphs: their copies do not outlive what they are needed for.
    makers = [_maker(replace(one).graph) for one in extractors]
    graph = Graph(_joint(extractors).SerializeToString)
    first = {"image": images[0].read()[None]}
    alone = (session(replace(one).graph.SerializeToString(), threads=1) for one in extractors)
    same = all(
        np.array_equal(joint, run(own, first, str(images[0].path))[0])
        for joint, own in zip(run(graph.session, first, str(images[0].path)), alone, strict=True)
    )

    extract = _JointExtraction(graph, makers, [one.array_shape for one in extractors], cache)
    rounds = [map_jobs(extract, images)] if same else [Features(one, images, cache) for one in extractors]
    for done, _ in enumerate(flattened.from_iterable(rounds), 1):
        progress("extracting features", done, len(rounds) * len(images))


@dataclass(frozen=True, eq=False)
class _JointExtraction:
    """A job: puts into a cache what several extractors read of an image's file.

    Attributes:
        graph: From image to the features of each.
        makers: What the cache knows the features of each by.
        shapes: Of the array of each.
        cache: Where they go.
    """

    graph: Graph
    makers: Sequence[str]
    shapes: Sequence[tuple[int, ...]]
    cache: FeatureCache

    def __call__(self, image: ImageFile) -> None:
        """Extract them, unless all are known."""
        entries = zip(self.makers, self.shapes, strict=True)
        if all(self.cache.get(maker, image.content, shape) is not None for maker, shape in entries):
            return
        arrays = run(self.graph.session, {"image": image.read()[None]}, str(image.path))
        for maker, array in zip(self.makers, arrays, strict=True):
            self.cache.put(maker, image.content, np.asarray(array[0], np.float32))


def _maker(graph: onnx.ModelProto) -> str:
    """What the cache knows features by: their graph, and the device, which rounds in its own way."""
    own = digest(graph)
    return own if device() == CPU else hashlib.sha256(f"{own} {device()}".encode()).hexdigest()


def _joint(extractors: Sequence[Extractor]) -> onnx.ModelProto:
    """One graph with the features of each extractor as an output."""
    backbone, size = extractors[0].backbone, extractors[0].size
    stages = tuple(name for name in backbone.stages if any(name in one.stages for one in extractors))
    parts, outputs = [preprocessing(size), backbone.graph(stages)], []
    for number, one in enumerate(extractors):
        outputs.append(f"{one.reading}_{number}")
        parts.append(renamed(one.reading_graph(), f"features_{number}", {one.reading: outputs[-1]}))
    return chain(parts, outputs)
