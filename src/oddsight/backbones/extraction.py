"""Features of many images: streamed, in order, on every core, and remembered on disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain as flattened
from itertools import islice, product

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.backbones import Backbone
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.folding import share_weights
from oddsight.data.collection import ImageFile
from oddsight.data.defects import DEFECTS, IMAGES_WITH_DEFECTS, small_defects
from oddsight.graphs.building import chain, copied, digest, renamed
from oddsight.graphs.features import attended, embedding, level_widths, levels, patch_shape, patches
from oddsight.graphs.preprocessing import Size, preprocessing, sides
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent, track
from oddsight.runtime.sessions import CPU, Graph, device, run, session

_OVERVIEW = "overview_"  # Before the names of what a network reads and gives at the size of the whole image

_WORTHWHILE = 0.5  # Share of the pixels below which a whole image is read at a size of its own


@dataclass(frozen=True, eq=False)
class Attention:
    """Where in an image an embedding looks."""

    graph: onnx.ModelProto  # From `image` to `attention`, float32 [N, h, w], which is higher where to look
    grid: tuple[int, int]  # Height and width of it
    backbone: str  # SHA-256 of the network that it reads
    size: Size  # At which it reads an image


@dataclass(frozen=True)
class Extractor:
    """From ``image`` uint8 ``[N, H, W, 3]`` to the features a method reads, as one graph."""

    backbone: Backbone  # The network
    layers: tuple[str, ...]  # Which of its stages
    size: Size  # To which images are brought, in pixels: the side of a square, or height and width
    reading: str  # `patches`, `embedding`, `levels` or `pixels`; also the name of the graph's output
    attention: Attention | None = None  # Where an embedding looks; without, everywhere alike

    @cached_property
    def graph(self) -> onnx.ModelProto:
        """Preprocessing, backbone and reading, joined."""
        if self.reading == "pixels":
            return preprocessing(self.size)
        if not self.runs_twice:
            parts = [preprocessing(self.size), self.backbone.graph(self.stages), self.reading_graph()]
            if self.attention is None:
                return chain(parts, [self.reading])
            whole = chain([copied(self.attention.graph), *parts], [self.reading])
            share_weights(whole)
            return whole
        names = {name: f"{_OVERVIEW}{name}" for name in ("pixels", *self.layers)}
        small = [preprocessing(self.overview), self.backbone.graph(self.layers)]
        small = [renamed(part, f"{_OVERVIEW}{part.graph.name}", names) for part in small]
        large = [preprocessing(self.size), self.backbone.graph(self._local)]
        whole = chain([*small, *large, self.reading_graph()], [self.reading])
        share_weights(whole)
        return whole

    @cached_property
    def digest(self) -> str:
        """Of the graph."""
        return digest(self.graph)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The stages it takes from the backbone: ``layers``, and for levels also those of the patches."""
        return tuple(dict.fromkeys((*self.layers, *(self._local if self.reading == "levels" else ()))))

    @cached_property
    def overview(self) -> Size:
        """The size at which levels see the whole image: the network's, in the shape of ``size``.

        Unless that is hardly smaller, so that a second run of the network is not worth its time.
        """
        height, width = sides(self.size)
        shrink = self.backbone.size / math.sqrt(height * width)
        if self.backbone.fixed or shrink**2 >= _WORTHWHILE:
            return self.size
        multiple = self.backbone.multiple
        height, width = (max(multiple, round(shrink * side / multiple) * multiple) for side in (height, width))
        return height if height == width else (height, width)

    @property
    def runs_twice(self) -> bool:
        """Whether the network runs twice for an image: at ``size``, and at ``overview``."""
        return self.reading == "levels" and self.overview != self.size

    def reading_graph(self) -> onnx.ModelProto:
        """From the backbone's stages to the reading."""
        if self.reading == "levels":
            shapes = self.backbone.shapes(self.layers, self.overview)
            if self.runs_twice:
                shapes = {f"{_OVERVIEW}{name}": shape for name, shape in shapes.items()}
            return levels(shapes, self.backbone.shapes(self._local, self.size), self._grid)
        shapes = self.backbone.shapes(self.layers, self.size)
        if self.reading == "patches":
            return patches(shapes)
        return embedding(shapes) if self.attention is None else attended(shapes, self.attention.grid)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """What one image's features are: ``[C, h, w]`` for patches and pixels, ``[C]`` for an embedding.

        For levels, whose array is flat: the width of each profile, then ``C, h, w`` of the patches.
        """
        shapes = self.backbone.shapes(self.layers, self.size)
        if self.reading == "levels":
            local = self.backbone.shapes(self._local, self.size)
            return (*level_widths(shapes), *patch_shape(local, self._grid))
        if self.reading in ("patches", "pixels"):
            return patch_shape(shapes)
        return (sum(shape[0] for shape in shapes.values()),)

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

    @cached_property
    def channels(self) -> tuple[int, ...]:
        """How many channels of a patch each stage gives, from shallow to deep."""
        stages = self._local if self.reading == "levels" else self.layers
        return tuple(shape[0] for shape in self.backbone.shapes(stages, self.size).values())

    @property
    def _local(self) -> tuple[str, ...]:
        """The stages of the patches of levels: those of patches, and the one before them, which sees finer details."""
        usual, names = self.backbone.layers["patches/8"], list(self.backbone.stages)
        first = names.index(usual[0])
        return (names[first - 1], *usual) if first else usual

    @property
    def _grid(self) -> str:
        """The stage whose grid the patches of levels are on."""
        return max(self.backbone.layers["patches/8"], key=lambda name: -self.backbone.stages[name][0])


@dataclass(frozen=True, eq=False)
class Extraction:
    """A job: from an image's file to its features. What it takes to another process is a graph and a folder."""

    graph: Graph  # From image to features
    maker: str  # What the cache knows the features by
    shape: tuple[int, ...]  # Of one image's array
    cache: FeatureCache | None  # Where they are remembered, or None

    def __call__(self, image: ImageFile) -> NDArray[np.float32]:
        """The features of one image."""
        return self.known(image.content, image.read, str(image.path))

    def known(self, content: str, pixels: Callable[[], NDArray[np.uint8]], name: str) -> NDArray[np.float32]:
        """The features that are remembered for some content, or those of its pixels."""
        known = self.cache.get(self.maker, content, self.shape) if self.cache else None
        if known is not None:
            return known
        features = np.asarray(run(self.graph.session, {"image": pixels()[None]}, name)[0][0], np.float32)
        if self.cache:
            self.cache.put(self.maker, content, features)
        return features


def _defective(one: Extraction, copy: tuple[ImageFile, int]) -> NDArray[np.float32]:
    """Features of an image with a small defect of a kind; what it is depends on the image alone."""
    image, kind = copy
    content = hashlib.sha256(f"{image.content} with defect {kind}".encode()).hexdigest()

    def pixels() -> NDArray[np.uint8]:
        return next(islice(small_defects(image.read(), int(image.content[:8], 16)), kind, None))

    return one.known(content, pixels, str(image.path))


class Features:
    """The features of a list of images: iterate as often as needed, float32 arrays of :attr:`shape` in order.

    By default one is computed on every core; ``one`` is the job that computes those of one image.
    """

    def __init__(
        self,
        extractor: Extractor,
        images: Sequence[ImageFile],
        cache: FeatureCache | None = None,
        *,
        workers: int | None = None,
    ) -> None:
        self.extractor = extractor
        self.workers = workers
        self.images = list(images)
        self.shape = extractor.shape
        graph = Graph(extractor.graph.SerializeToString)
        self.one = Extraction(graph, _maker(extractor.digest), extractor.array_shape, cache)

    def of(self, images: Sequence[ImageFile]) -> Features:
        """The features of other images, by the same session."""
        other = copy(self)
        other.images = list(images)
        return other

    @property
    def channels(self) -> tuple[int, ...]:
        """See :attr:`Extractor.channels`."""
        return self.extractor.channels

    @property
    def groups(self) -> NDArray[np.intp]:
        """For each image the first position in its group, ``[n]``."""
        firsts: dict[str, int] = {}
        return np.array([firsts.setdefault(image.unit, at) for at, image in enumerate(self.images)], np.intp)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return map_jobs(self.one, self.images, workers=self.workers)

    def defects(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Features of copies of the first images with small defects, with the numbers of these images."""
        copies = list(product(range(min(IMAGES_WITH_DEFECTS, len(self.images))), range(DEFECTS)))
        job = partial(_defective, self.one)
        arrays = map_jobs(job, [(self.images[number], kind) for number, kind in copies], workers=self.workers)
        for (number, _), array in zip(copies, arrays, strict=True):
            yield number, array


def extract_together(
    extractors: Sequence[Extractor], images: Sequence[ImageFile], cache: FeatureCache, progress: Progress = silent
) -> None:
    """Fill a cache with what several extractors of one backbone and size read, by one run of the backbone an image.

    The features are, bit by bit, those that each extractor computes alone. Where ONNX Runtime optimises the joint graph
    so that they would not be, the extractors run one after the other. The cache must have room for all of it.
    """
    if not extractors or not images:
        return
    joined = [one for one in extractors if not one.runs_twice]
    apart = [one for one in extractors if one.runs_twice]
    extract = _joint_extraction(joined, images[0], cache) if joined else None
    rounds: list[Iterable[object]] = [Features(one, images, cache) for one in apart]
    rounds += [map_jobs(extract, images)] if extract is not None else [Features(one, images, cache) for one in joined]
    for _ in track(flattened.from_iterable(rounds), "extracting features", len(rounds) * len(images), progress):
        pass


def _joint_extraction(
    extractors: Sequence[Extractor], image: ImageFile, cache: FeatureCache
) -> _JointExtraction | None:
    """The job of several extractors, or None if it gives other features of an image than each of them alone."""
    # Extractors keep their graphs: their copies do not outlive what they are needed for.
    makers = [_maker(replace(one).digest) for one in extractors]
    graph = Graph(_joint(extractors).SerializeToString)
    feed = {"image": image.read()[None]}
    alone = (session(replace(one).graph.SerializeToString(), threads=1) for one in extractors)
    for joint, own in zip(run(graph.session, feed, str(image.path)), alone, strict=True):
        if not np.array_equal(joint, run(own, feed, str(image.path))[0]):
            return None
    return _JointExtraction(graph, makers, [one.array_shape for one in extractors], cache)


@dataclass(frozen=True, eq=False)
class _JointExtraction:
    """A job: puts into a cache what several extractors read of an image's file."""

    graph: Graph  # From image to the features of each
    makers: Sequence[str]  # What the cache knows the features of each by
    shapes: Sequence[tuple[int, ...]]  # Of the array of each
    cache: FeatureCache  # Where they go

    def __call__(self, image: ImageFile) -> None:
        """Extract them, unless all are known."""
        entries = zip(self.makers, self.shapes, strict=True)
        if all(self.cache.get(maker, image.content, shape) is not None for maker, shape in entries):
            return
        arrays = run(self.graph.session, {"image": image.read()[None]}, str(image.path))
        for maker, array in zip(self.makers, arrays, strict=True):
            self.cache.put(maker, image.content, np.asarray(array[0], np.float32))


def _maker(own: str) -> str:
    """What the cache knows features by: the digest of their graph, and the device, which rounds in its own way."""
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
