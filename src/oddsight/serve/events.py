"""Server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

from oddsight.serve.errors import RequestError
from oddsight.serve.limits import Limits

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
        self._most, self._count = limits.streams, 0

    def stream(self, lines: AsyncIterator[str]) -> StreamingResponse:
        """An answer of events.

        Raises:
            RequestError: Too many clients listen.
        """
        if self._count >= self._most:
            raise RequestError(429, f"{self._count:,} clients listen already: try again later", retry_after=10)
        self._count += 1
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(self._counted(lines), media_type="text/event-stream", headers=headers)

    async def _counted(self, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        try:
            async for line in lines:
                yield line
        finally:
            self._count -= 1


def event(kind: str, content: Any) -> str:  # noqa: ANN401 - JSON
    """One event."""
    return f"event: {kind}\ndata: {json.dumps(content, allow_nan=False)}\n\n"
