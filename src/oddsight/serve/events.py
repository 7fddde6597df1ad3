"""Server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi.responses import StreamingResponse

from oddsight.serve.errors import RequestError
from oddsight.serve.limits import Limits

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PAUSE = 0.25
"""Seconds between two looks for something new."""

ALIVE = 15.0
"""Seconds of silence after which a comment is sent, so that nobody on the way closes the connection."""

COMMENT = ": alive\n\n"

ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


class Listeners:
    """How many clients listen, which is limited."""

    def __init__(self, limits: Limits) -> None:
        self._most, self.count = limits.streams, 0

    def stream(self, lines: AsyncIterator[str]) -> StreamingResponse:
        """An answer of events.

        Raises:
            RequestError: Too many clients listen.
        """
        if self.count >= self._most:
            raise RequestError(429, f"{self.count:,} clients listen already: try again later", retry_after=10)
        return _Stream(self, lines)


class _Stream(StreamingResponse):
    """Events for a client, which counts until it has left, even if that was before the first event."""

    def __init__(self, listeners: Listeners, lines: AsyncIterator[str]) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._listeners = listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._listeners.count += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listeners.count -= 1


def event(kind: str, content: Any) -> str:  # noqa: ANN401 - JSON
    """One event."""
    return f"event: {kind}\ndata: {json.dumps(content, allow_nan=False)}\n\n"
