"""Computing the cells of a comparison: features once, cells side by side within the memory budget, each kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import prod
from pathlib import Path

from oddsight.backbones.cache import FeatureCache, default_cache
from oddsight.backbones.extraction import Extractor, extract_together
from oddsight.data.collection import ImageFile
from oddsight.errors import ImageError, OddsightError
from oddsight.evaluation.compare.cells import Cell, Job, measure, room_taken, store, stored
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.parallel import stoppable
from oddsight.runtime.progress import Progress

_ROOMY = 1.25
"""A cache must be larger than the features by this factor, as it is emptied to nine tenths when it is full."""


def run_jobs(jobs: Sequence[Job], work: Path, room: int, workers: int, progress: Progress) -> tuple[list[Cell], int]:
    """The cells of all jobs, in order, and how many of them were computed now.

    Finished cells are in ``work``. Those that are missing run side by side, as many as ``workers`` and as ``room``
    allows, the bytes that they may take together beside the process itself.
    """
    folder = work / "cells"
    folder.mkdir(exist_ok=True)
    cells = {index: cell for index, job in enumerate(jobs) if (cell := stored(folder, job)) is not None}
    missing = [index for index in range(len(jobs)) if index not in cells]
    done = len(jobs) - len(missing)
    for alike in _groups(jobs, missing, lambda job: (job.trial.name, job.setting.backbone, job.extractor.size)):
        trial = jobs[alike[0]].trial
        wanted, images = (jobs[index].extractor for index in alike), (*trial.training, *trial.test.images)
        with shared_features(wanted, images, work, progress) as cache:
            interruption = Interruption()
            compute = partial(compute_cell, folder, cache, interruption)
            # Held by name: when it is closed, it waits for the jobs under way, which are told to end first.
            outcomes = _compute(jobs, alike, compute, room, workers)
            try:
                for index, cell in outcomes:
                    cells[index] = cell
                    done += 1
                    progress("comparing", done, len(jobs))
            except BaseException:
                interruption.event.set()
                raise
    return [cells[index] for index in range(len(jobs))], len(missing)


def _compute(
    jobs: Sequence[Job], indices: Sequence[int], compute: Callable[[Job], Cell], room: int, workers: int
) -> Iterator[tuple[int, Cell]]:
    """Index and cell of each job; those that take alike run side by side, as many as there is room for."""
    for group in _groups(jobs, indices, lambda job: side_by_side(job, room, workers)):
        most = side_by_side(jobs[group[0]], room, workers)
        yield from zip(group, map_jobs(compute, (jobs[index] for index in group), workers=most), strict=True)


def _groups(jobs: Sequence[Job], indices: Iterable[int], kind: Callable[[Job], Hashable]) -> list[list[int]]:
    """Indices of jobs of one kind each."""
    groups: dict[Hashable, list[int]] = {}
    for index in indices:
        groups.setdefault(kind(jobs[index]), []).append(index)
    return list(groups.values())


def side_by_side(job: Job, room: int, workers: int) -> int:
    """How many jobs like this one may run at once; what can never fit runs alone."""
    return max(1, min(workers, room // max(1, room_taken(job.memory))))


@contextmanager
def shared_features(
    wanted: Iterable[Extractor], images: Iterable[ImageFile], work: Path, progress: Progress
) -> Iterator[FeatureCache]:
    """A cache with what extractors of one backbone and size read, by one run of the backbone an image.

    It is the user's if that has room, and otherwise one in ``work`` that is emptied afterwards.
    """
    extractors: dict[tuple[tuple[str, ...], str], Extractor] = {}
    for extractor in wanted:
        extractors.setdefault((extractor.layers, extractor.reading), extractor)
    distinct = {image.content: image for image in images}
    needed = int(_ROOMY * len(distinct) * sum(4 * prod(one.shape) + 1000 for one in extractors.values()))
    cache = default_cache()
    own = None
    if cache is None or cache.limit < needed:
        cache = own = FeatureCache(work / "features", needed)
    try:
        extract_together(list(extractors.values()), list(distinct.values()), cache, progress)
        extractors.clear()
        yield cache
    finally:
        if own is not None:
            _empty(own)


def _empty(cache: FeatureCache) -> None:
    """Delete what the cache wrote, and its folders if nothing else is in them."""
    FeatureCache(cache.folder, 0).shrink()
    for path in (*cache.folder.glob("*"), cache.folder):
        with suppress(OSError):
            path.rmdir()


class Interruption:
    """Tells cells that nobody waits for them any more; a copy in another process never does."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __reduce__(self) -> tuple[type[Interruption], tuple[()]]:
        return Interruption, ()


class _Stopped(BaseException):
    """Ends a cell whose result nobody waits for any more."""


def compute_cell(folder: Path, cache: FeatureCache, interruption: Interruption, job: Job) -> Cell:
    """Measure a cell and keep it, or the error in its place. Interrupted, it ends at its next sign of progress."""

    def watch(phase: str, done: int, total: int) -> None:
        if interruption.event.is_set():
            raise _Stopped

    measured, problem, lasting = None, None, True
    with stoppable(interruption.event.set):
        try:
            watch("", 0, 0)
            measured = measure(job, cache, watch)
        except OddsightError as error:
            # A file that is gone may be back the next time.
            problem, lasting = str(error), not isinstance(error, ImageError)
        except Exception as error:  # hours of work on other cells must not be lost to one method's mistake
            problem, lasting = f"unexpected {type(error).__name__}: {error}", False
    if problem is not None and interruption.event.is_set():
        raise _Stopped  # a graph that was stopped is no error of the method
    if lasting:
        return store(folder, job, measured, problem)
    return Cell(job.trial.name, job.setting, job.seed, None, problem)
