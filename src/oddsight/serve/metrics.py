"""What Prometheus may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from starlette.types import Scope

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ServiceMetrics:
    """Counters of one service. Labels are routes and models that there are, so their number is bounded."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("oddsight_requests", "Requests.", ["method", "route", "status"], registry=registry)
        self.images = Counter("oddsight_images", "Images that were scored.", ["model"], registry=registry)
        self.failures = Counter("oddsight_failures", "Images that got an error.", ["model"], registry=registry)
        self.alarms = Counter("oddsight_alarms", "Images that were flagged.", ["model"], registry=registry)
        self.queue_seconds = Histogram(
            "oddsight_queue_seconds", "Time that images waited.", ["model"], buckets=_SECONDS, registry=registry
        )
        self.compute_seconds = Histogram(
            "oddsight_compute_seconds", "Time that scoring took.", ["model"], buckets=_SECONDS, registry=registry
        )
        self._waiting = Gauge("oddsight_waiting_images", "Images that wait.", registry=registry)

    def watch_queue(self, length: Callable[[], float]) -> None:
        """Ask for the length of the queue whenever it is shown."""
        self._waiting.set_function(length)

    def count_request(self, scope: Scope, status: int) -> None:
        """Count one by its route, not its path."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.requests.labels(method, route, str(status or 499)).inc()

    def text(self) -> bytes:
        """All of it, in the text format."""
        return generate_latest(self._registry)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
