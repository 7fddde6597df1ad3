"""Doing the same work on many items with every core, in order and with few items in flight; and stopping it."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import cache, partial
from queue import Empty, Queue, SimpleQueue
from typing import TypeVar
from weakref import WeakSet

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_PATIENCE = 0.5  # Seconds that an interruption waits for work that was told to stop

_LAST_PATIENCE = 5.0
"""Seconds that the end of Python waits for it: a library that came back to a Python that has ended would abort."""

_TICK = 0.1  # Seconds by which a deadline may be missed

_PAUSE = 0.01  # Seconds between two looks at whether work has ended


def cores() -> int:
    """The number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    work: Callable[[Item], Outcome], items: Iterable[Item], *, workers: int | None = None
) -> Iterator[Outcome]:
    """Yield ``work(item)`` for each item, in the order of the items, computed in threads.

    At most two items a worker are started ahead of the one that is yielded, so memory does not grow with their
    number. An exception of ``work`` is raised where its outcome would have been. When the caller is interrupted, what
    is :func:`stoppable` is stopped, and what does not end soon is left behind.
    """
    workers = workers or cores()
    if workers == 1:
        yield from map(work, items)
        return
    crew = _Crew(workers)
    waiting: deque[Future[Outcome]] = deque()
    patience = None
    try:
        for item in items:
            waiting.append(crew.submit(partial(work, item)))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except (KeyboardInterrupt, SystemExit):
        stop_all()
        patience = _PATIENCE
        raise
    finally:
        for future in waiting:
            future.cancel()
        crew.leave(patience)


def prompt_map(
    work: Callable[[Item], Outcome], items: Iterable[Item], *, workers: int | None = None, idle: float = 0.2
) -> Generator[Outcome | None]:
    """As :func:`ordered_map`, for items that come in their own time, such as frames of a camera.

    An item is taken, in a thread of its own, as soon as one of ``workers`` has nothing to do, and each outcome is
    yielded as soon as it is there; so no more items than workers are in flight, and none of them waits. None is yielded
    whenever nothing came for ``idle`` seconds. Whoever stops early makes ``items`` end.
    """
    workers = workers or cores()
    crew, free = _Crew(workers), threading.Semaphore(workers)
    begun: Queue[Future[Outcome] | None] = Queue()
    ended, submitting, failure = threading.Event(), threading.Lock(), list[BaseException]()

    def feed() -> None:
        taken = iter(items)
        try:
            while free.acquire() and not ended.is_set():
                item = next(taken)
                with submitting:
                    if ended.is_set():
                        break
                    begun.put(crew.submit(partial(work, item)))
        except StopIteration:
            pass
        except BaseException as error:  # raised again where the outcomes are taken
            failure.append(error)
        finally:
            begun.put(None)

    threading.Thread(target=feed, daemon=True).start()
    try:
        while True:
            try:
                future = begun.get(timeout=idle)
            except Empty:
                yield None
                continue
            if future is None:
                break
            yield future.result()
            free.release()
        if failure:
            raise failure[0]
    finally:
        with submitting:
            ended.set()
        free.release()
        crew.leave(_PATIENCE)


class _Crew:
    """Threads that take jobs. Unlike those of ThreadPoolExecutor, they never keep Python from ending."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: SimpleQueue[tuple[Future, Callable[[], object]] | None] = SimpleQueue()  # type: ignore[type-arg]
        self._threads: list[threading.Thread] = []
        self._dropped = False
        _crews.add(self)

    def submit(self, work: Callable[[], Outcome]) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self._jobs.put((future, work))
        if len(self._threads) < self._most:
            self._threads.append(threading.Thread(target=self._take_jobs, daemon=True))
            self._threads[-1].start()
        return future

    def leave(self, patience: float | None) -> None:
        """Wait until the jobs under way have ended, for so many seconds at most."""
        for _ in self._threads:
            self._jobs.put(None)
        end = None if patience is None else time.monotonic() + patience
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))

    def drop(self) -> None:
        """Begin no more jobs."""
        self._dropped = True

    def _take_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            with _busy():
                if self._dropped:
                    job[0].cancel()
                _fulfil(*job)
                del job  # and so its outcome, while this thread waits for the next one


def _fulfil(future: Future[Outcome], work: Callable[[], Outcome]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # raised again by who waits
        future.set_exception(error)


def interruptible(work: Callable[[], Outcome]) -> Outcome:
    """``work()``, which Ctrl-C or a signal's handler interrupts even where it is one long call into a library.

    Python handles signals in the main thread only, and not before a call of a library returns. So the main thread has
    it done by another one and waits. When it is interrupted, what is :func:`stoppable` is stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    future: Future[Outcome] = Future()
    number = next(_numbers)

    def fulfil() -> None:
        _fulfil(future, work)
        _running.discard(number)

    try:
        # Before the thread begins: an interruption may come first, and Python must not end under what begins then.
        _running.add(number)
        threading.Thread(target=fulfil, daemon=True).start()
        return future.result()
    except (KeyboardInterrupt, SystemExit):
        stop_all()
        wait([future], _PATIENCE)  # if Python ended while a library's thread is at work, that would crash
        raise


_crews: WeakSet[_Crew] = WeakSet()
_numbers = itertools.count()
_running: set[int] = set()
_stops: dict[int, tuple[Callable[[], None], float]] = {}
_registered = threading.Event()


@contextmanager
def _busy() -> Iterator[None]:
    number = next(_numbers)
    _running.add(number)
    try:
        yield
    finally:
        _running.discard(number)


def settled(patience: float = _LAST_PATIENCE) -> bool:
    """Stop all work, as the process is about to end, and say whether that was done in so many seconds.

    Python calls it at its end, since a generator that nobody reads to its end leaves threads at work.
    """
    for crew in list(_crews):
        crew.drop()
    end = time.monotonic() + patience
    stop_all()
    while _running and time.monotonic() < end:
        time.sleep(_PAUSE)
        stop_all()  # of what came after the first time
    return not _running


atexit.register(settled)


@contextmanager
def stoppable(stop: Callable[[], None], seconds: float | None = None) -> Iterator[None]:
    """Have ``stop`` called, in another thread, if the block takes longer than that, and at :func:`stop_all`.

    It makes the block end soon, may be called more than once, even after the block, and must not fail.
    """
    number = next(_numbers)
    _stops[number] = stop, float("inf") if seconds is None else time.monotonic() + seconds
    if seconds is not None:
        _watchdog()
        _registered.set()
    try:
        yield
    finally:
        del _stops[number]


def stop_all() -> None:
    """Stop everything that is :func:`stoppable` now."""
    for stop, _ in list(_stops.values()):
        stop()


@cache
def _watchdog() -> None:
    """Start the one thread that looks after all deadlines."""
    threading.Thread(target=_stop_the_late, daemon=True).start()


def _stop_the_late() -> None:
    while _registered.wait():
        _registered.clear()
        while _stops:
            time.sleep(_TICK)
            for stop, deadline in list(_stops.values()):
                if time.monotonic() > deadline:
                    stop()
