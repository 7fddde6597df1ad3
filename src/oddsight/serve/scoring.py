"""Scoring under load: a bounded queue, one image a core, deadlines, and no work for clients that left."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from oddsight.runtime.parallel import cores
from oddsight.serve.errors import RequestError
from oddsight.serve.limits import Limits

if TYPE_CHECKING:
    from starlette.requests import Request

    from oddsight.serve.metrics import ServiceMetrics

Outcome = TypeVar("Outcome")

_FIRST_GUESS = 0.1
"""Seconds that an image takes, before one has been scored."""


class Scoring:
    """Threads that score, one image each, and the images that wait for them."""

    def __init__(self, limits: Limits, metrics: ServiceMetrics, workers: int | None = None) -> None:
        self.workers = workers or cores()
        self._limits, self._metrics = limits, metrics
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="oddsight-score")
        self._most = limits.queue + self.workers
        self._admitted = 0  # Changed in the event loop only
        self._usual = _FIRST_GUESS
        metrics.watch_queue(lambda: float(max(0, self._admitted - self.workers)))

    def check_room(self, count: int = 1) -> None:
        """Refuse images for which there is no place."""
        if self._admitted + count > self._most:
            wait = math.ceil(self._usual * self._admitted / self.workers)
            raise RequestError(
                429, f"{self._admitted:,} images are waiting already: try again later", retry_after=max(1, wait)
            )

    async def run(self, request: Request, model: str, work: Sequence[Callable[[], Outcome]]) -> list[Outcome]:
        """Do the work of a request whose body has been read, all of it or none.

        Raises:
            RequestError: There is no place for all of it, it had to wait too long, or the client left.
        """
        self.check_room(len(work))
        begin = time.monotonic()
        outcomes = [self._begin(one, model, begin) for one in work]
        every: asyncio.Future[list[Outcome]] = asyncio.gather(*outcomes)
        leaving: asyncio.Future[None] = asyncio.ensure_future(_left(request))
        both: list[asyncio.Future[Any]] = [every, leaving]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not every.done():
                raise RequestError(499, "the client left")
            return await every
        finally:
            leaving.cancel()
            for outcome in outcomes:
                outcome.cancel()
            await asyncio.gather(every, return_exceptions=True)

    def _begin(self, work: Callable[[], Outcome], model: str, begin: float) -> asyncio.Future[Outcome]:
        """Have a thread do it, as soon as one is free."""
        future = self._threads.submit(self._timed, work, model, begin)
        self._admitted += 1
        outcome = asyncio.wrap_future(future)
        outcome.add_done_callback(lambda _: self._release(future))
        return outcome

    def _release(self, future: Future[Outcome]) -> None:
        """Give its place to another, now or when it has ended: one under way goes on if its client left."""
        if future.cancel() or future.done():
            self._admitted -= 1
        else:
            loop = asyncio.get_running_loop()
            future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release, future))

    def _timed(self, work: Callable[[], Outcome], model: str, begin: float) -> Outcome:
        start = time.monotonic()
        self._metrics.queue_seconds.labels(model).observe(start - begin)
        if start - begin > self._limits.seconds:
            raise RequestError(429, "it had to wait too long: try again later", retry_after=1)
        outcome = work()
        took = time.monotonic() - start
        self._metrics.compute_seconds.labels(model).observe(took)
        self._usual += 0.1 * (took - self._usual)
        return outcome

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _left(request: Request) -> None:
    """Wait until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
