"""Auto: several depths of the backbone, and patches; the strongest evidence decides."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.auto_graph import decide, divide_patches, split_levels
from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.evidence import Scores, Voice, speaking, voice, weighed
from oddsight.detectors.features import FeatureStream, Rows, channels_of, defects_of, groups_of
from oddsight.detectors.knn import KNN
from oddsight.detectors.mahalanobis import Mahalanobis
from oddsight.detectors.patchcore import PatchCore, moments
from oddsight.graphs.building import chain, renamed
from oddsight.runtime.bounds import Count, Sigma, Whole
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.parallel import cores, ordered_map
from oddsight.runtime.sessions import session

_FOLDS = 5
_FEWEST = 4
_WIDE = 1000
_BATCH = 64
_DISTANCES = 2**19
"""From patches to the bank, in memory at once."""

_OWN_SCORES, _FEWEST_SCORES, _CELLS = 200, 40, 392_000
"""Images whose patches are scored, at most; on grids of many cells fewer, to have so many patches, but so many."""


@detector
@dataclass
class Auto(Detector):
    """What needs no choice: detectors at several depths and on patches, each heard by how sure it can be.

    At each depth the mean and spread of every channel are scored by Mahalanobis distance and nearest neighbour (where
    the profile is wide, by nearest neighbour alone), and patches by PatchCore: those of the usual stages, and those of
    shallower ones, which see finer details. Scores of normal images by detectors that did not learn from them turn
    scores into evidence, and weigh it: a depth at which normal images differ much among themselves counts less. The
    strongest evidence is the score. Nothing is learned from anomalous images.

    Attributes:
        images: Images whose profiles are learned from, at most; PatchCore's banks are filled from all.
        bank_size: Patches in each bank, at most.
        sigma: Smoothing of the map, in grid cells.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the strongest evidence among several depths of the backbone and patches; no tuning"
    paper: ClassVar[str] = "this project (docs/auto.md); its parts: see mahalanobis, knn and patchcore"
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
        # Coresets take what they are given; profiles have the rest.
        spare = max(0, memory - self.memory_needed(features.shape, len(features)))
        self.patchcores_ = self._filled(patches, spare, seed)
        self.voices_ = self._weighed(patches, seed)

    def _weighed(self, patches: _Patches, seed: int) -> list[Voice]:
        """Fit what looks at whole images, and weigh all voices."""
        profiles, defects = patches.profiles, _Defects(patches, self.patchcores_, self.spans_)
        units, folds = _folds(patches.groups[: len(profiles)], np.random.default_rng(seed))
        self.detectors_: list[list[onnx.ModelProto]] = []
        depths = []
        for start, width in zip(np.cumsum([0, *self.widths_[:-1]]), self.widths_, strict=True):
            rows, changed = (
                np.ascontiguousarray(one[:, start : start + width]) for one in (profiles, defects.profiles)
            )
            fits = [_fitted(make, seed) for make in _detectors(width)]
            self.detectors_.append([fit(rows) for fit in fits])
            scores = [_held_out(fit, rows, folds, changed, defects.numbers) for fit in fits]
            depths.append(voice([normal for normal, _ in scores], [defective for _, defective in scores]))
        count = min(_OWN_SCORES, max(_FEWEST_SCORES, _CELLS // math.prod(self.shape_[1:])))
        own = _own_scores(self.patchcores_, self.spans_, patches.groups, enumerate(islice(patches, count)))
        local = [voice([scores], [changed]) for scores, changed in zip(own, defects.scores, strict=True)]
        return weighed(depths, local, units)

    def _filled(self, patches: _Patches, spare: int, seed: int) -> list[PatchCore]:
        """A PatchCore for each span of channels, filled in one pass."""
        mean, covariance = moments(patches)
        height, width = self.shape_[1:]
        made = []
        for start, stop in self.spans_:
            one, shape = PatchCore(self.bank_size, sigma=self.sigma), (stop - start, height, width)
            memory = one.memory_needed(shape, len(patches)) + spare // len(self.spans_)
            part = slice(start, stop)
            one.start(mean[part], covariance[part, part], shape, len(patches), memory=memory, seed=seed)
            made.append(one)
        for number, array in enumerate(patches):
            deque(ordered_map(partial(_add, array, number), zip(made, self.spans_, strict=True)), maxlen=0)
        deque(ordered_map(PatchCore.finish, made), maxlen=0)
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
        local = _LOCAL[: len(self.spans_)]
        parts.append(divide_patches(self.shape_, dict(zip(local, self.spans_, strict=True))))
        for name, one, speaker in zip(local, self.patchcores_, self.voices_[len(names) :], strict=True):
            values = {"patches": f"{name}_patches", "score": f"{name}_score", "anomaly_map": f"{name}_0"}
            parts += [renamed(one.graph(), f"{name}_patchcore", values), speaking(name, speaker, grid)]
        parts.append(decide(names, local, grid, [speaker.normal for speaker in self.voices_]))
        return chain(parts, ["score", "anomaly_map", "evidence", "voice_p_values"])

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``images`` images."""
        rows, widths = min(self.images, count), shape[:-3]
        # Profiles, the detectors that hold them, their graphs and the sessions that score with them.
        profiles = 4 * rows * (3 * sum(widths) + 8 * max(widths)) + 40 * min(max(widths), _WIDE) ** 2
        # Images wait for their own scores, two on each core.
        own = cores() * 4 * (_DISTANCES + 3 * math.prod(shape[-3:]))
        return profiles + own + len(_LOCAL) * PatchCore(self.bank_size).memory_needed(shape[-3:], count)

    def voices(self, layers: Sequence[str]) -> list[str]:
        """See :meth:`Detector.voices`: one for each layer, and two for patches, or one of a backbone of few stages."""
        return [*layers, *_LOCAL[: len(getattr(self, "spans_", _LOCAL))]]


_LOCAL = ("patches", "details")
"""The voices that look at places."""


def _spans(channels: Sequence[int]) -> list[tuple[int, int]]:
    """Which channels of a patch each voice looks at, of the stages that they come from, from shallow to deep.

    ``patches`` at all but the shallowest stage, ``details`` at the two shallowest; where there are no three, one voice
    looks at all.
    """
    if len(channels) < len(_LOCAL) + 1:
        return [(0, sum(channels))]
    return [(channels[0], sum(channels)), (0, sum(channels[:2]))]


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


def _add(patches: NDArray[np.float32], number: int, reader: tuple[PatchCore, tuple[int, int]]) -> None:
    one, (start, stop) = reader
    one.add(patches[start:stop], number)


def _detectors(width: int) -> list[Callable[[], Detector]]:
    """The covariance of a wide profile is more than images can tell."""
    return [KNN] if width > _WIDE else [Mahalanobis, KNN]


def _fitted(make: Callable[[], Detector], seed: int) -> Callable[[NDArray[np.float32]], onnx.ModelProto]:
    def fit(rows: NDArray[np.float32]) -> onnx.ModelProto:
        detector, stream = make(), Rows(rows)
        return detector.fit(stream, memory=detector.memory_needed(stream.shape, len(rows)), seed=seed).graph()

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
        scores: For each PatchCore its score of each, without the patches of the image's group in the bank.
    """

    def __init__(self, patches: _Patches, fitted: Sequence[PatchCore], spans: Sequence[tuple[int, int]]) -> None:
        numbers, profiles = [], []

        def places() -> Iterator[tuple[int, NDArray[np.float32]]]:
            for number, array in defects_of(patches.features):
                if number < len(patches.profiles):
                    numbers.append(number)
                    profiles.append(array[: patches.width])
                    yield number, array[patches.width :].reshape(patches.shape)

        self.scores = _own_scores(fitted, spans, patches.groups, places())
        self.numbers = np.array(numbers, np.intp)
        self.profiles = np.array(profiles, np.float32).reshape(-1, patches.width)


def _own_scores(
    fitted: Sequence[PatchCore],
    spans: Sequence[tuple[int, int]],
    groups: NDArray[np.intp],
    images: Iterable[tuple[int, NDArray[np.float32]]],
) -> list[Scores]:
    """For each PatchCore scores of images, each without the patches of its group in the bank.

    Args:
        fitted: What scores.
        spans: Which channels each looks at.
        groups: Of every image.
        images: The number and the patches ``[C, h, w]`` of each.
    """
    score = partial(_own_score_of_each, fitted, spans, [groups[one.sources_] for one in fitted], groups)
    scores = np.array(list(map_jobs(score, images)), np.float64).reshape(-1, len(fitted))
    return list(scores.T)


def _own_score_of_each(
    fitted: Sequence[PatchCore],
    spans: Sequence[tuple[int, int]],
    sources: Sequence[NDArray[np.intp]],
    groups: NDArray[np.intp],
    image: tuple[int, NDArray[np.float32]],
) -> list[float]:
    number, patches = image
    return [
        _own_score(one, patches[start:stop], source != groups[number])
        for one, (start, stop), source in zip(fitted, spans, sources, strict=True)
    ]


def _own_score(fitted: PatchCore, patches: NDArray[np.float32], others: NDArray[np.bool_]) -> float:
    """Score of an image's patches ``[C, h, w]`` by those in the bank that are from others, or all if none is."""
    from scipy.ndimage import gaussian_filter

    rows = fitted.projected(patches)
    squared = _nearest(rows, fitted.bank_[others if others.any() else ~others]) + np.einsum("ij,ij->i", rows, rows)
    distances = np.sqrt(np.maximum(squared, 0)).reshape(patches.shape[1:])
    return float(gaussian_filter(distances, fitted.sigma, mode="nearest", truncate=3.0).max())


def _nearest(rows: NDArray[np.float32], bank: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distance of each row to the nearest in the bank, less the square of the row."""
    nearest = np.full(len(rows), np.inf, np.float32)
    # One product gives distances: the squares of the bank are a column of their own.
    columns = np.ascontiguousarray(np.column_stack([rows, np.ones(len(rows), np.float32)]).T)
    weights = np.column_stack([np.float32(-2) * bank, np.einsum("ij,ij->i", bank, bank)])
    step = max(1, _DISTANCES // len(rows))
    for start in range(0, len(bank), step):
        np.minimum(nearest, (weights[start : start + step] @ columns).min(axis=0), out=nearest)
    return nearest
