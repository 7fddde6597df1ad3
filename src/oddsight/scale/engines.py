"""Which machines do the work: this one, by threads or by Ray, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from oddsight.errors import OddsightError
from oddsight.runtime.bounds import check_whole
from oddsight.runtime.executor import Executor, Item, Outcome, Threads, use_executor
from oddsight.runtime.parallel import cores

ENGINES = ("local", "ray")


def check_engine(engine: str, address: str | None = None, workers: int | None = None) -> None:
    """Refuse an engine that there is not, and an address without one.

    Raises:
        OddsightError: What is wrong.
    """
    if engine not in ENGINES:
        raise OddsightError(f"there is no engine {engine!r}: choose {' or '.join(ENGINES)} (--engine)")
    if address is not None and engine != "ray":
        raise OddsightError("--address goes with --engine ray")
    if address is not None and not address.strip():
        raise OddsightError("--address is empty: give HOST:PORT, or leave it out to start Ray on this machine")
    if workers is not None:
        check_whole(workers, "the number of workers", 1, 65536)


@contextmanager
def use_engine(
    engine: str = "local", address: str | None = None, workers: int | None = None, *, group: int = 8
) -> Iterator[Executor]:
    """Have an engine run the jobs that this thread starts within the block, such as those of :func:`oddsight.fit`.

    Results do not depend on it.

    Example:
        >>> from oddsight.scale import use_engine
        >>> with use_engine("local", workers=1):
        ...     model = oddsight.fit("parts/good", method="knn", size=64)

    Args:
        engine: ``local``, threads of this process; or ``ray``.
        address: Of a Ray cluster, such as ``10.0.0.1:6379``; by default a Ray is started on this machine.
        workers: How many jobs run at once; by default as many as there are processors, or one less on a cluster.
        group: Items that are sent to a worker of Ray together.

    Raises:
        OddsightError: The engine cannot be used.
    """
    check_engine(engine, address, workers)
    if engine == "local":
        executor: Executor = _Limited(workers or cores())
        with use_executor(executor):
            yield executor
        return
    from oddsight.scale.ray_executor import RayExecutor, ray_cluster

    with ray_cluster(address, workers) as count:
        executor = RayExecutor(count, group=group)
        with use_executor(executor):
            yield executor


class _Limited(Threads):
    """Threads of this process, at most so many."""

    def __init__(self, most: int) -> None:
        self.workers = most

    def map(
        self, job: Callable[[Item], Outcome], items: Iterable[Item], *, workers: int | None = None
    ) -> Iterator[Outcome]:
        return super().map(job, items, workers=min(workers or self.workers, self.workers))
