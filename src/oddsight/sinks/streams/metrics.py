"""The state of a stream as Prometheus metrics, on request."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from oddsight.errors import OddsightError
from oddsight.model.events import WatchedFrame
from oddsight.sinks.streams.sink import StreamRun, WriteFrame
from oddsight.sinks.streams.tally import Tally

_HOST = "127.0.0.1"


class Metrics:
    """A page ``http://127.0.0.1:PORT/metrics`` in the text format of Prometheus, for this machine only.

    Args:
        port: Its port; 0 takes one that is free.

    Attributes:
        port: The port, once it is open.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Answer requests until the run ends."""
        page = _Page()
        try:
            server = ThreadingHTTPServer((_HOST, self.port), _handler(page))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OddsightError(f"cannot show metrics on port {self.port}: {reason}; name another port") from None
        self.port = server.server_port
        thread = Thread(
            target=server.serve_forever, name="oddsight metrics", kwargs={"poll_interval": 0.1}, daemon=True
        )
        thread.start()
        run.note(f"metrics are at http://{_HOST}:{self.port}/metrics")
        try:
            yield page.add
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Page:
    """What is known so far, which one thread brings and others ask for."""

    def __init__(self) -> None:
        self._lock, self._tally, self._newest = Lock(), Tally(), 0.0

    def add(self, watched: WatchedFrame) -> None:
        with self._lock:
            self._tally.add(watched)
            if watched.frame is not None:
                self._newest = time.time()

    def text(self) -> str:
        """The page, in the text format 0.0.4."""
        with self._lock:
            tally, looks = self._tally, self._tally.zones
            frames = {"scored": tally.scored, "stale": 0, "broken": 0} | tally.dropped
            alarms = {zone: int(look.alarm) for zone, look in looks.items()}
            scores = {zone: look.result.score for zone, look in looks.items()}
            p_values = {zone: look.result.p_value for zone, look in looks.items()}
            newest = {"": self._newest}
            parts = [
                _metric("frames_total", "counter", "Frames by what became of them.", "outcome", frames),
                _metric("events_total", "counter", "Events that began.", "kind", tally.events),
                _metric("events_ongoing", "gauge", "Events that go on.", None, {"": len(tally.ongoing)}),
                _metric("alarm", "gauge", "Whether an event goes on there.", "zone", alarms),
                _metric("score", "gauge", "The newest score.", "zone", scores),
                _metric("p_value", "gauge", "The newest p-value.", "zone", p_values),
                _metric("newest_frame_timestamp_seconds", "gauge", "When a frame was last scored.", None, newest),
            ]
            if tally.age is not None:
                parts.append(_metric("result_age_seconds", "gauge", "Age of the newest result.", None, {"": tally.age}))
        return "".join(parts)


def _metric(name: str, kind: str, text: str, label: str | None, values: Mapping[Any, float]) -> str:
    lines = [f"# HELP oddsight_{name} {text}", f"# TYPE oddsight_{name} {kind}"]
    for key, value in values.items():
        known = "" if label is None else f'{{{label}="{_escaped(key)}"}}'
        lines.append(f"oddsight_{name}{known} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _handler(page: _Page) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """Answer with the page."""
            found = self.path.partition("?")[0] == "/metrics"
            content = page.text().encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of requests."""

    return Handler
