"""Computing the cells of a comparison: features once, cells side by side within the memory budget, each kept."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path

from oddsight.backbones.cache import FeatureCache, default_cache
from oddsight.backbones.extraction import Extractor, extract_together
from oddsight.data.collection import ImageFile
from oddsight.errors import ImageError, OddsightError
from oddsight.evaluation.compare.cells import Cell, Job, measure, room_taken, store, stored
from oddsight.runtime.progress import Progress

_ROOMY = 1.25
"""A cache must be larger than the features by this factor, as it is emptied to nine tenths when it is full."""


def run_jobs(jobs: Sequence[Job], work: Path, room: int, workers: int, progress: Progress) -> tuple[list[Cell], int]:
    """The cells of all jobs, in order, and how many of them were computed now.

    Args:
        jobs: What is wanted.
        work: Folder of finished cells, which are not computed again.
        room: Bytes that cells may take together beside the process itself.
        workers: Cells that may run side by side.
        progress: Called with phase, done and total.
    """
    folder = work / "cells"
    folder.mkdir(exist_ok=True)
    cells = {index: cell for index, job in enumerate(jobs) if (cell := stored(folder, job)) is not None}
    missing = [index for index in range(len(jobs)) if index not in cells]
    groups: dict[tuple[str, str, int], list[int]] = {}
    for index in missing:
        setting = jobs[index].setting
        groups.setdefault((jobs[index].trial.name, setting.backbone, setting.size), []).append(index)
    done = len(jobs) - len(missing)
    for group in groups.values():
        own = [jobs[index] for index in group]
        with _features(own, work, progress) as cache:
            for position, cell in _Crew(own, folder, cache, room, workers).finished():
                cells[group[position]] = cell
                done += 1
                progress("comparing", done, len(jobs))
    return [cells[index] for index in range(len(jobs))], len(missing)


@contextmanager
def _features(jobs: Sequence[Job], work: Path, progress: Progress) -> Iterator[FeatureCache]:
    """A cache with all features that jobs on one dataset with one backbone and size need."""
    trial = jobs[0].trial
    images = (*trial.training, *trial.test.images)
    with shared_features((job.setting.extractor for job in jobs), images, work, progress) as cache:
        yield cache


@contextmanager
def shared_features(
    wanted: Iterable[Extractor], images: Iterable[ImageFile], work: Path, progress: Progress
) -> Iterator[FeatureCache]:
    """A cache with what extractors of one backbone and size read, by one run of the backbone an image.

    It is the user's if that has room, and otherwise one in ``work`` that is emptied afterwards.

    Args:
        wanted: The extractors.
        images: Of which images.
        work: A folder.
        progress: Called with phase, done and total.
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


class _Stopped(BaseException):
    """Ends a cell whose result nobody waits for any more."""


class _Crew:
    """Jobs at work in threads. When it is left early the jobs under way end at their next sign of progress."""

    def __init__(self, jobs: Sequence[Job], folder: Path, cache: FeatureCache, room: int, workers: int) -> None:
        self.jobs, self.folder, self.cache, self.workers = jobs, folder, cache, workers
        self.all = self.room = room
        self.freed = threading.Condition()
        self.stopped = False

    def finished(self) -> Iterator[tuple[int, Cell]]:
        """Position and cell of each job, as they come."""
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {pool.submit(self._work, job): position for position, job in enumerate(self.jobs)}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                for future in futures:
                    future.cancel()
                with self.freed:
                    self.stopped = True
                    self.freed.notify_all()

    def _work(self, job: Job) -> Cell:
        measured, problem, lasting = None, None, True
        with self._taking(room_taken(job.memory)):
            try:
                measured = measure(job, self.cache, self._watch)
            except OddsightError as error:
                # A file that is gone may be back the next time.
                problem, lasting = str(error), not isinstance(error, ImageError)
            except Exception as error:  # hours of work on other cells must not be lost to one method's mistake
                problem, lasting = f"unexpected {type(error).__name__}: {error}", False
        if lasting:
            return store(self.folder, job, measured, problem)
        return Cell(job.trial.name, job.setting, job.seed, None, problem)

    @contextmanager
    def _taking(self, bytes_: int) -> Iterator[None]:
        """Wait until there is room; what can never fit waits until it is alone."""
        taken = min(bytes_, self.all)
        with self.freed:
            self.freed.wait_for(lambda: self.stopped or self.room >= taken)
            self.room -= taken
        try:
            self._watch("", 0, 0)
            yield
        finally:
            with self.freed:
                self.room += taken
                self.freed.notify_all()

    def _watch(self, phase: str, done: int, total: int) -> None:
        if self.stopped:
            raise _Stopped
