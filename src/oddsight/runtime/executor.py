"""How a list of jobs runs: in threads of this process, or wherever an executor takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

from oddsight.runtime.parallel import ordered_map

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Executor(Protocol):
    """Runs one job on many items.

    A job is data: a function of a module, a ``functools.partial`` of one, or an object of plain values that can be
    called. It, its items and its outcomes can be pickled, so an executor may send them to other processes. A job makes
    what is costly, such as a session, where it first runs: send it once to each worker rather than with each item.
    """

    def map(
        self, job: Callable[[Item], Outcome], items: Iterable[Item], *, workers: int | None = None
    ) -> Iterator[Outcome]:
        """Yield ``job(item)`` for each item, in the order of the items, with few of them in flight.

        An exception of the job is raised where its outcome would have been.

        Args:
            job: What to do.
            items: To what; taken one by one, in the calling thread.
            workers: How many at once; by default as the executor sees fit.
        """


class Threads:
    """Threads of this process, as many as there are processors: decoding and ONNX Runtime release Python's lock."""

    def map(
        self, job: Callable[[Item], Outcome], items: Iterable[Item], *, workers: int | None = None
    ) -> Iterator[Outcome]:
        """See :class:`Executor`."""
        return ordered_map(job, items, workers=workers)


_current: ContextVar[Executor] = ContextVar("executor", default=Threads())  # noqa: B039 - has no state


@contextmanager
def use_executor(executor: Executor) -> Iterator[None]:
    """Have an executor run the jobs that this thread starts within the block."""
    token = _current.set(executor)
    try:
        yield
    finally:
        _current.reset(token)


def map_jobs(job: Callable[[Item], Outcome], items: Iterable[Item], *, workers: int | None = None) -> Iterator[Outcome]:
    """As :meth:`Executor.map`, by the executor in use."""
    return _current.get().map(job, items, workers=workers)
