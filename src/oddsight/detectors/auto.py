"""Auto: several depths of the backbone, and places of the image; the strongest evidence decides."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.data.defects import DEFECTS, IMAGES_WITH_DEFECTS
from oddsight.detectors.auto_graph import decide, divide_patches, split_levels
from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.evidence import Scores, Voice, speaking, voice, weighed
from oddsight.detectors.features import FeatureStream, Rows, channels_of, defects_of, groups_of
from oddsight.detectors.knn import KNN
from oddsight.detectors.mahalanobis import Mahalanobis
from oddsight.detectors.patchcore import PatchCore, moments
from oddsight.detectors.places import DISTANCES, Bank, PlaceDetector, Positions, own_maps
from oddsight.graphs.building import chain, renamed
from oddsight.runtime.bounds import Count, Sigma, Whole
from oddsight.runtime.parallel import cores, ordered_map
from oddsight.runtime.sessions import session

_FOLDS = 5
_FEWEST = 4
_WIDE = 1000
_BATCH = 64
_OWN_MAPS, _FEWEST_MAPS, _CELLS = 200, 40, 392_000
"""Images whose patches are scored, at most; on grids of many cells fewer, to have so many patches, but so many."""


@detector
@dataclass
class Auto(Detector):
    """What needs no choice: detectors at several depths and on patches, each heard by how sure it can be.

    At each depth the mean and spread of every channel are scored by Mahalanobis distance and nearest neighbour (where
    the profile is wide, by nearest neighbour alone). Places are scored by PatchCore, once on the usual stages and once
    on shallower ones, which see finer details, and by PaDiM on a coarse grid; these three speak as one. Scores of
    normal images by detectors that did not learn from them turn scores into evidence, and weigh it: a depth at which
    normal images differ much among themselves counts less. The strongest evidence is the score. Nothing is learned from
    anomalous images.

    Attributes:
        images: Images whose profiles are learned from, at most; PatchCore's banks are filled from all.
        bank_size: Patches in each bank, at most.
        sigma: Smoothing of the map, in grid cells.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the strongest evidence among several depths of the backbone and patches; no tuning"
    paper: ClassVar[str] = "this project (docs/auto.md); its parts: see mahalanobis, knn, patchcore and padim"
    reads: ClassVar[Reading] = "levels"
    localises: ClassVar[bool] = True
    detailed: ClassVar[bool] = True

    images: Annotated[int, Whole(8)] = 2000
    bank_size: Count = 4000
    sigma: Sigma = 1.0

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Learn every detector, and what normal images score; see :meth:`Detector.fit`."""
        self.widths_, self.shape_ = features.shape[:-3], features.shape[-3:]
        self.spans_ = _spans(channels_of(features))
        patches = _Patches(features, self.images)
        units, folds = _folds(patches.groups, np.random.default_rng(seed))
        # Coresets take what they are given; profiles have the rest.
        spare = max(0, memory - self.memory_needed(features.shape, len(features)))
        self.places_ = self._filled(patches, folds, spare, seed)
        self.voices_ = self._weighed(patches, units, folds, seed)

    def _weighed(self, patches: _Patches, units: int, folds: NDArray[np.intp], seed: int) -> list[Voice]:
        """Fit what looks at whole images, and weigh all voices."""
        profiles, defects = patches.profiles, _Defects(patches, self.places_)
        folds = folds[: len(profiles)]
        self.detectors_: list[list[onnx.ModelProto]] = []
        depths = []
        for start, width in zip(np.cumsum([0, *self.widths_[:-1]]), self.widths_, strict=True):
            rows, changed = (
                np.ascontiguousarray(one[:, start : start + width]) for one in (profiles, defects.profiles)
            )
            fits = [_fitted(make, seed) for make in _detectors(width)]
            self.detectors_.append([fit(rows) for fit in fits])
            scores = [_held_out(fit, rows, folds, changed, defects.numbers) for fit in fits]
            normal, defective = ([pair[part] for pair in scores] for part in (0, 1))
            depths.append(voice(normal, defective, defects.numbers))
        first = islice(enumerate(patches), _own(self.shape_))
        own, changed = np.stack(list(own_maps(self.places_, first))), defects.maps
        local = [
            voice([_highest(own[:, number])], [_highest(changed[:, number])], defects.numbers)
            for number in range(len(self.places_))
        ]
        depths, self.together_ = weighed(depths, local, units)
        said = [np.array([self.together_.together(one).max() for one in maps]) for maps in (own, changed)]
        return [*depths, voice(said[:1], said[1:], defects.numbers).weighing(self.together_.weight)]

    def _filled(self, patches: _Patches, folds: NDArray[np.intp], spare: int, seed: int) -> list[PlaceDetector]:
        """A bank for each span of channels and what knows the positions, filled in one pass."""
        mean, covariance = moments(patches)
        made: list[PlaceDetector] = []
        for span in self.spans_:
            one, shape = PatchCore(self.bank_size, sigma=self.sigma), (span.stop - span.start, *self.shape_[1:])
            memory = one.memory_needed(shape, len(patches)) + spare // len(self.spans_)
            one.start(mean[span], covariance[span, span], shape, len(patches), memory=memory, seed=seed)
            made.append(Bank(one, span, patches.groups))
        made.append(Positions(mean, covariance, self.shape_, folds, self.sigma))
        for number, array in enumerate(patches):
            deque(ordered_map(partial(_add, array, number), made), maxlen=0)
        deque(ordered_map(_finish, made), maxlen=0)
        return made

    def graph(self) -> onnx.ModelProto:
        """See :meth:`Detector.graph`; also ``evidence`` and ``voice_p_values``, see :meth:`Detector.voices`."""
        _, height, width = self.shape_
        names = [f"level_{number}" for number in range(len(self.widths_))]
        parts = [split_levels(names, self.widths_, self.shape_)]
        for name, detectors, speaker in zip(names, self.detectors_, self.voices_, strict=False):
            for number, fitted in enumerate(detectors):
                own = f"{name}_{number}"
                proto = onnx.ModelProto()
                proto.CopyFrom(fitted)
                parts.append(renamed(proto, f"{own}_detector", {"embedding": name, "score": own}))
            parts.append(speaking(name, speaker, "N"))
        grid = f"N, {height}, {width}"
        local, alone = _local(self.spans_), self.together_.alone
        parts.append(divide_patches(self.shape_, dict(zip(local, (one.span for one in self.places_), strict=True))))
        for name, one, speaker in zip(local, self.places_, alone, strict=True):
            values = {"patches": f"{name}_patches", "score": f"{name}_score", "anomaly_map": f"{name}_0"}
            parts += [renamed(one.graph(), f"{name}_detector", values), speaking(name, speaker, grid)]
        together = self.together_.graph(local, grid)
        parts += [renamed(together, "together", {"together": "places_0"}), speaking("places", self.voices_[-1], grid)]
        parts.append(decide(names, grid, [speaker.normal for speaker in self.voices_], self.together_.lift))
        return chain(parts, ["score", "anomaly_map", "evidence", "voice_p_values"])

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``images`` images."""
        rows, widths = min(self.images, count), shape[:-3]
        # Profiles, the detectors that hold them, their graphs and the sessions that score with them.
        profiles = 4 * rows * (3 * sum(widths) + 8 * max(widths)) + 40 * min(max(widths), _WIDE) ** 2
        # Images wait for their own maps, two on each core; the maps are kept, in copies for a moment.
        own = cores() * 4 * (DISTANCES + 3 * math.prod(shape[-3:]))
        own += 2 * 4 * (len(_BANKS) + 1) * (_own(shape[-3:]) + IMAGES_WITH_DEFECTS * DEFECTS) * math.prod(shape[-2:])
        banks = len(_BANKS) * PatchCore(self.bank_size).memory_needed(shape[-3:], count)
        return profiles + own + banks + Positions.memory_needed(shape[-3:], _FOLDS)

    def voices(self, layers: Sequence[str]) -> list[str]:
        """See :meth:`Detector.voices`: one for each layer, and one for places."""
        return [*layers, "places"]


_BANKS = ("patches", "details")
"""What compares places with all places of normal images; of a backbone of few stages there is one."""


def _local(spans: Sequence[object]) -> list[str]:
    """The detectors that look at places."""
    return [*_BANKS[: len(spans)], "positions"]


def _own(shape: Sequence[int]) -> int:
    """How many images are scored without their own patches, of that shape ``C, h, w``."""
    return min(_OWN_MAPS, max(_FEWEST_MAPS, _CELLS // math.prod(shape[1:])))


def _highest(maps: NDArray[np.float32]) -> Scores:
    """Of maps ``[n, h, w]``."""
    return np.asarray(maps.max(axis=(1, 2)), np.float64)


def _spans(channels: Sequence[int]) -> list[slice]:
    """Which channels of a patch each bank looks at, of the stages that they come from, from shallow to deep.

    ``patches`` at all but the shallowest stage, ``details`` at the two shallowest; where there are no three, one bank
    looks at all.
    """
    if len(channels) < len(_BANKS) + 1:
        return [slice(0, sum(channels))]
    return [slice(channels[0], sum(channels)), slice(0, sum(channels[:2]))]


class _Patches:
    """The patches of levels; profiles of the first images are kept as they pass by."""

    def __init__(self, features: FeatureStream, kept: int) -> None:
        self.features = features
        self.shape, self.groups = features.shape[-3:], groups_of(features)
        self.width = sum(features.shape[:-3])
        self.profiles = np.empty((min(kept, len(features)), self.width), np.float32)

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for number, array in enumerate(self.features):
            if number < len(self.profiles):
                self.profiles[number] = array[: self.width]
            yield array[self.width :].reshape(self.shape)


def _add(patches: NDArray[np.float32], number: int, one: PlaceDetector) -> None:
    one.add(patches, number)


def _finish(one: PlaceDetector) -> None:
    one.finish()


def _detectors(width: int) -> list[Callable[[], Detector]]:
    """The covariance of a wide profile is more than images can tell."""
    return [KNN] if width > _WIDE else [Mahalanobis, KNN]


def _fitted(make: Callable[[], Detector], seed: int) -> Callable[[NDArray[np.float32]], onnx.ModelProto]:
    def fit(rows: NDArray[np.float32]) -> onnx.ModelProto:
        detector, stream = make(), Rows(rows)
        detector.learn(stream, memory=detector.memory_needed(stream.shape, len(rows)), seed=seed)
        return detector.graph()

    return fit


def _folds(groups: NDArray[np.intp], rng: np.random.Generator) -> tuple[int, NDArray[np.intp]]:
    """How many groups there are, and the fold of each image ``[n]``; images of one group share it.

    Where that would leave a fold next to nothing to learn from, each image counts as a group.
    """
    _, unit = np.unique(groups, return_inverse=True)
    count = int(unit.max()) + 1
    folds = (rng.permutation(count) % min(_FOLDS, count))[unit]
    if count < len(unit) and len(unit) - np.bincount(folds).max() < _FEWEST:
        return _folds(np.arange(len(groups)), rng)
    return count, folds


def _held_out(
    fit: Callable[[NDArray[np.float32]], onnx.ModelProto],
    rows: NDArray[np.float32],
    folds: NDArray[np.intp],
    changed: NDArray[np.float32],
    numbers: NDArray[np.intp],
) -> tuple[Scores, Scores]:
    """Scores of all rows, each by a detector that learned from other folds, and of changed copies of some of them.

    Args:
        fit: Learns from rows.
        rows: Profiles ``[n, width]``.
        folds: Of each.
        changed: Profiles of changed copies ``[m, width]``.
        numbers: Of which row each is a copy.
    """
    scores, of_changed = np.empty(len(rows)), np.empty(len(changed))
    for number in range(int(folds.max()) + 1):
        loaded = session(fit(rows[folds != number]).SerializeToString(), threads=1)
        for array, fold, values in ((rows, folds, scores), (changed, folds[numbers], of_changed)):
            own = np.flatnonzero(fold == number)
            for start in range(0, len(own), _BATCH):
                some = own[start : start + _BATCH]
                values[some] = loaded.run(["score"], {"embedding": array[some]})[0]
        # Freed before the next fold is fitted: its bank is as large as the profiles.
        del loaded
    return scores, of_changed


class _Defects:
    """What is known of copies of images with small defects.

    Attributes:
        numbers: Of which image each is a copy, ``[m]``.
        profiles: Of each, ``[m, width]``.
        maps: Of each by all that looks at places, without what it learned from the image's group,
            ``[m, detectors, h, w]``.
    """

    def __init__(self, patches: _Patches, looking: Sequence[PlaceDetector]) -> None:
        numbers, profiles = [], []

        def copies() -> Iterator[tuple[int, NDArray[np.float32]]]:
            for number, array in defects_of(patches.features):
                if number < len(patches.profiles):
                    numbers.append(number)
                    profiles.append(array[: patches.width])
                    yield number, array[patches.width :].reshape(patches.shape)

        maps = list(own_maps(looking, copies()))
        self.maps = np.array(maps, np.float32).reshape(-1, len(looking), *patches.shape[1:])
        self.numbers = np.array(numbers, np.intp)
        self.profiles = np.array(profiles, np.float32).reshape(-1, patches.width)
