"""Jobs on Ray: tasks on this machine, or on a cluster that people already have.

Closed by default. A cluster is reached with Ray's token authentication only, and versions of Ray that let web pages and
neighbours run code on it (CVE-2025-62593, CVE-2026-27482) are refused. A Ray that is started here gets a token of its
own, since its ports listen on all addresses of the machine; it has no dashboard, and sends no statistics of its use.
"""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from oddsight.errors import OddsightError
from oddsight.runtime.parallel import cores, interruptible

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

LEAST_VERSION = (2, 54)

_RETRIES = 20  # Times that a task begins again when its process is gone, which a lost machine may cause often
_PATIENCE = 20.0  # Seconds for a cluster to take a connection
_STARTS = 4  # Times that the start of a Ray is tried
_AHEAD = 4  # Tasks a worker that may be done before the one whose outcome is due

_OWN_TOKEN = secrets.token_hex(32)  # Of a Ray that this process starts

_CLOSED = (
    "a Ray cluster is used with token authentication only: start it with RAY_AUTH_MODE=token, and set that and "
    "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH here, too"
)


class RayExecutor:
    """An executor on a Ray that is connected, see :func:`ray_cluster`.

    Tasks rather than actors: actors that hold every processor leave none for Ray's own work, and hang.

    Attributes:
        workers: Tasks that run at once.
        group: Items of a task.
    """

    def __init__(self, workers: int, *, group: int = 8) -> None:
        self.workers = workers
        self.group = group

    def map(
        self, job: Callable[[Item], Outcome], items: Iterable[Item], *, workers: int | None = None
    ) -> Iterator[Outcome]:
        """See :class:`oddsight.runtime.executor.Executor`.

        The job is put into Ray's object store once, and made again once in each worker process. A task whose process
        has ended begins again elsewhere. No more tasks are begun than may run at once: Ray would run one a processor.
        """
        ray = import_ray()
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_run)
        most = min(workers or self.workers, self.workers)
        key, sent = secrets.token_hex(8), ray.put(pickle.dumps(job))
        waiting: deque[Any] = deque()  # Tasks whose outcomes are not yielded yet, in order
        running: list[Any] = []
        taken = iter(items)
        try:
            while True:
                if running:
                    running = ray.wait(running, num_returns=len(running), timeout=0)[1]
                while (
                    len(waiting) < _AHEAD * most and len(running) < most and (part := list(islice(taken, self.group)))
                ):
                    waiting.append(task.remote([sent], key, part))
                    running.append(waiting[-1])
                if not waiting:
                    return
                if waiting[0] in running:
                    ray.wait(running)
                else:
                    yield from _outcome(ray, waiting.popleft())
        finally:
            for one in waiting:
                ray.cancel(one, force=False)


_jobs: OrderedDict[str, Any] = OrderedDict()


def _run(sent: list[Any], key: str, items: list[Any]) -> list[Any]:
    """A task: the job of each item, in a worker process, which keeps the two latest jobs."""
    if key not in _jobs:
        _jobs[key] = pickle.loads(import_ray().get(sent[0]))  # noqa: S301 - from the object store of this run
        if len(_jobs) > 2:
            _jobs.popitem(last=False)
    # In one thread of its own, as graphs that run in the main thread get one each.
    return interruptible(lambda: [_jobs[key](item) for item in items])


def _outcome(ray: ModuleType, task: Any) -> list[Any]:  # noqa: ANN401 - of Ray
    """What a task came to; an error of the job is raised as it was, without Ray's account of it."""
    try:
        outcomes: list[Any] = ray.get(task)
        return outcomes
    except ray.exceptions.RayTaskError as error:
        failure = error.cause if isinstance(error.cause, Exception) else OddsightError(str(error))
    except ray.exceptions.RayError as error:
        failure = OddsightError(
            f"a worker ended {_RETRIES + 1} times at the same task, or the cluster is gone ({type(error).__name__}): "
            "look at its memory, and start again with --resume"
        )
    raise failure


def import_ray() -> ModuleType:
    """Ray, if a version is installed that may be used.

    Raises:
        OddsightError: It is missing, or too old.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        # Ray reads them once, when it is imported; worker processes inherit them.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _OWN_TOKEN}
    try:
        import ray
    except ImportError as error:
        raise OddsightError("--engine ray needs Ray: pip install 'oddsight[scale]'") from error
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < LEAST_VERSION:
        raise OddsightError(
            f"Ray {ray.__version__} has holes through which others run code (CVE-2025-62593, CVE-2026-27482): install "
            f"{'.'.join(map(str, LEAST_VERSION))} or newer, here and on the cluster"
        )
    if "RAY_AUTH_MODE" not in os.environ:
        raise OddsightError("Ray was imported before it had a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN first")
    return ray  # type: ignore[no-any-return]


@contextmanager
def ray_cluster(address: str | None, workers: int | None = None) -> Iterator[int]:
    """Connect to a cluster, or start a Ray on this machine without an address; gives the number of tasks at once.

    One processor more is declared than tasks run, or one less used than there are: Ray needs room for itself. Workers
    of a Ray that is started here have the priority of this process.

    Raises:
        OddsightError: See :func:`check_ray`; or Ray does not start.
    """
    ray = check_ray(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
    if address is None:
        os.environ.setdefault("RAY_worker_niceness", "0")  # As threads would have; Ray's own is 15
        count = workers or cores()
        settings = {"num_cpus": count + 1, "include_dashboard": False, "address": "local", **quiet}
    else:
        count, settings = 0, {"address": address, "namespace": "oddsight", **quiet}
    _connect(ray, settings, address)
    try:
        yield count or min(workers or 2**20, max(1, int(ray.cluster_resources().get("CPU", 1)) - 1))
    finally:
        ray.shutdown()


def _connect(ray: ModuleType, settings: dict[str, Any], address: str | None) -> None:
    """Connect, or start: again if it fails, as Ray gives itself half a minute, in which a busy machine does little."""
    failure = ""
    for _ in range(1 if address else _STARTS):
        try:
            ray.init(**settings)
            return
        except Exception as error:  # Ray's share no public base class
            failure = type(error).__name__
            ray.shutdown()
    where = f"the Ray cluster at {address} does not answer" if address else "Ray does not start on this machine"
    raise OddsightError(f"{where} ({failure}): check the address, the token, and that versions are the same")


def check_ray(address: str | None) -> ModuleType:
    """Ray, if it can be used; nothing is started. Ray itself waits for ten minutes where nobody answers.

    Raises:
        OddsightError: Ray is missing or too old, the address has no token, or nobody answers there.
    """
    if address is not None:
        check_token()
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise OddsightError(f"--address {address} is no HOST:PORT, such as 10.0.0.1:6379")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise OddsightError(f"nobody answers at --address {address} ({error}): is Ray running there?") from None
        # Of half a minute each, where another program answers; 20 by default
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    return import_ray()


def check_token() -> None:
    """Refuse to speak to a cluster without a token.

    Raises:
        OddsightError: There is none.
    """
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    token = os.environ.get("RAY_AUTH_TOKEN") or file.is_file()
    if os.environ.get("RAY_AUTH_MODE") != "token" or not token or token == _OWN_TOKEN:
        raise OddsightError(_CLOSED)
